"""Images from outside are counted before they are decoded, all of a folder together; Pillow says nothing of its own."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image
from test_folder import PIXELS, fill, load

from distill_prune import data
from distill_prune.data import folder
from distill_prune.errors import DataError
from distill_prune.limits import VARIABLE


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """30 images of 6x5 pixels."""
    fill(tmp_path / "train", 6)
    fill(tmp_path / "test", 4, first=18)
    return tmp_path


def test_a_folder_that_takes_too_much_memory(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are kept are paid for together, and each while it is decoded."""
    needs = 30 * PIXELS[0].nbytes + 16 * 30
    monkeypatch.setenv(VARIABLE, str(needs))
    load(parted)
    monkeypatch.setenv(VARIABLE, str(needs - 1))
    with pytest.raises(DataError, match=rf"(?s)^'{parted}' takes too much memory to read.*--max-size 3.2KB"):
        load(parted)
    assert len(load(parted, rows=6, test_rows=3).pixels) == 9


def test_large_images_are_not_decoded(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few kilobytes may be gigabytes of pixels. What the option allows is read, without a warning."""
    file = parted / "train" / "ant" / "0.png"
    content = file.read_bytes()
    for size, said in ((13_000, "to decode 13000x13000 pixels"), (40_000, "to decode 40000x40000 pixels")):
        head = b"IHDR" + struct.pack(">2L", size, size) + content[24:29]
        file.write_bytes(content[:12] + head + struct.pack(">L", zlib.crc32(head)) + content[33:])
        with pytest.raises(DataError, match=said):
            load(parted)
    Image.new("1", (200, 100)).save(parted / "train" / "ant" / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # above which Pillow warns, and above twice refuses
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(parted, size=4).pixels.shape == (30, 3, 4, 4)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_an_image_is_not_scaled_to_millions_of_pixels(parted: Path) -> None:
    Image.new("L", (100_000, 1)).save(parted / "train" / "ant" / "0.png")
    with pytest.raises(DataError, match=r"to scale '.*0.png' to 51200000x512 pixels"):
        load(parted, size=512)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_fifo_is_no_image(parted: Path, part: str) -> None:
    os.mkfifo(parted / part / "bee" / "x.png")
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(DataError, match=r"bee/x.png' is not a file\n  got:      a FIFO"):
            ask(folder.Settings(path=str(parted)))


def test_what_pillow_warns_of_is_not_heard(parted: Path) -> None:
    """A palette with a transparent colour, and a note of a camera that is cut off."""
    place = parted / "train" / "ant"
    Image.fromarray(PIXELS[0]).convert("P").save(place / "0.png", transparency=bytes(range(200)))
    Image.fromarray(PIXELS[0]).save(place / "1.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x09")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(parted)
