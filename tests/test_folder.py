"""Folders of image files: what is read, how it is scaled and split, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_data import part

from distill_prune import data
from distill_prune.data import folder, image_file
from distill_prune.data.split import stratified
from distill_prune.errors import DataError
from distill_prune.limits import Budget
from distill_prune.rng import stream

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
CLASSES = ("ant", "bee", "cow")


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def fill(root: Path, count: int, first: int = 0, classes: tuple[str, ...] = CLASSES) -> None:
    """`count` images for each class; image i of class c shows row first + count c + i of PIXELS."""
    for c, name in enumerate(classes):
        for i in range(count):
            save(root / name / f"{i}.png", PIXELS[first + count * c + i])


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    fill(tmp_path, 10)
    return tmp_path


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    fill(tmp_path / "train", 6)
    fill(tmp_path / "test", 4, first=18)
    return tmp_path


def load(path: Path, **more: Any) -> Any:
    return folder.load(folder.Settings(path=str(path), **more))


def rows_of(pixels: torch.Tensor) -> list[int]:
    """Which rows of PIXELS the images show."""
    known = {p.tobytes(): i for i, p in enumerate(PIXELS)}
    return [known[p.numpy().tobytes()] for p in pixels.permute(0, 2, 3, 1).contiguous()]


# what is read


def test_train_and_test_parts(parted: Path) -> None:
    (parted / "other").mkdir()
    (parted / "train" / "README.txt").write_text("left alone")
    loaded = load(parted)
    assert loaded.pixels.shape == (30, 3, 6, 5) and loaded.pixels.dtype == torch.uint8 and loaded.pixels.is_contiguous()
    assert rows_of(loaded.pixels) == list(range(30))
    assert loaded.labels.tolist() == [c for n in (6, 4) for c in range(3) for _ in range(n)]
    assert loaded.test.tolist() == [False] * 18 + [True] * 12
    assert (loaded.classes, loaded.scale, loaded.title) == (CLASSES, 255.0, parted.name)
    assert load(parted, title="Animals").title == "Animals"
    images = data.prepare(folder.Settings(path=str(parted), validation=0.5))
    assert [int(part(images, p).sum()) for p in ("train", "validation", "test")] == [9, 9, 12]


def test_flat_folder_is_split(flat: Path) -> None:
    loaded = load(flat, test_share=0.3, split_seed=2)
    test = stratified(torch.arange(30) // 10, 9, CLASSES, stream(2, "data", "test"), what="", leave=True).tolist()
    expected = [i for i in range(30) if i not in test] + test
    assert rows_of(loaded.pixels) == expected and loaded.labels.tolist() == [i // 10 for i in expected]
    assert loaded.test.tolist() == [False] * 21 + [True] * 9
    assert rows_of(load(flat, test_share=0.3, split_seed=3).pixels) != expected
    assert load(flat).test.sum() == 6


def test_rows_take_a_stratified_part(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    decode = image_file._pixels
    monkeypatch.setattr(image_file, "_pixels", lambda file, *rest: (opened.append(file), decode(file, *rest))[1])
    loaded = load(parted, rows=9, test_rows=3)
    train = stratified(torch.arange(18) // 6, 9, CLASSES, stream(0, "data", "rows"), what="", leave=False)
    test = stratified(torch.arange(12) // 4, 3, CLASSES, stream(0, "data", "test_rows"), what="", leave=False)
    assert rows_of(loaded.pixels) == [*train.tolist(), *(test + 18).tolist()]
    assert loaded.labels.tolist() == [*(train // 6).tolist(), *(test // 4).tolist()]
    assert len(opened) == len(set(opened)) == 12, "every chosen file is decoded once, no other"
    with pytest.raises(
        DataError, match=r"^test_rows of '.*': more rows asked for than there are\n  got:      13\n  expected: at most"
    ):
        load(parted, test_rows=13)


def test_names_and_classes_are_sorted(tmp_path: Path) -> None:
    for c, name in enumerate(("b", "B", "a", "10", "9")):
        for i in (2, 0, 10):
            save(tmp_path / "train" / name / f"{i}.png", np.full((2, 2), 10 * c + i, np.uint8))
        save(tmp_path / "test" / name / "x.png", np.full((2, 2), 10 * c, np.uint8))
    loaded = load(tmp_path, channels=1)
    assert loaded.classes == ("10", "9", "B", "a", "b")
    assert loaded.pixels[:15, 0, 0, 0].tolist() == [10 * c + i for c in (3, 4, 1, 2, 0) for i in (0, 10, 2)]


@pytest.mark.parametrize(
    ("name", "options", "exact"),
    [
        ("0.png", {}, True),
        ("0.PNG", {"format": "PNG"}, True),
        ("0.bmp", {}, True),
        ("0.webp", {"lossless": True, "exact": True}, True),
        ("0.jpg", {"quality": 95, "subsampling": 0}, False),
        ("0.JPEG", {"format": "JPEG", "quality": 95, "subsampling": 0}, False),
        ("0.png", {"format": "JPEG", "quality": 95, "subsampling": 0}, False),
    ],
)
def test_formats(parted: Path, name: str, options: dict[str, Any], exact: bool) -> None:
    (parted / "train" / "ant" / "0.png").unlink()
    save(parted / "train" / "ant" / name, PIXELS[0], **options)
    difference = np.abs(load(parted).pixels[0].permute(1, 2, 0).numpy().astype(int) - PIXELS[0])
    assert difference.max() == 0 if exact else 0 < difference.mean() < 10


def test_channels(parted: Path) -> None:
    gray = PIXELS[0, ..., 0]
    save(parted / "train" / "ant" / "0.png", gray)
    assert np.array_equal(load(parted).pixels[0].numpy(), np.stack([gray] * 3))
    loaded = load(parted, channels=1)
    assert loaded.pixels.shape == (30, 1, 6, 5) and np.array_equal(loaded.pixels[0, 0].numpy(), gray)
    luma = PIXELS[1] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(loaded.pixels[1, 0].numpy(), luma, atol=1)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
def test_other_modes(parted: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS[0]).convert(mode)
    image.save(parted / "train" / "ant" / "0.png")
    assert np.array_equal(load(parted).pixels[0].permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))


# scaling


def triangle(pixels: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Weighted means along an axis, in float64: a triangle as wide as a new pixel (or an old one, where that is wider)."""
    old = pixels.shape[axis]
    step = old / size
    reach, moved, scaled = max(step, 1.0), np.moveaxis(pixels.astype(float), axis, 0), []
    for i in range(size):
        weights = np.array([max(0.0, 1 - abs(k + 0.5 - (i + 0.5) * step) / reach) for k in range(old)])
        scaled.append(np.tensordot(weights / weights.sum(), moved, 1))
    return np.moveaxis(np.stack(scaled), 0, axis)


