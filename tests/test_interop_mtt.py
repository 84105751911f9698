"""Trajectory matching's files, as MTT and DATM write them: their sets and their experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_interop_sets import BESIDE, GENERATOR, LOGITS, NAMES, NORMALIZE, ZCA, X, Y, bits, network, read, saved, write
from torch import Tensor

from distill_prune.artifacts import Trajectory, Transform
from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Origin
from distill_prune.models import build_model
from distill_prune.models.convnet import Settings as ConvNet

# -- sets


def test_mtt_folder(tmp_path: Path) -> None:
    saved(tmp_path / "images_best.pt", X)
    saved(tmp_path / "labels_best.pt", Y)
    saved(tmp_path / "images_500.pt", X + 1)
    got = read("mtt", tmp_path, lr="none", space="normalize", mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 1])
    assert bits(got.images) == bits(X) and bits(got.labels) == bits(Y) and got.lr is None
    assert got.augment == "color_crop_cutout_flip_scale_rotate" and got.classes == NAMES
    assert torch.equal(got.transform.tensors["std"], torch.tensor([0.5, 0.5, 1]))


def test_mtt_split_files_in_the_order_given(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "b.pt", X[:4].half()), saved(tmp_path / "a.pt", torch.nn.Parameter(X[4:].double()))
    y = saved(tmp_path / "y.pt", Y.int())
    for order in ((a, y, b), (y, a, b)):
        got = read("mtt", *order, lr=0.01, space="normalize")
        assert torch.equal(got.images, torch.cat([X[:4].half().float(), X[4:]])) and bits(got.labels) == bits(Y)
        assert not got.images.requires_grad
    with pytest.raises(DataError, match=r"(?s)'.*c.pt' do not continue.*\(3, 4, 5\).*\(3, 4, 4\)"):
        read("mtt", a, saved(tmp_path / "c.pt", torch.zeros(2, 3, 4, 5)), y, lr=0.01, space="normalize")


def test_mtt_zca(tmp_path: Path) -> None:
    paths = saved(tmp_path / "x.pt", X), saved(tmp_path / "y.pt", Y)
    beside = Origin(NAMES, ZCA, (3, 4, 4))
    got = read("mtt", *paths, origin=beside, lr=0.01, space="zca")
    assert got.fits(ZCA) and not got.fits(NORMALIZE)
    for origin, text in ((BESIDE, "a data set with transform 'normalize'"), (Origin(NAMES), "no `dataset`")):
        with pytest.raises(ConfigError, match=rf"(?s)x.pt' would be a ZCA-whitened set.*{text}.*transform: zca.*dataset=KEY"):
            read("mtt", *paths, origin=origin, lr=0.01, space="zca")
    with pytest.raises(ConfigError, match=r"(?s)different input spaces.*'normalize'.*'zca'.*space=zca"):
        read("mtt", *paths, origin=beside, lr=0.01, space="normalize")
    small = Transform("zca", {n: t[..., :12] if n == "mean_vector" else t[:12, :12] for n, t in ZCA.tensors.items()})
    with pytest.raises(DataError, match=r"(?s)does not fit.*12 means.*48 means"):
        read("mtt", *paths, origin=Origin(NAMES, small), lr=0.01, space="zca")


def test_datm(tmp_path: Path) -> None:
    saved(tmp_path / "images_best.pt", X)
    saved(tmp_path / "labels_best.pt", LOGITS.clone().requires_grad_(True))
    saved(tmp_path / "lr_best.pt", torch.tensor(0.0078))
    got = read("datm", tmp_path, space="normalize")
    assert bits(got.labels) == bits(LOGITS) and got.label_kind == "logits" and not got.labels.requires_grad
    assert torch.allclose(got.targets, LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True))
    assert got.lr == torch.tensor(0.0078).item()


# -- experts


def trajectories(model: Any, count: int, epochs: int = 3) -> list[list[list[Tensor]]]:
    shapes = [p.shape for p in model.module.parameters()]
    return [[[torch.randn(s, generator=GENERATOR) for s in shapes] for _ in range(epochs + 1)] for _ in range(count)]


def test_experts(tmp_path: Path) -> None:
    model = network()
    for number in (0, 2, 10):  # 10 stands after 2
        saved(tmp_path / f"replay_buffer_{number}.pt", trajectories(model, 2))
    files = [tmp_path / f"replay_buffer_{n}.pt" for n in (0, 2, 10)]
    raw = [e for f in files for e in torch.load(f)]
    origin = Origin(model=model)
    got = read("mtt-experts", tmp_path, origin=origin)
    assert len(got) == 6 and list(got[0].shapes) == list(model.parameters)
    for expert, lists in zip(got, raw, strict=True):
        for t, tensors in enumerate(lists):
            assert all(torch.equal(a, b) for a, b in zip(expert.state(t).values(), tensors, strict=True))
    short = read("mtt-experts", *files, origin=origin, epochs=1)
    assert [torch.equal(a.checkpoints, b.checkpoints[:2]) for a, b in zip(short, got, strict=True)] == [True] * 6
    with pytest.raises(DataError, match=r"(?s)expert 0 .* is too short.*3 epochs.*4"):
        read("mtt-experts", *files, origin=origin, epochs=4)


def test_experts_round_trip(tmp_path: Path) -> None:
    model = network()
    lists = trajectories(model, 12)
    shapes = {n: p.shape for n, p in model.module.named_parameters()}
    given = tuple(Trajectory(torch.stack([torch.cat([p.flatten() for p in c]) for c in e]), shapes) for e in lists)
    written = write("mtt-experts", given, tmp_path / "out")
    assert [p.name for p in written] == ["replay_buffer_0.pt", "replay_buffer_1.pt"]
    raw = [e for p in written for e in torch.load(p)]
    assert [len(torch.load(p)) for p in written] == [10, 2]
    assert [[[bits(t) for t in c] for c in e] for e in raw] == [[[bits(t) for t in c] for c in e] for e in lists]
    assert raw[0][0][0].untyped_storage().nbytes() == raw[0][0][0].nbytes
    again = read("mtt-experts", tmp_path / "out", origin=Origin(model=model))
    assert all(torch.equal(a.checkpoints, b.checkpoints) for a, b in zip(again, given, strict=True))


def test_experts_that_do_not_move(tmp_path: Path) -> None:
    """What `p.detach().cpu()` keeps without a GPU: views of the weights that training goes on changing."""
    model, snapshots = network(), []
    for _ in range(4):
        snapshots.append([p.detach().cpu() for p in model.module.parameters()])
        with torch.no_grad():
            [p.add_(1) for p in model.module.parameters()]
    path = saved(tmp_path / "replay_buffer_0.pt", [*trajectories(model, 1), snapshots])
    with pytest.raises(DataError, match=r"(?s)expert 1 of .* first and last checkpoints are equal.*buffer.py.*without a GPU"):
        read("mtt-experts", path, origin=Origin(model=model))


def test_experts_of_another_network(tmp_path: Path) -> None:
    path = saved(tmp_path / "replay_buffer_0.pt", trajectories(network(), 1))
    wide = Origin(model=build_model(ConvNet(depth=1, width=3), (3, 4, 4), 3))
    with pytest.raises(
        DataError, match=r"(?s)'0.weight' in expert 0, checkpoint 0 .* does not fit.*\(2, 3, 3, 3\).*\(3, 3, 3, 3\).*model.name"
    ):
        read("mtt-experts", path, origin=wide)
    deep = Origin(model=build_model(ConvNet(depth=2, width=2), (3, 4, 4), 3))
    with pytest.raises(DataError, match=r"(?s)not of this network.*6 tensors.*10: 0.weight"):
        read("mtt-experts", path, origin=deep)
    with pytest.raises(ConfigError, match=r"--set model.name="):
        read("mtt-experts", path)
    bad = trajectories(network(), 1)
    bad[0][2][5][0] = float("inf")
    with pytest.raises(DataError, match=r"'5.bias' in expert 0, checkpoint 2 .* is not finite"):
        read("mtt-experts", saved(path, bad), origin=Origin(model=network()))
    for value in ([], {}, [X], [[1]]):
        with pytest.raises(DataError, match="is not a replay buffer"):
            read("mtt-experts", saved(path, value), origin=Origin(model=network()))
    with pytest.raises(DataError, match="has no experts"):
        read("mtt-experts", saved(tmp_path / "empty" / "a.pt", []).parent, origin=Origin(model=network()))
