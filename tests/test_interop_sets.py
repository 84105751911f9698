"""Foreign formats of distilled sets: what comes in, what goes out equal, and what is refused and never executed."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill_prune.artifacts import SyntheticSet, Ticket, Trajectory, Transform
from distill_prune.artifacts.tickets import Mask
from distill_prune.errors import ConfigError, DataError, DistillPruneError, RunError, UserError
from distill_prune.interop import FORMATS, Held, Origin, files
from distill_prune.models import build_model
from distill_prune.models.convnet import Settings as ConvNet

SETS = ("mtt", "datm", "dc", "idc", "ddranking", "png", "npz")
NAMES = ("T-shirt/top", "cat", "50% grey")
NORMALIZE = Transform("normalize", {"mean": torch.tensor([0.5, 0.4, 0.3]), "std": torch.tensor([0.2, 0.3, 0.25])})
ZCA = Transform(
    "zca", {"mean_vector": torch.zeros(1, 48), "transform_matrix": torch.eye(48) * 2, "transform_inv": torch.eye(48) / 2}
)
BESIDE = Origin(NAMES, NORMALIZE, (3, 4, 4))
GENERATOR = torch.Generator().manual_seed(7)
X = torch.randn(6, 3, 4, 4, generator=GENERATOR)
Y = torch.tensor([0, 0, 1, 1, 2, 2])
BYTES = torch.randint(256, (6, 3, 4, 4), generator=GENERATOR, dtype=torch.uint8)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def made(**changes: Any) -> SyntheticSet:
    return SyntheticSet(**{"images": X, "labels": Y, "classes": NAMES, "transform": NORMALIZE, "method": "m", **changes})


PIXELS = made(images=BYTES.float() / 255, transform=Transform("pixels", {}))


def read(form: str, *paths: Path, origin: Origin = BESIDE, **options: Any) -> Any:
    entry: Any = FORMATS[form]
    return entry.read(entry.Settings(**options), list(paths), origin)


def write(form: str, noun: Any, path: Path) -> list[Path]:
    entry: Any = FORMATS[form]
    return entry.write(Held(noun), path)  # type: ignore[no-any-return]


def saved(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()


def same(a: SyntheticSet, b: SyntheticSet) -> bool:
    tensors = bits(a.images) == bits(b.images) and bits(a.labels) == bits(b.labels) and a.transform.same_space(b.transform)
    return tensors and (a.classes, a.lr, a.factor, a.label_kind) == (b.classes, b.lr, b.factor, b.label_kind)


# -- out and in again

ROUND = {
    "mtt": (made(lr=0.02), {"lr": 0.02, "space": "normalize"}),
    "datm": (made(labels=LOGITS, label_kind="logits", lr=0.25), {"space": "normalize"}),
    "dc": (made(), {}),
    "idc": (made(images=PIXELS.images + 0.01, transform=PIXELS.transform, factor=2), {"factor": 2}),
    "ddranking": (made(lr=0.25), {"space": "normalize"}),
    "ddranking soft": (made(labels=LOGITS, label_kind="logits"), {"space": "normalize"}),
    "png": (PIXELS, {}),
    "npz": (made(), {"space": "normalize"}),
    "npz bytes": (PIXELS, {}),
    "npz pixels": (made(images=PIXELS.images * 0.7, transform=PIXELS.transform, lr=0.5), {"space": "pixels", "lr": 0.5}),
}


@pytest.mark.parametrize("case", ROUND)
def test_round_trip(tmp_path: Path, case: str) -> None:
    given, options = ROUND[case]
    form = case.split()[0]
    out, again = tmp_path / "new" / "out", tmp_path / "again"
    written = write(form, given, out)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)
    came = read(form, out, **options)
    assert same(came, given) and came.method == form and FORMATS[form].KIND == "set"
    write(form, came, again)
    for file in written:
        assert file.read_bytes() == (again if file == out else again / file.relative_to(out)).read_bytes()
    with pytest.raises(UserError, match="stands there already"):
        write(form, given, out)


def test_every_format_is_tested() -> None:
    assert {case.split()[0] for case in ROUND} == set(SETS) == {f for f in FORMATS if FORMATS[f].KIND == "set"}
    for form in (*SETS, "mtt-experts"):
        entry: Any = FORMATS[form]
        assert entry.Settings().name == form and entry.Settings.model_config["frozen"]


def test_images_are_in_memory_of_their_own_size(tmp_path: Path) -> None:
    """A view of a large tensor does not bring the whole of it along."""
    whole = torch.zeros(600, 3, 4, 4)
    write("mtt", made(images=whole[:6]), tmp_path / "out")
    assert (tmp_path / "out" / "images_best.pt").stat().st_size < 4000


# -- as the original code writes


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


@pytest.mark.parametrize(
    ("name", "method", "augment"),
    [("res_DC_CIFAR10_ConvNet_10ipc.pt", "dc", "none"), ("res_DSA_MNIST_ConvNet_1ipc.pt", "dsa", None), ("a.pt", "dc", None)],
)
def test_dc(tmp_path: Path, name: str, method: str, augment: str | None) -> None:
    """Accuracies beside the images are NumPy numbers, whose pickles `weights_only` refuses."""
    accs = {"ConvNet": [np.float64(0.5), np.float64(0.25)], "MLP": np.array([0.1, 0.2])}
    path = saved(tmp_path / name, {"data": [[X, Y], [X + 1, Y]], "accs_all_exps": accs})
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    got = read("dc", path)
    assert torch.equal(got.images, X + 1) and got.transform.same_space(NORMALIZE) and got.method == method
    assert got.augment == (augment or "color_crop_cutout_flip_scale_rotate")
    assert torch.equal(read("dc", path, experiment=0).images, X)
    assert read("dc", path, augment="flip").augment == "flip"
    with pytest.raises(ConfigError, match=r"(?s)no experiment 2.*2 of them.*0\.\.1"):
        read("dc", path, experiment=2)


def test_dc_of_numpy_1(tmp_path: Path) -> None:
    """NumPy before 2 pickles the module `numpy.core`."""
    path = saved(tmp_path / "res.pt", {"data": [[X, Y]], "accs_all_exps": {"a": [np.float64(1)]}})
    members = zip_members(path)
    assert b"numpy._core" in members["data.pkl"]
    members["data.pkl"] = members["data.pkl"].replace(b"numpy._core", b"numpy.core")
    zip_again(path, members)
    assert torch.equal(read("dc", path).images, X)


def test_idc(tmp_path: Path) -> None:
    path = saved(tmp_path / "data.pt", [PIXELS.images, Y])
    for given in (path, tmp_path):
        got = read("idc", given, factor=2)
        assert bits(got.images) == bits(PIXELS.images) and got.count == 24 and got.transform.kind == "pixels"
        assert got.augment == "flip+color+crop_scale_rotate" and got.lr is None
    with pytest.raises(ConfigError, match=r"(?s)data.pt' does not say how many.*--set factor=2"):
        read("idc", path)
    with pytest.raises(DataError, match="too small for factor 5"):
        read("idc", path, factor=5)


def test_idc_maps_network_input_back(tmp_path: Path) -> None:
    write("idc", made(images=NORMALIZE.apply(PIXELS.images)), tmp_path / "data.pt")
    assert torch.allclose(read("idc", tmp_path, factor=1).images, PIXELS.images)


def test_ddranking_soft(tmp_path: Path) -> None:
    saved(tmp_path / "images.pt", X)
    saved(tmp_path / "labels.pt", LOGITS)
    saved(tmp_path / "lr.pt", 0.5)
    got = read("ddranking", tmp_path, space="normalize")
    assert got.label_kind == "logits" and bits(got.labels) == bits(LOGITS) and got.lr == 0.5
    shares = LOGITS.softmax(1)
    saved(tmp_path / "labels.pt", shares)
    with pytest.raises(ConfigError, match=r"(?s)labels.pt' could be logits and probabilities.*--set labels=probabilities"):
        read("ddranking", tmp_path, space="normalize")
    got = read("ddranking", tmp_path, space="normalize", labels="probabilities")
    assert got.label_kind == "probabilities" and torch.equal(got.targets, shares)
    assert read("ddranking", tmp_path, space="normalize", labels="logits").label_kind == "logits"
    saved(tmp_path / "labels.pt", shares * 2)
    with pytest.raises(DataError, match=r"(?s)are no probabilities.*add up to 1"):
        read("ddranking", tmp_path, space="normalize", labels="probabilities")


def test_ddranking_writes_probabilities_as_logits(tmp_path: Path) -> None:
    """Its losses take a softmax: what they train on must be the probabilities, zeros included."""
    shares = torch.tensor([[1.0, 0, 0], [0.5, 0.25, 0.25]]).repeat(3, 1)
    write("ddranking", made(labels=shares, label_kind="probabilities"), tmp_path / "out")
    assert torch.allclose(torch.load(tmp_path / "out" / "labels.pt").softmax(1), shares)


def test_ddranking_hard(tmp_path: Path) -> None:
    saved(tmp_path / "images.pt", X)
    got = read("ddranking", tmp_path, space="normalize")
    assert bits(got.labels) == bits(Y) and got.lr is None
    with pytest.raises(ConfigError, match=r"(?s)has hard labels.*labels=logits"):
        read("ddranking", tmp_path, space="normalize", labels="logits")
    with pytest.raises(DataError, match=r"(?s)not equally many images a class.*6 and 4"):
        read("ddranking", tmp_path, space="normalize", classes=["a", "b", "c", "d"])
    saved(tmp_path / "labels.pt", Y.flip(0))
    with pytest.raises(DataError, match=r"(?s)labels.pt' are not class by class.*\[2, 2, 1"):
        read("ddranking", tmp_path, space="normalize")
    with pytest.raises(UserError, match=r"(?s)hard labels in order.*\[2, 2, 1"):
        write("ddranking", made(labels=Y.flip(0)), tmp_path / "out")


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (0, 1, 2, 3)])
def test_npz_bytes(tmp_path: Path, axes: tuple[int, ...]) -> None:
    path = tmp_path / "a.npz"
    images = np.ascontiguousarray(BYTES.permute(axes).numpy())
    np.savez(path, images=images, labels=Y.numpy().astype(np.uint8), classes=np.array(NAMES), eval_acc=np.zeros(3))
    got = read("npz", path, origin=Origin(), factor=2)
    assert same(got, made(images=PIXELS.images, transform=PIXELS.transform, factor=2))
    write("npz", got, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as again:
        assert again["images"].tobytes() == BYTES.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
        assert again["labels"].dtype == np.uint8 and again["labels"].tolist() == Y.tolist()
        assert again["classes"].tolist() == list(NAMES)
    with pytest.raises(ConfigError, match=r"(?s)a.npz' are pixels.*leave `space`"):
        read("npz", path, space="normalize")


def test_npz_of_float16(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=X.half().numpy(), labels=Y.numpy().astype(np.uint8))
    got = read("npz", path, space="normalize")
    assert torch.equal(got.images, X.half().float())
    write("npz", got, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as again:
        assert again["images"].dtype == np.float32
        assert again["images"].astype(np.float16).tobytes() == X.half().numpy().tobytes()


def test_npz_of_other_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=BYTES.numpy(), labels=Y.numpy(), classes=np.array(["b", "a", "c"]))
    with pytest.raises(DataError, match=r"(?s)a.npz' names other classes than.*b, a, c.*T-shirt/top, cat.*classes="):
        read("npz", tmp_path / "a.npz")
    assert read("npz", tmp_path / "a.npz", classes=list(NAMES)).classes == NAMES


# -- pictures


def pictures(root: Path, folders: tuple[str, ...], ending: str = "png", **more: Any) -> Path:
    for i, picture in enumerate(BYTES.permute(0, 2, 3, 1).numpy()):
        file = root / folders[i // 2] / f"{'9' if i % 2 == 0 else '10'}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file, **more)
    (root / ".DS_Store").write_text("hidden", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("folders", "origin", "classes"),
    [
        (("00000", "00001", "00002"), BESIDE, NAMES),
        (("00000_b", "00001_a%2Fc", "00002_c"), Origin(), ("b", "a/c", "c")),
        (("ant", "bee", "cat"), Origin(), ("ant", "bee", "cat")),
        (("cat", "ant", "bee"), Origin(("cat", "ant", "bee")), ("cat", "ant", "bee")),
    ],
)
def test_png_folders(tmp_path: Path, folders: tuple[str, ...], origin: Origin, classes: tuple[str, ...]) -> None:
    """Numbers in names count by value: 9 stands before 10."""
    got = read("png", pictures(tmp_path, folders), origin=origin)
    assert bits(got.images) == bits(PIXELS.images) and got.labels.tolist() == Y.tolist() and got.classes == classes


def test_png_of_jpeg_and_other_modes(tmp_path: Path) -> None:
    root = pictures(tmp_path / "jpeg", ("00000", "00001", "00002"), "jpg", quality=95, subsampling=0)
    assert (read("png", root).images - PIXELS.images).abs().mean() < 0.1
    folder = tmp_path / "modes" / "00000_a"
    folder.mkdir(parents=True)
    picture = Image.fromarray(BYTES[0].permute(1, 2, 0).numpy())
    picture.convert("RGBA").save(folder / "1.png")
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "2.png")
    got = read("png", folder.parent, origin=Origin())
    assert torch.equal(got.images[0], BYTES[0] / 255) and torch.equal(got.images[0], got.images[1])
    picture.putalpha(200)
    picture.save(folder / "3.png")
    with pytest.raises(DataError, match=r"(?s)3.png' has other pixels.*mode RGBA.*without transparency"):
        read("png", folder.parent, origin=Origin())
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "3.png")
    with pytest.raises(DataError, match=r"(?s)3.png' has other pixels.*mode I;16"):
        read("png", folder.parent, origin=Origin())


def test_png_gray_and_order(tmp_path: Path) -> None:
    gray = made(images=PIXELS.images[:, :1], labels=torch.tensor([2, 0, 1, 0, 2, 1]), transform=PIXELS.transform)
    write("png", gray, tmp_path / "out")
    got = read("png", tmp_path / "out", origin=Origin())
    assert (
        torch.equal(got.images, gray.images[[1, 3, 2, 5, 0, 4]]) and got.labels.tolist() == Y.tolist() and got.classes == NAMES
    )


def test_png_maps_network_input_back_and_cuts_off(tmp_path: Path) -> None:
    write("png", made(), tmp_path / "out")
    got = read("png", tmp_path / "out").images
    for place in np.ndindex(6, 3, 4, 4):
        value = X[place].item() * NORMALIZE.tensors["std"][place[1]].item() + NORMALIZE.tensors["mean"][place[1]].item()
        assert abs(got[place].item() - min(max(value, 0), 1)) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: (r / "00000" / "a.txt").write_text("x"), r"a.txt' is not a picture"),
        (lambda r: (r / "00000" / "a.png").write_text("x"), r"a.png' cannot be decoded"),
        (
            lambda r: (r / "00000" / "a.png").write_bytes(POINTER),
            r"a.png' is a pointer",
        ),
        (lambda r: (r / "00000" / "a.png").write_bytes((r / "00000" / "9.png").read_bytes()[:60]), r"a.png' cannot be decoded"),
        (
            lambda r: Image.new("RGB", (5, 4)).save(r / "00001" / "a.png"),
            r"(?s)differs in shape.*\(3, 4, 5\).*\(3, 4, 4\)",
        ),
        (lambda r: (r / "00001").rename(r / "00003"), r"(?s)do not fit the classes.*00003.*0\.\.2"),
        (lambda r: (r / "00001").rename(r / "dog"), r"00000' is no class of the data set"),
    ],
)
def test_png_refusals(tmp_path: Path, change: Callable[[Path], object], match: str) -> None:
    root = pictures(tmp_path / "set", ("00000", "00001", "00002"))
    change(root)
    with pytest.raises(DataError, match=match):
        read("png", root)


def test_png_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folders"):
        read("png", tmp_path)
    (tmp_path / "00000_a").mkdir()
    with pytest.raises(DataError, match="has no pictures"):
        read("png", tmp_path, origin=Origin())
    with pytest.raises(DataError, match="there is no folder"):
        read("png", tmp_path / "none")


# -- experts


def network() -> Any:
    return build_model(ConvNet(depth=1, width=2), (3, 4, 4), 3)


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


# -- what does not fit

LR = {"lr": 0.01, "space": "normalize"}
NAN = X.clone()
NAN[3, 0, 0, 0] = float("nan")
WRONG: list[tuple[Any, Any, dict[str, Any], str]] = [
    (X, Y, {"space": "normalize"}, r"(?s)x.pt' does not say the learned learning rate.*--set lr="),
    (X, Y, {"lr": 0.01}, r"(?s)x.pt' does not say which input space.*--set space=normalize"),
    (X, Y[:5], LR, r"(?s)y.pt' has not one label for each image.*6 images, 5 labels"),
    (X, Y + 1, LR, r"(?s)y.pt' has labels outside its classes.*1\.\.3.*0\.\.2"),
    (X, Y - 1, LR, r"(?s)labels outside its classes.*-1\.\.1"),
    (NAN, Y, LR, r"(?s)images of '.*x.pt' are not finite.*1 bad values, first in row 3"),
    (X[0], Y, LR, r"(?s)images of '.*x.pt'.*float32 \(3, 4, 4\).*\(N, C, H, W\)"),
    (BYTES, Y, LR, r"(?s)images of '.*x.pt'.*uint8.*floating-point"),
    (X[:0], Y[:0], LR, r"(?s)images of '.*x.pt'.*\(0, 3, 4, 4\).*at least 1"),
    (X, Y.float(), LR, r"(?s)labels of '.*y.pt'.*float32 \(6,\).*integers"),
    (X, LOGITS, LR, r"(?s)one file of labels are expected.*y.pt torch.float32 \(6, 3\).*format datm"),
    (X.numpy().tolist(), Y, LR, r"(?s)what is saved of '.*x.pt'.*list.*a tensor"),
    (X[..., :3], Y, LR, r"(?s)x.pt' have another shape than the data set.*\(3, 4, 3\).*\(3, 4, 4\)"),
    (X.to_sparse(), Y, LR, r"(?s)x.pt'.*sparse.*a dense tensor"),
    (torch.empty(6, 3, 4, 4, device="meta"), Y, LR, r"(?s)x.pt'.*meta.*a dense tensor"),
    (X * 1j, Y, LR, r"(?s)x.pt'.*complex.*real numbers"),
    (torch.zeros(1, 1, 1, 1).expand(10**9, 3, 4, 4), Y, LR, r"(?s)x.pt' claims more numbers.*from 4 bytes"),
    (X * 9, Y, {**LR, "space": "pixels"}, r"(?s)x.pt' are no pixels.*values -.*about 0 to 1.*space=normalize"),
    (X, Y, {**LR, "mean": [0.1, 0.2, 0.3]}, r"(?s)`mean` and `std`.*std None.*both"),
    (X, Y, {**LR, "mean": [], "std": []}, r"`mean` and `std` of normalized"),
    (X, Y, {**LR, "mean": [0.0] * 3, "std": [1, 1, 0]}, r"(?s)`mean` and `std`.*positive std"),
    (X, Y, {**LR, "mean": [0.1], "std": [1]}, r"(?s)the transform does not fit.*1 means.*3 means"),
    (X, Y, {**LR, "space": "pixels", "mean": [0.1] * 3}, r"mean nothing to space 'pixels'"),
]


@pytest.mark.parametrize(("images", "labels", "options", "match"), WRONG)
def test_refusals(tmp_path: Path, images: Any, labels: Any, options: dict[str, Any], match: str) -> None:
    paths = saved(tmp_path / "x.pt", images), saved(tmp_path / "y.pt", labels)
    with pytest.raises((ConfigError, DataError), match=match):
        read("mtt", *paths, **options)


def test_what_nobody_says_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path / "x.pt", X), saved(tmp_path / "y.pt", Y)
    with pytest.raises(ConfigError, match=r"(?s)y.pt' does not name its classes.*dataset=REF or --set classes="):
        read("mtt", *paths, origin=Origin(transform=NORMALIZE), **LR)
    assert read("mtt", *paths, origin=Origin(transform=NORMALIZE), classes=["a", "b", "c"], **LR).classes == ("a", "b", "c")
    with pytest.raises(ConfigError, match=r"(?s)x.pt' does not say how its images were normalized.*--set mean=\[...\]"):
        read("mtt", *paths, origin=Origin(NAMES), **LR)
    with pytest.raises(DataError, match=r"(?s)no folder '.*none'.*images_best.pt"):
        read("mtt", tmp_path / "none", **LR)
    with pytest.raises(DataError, match=r"(?s)has no images_best.pt.*x.pt, y.pt.*by name"):
        read("mtt", tmp_path, **LR)
    with pytest.raises(DataError, match=r"there is no file '.*none.pt'"):
        read("mtt", paths[0], tmp_path / "none.pt", **LR)
    with pytest.raises(DataError, match=r"(?s)format dc is read from one path.*x.pt, "):
        read("dc", *paths)


@pytest.mark.parametrize("rate", [torch.tensor(-0.1), torch.tensor([0.1, 0.2]), torch.nan, torch.tensor(torch.inf), True, "1"])
def test_learning_rates(tmp_path: Path, rate: Any) -> None:
    for name, value in (("images_best", X), ("labels_best", LOGITS), ("lr_best", rate)):
        saved(tmp_path / f"{name}.pt", value)
    with pytest.raises(DataError, match=r"(?s)the learning rate of '.*lr_best.pt'.*one positive number"):
        read("datm", tmp_path, space="normalize")


def test_soft_labels(tmp_path: Path) -> None:
    for labels, match in (
        (LOGITS[:, :2], r"(?s)2 classes.*3: T-shirt"),
        (LOGITS * torch.nan, r"(?s)labels of '.*' are not finite.*18 bad"),
        (Y, r"int64 \(6,\)"),
    ):
        for name, value in (("images_best", X), ("labels_best", labels), ("lr_best", torch.tensor(1.0))):
            saved(tmp_path / f"{name}.pt", value)
        with pytest.raises(DataError, match=match):
            read("datm", tmp_path, space="normalize")


@pytest.mark.parametrize("value", [X, [X, Y], {"data": []}, {"data": [[X]]}, {"data": X}])
def test_other_contents(tmp_path: Path, value: Any) -> None:
    path = saved(tmp_path / "a.pt", value)
    with pytest.raises(DataError, match="is not a result of DC"):
        read("dc", path)
    if not isinstance(value, list):
        with pytest.raises(DataError, match="is not a set of IDC"):
            read("idc", path, factor=1)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    soft, many = made(labels=LOGITS, label_kind="logits"), made(factor=2)
    for form in ("mtt", "dc", "idc", "png", "npz"):
        with pytest.raises(UserError, match=rf"(?s)format '{form}' cannot hold the labels.*logits.*classes.*ddranking"):
            write(form, soft, tmp_path / "out")
    for form in ("mtt", "dc", "ddranking"):
        with pytest.raises(UserError, match=rf"(?s)format '{form}' holds one training image in each.*2x2.*idc"):
            write(form, many, tmp_path / "out")
    with pytest.raises(UserError, match=r"(?s)'datm' cannot hold the labels.*classes"):
        write("datm", made(), tmp_path / "out")
    with pytest.raises(UserError, match="holds a learned learning rate"):
        write("datm", soft, tmp_path / "out")
    with pytest.raises(UserError, match=r"(?s)gray or RGB.*2 channels"):
        two = Transform("pixels", {})
        write("png", made(images=X[:, :2], transform=two), tmp_path / "out")
    with pytest.raises(UserError, match=r"(?s)every class.*none of 'cat'"):
        write("png", made(labels=Y.clamp(max=0) + 2 * (Y > 0)), tmp_path / "out")
    ticket = Ticket(Mask({"w": torch.ones(2, dtype=torch.bool)}), {"w": torch.ones(2)}, 0)
    for form in SETS:
        with pytest.raises(UserError, match=rf"(?s)format '{form}' holds a distilled set.*Ticket"):
            write(form, ticket, tmp_path / "out")
    with pytest.raises(UserError, match=r"(?s)'mtt-experts' holds experts.*SyntheticSet"):
        write("mtt-experts", made(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# -- hostile and damaged files


class Attack:
    """Makes a file where it is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def zip_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def zip_again(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)


