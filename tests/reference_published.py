"""Published data sets, made small in their official layouts, and what must be read of them."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from distill_prune import data
from distill_prune.data.published import Published, PublishedSource
from distill_prune.vision import torchvision

NAMES = ("cifar10", "cifar100", "fashion_mnist", "mnist", "svhn")


@dataclass
class Made:
    """A made set: its entry with the checksums of the made files, its root, and what is in it."""

    entry: Any
    root: Path
    x: np.ndarray
    y: np.ndarray

    @property
    def set(self) -> Published:
        return self.entry.SET

    def settings(self, **more: Any) -> PublishedSource:
        return self.entry.Settings(**{"path": str(self.root), "download": False, "validation": 0, **more})

    def know(self, **changed: Any) -> None:
        """Let our table know other files."""
        known = replace(self.set, **changed)
        for name, value in (("SET", known), ("fingerprint", known.fingerprint), ("load", known.load)):
            setattr(self.entry, name, value)


def md5s(root: Path, names: Any) -> dict[str, str]:
    return {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in names}


def cifar(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """Pickles of rows of pixels and a list of labels, loose and in an archive."""
    fine = known.reader == "CIFAR100"
    names = [n for n in known.unpacked if "meta" not in n]
    bounds = [*np.linspace(0, train, len(names)).astype(int).tolist(), len(x)]
    for i, name in enumerate(sorted(names, key=lambda n: (n.endswith(("test", "test_batch")), n))):
        rows = slice(bounds[i], bounds[i + 1])
        content = {"data": x[rows].reshape(-1, 3072), "fine_labels" if fine else "labels": y[rows].tolist()}
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = next(n for n in known.unpacked if "meta" in n)
    (root / meta).write_bytes(pickle.dumps({"fine_label_names" if fine else "label_names": list(known.classes)}, protocol=2))
    with tarfile.open(root / next(iter(known.files)), "w:gz") as archive:
        for name in known.unpacked:
            archive.add(root / name, name)


def idx(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """Numbers of bytes behind a big-endian head, gzipped."""
    for name in known.files:
        rows = slice(train) if "train" in name else slice(train, None)
        content = x[rows, 0] if "images" in name else y[rows].astype(np.uint8)
        head = struct.pack(f">{1 + content.ndim}i", 0x800 + content.ndim, *content.shape)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(gzip.compress(head + content.tobytes()))


def mat(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """MATLAB's arrays, rows last; the digit 0 is called 10."""
    for name in known.files:
        rows = slice(train) if "train" in name else slice(train, None)
        savemat(root / name, {"X": x[rows].transpose(2, 3, 1, 0), "y": np.where(y[rows] == 0, 10, y[rows])[:, None]})


LAYOUTS: dict[str, Callable[..., None]] = dict(zip(NAMES, (cifar, cifar, idx, idx, mat), strict=True))


def make(name: str, root: Path, patch: pytest.MonkeyPatch) -> Made:
    """Four training and two test rows of each class, shuffled; our table and torchvision's know the made files."""
    entry: Any = data.DATASETS[name]
    known: Published = entry.SET
    generator, classes = np.random.default_rng(len(name)), len(known.classes)
    shape = (1, 28, 28) if LAYOUTS[name] is idx else (3, 32, 32)
    x = generator.integers(0, 256, (6 * classes, *shape), dtype=np.uint8)
    y = np.concatenate([generator.permutation(np.arange(n * classes) % classes) for n in (4, 2)])
    LAYOUTS[name](root, known, x, y, 4 * classes)
    for attribute in ("SET", "fingerprint", "load"):
        patch.setattr(entry, attribute, getattr(entry, attribute))
    made = Made(entry, root, x, y)
    made.know(files=md5s(root, known.files), unpacked=md5s(root, known.unpacked))
    reader, names = getattr(torchvision().datasets, known.reader), {Path(n).name: m for n, m in made.set.unpacked.items()}
    if LAYOUTS[name] is cifar:
        for field in ("train_list", "test_list"):
            patch.setattr(reader, field, [[n, names[n]] for n, _ in getattr(reader, field)])
        patch.setattr(reader, "meta", {**reader.meta, "md5": names[reader.meta["filename"]]})
    if LAYOUTS[name] is mat:
        parts = {p: [u, n, made.set.files[n]] for p, (u, n, _) in reader.split_list.items() if p != "extra"}
        patch.setattr(reader, "split_list", parts)
    return made


def made_of_each(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Made a fixture by its tests, with NAMES as its parameters."""
    return make(request.param, tmp_path, monkeypatch)


def made_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Made a fixture by its tests."""
    return make("mnist", tmp_path, monkeypatch)


def made_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Made a fixture by its tests."""
    return make("cifar10", tmp_path, monkeypatch)


def check(made: Made, settings: PublishedSource) -> None:
    loaded, train = made.entry.load(settings), 4 * len(made.set.classes)
    assert np.array_equal(loaded.pixels.numpy(), made.x) and loaded.pixels.dtype == torch.uint8
    assert loaded.pixels.is_contiguous() and loaded.labels.dtype == torch.int64
    assert loaded.labels.tolist() == made.y.tolist()
    assert loaded.test.tolist() == [False] * train + [True] * (len(made.y) - train)
    assert (loaded.classes, loaded.scale, loaded.title) == (made.set.classes, 255.0, made.set.title)
