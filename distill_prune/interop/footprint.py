"""What a sparse network would take: bytes, floating-point operations and milliseconds, each said separately.

    float32          bytes of all tensors as float32: 4 a number
    bitmask          bytes if a prunable tensor of P weights, S surviving, were kept as ceil(P / 8) + 4 S; the rest dense
    csr              bytes if it were kept as a matrix of R compressed rows with 32-bit indices: 4 (R + 1) + 4 S + 4 S; the
                     rest dense
    dense            FLOPs of one forward pass of one example by torch's count: a multiplication and an addition are two
    zeros_skipped    the same less 2 for each pruned weight and output position: 2 S * positions of a convolution, 2 S of a
                     linear layer
    latency_ms       measured: median and interquartile range of forward passes at batch 1 on the CPU

The sizes and the second count are what is possible, not what happens: files here are dense, and kernels multiply by zeros. So
the measured latency of the sparse network is that of the dense one, and no speed-up is promised.

References:
    | What is the State of Neural Network Pruning? (Blalock et al., 2020), https://arxiv.org/abs/2003.03033
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from distill_prune.artifacts import Mask
from distill_prune.errors import RunError
from distill_prune.models import Model
from distill_prune.training import CountFlops
from distill_prune.tree import State

PASSES, WARM = 40, 5
"""Forward passes of each network that are measured, and that are run before, unmeasured."""


class Weights(TypedDict):
    total: int
    remaining: int
    sparsity: float
    layers: dict[str, dict[str, int]]


class Bytes(TypedDict):
    float32: int
    bitmask: int
    csr: int


class Flops(TypedDict):
    dense: int
    zeros_skipped: int


class Spread(TypedDict):
    """Of `count` measured times the median and the interquartile range, in milliseconds."""

    median: float
    iqr: float
    count: int


class Latency(TypedDict):
    dense: Spread
    sparse: Spread
    threads: int


class Footprint(TypedDict):
    """What `footprint` measures; the fields are described above."""

    weights: Weights
    bytes: Bytes
    flops: Flops
    latency_ms: Latency


def footprint(model: Model, state: State, mask: Mask, shape: Sequence[int]) -> Footprint:
    """The footprint of the network `mask` * `state` on one example of the given shape: (C, H, W), or (2, L) of tokens.

    Only `latency_ms` differs from one call to the next.

    Raises:
        RunError: a masked tensor is not the weight of a convolution or linear layer that the network runs.
    """
    return {
        "weights": {"total": mask.total, "remaining": mask.remaining, "sparsity": mask.sparsity, "layers": mask.layers()},
        "bytes": _bytes(state, mask),
        "flops": _flops(model, mask, shape),
        "latency_ms": _latency(model, state, mask, shape),
    }


def _bytes(state: State, mask: Mask) -> Bytes:
    rest = sum(4 * t.numel() for n, t in state.items() if n not in mask.kept)
    kept = mask.kept.values()
    return {
        "float32": sum(4 * t.numel() for t in state.values()),
        "bitmask": rest + sum(math.ceil(t.numel() / 8) + 4 * int(t.sum()) for t in kept),
        "csr": rest + sum(4 * (t.shape[0] + 1) + 8 * int(t.sum()) for t in kept),
    }


def _flops(model: Model, mask: Mask, shape: Sequence[int]) -> Flops:
    module = model.instance(model.module.state_dict()).to("meta").eval()
    positions: dict[str, int] = {}  # how often each weight is used for one example

    def count(name: str, layer: nn.Module, out: Tensor) -> None:
        once = math.prod(out.shape[2:]) if not isinstance(layer, nn.Linear) else math.prod(out.shape[1:-1])
        positions[name] = positions.get(name, 0) + once

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            weight = f"{name}.weight" if name else "weight"
            layer.register_forward_hook(lambda layer, _, out, weight=weight: count(weight, layer, out))
    with torch.no_grad(), CountFlops() as counter:  # type: ignore[no-untyped-call]
        module(_input(shape, torch.get_default_dtype(), "meta"))
    if odd := next((n for n in mask.kept if n not in positions), None):
        raise RunError(f"operations of '{odd}' cannot be counted", expected="a convolution or linear layer that is run")
    skipped = sum(2 * int((~kept).sum()) * positions[name] for name, kept in mask.kept.items())
    return {"dense": counter.total, "zeros_skipped": counter.total - skipped}


def _latency(model: Model, state: State, mask: Mask, shape: Sequence[int]) -> Latency:
    """Both networks in turn, so that what else the machine does meets both."""
    sparse = mask.apply(state)
    full = {n: torch.where(mask.kept[n], t, torch.full_like(t, 0.01)) if n in mask.kept else t for n, t in sparse.items()}
    networks = {"dense": model.instance(full).eval(), "sparse": model.instance(sparse).eval()}
    x = _input(shape, next(networks["dense"].parameters()).dtype)
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for _ in range(WARM + PASSES):
            for name, network in networks.items():
                begin = time.perf_counter()
                network(x)
                times[name].append(1000 * (time.perf_counter() - begin))
    spreads = {name: _spread(measured[WARM:]) for name, measured in times.items()}
    return {"dense": spreads["dense"], "sparse": spreads["sparse"], "threads": torch.get_num_threads()}


def _input(shape: Sequence[int], kind: torch.dtype, device: str = "cpu") -> Tensor:
    """One example: an image of zeros, or a sentence (2, L) without padding."""
    if len(shape) == 2:
        return torch.ones(1, *shape, dtype=torch.int32, device=device)
    return torch.zeros(1, *shape, dtype=kind, device=device)


def _spread(times: Sequence[float]) -> Spread:
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    return {"median": middle, "iqr": high - low, "count": len(times)}


def lines(measured: Footprint) -> list[str]:
    """A footprint in words, one line a quantity."""
    weights, size, flops, ms = measured["weights"], measured["bytes"], measured["flops"], measured["latency_ms"]
    dense, sparse = (f"{spread['median']:.3f} ms (IQR {spread['iqr']:.3f})" for spread in (ms["dense"], ms["sparse"]))
    return [
        f"weights    {weights['remaining']:,} of {weights['total']:,} prunable survive, sparsity {weights['sparsity']:.2%}",
        f"size       {size['float32']:,} bytes as float32; possible: {size['bitmask']:,} as bitmask and values, "
        f"{size['csr']:,} as compressed rows with 32-bit indices",
        f"operations {flops['dense']:,} FLOPs a forward pass of one example; {flops['zeros_skipped']:,} if zeros were skipped",
        f"latency    measured at batch 1 on the CPU, {ms['threads']} thread(s), {ms['dense']['count']} passes: "
        f"dense {dense}, sparse {sparse}",
        "           zeros are multiplied like any number: no speed-up is promised",
    ]
