"""Sizes against real encodings, operations against counting them one by one, latency for what it says and promises not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from reference import convnet
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from distill_prune.artifacts import Mask
from distill_prune.errors import RunError
from distill_prune.interop.footprint import footprint, lines
from distill_prune.models import Model


def masked(model: Model, share: float = 0.3, seed: int = 0) -> tuple[dict[str, Tensor], Mask]:
    generator = torch.Generator().manual_seed(seed)
    state = {n: t + 1 if t.is_floating_point() else t for n, t in model.fresh(seed, "init").items()}
    mask = Mask({n: torch.rand(state[n].shape, generator=generator) < share for n in model.prunable})
    return mask.apply(state), mask


def convolution_by_hand(kept: Tensor, side: int, stride: int = 1, padding: int = 1) -> int:
    """Two operations for every surviving weight at every place where the kernel is put; padding counts."""
    places = len(range(0, side + 2 * padding - kept.shape[2] + 1, stride))
    total = 0
    for index in itertools.product(*map(range, kept.shape)):
        for _ in range(places * places):
            total += 2 if kept[index] else 0
    return total


@pytest.mark.parametrize("share", [0.3, 1.1])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_operations_are_counted_one_by_one(norm, share):
    model = convnet(depth=2, norm=norm, width=3, side=8)
    state, mask = masked(model, share)
    found = footprint(model, state, mask, model.shape)["flops"]
    first, second, last = mask.kept.values()
    ones = [torch.ones_like(t) for t in (first, second, last)]
    for (a, b, c), name in (((first, second, last), "zeros_skipped"), (ones, "dense")):
        assert found[name] == convolution_by_hand(a, 8) + convolution_by_hand(b, 4) + 2 * int(c.sum())
    assert (found["zeros_skipped"] == found["dense"]) == (share > 1)


class Odd(nn.Module):
    """A grouped convolution with a stride, a linear layer used at five places twice, and a product without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.shared = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.shared(self.shared(self.grouped(x).flatten(2)[:, :5]))
        return rows @ rows.transpose(1, 2)


def test_groups_shared_layers_and_products_without_weights():
    model = Model(Odd, (4, 8, 8), 5, "odd")
    state, mask = masked(model)
    found = footprint(model, state, mask, model.shape)["flops"]
    product = 2 * 5 * 16 * 5
    dense = convolution_by_hand(torch.ones(6, 2, 3, 3), 8, stride=2) + 2 * (2 * 16 * 16 * 5) + product
    grouped, shared = mask.kept["grouped.weight"], mask.kept["shared.weight"]
    sparse = convolution_by_hand(grouped, 8, stride=2) + 2 * (2 * int(shared.sum()) * 5) + product
    assert (found["dense"], found["zeros_skipped"]) == (dense, sparse)
    other = Mask({"grouped.bias": torch.tensor([True, False] * 3)})
    with pytest.raises(RunError, match=r"operations of 'grouped.bias' cannot be counted"):
        footprint(model, state, other, model.shape)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_sizes_are_those_of_real_encodings(share):
    model = convnet(depth=2, norm="batch", width=3, side=8)
    state, mask = masked(model, share)
    found = footprint(model, state, mask, model.shape)["bytes"]
    rest = sum(t.numpy().astype(np.float32).nbytes for n, t in state.items() if n not in mask.kept)
    bits = rows = 0
    for name, kept in mask.kept.items():
        values = state[name].numpy()[kept.numpy()]
        bits += np.packbits(kept.numpy()).nbytes + values.nbytes
        matrix = csr_matrix(state[name].flatten(1).numpy())
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32 and matrix.data.dtype == np.float32
        rows += matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    assert found == {"float32": 4 * sum(t.numel() for t in state.values()), "bitmask": rest + bits, "csr": rest + rows}


def test_latency_is_measured_and_promises_nothing():
    model = convnet(depth=2, width=3, side=8)
    state, mask = masked(model)
    before = {n: t.clone() for n, t in state.items()}
    found = footprint(model, state, mask, model.shape)
    for name in ("dense", "sparse"):
        taken = found["latency_ms"][name]
        assert taken["count"] >= 20 and taken["median"] > 0 and taken["iqr"] >= 0
    assert found["latency_ms"]["threads"] == torch.get_num_threads()
    assert all(torch.equal(t, before[n]) for n, t in state.items())
    again = footprint(model, state, mask, model.shape)
    assert {n: v for n, v in again.items() if n != "latency_ms"} == {n: v for n, v in found.items() if n != "latency_ms"}


def test_the_spread_is_the_quartiles(monkeypatch):
    """A clock whose n-th pass takes n ms: of the dense network odd passes, of the sparse one even ones."""
    model = convnet()
    state, mask = masked(model, 0.5)
    ticks = iter(range(10**6))
    monkeypatch.setattr("distill_prune.interop.footprint.WARM", 1)
    monkeypatch.setattr("distill_prune.interop.footprint.PASSES", 21)
    clock = [0.0]

    def tick() -> float:
        n = next(ticks)
        clock[0] += 0.001 * (n // 2 + 1) if n % 2 else 0.0
        return clock[0]

    monkeypatch.setattr("distill_prune.interop.footprint.time.perf_counter", tick)
    found = footprint(model, state, mask, model.shape)["latency_ms"]
    for name, first in (("dense", 3), ("sparse", 4)):
        times = [first + 2 * i for i in range(21)]
        expected = {"median": times[10], "iqr": times[15] - times[5], "count": 21}
        assert found[name] == pytest.approx(expected)


def test_said_in_words():
    model = convnet(depth=2, width=3, side=8)
    state, mask = masked(model)
    found = footprint(model, state, mask, model.shape)
    said = lines(found)
    text = "\n".join(said)
    assert f"{mask.remaining} of {mask.total} prunable" in text and f"{mask.sparsity:.2%}" in text
    for number in (*found["bytes"].values(), *found["flops"].values()):
        assert f"{number:,}" in text
    assert f"dense {found['latency_ms']['dense']['median']:.3f} ms" in text and "no speed-up is promised" in said[-1]
    assert found["weights"]["layers"] == mask.layers() and "measured" in text and "possible" in text