def readers(path: Path) -> list[tuple[str, dict[str, Any], Path]]:
    """Every format that reads files of torch.save, with its file of images at `path`."""
    folder = path.parent
    for name in ("images_best.pt", "labels_best.pt", "lr_best.pt", "images.pt", "data.pt", "replay_buffer_0.pt"):
        (folder / name).write_bytes(path.read_bytes())
    return [
        ("mtt", LR, folder),
        ("datm", {"space": "normalize"}, folder),
        ("dc", {}, path),
        ("idc", {"factor": 1}, folder),
        ("ddranking", {"space": "normalize"}, folder),
        ("mtt-experts", {}, folder),
    ]


def test_hostile_pickles_are_not_executed(tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "in" / "a.pt"
    for value in (Attack(mark), {"data": [[X, Y]], "accs_all_exps": Attack(mark)}, [X, Attack(mark)]):
        saved(path, value)
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=r"(?s)is refused, not executed.*a pickle that calls posix.mkdir"):
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
        path.write_bytes(pickle.dumps(value))
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=r"a\.pt|best|images|data|replay"):
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
    assert not mark.exists()
    torch.load(saved(path, Attack(mark)), weights_only=False)
    assert mark.exists(), "the attack works where it is executed"


def test_inert_names_execute_nothing(tmp_path: Path) -> None:
    """`numpy.dtype` and `scalar` are read over, and not called."""
    path = saved(tmp_path / "a.pt", [np.float64(3), X])
    found: Any = files.load(path, inert=("numpy.dtype", "numpy._core.multiarray.scalar"))
    assert not isinstance(found[0], np.generic | float) and torch.equal(found[1], X)
    with pytest.raises(DataError, match="calls numpy"):  # the names were inert for that file alone
        files.load(path)


