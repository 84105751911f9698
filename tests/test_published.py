"""Published data sets, made small in their official layouts: what is known without the files, and what is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_published import NAMES, Made, check, made_mnist, made_of_each, make

from distill_prune import data
from distill_prune.data.split import stratified
from distill_prune.errors import DataError
from distill_prune.rng import stream
from distill_prune.vision import torchvision

made = pytest.fixture(made_of_each, params=NAMES)
mnist = pytest.fixture(made_mnist)


# what is known without the files


def test_checksums_are_those_that_torchvision_publishes() -> None:
    sets, known = torchvision().datasets, {name: data.DATASETS[name].SET for name in NAMES}
    for name in ("cifar10", "cifar100"):
        reader, ours = getattr(sets, known[name].reader), known[name]
        assert ours.files == {reader.filename: reader.tgz_md5} and reader.url == ours.urls[0] + reader.filename
        listed = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
        assert ours.unpacked == {f"{reader.base_folder}/{n}": m for n, m in listed}
    for name in ("mnist", "fashion_mnist"):
        reader, ours = getattr(sets, known[name].reader), known[name]
        assert ours.files == {f"{ours.reader}/raw/{n}": m for n, m in reader.resources} and ours.urls[0] == reader.mirrors[0]
    assert known["fashion_mnist"].classes == tuple(sets.FashionMNIST.classes)
    parts = [sets.SVHN.split_list[part] for part in ("train", "test")]
    assert known["svhn"].files == {n: m for _, n, m in parts}
    assert [known["svhn"].urls[0] + n for _, n, _ in parts] == [url for url, _, _ in parts]
    assert [len(known[name].classes) for name in NAMES] == [10, 100, 10, 10, 10]
    assert known["cifar100"].classes == tuple(sorted(set(known["cifar100"].classes)))


def test_fingerprints_are_pinned() -> None:
    """Keys promise the same bytes for ever."""
    found = {name: data.fingerprint(data.DATASETS[name].Settings(path="/nowhere")) for name in NAMES}
    assert {name: text.rpartition("-")[0] for name, text in found.items()} == {
        name: f"torchvision-{reader}"
        for name, reader in zip(NAMES, ("CIFAR10", "CIFAR100", "FashionMNIST", "MNIST", "SVHN"), strict=True)
    }
    assert {name: text.rpartition("-")[2][:12] for name, text in found.items()} == {
        "cifar10": "eae0dfc66092",
        "cifar100": "448d77a26eca",
        "fashion_mnist": "7773105ee0e5",
        "mnist": "c86297732656",
        "svhn": "7277ef7766bb",
    }


def test_fingerprint_follows_the_checksums(made: Made) -> None:
    before = data.fingerprint(made.settings())
    made.know(files=dict.fromkeys(made.set.files, "0" * 32))
    assert data.fingerprint(made.settings()) != before


def test_importing_is_light() -> None:
    code = (
        "import sys; from distill_prune import data; "
        f"[data.fingerprint(data.DATASETS[n].Settings()) for n in {NAMES}]; data.DATASETS['folder']; "
        "print([m for m in ('torchvision', 'PIL', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_identity_and_root(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = data.DATASETS["cifar10"].Settings
    monkeypatch.delenv("DISTILL_PRUNE_DATA", raising=False)
    assert settings().path == "data"
    monkeypatch.setenv("DISTILL_PRUNE_DATA", "/elsewhere")
    assert settings().path == "/elsewhere" and settings(path="here").path == "here"
    assert settings(path="here", download=False).identity() == settings().identity()
    assert set(settings().identity()) == {"name", "split_seed", "validation", "transform", "rows", "test_rows"}


# what is read


def test_official_layouts(made: Made) -> None:
    check(made, made.settings())
    images = data.prepare(made.settings(validation=0.25))
    assert images.split.bincount().tolist() == [n * len(made.set.classes) for n in (3, 1, 2)]


def test_unpacked_files_or_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("cifar100", tmp_path, monkeypatch)
    archive, aside = next(iter(made.set.files)), tmp_path / "aside"
    (tmp_path / archive).rename(aside)
    check(made, made.settings())
    aside.rename(tmp_path / archive)
    (tmp_path / "cifar-100-python").rename(aside)
    check(made, made.settings())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aside", archive]


def test_rows_take_a_stratified_part(made: Made) -> None:
    classes = len(made.set.classes)
    loaded = made.entry.load(made.settings(rows=2 * classes, test_rows=classes, split_seed=3))
    y, train = torch.from_numpy(made.y), 4 * classes
    expected = [
        stratified(y[:train], 2 * classes, made.set.classes, stream(3, "data", "rows"), what="", leave=False),
        stratified(y[train:], classes, made.set.classes, stream(3, "data", "test_rows"), what="", leave=False) + train,
    ]
    assert np.array_equal(loaded.pixels.numpy(), made.x[torch.cat(expected)])
    assert loaded.labels.tolist() == made.y[torch.cat(expected)].tolist()
    assert loaded.test.sum() == classes and loaded.labels[~loaded.test].bincount().tolist() == [2] * classes
    with pytest.raises(DataError, match=f"^rows of '{made.set.title}': more rows asked for than there are\n  got:      9999"):
        made.entry.load(made.settings(rows=9999))


def test_only_checked_files_are_read(mnist: Made) -> None:
    """torchvision prefers files of old versions, and unpacked ones, neither of which it checks."""
    folder = mnist.root / "MNIST"
    (folder / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2)), folder / "processed" / name)
    (folder / "raw" / "train-images-idx3-ubyte").write_bytes(b"other")
    check(mnist, mnist.settings())
