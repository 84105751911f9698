"""Sets as npz files: bytes, half precision, and classes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_interop_sets import BYTES, NAMES, PIXELS, X, Y, made, read, same, write

from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Origin


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