def test_damaged_files(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.pt", X).read_bytes()
    path = tmp_path / "in" / "a.pt"
    path.parent.mkdir()
    damaged = {
        r"is empty": b"",
        r"is a pointer of Git LFS.*git lfs pull": POINTER,
        r"cannot be read as a file of torch.save, or is only a part of one": good[: len(good) // 2],
        r"cannot be read as a file of torch.save.*KeyError": b"hello",
        r"cannot be read as a file of torch.save": b"PK\x03\x04" + bytes(50),
    }
    for match, content in damaged.items():
        path.write_bytes(content)
        for form, options, given in readers(path):
            with pytest.raises(DataError, match=f"(?s){match}") as caught:
                read(form, given, origin=Origin(NAMES, NORMALIZE, (3, 4, 4), network()), **options)
            assert len(str(caught.value)) < 600


def test_every_cut_and_flip_is_an_error_of_ours(tmp_path: Path) -> None:
    """A damaged file is refused, or read as something: never another kind of failure."""
    path = saved(tmp_path / "data.pt", [PIXELS.images, Y])
    good = path.read_bytes()
    refused = 0
    for place in range(0, len(good), 37):
        for content in (good[:place], good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]):
            path.write_bytes(content)
            try:
                read("idc", path, factor=1)
            except DistillPruneError:
                refused += 1
    assert refused > len(good) / 37


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=X.numpy(), labels=Y.numpy())
    good = path.read_bytes()
    for content, match in (
        (good[: len(good) // 2], "or only a part of one"),
        (POINTER, "is a pointer of Git LFS"),
        (b"", "is empty"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=match):
            read("npz", path, space="normalize")
    np.savez(path, images=np.array([Attack(tmp_path / "executed")], dtype=object), labels=Y.numpy()[:1])
    with pytest.raises(DataError, match=r"(?s)is refused.*pickled Python objects"):
        read("npz", path, space="normalize")
    np.savez(path, images=NAN.numpy(), labels=Y.numpy())
    with pytest.raises(DataError, match=r"(?s)not finite.*first in row 3"):
        read("npz", path, space="normalize")
    np.savez(path, images=X.numpy(), labels=Y.numpy())
    with pytest.raises(ConfigError, match="does not say which input space"):
        read("npz", path)
    assert not (tmp_path / "executed").exists()


# -- writing


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def stop() -> Any:
        yield "a", b"1"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.publish_folder(tmp_path / "out", stop())
    assert list(tmp_path.iterdir()) == []

    def full() -> Any:
        yield "a", b"1"
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"(?s)out' cannot be written.*No space left"):
        files.publish_folder(tmp_path / "out", full())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Nor what appears while it is written."""

    def meanwhile() -> Any:
        yield "a", b"1"
        (tmp_path / "out").write_text("other", encoding="utf-8")

    with pytest.raises(UserError, match="stands there already"):
        files.publish_folder(tmp_path / "out", meanwhile())
    assert (tmp_path / "out").read_text(encoding="utf-8") == "other" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="stands there already"):
        write("dc", made(), tmp_path / "link")
    with pytest.raises(UserError, match=r"(?s)cannot be written.*(Not a directory|File exists)"):
        write("dc", made(), tmp_path / "out" / "below")


def test_options_are_checked() -> None:
    for form, options, match in (
        ("mtt", {"lr": -1}, "greater than 0"),
        ("mtt", {"space": "grey"}, "'normalize', 'zca' or 'pixels'"),
        ("idc", {"space": "pixels"}, "Extra inputs"),
        ("dc", {"lr": 0.1}, "Extra inputs"),
        ("png", {"augment": "flap"}, "unknown augmentation"),
        ("idc", {"factor": 0}, "greater than or equal to 1"),
    ):
        entry: Any = FORMATS[form]
        with pytest.raises(ValueError, match=re.escape(match)):
            entry.Settings(**options)
