"""Sets as folders of pictures: order, modes, network input mapped back, and what is no picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_interop_sets import BESIDE, BYTES, NAMES, NORMALIZE, PIXELS, POINTER, X, Y, bits, made, read, write

from distill_prune.errors import DataError
from distill_prune.interop import Origin


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