@pytest.mark.parametrize(("shape", "scaled"), [((16, 24), (8, 12)), ((24, 16), (12, 8)), ((16, 16), (8, 8)), ((5, 8), (8, 13))])
def test_shorter_side_is_scaled_and_the_middle_cut_out(tmp_path: Path, shape: tuple[int, int], scaled: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    file = save(tmp_path / "a.png", pixels)
    expected = triangle(triangle(pixels, scaled[1], 1), scaled[0], 0)
    top, left = ((side - 8) // 2 for side in scaled)
    found = image_file.decode([file], 8, 3, Budget(file))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected[top : top + 8, left : left + 8], atol=1.01)


def test_images_of_several_sizes(parted: Path) -> None:
    odd = save(parted / "test" / "bee" / "1.png", PIXELS[0].repeat(2, 0))
    first = parted / "train" / "ant" / "0.png"
    message = (
        rf"^images differ in size\n  got:      5x12 in '{odd}'\n  expected: 5x6 as in '{first}'\n  fix:      set data.size"
    )
    with pytest.raises(DataError, match=message):
        load(parted)
    assert load(parted, size=5).pixels.shape == (30, 3, 5, 5)
    whole = load(parted, size=5).pixels[0].permute(1, 2, 0).numpy()
    assert np.array_equal(whole, PIXELS[0][:5]), "where the shorter side is right already nothing is scaled"


# identity


def test_fingerprint(parted: Path) -> None:
    settings = folder.Settings(path=str(parted))
    first = data.fingerprint(settings)
    names = sorted(p.relative_to(parted).as_posix() for p in parted.rglob("*.png"))
    listed = [[n, hashlib.sha256((parted / n).read_bytes()).hexdigest()] for n in names]
    assert len(listed) == 30
    assert first == hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()
    (parted / "train" / "ant" / ".DS_Store").write_text("hidden")
    (parted / ".cache").mkdir()
    (parted / "notes.txt").write_text("beside")
    assert data.fingerprint(settings) == first
    image = parted / "train" / "ant" / "0.png"
    image.rename(image.with_name("00.png"))
    renamed = data.fingerprint(settings)
    save(image.with_name("00.png"), PIXELS[29])
    assert len({first, renamed, data.fingerprint(settings)}) == 3


def test_fingerprint_is_the_same_elsewhere(parted: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("moved") / "there"
    first = data.fingerprint(folder.Settings(path=str(parted)))
    parted.rename(other)
    assert data.fingerprint(folder.Settings(path=str(other))) == first


def test_hashes_are_remembered(flat: Path) -> None:
    settings, remembered = folder.Settings(path=str(flat)), dict[str, str]()
    first = data.fingerprint(settings, remembered)
    assert len(remembered) == 30 and data.fingerprint(settings, remembered) == first
    remembered.update(dict.fromkeys(remembered, "from memory"))
    assert data.fingerprint(settings, remembered) != first


def test_identity_leaves_path_and_title_out() -> None:
    here, there = (folder.Settings(path=p, title=t) for p, t in (("a", "A"), ("b", "B")))
    assert here.identity() == there.identity()
    assert set(here.identity()) >= {"size", "channels", "rows", "test_rows", "test_share"}


# what is refused

ASKS = (data.fingerprint, data.prepare)


def refused(path: Path, message: str, **more: Any) -> None:
    for ask in ASKS:
        with pytest.raises(DataError, match=message):
            ask(folder.Settings(path=str(path), **more))


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", r"^there is no data at '.*nowhere'\n  fix: ")
    for name, fix in (("a.npz", "\n  fix:      data.name: npz reads"), ("a.zip", "$")):
        (tmp_path / name).write_text("")
        refused(tmp_path / name, rf"^'.*{name}' is not a folder\n  expected: a folder with .* for each class{fix}")


def test_folders_without_images(tmp_path: Path) -> None:
    refused(tmp_path, r"^'.*' has no images in folders, one for each class\n  got:      nothing\n  expected: .*/CLASS/\*")
    save(tmp_path / "a.png", PIXELS[0])
    refused(tmp_path, r"has no images in folders, one for each class\n  got:      a\.png\n")
    fill(tmp_path / "train", 2)
    (tmp_path / "test").mkdir()
    refused(tmp_path, r"^'.*test' has no images in folders, one for each class\n  got:      nothing\n  expected: test/CLASS/\*")


def test_empty_class(flat: Path) -> None:
    (flat / "dog").mkdir()
    (flat / "dog" / ".hidden.png").write_text("")
    refused(flat, r"^class 'dog' has no images\n  got:      an empty folder '.*dog'")


def test_one_part_alone(tmp_path: Path) -> None:
    fill(tmp_path / "train", 2)
    fill(tmp_path / "val", 2)
    refused(tmp_path, r"^the folder '.*' has train/ and no test/\n  got:      train, val\n  expected: train/ and test/")
    (tmp_path / "train").rename(tmp_path / "test")
    refused(tmp_path, r"^the folder '.*' has test/ and no train/\n  got:      test, val\n")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, 10, classes=("plane", "train"))
    assert load(tmp_path).classes == ("plane", "train")


def test_class_that_train_lacks(parted: Path) -> None:
    save(parted / "test" / "dog" / "0.png", PIXELS[0])
    refused(
        parted, r"^class 'dog' has test images and no training images\n  got:      '.*test/dog'\n  expected: also '.*train/dog'"
    )


def test_single_class(tmp_path: Path) -> None:
    fill(tmp_path, 10, classes=("ant",))
    refused(
        tmp_path, rf"^'{tmp_path}' has images of a single class\n  got:      the folder ant\n  expected: .* at least 2 classes"
    )
    fill(tmp_path / "parts" / "train", 10, classes=("ant",))
    fill(tmp_path / "parts" / "test", 10, classes=("ant",))
    refused(tmp_path / "parts", r"parts/train' has images of a single class\n")


def test_folder_within_a_class(tmp_path: Path) -> None:
    fill(tmp_path / "images", 2)
    refused(
        tmp_path,
        r"^'.*images/ant' is a folder within a class\n  got:      'images' taken for a class\n(.*\n)  fix:      give the",
    )


def test_other_files_in_a_class(flat: Path) -> None:
    (flat / "bee" / "notes.txt").write_text("hello")
    refused(flat, r"^'.*bee/notes\.txt' is not an image\n  expected: a name that ends in \.png, .*\n  fix:      move it out")


def test_class_too_small_to_be_split(flat: Path) -> None:
    save(flat / "dog" / "0.png", PIXELS[0])
    with pytest.raises(DataError, match=r"^test part of '.*': class 'dog' has too few examples to keep its share\n"):
        load(flat)


@pytest.mark.parametrize(
    ("suffix", "options", "keep"),
    [(".png", {}, 0.5), (".jpg", {}, 0.9), (".webp", {"lossless": True}, 0.5), (".bmp", {}, 0.5), (".png", {}, 0.0)],
)
def test_truncated_image_is_named(parted: Path, suffix: str, options: dict[str, Any], keep: float) -> None:
    pixels = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = save(parted / "test" / "cow" / f"z{suffix}", pixels, **options)
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(DataError, match=rf"^'{file}' cannot be decoded\n  got:      .*\n  expected: a whole PNG, JPEG,"):
        load(parted, size=4)


@pytest.mark.parametrize("content", [b"hello", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n"])
def test_file_that_is_no_image_is_named(parted: Path, content: bytes) -> None:
    file = parted / "train" / "bee" / "3.png"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^'{file}' cannot be decoded\n  got:      cannot identify image file"):
        load(parted)


def test_other_formats_are_not_opened(parted: Path) -> None:
    file = save(parted / "train" / "bee" / "3.png", PIXELS[0], format="GIF")
    with pytest.raises(DataError, match=rf"^'{file}' cannot be decoded"):
        load(parted)


def test_deep_pixels_are_refused(parted: Path) -> None:
    file = save(parted / "train" / "bee" / "3.png", np.full((6, 5), 40000, np.uint16))
    with pytest.raises(DataError, match=rf"^'{file}' holds more than 8 bits for a pixel\n  got:      mode I;16"):
        load(parted)
