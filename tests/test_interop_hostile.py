"""Hostile and damaged foreign files of sets: refused in words of ours, and never executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_interop_sets import LR, NAMES, NAN, NORMALIZE, PIXELS, POINTER, X, Y, network, read, saved

from distill_prune.errors import ConfigError, DataError, DistillPruneError
from distill_prune.interop import Origin, files


class Attack:
    """Makes a file where it is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


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
        r"cannot be read as a file of torch.save.*a reference to what is not there": b"hello",
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
