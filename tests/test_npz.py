"""Images in .npz files: what is read, what is split, what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_data import GOOD, LABELS, PIXELS, folder, packed, part, save

from distill_prune import data
from distill_prune.data import npz, npz_file
from distill_prune.data.image_file import decode
from distill_prune.data.split import hold_out
from distill_prune.errors import DataError
from distill_prune.limits import VARIABLE, Budget


@pytest.mark.parametrize(
    ("names", "axes"), [(("x", "y"), (0, 1, 2, 3)), (("images", "labels"), (0, 3, 1, 2)), (("x", "labels"), (0, 1, 2, 3))]
)
def test_channel_axis_is_found(tmp_path: Path, names: tuple[str, str], axes: tuple[int, ...]) -> None:
    images = data.prepare(folder(tmp_path, {names[0]: PIXELS.transpose(axes), names[1]: LABELS}))
    assert images.pixels.shape == (120, 3, 6, 5) and images.scale == 255
    assert np.array_equal(images.pixels[:60].permute(0, 2, 3, 1).numpy(), PIXELS)
    assert images.labels.tolist() == [*LABELS, *LABELS]
    assert part(images, "test").tolist() == [False] * 60 + [True] * 60
    assert images.classes == ("0", "1", "2") and images.title == tmp_path.name


def test_gray_images_get_a_channel(tmp_path: Path) -> None:
    images = data.prepare(folder(tmp_path, {"x": PIXELS[..., 0], "y": LABELS}))
    assert images.pixels.shape == (120, 1, 6, 5)


def test_float_images(tmp_path: Path) -> None:
    images = data.prepare(folder(tmp_path, {"x": PIXELS / 255, "y": LABELS}))
    assert images.pixels.dtype == torch.float32 and images.scale == 1
    torch.testing.assert_close(images.pixels[:60].permute(0, 2, 3, 1) * 255, torch.from_numpy(PIXELS).float())


@pytest.mark.parametrize("white", [1, 255])
def test_arrays_are_scaled_as_files_are(tmp_path: Path, white: int) -> None:
    path = save(tmp_path / "a.npz", x=PIXELS if white == 1 else PIXELS / np.float32(white), y=LABELS)
    scaled = npz.load(npz.Settings(path=str(path), size=3)).pixels * white
    files = [tmp_path / f"{row}.png" for row in range(len(PIXELS))]
    for file, image in zip(files, PIXELS, strict=True):
        Image.fromarray(image).save(file)
    order = torch.cat([*hold_out(torch.as_tensor(LABELS), 0.2, ("0", "1", "2"), 0, of="")])
    expected = decode([files[row] for row in order.tolist()], 3, 3, Budget(tmp_path))
    torch.testing.assert_close(
        scaled.float(), expected.float(), atol=0 if white == 1 else 1.01, rtol=0
    )  # bytes are rounded twice
    looked = npz.look(npz.Settings(path=str(path), size=3))
    assert looked.pixels.shape == scaled.shape and looked.pixels.is_meta


def test_names_as_labels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x=PIXELS, y=np.array(["a", "b"] * 30))
    with pytest.raises(DataError, match=r"np\.unique\(labels, return_inverse=True\)"):
        npz.load(npz.Settings(path=str(path)))


def test_single_file_is_split(tmp_path: Path) -> None:
    path = save(tmp_path / "letters.npz", x=PIXELS, y=LABELS)
    settings = npz.Settings(path=str(path), test_share=0.25)
    images = data.prepare(settings)
    assert [int(part(images, p).sum()) for p in ("train", "validation", "test")] == [41, 4, 15]
    assert images.labels[part(images, "test")].bincount().tolist() == [5, 5, 5]
    seen = sorted(p.numpy().tobytes() for p in images.pixels.permute(0, 2, 3, 1))
    assert seen == sorted(p.tobytes() for p in PIXELS)
    assert images.title == "letters"
    assert not torch.equal(images.pixels, data.prepare(settings.model_copy(update={"split_seed": 1})).pixels)
    assert data.prepare(settings.model_copy(update={"title": "Letters"})).title == "Letters"


def test_rows_take_a_stratified_random_part(tmp_path: Path) -> None:
    settings = folder(tmp_path, {"x": PIXELS, "y": np.sort(LABELS)})
    images = data.prepare(settings.model_copy(update={"rows": 30, "test_rows": 9}))
    train = ~part(images, "test")
    assert images.labels[train].bincount().tolist() == [10, 10, 10]
    assert images.labels[~train].bincount().tolist() == [3, 3, 3]
    by_pixels = {p.tobytes(): i for i, p in enumerate(PIXELS)}
    rows = [by_pixels[p.numpy().tobytes()] for p in images.pixels[train].permute(0, 2, 3, 1)]
    assert len(set(rows)) == 30 and rows[:10] != list(range(10))
    assert np.array_equal(images.labels[train].numpy(), np.sort(LABELS)[rows])


@pytest.mark.parametrize("field", ["rows", "test_rows"])
def test_more_rows_than_there_are(tmp_path: Path, field: str) -> None:
    settings = folder(tmp_path, {"x": PIXELS, "y": LABELS}).model_copy(update={field: 61})
    with pytest.raises(
        DataError, match=f"^{field} of .*more rows asked for than there are\n  got:      61\n  expected: at most 60"
    ):
        data.prepare(settings)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({**GOOD, "x": PIXELS[..., :2]}, r"not to be found\n  got:      \(60, 6, 5, 2\)"),
        ({**GOOD, "x": PIXELS[:, :3]}, r"ambiguous\n  got:      \(60, 3, 5, 3\)"),
        ({**GOOD, "x": PIXELS[:, 0, 0]}, r"wrong shape\n  got:      \(60, 3\)"),
        ({**GOOD, "x": PIXELS.astype(np.int64)}, "got:      int64\n  expected: uint8, or floats"),
        ({**GOOD, "x": PIXELS / 127.5 - 1}, r"lie outside \[0, 1\]\n  got:      values -1 to 1, first in row 0\n"),
        (
            {**GOOD, "x": np.where(np.arange(60)[:, None, None, None] == 7, np.nan, 0.5 * PIXELS / 255)},
            "are not finite\n  got:      row 7",
        ),
        ({"pictures": PIXELS, "y": LABELS}, "no array of images\n  got:      arrays pictures, y\n  expected: one of x, im"),
        ({"x": PIXELS, "target": LABELS}, "no array of labels\n  got:      arrays target, x\n  expected: one of y, labels"),
        ({**GOOD, "images": PIXELS}, "more than one array of images"),
        ({**GOOD, "y": LABELS[:-1]}, r"labels of .*\n  got:      uint8 \(59,\)\n  expected: integers \(60,\)"),
        ({**GOOD, "y": LABELS.astype(float)}, r"labels of .*\n  got:      float64"),
        ({**GOOD, "y": LABELS.astype(int) - 1}, "labels outside its classes\n  got:      labels -1..1\n"),
        ({**GOOD, "classes": np.array(["a", "b"])}, "labels outside its classes\n  got:      labels 0..2\n  expected: 0..1"),
        ({**GOOD, "classes": np.array([1, 2, 3])}, r"classes of .*\n  got:      int64"),
        ({**GOOD, "classes": np.array(["a", "b", "c", "d"])}, "no training examples of class 'd'"),
        ({**GOOD, "y": LABELS * 0}, "has a single class"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, "at least one image"),
        ({**GOOD, "x": np.array([object()] * 60)}, "is refused\n  got:      pickled Python objects"),
        ({"webp": np.zeros(9, np.uint8), "y": LABELS}, "without 'offsets'"),
        ({"webp": np.zeros(9, np.uint8), "offsets": np.arange(61), "y": LABELS}, "do not fit together"),
    ],
)
def test_refused_files(tmp_path: Path, train: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.prepare(folder(tmp_path, train))


def test_parts_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"differ in kind\n  got:      \(1, 6, 5\) torch.uint8 in test.npz"):
        data.prepare(folder(tmp_path, GOOD, {"x": PIXELS[..., 0], "y": LABELS}))
    named = [{**GOOD, "classes": np.array(list(names))} for names in ("abc", "acb")]
    with pytest.raises(DataError, match="the two files name different classes"):
        data.prepare(folder(tmp_path, *named))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(DataError, match=r"there is no data at '.*/nowhere'\n  fix: "):
            ask(npz.Settings(path=str(tmp_path / "nowhere")))
        with pytest.raises(DataError, match=r"has no train.npz\n  got:      nothing\n"):
            ask(npz.Settings(path=str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x00.", "cut"])
def test_files_that_are_no_npz(tmp_path: Path, content: bytes | str) -> None:
    path = save(tmp_path / "a.npz", **GOOD)
    path.write_bytes(path.read_bytes()[:-100] if isinstance(content, str) else content)
    with pytest.raises(DataError, match=r"is not an .npz file, or only a part of one"):
        data.prepare(npz.Settings(path=str(path)))


def test_damaged_npz(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **GOOD)
    content = bytearray(path.read_bytes())
    content[500:600] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an .npz file\n  got:      Bad CRC"):
        data.prepare(npz.Settings(path=str(path)))


def test_a_name_of_a_kilobyte_is_not_repeated(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **GOOD)
    content = bytearray(path.read_bytes())
    content[26:30] = b"\xd0\x07\0\0"  # the length of the first member's name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"only a part of one\n  got:      File name in directory") as caught:
        data.prepare(npz.Settings(path=str(path)))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("kind", "exact"), [("webp", True), ("jpeg", False)])
def test_packed_images(tmp_path: Path, kind: str, exact: bool) -> None:
    smooth = np.repeat(np.repeat(PIXELS[:, :2, :2], 8, 1), 8, 2)
    contents = {**packed(list(smooth), kind), "labels": LABELS, "classes": np.array(["a", "b", "c"])}
    images = data.prepare(folder(tmp_path, contents))
    assert images.pixels.shape == (120, 3, 16, 16) and images.classes == ("a", "b", "c")
    difference = (images.pixels[:60].permute(0, 2, 3, 1).numpy().astype(int) - smooth).__abs__().mean()
    assert difference == 0 if exact else 0 < difference < 20
    part_of_it = data.prepare(npz.Settings(path=str(tmp_path), rows=15, validation=0.2))
    assert len(part_of_it.pixels) == 75
    known = {p.numpy().tobytes() for p in images.pixels[:60]}
    assert all(p.numpy().tobytes() in known for p in part_of_it.pixels[:15])


def test_gray_packed_images(tmp_path: Path) -> None:
    contents = {**packed([p[..., 0] for p in PIXELS], "jpeg"), "labels": LABELS}
    assert data.prepare(folder(tmp_path, contents)).pixels.shape == (120, 1, 6, 5)


def test_broken_packed_image_is_named(tmp_path: Path) -> None:
    contents = {**packed(list(PIXELS)), "labels": LABELS}
    contents["webp"] = contents["webp"].copy()
    contents["webp"][contents["offsets"][17] : contents["offsets"][18]] = 1
    with pytest.raises(DataError, match=r"image in row 17 of '.*train.npz' cannot be decoded"):
        data.prepare(folder(tmp_path, contents))


def test_packed_image_of_another_shape_is_named(tmp_path: Path) -> None:
    contents = {**packed([*PIXELS[:20], PIXELS[20][:4], *PIXELS[21:]]), "labels": LABELS}
    with pytest.raises(DataError, match=r"image in row 20 of .* differs in shape\n  got:      \(3, 4, 5\)"):
        data.prepare(folder(tmp_path, contents))


# what is declared


def array(header: str, values: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An array as .npy, with a header of somebody's."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + values


def forged(path: Path, x: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", labels.getvalue())
    return path


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': %s}"


def test_the_forger_can_write_what_is_read(tmp_path: Path) -> None:
    path = forged(tmp_path / "a.npz", array(HEADER % "(60, 6, 5, 3)", PIXELS.tobytes()))
    found = data.prepare(npz.Settings(path=str(path))).pixels
    assert sorted(p.numpy().tobytes() for p in found) == sorted(p.tobytes() for p in PIXELS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (array(HEADER % "(60, 60000, 60000, 3)", PIXELS.tobytes()), "are 648000000000 bytes, and 5400 are there"),
        (array(HEADER % "(60, 6, 5, 4)", PIXELS.tobytes()), "are 7200 bytes, and 5400 are there"),
        (array(HEADER % "(60, 6, 5, 2)", PIXELS.tobytes()), "are 3600 bytes, and 5400 are there"),
        (array(HEADER % "(60, -6, -5, 3)", PIXELS.tobytes()), "are 5400 bytes, and 5400 are there"),
        (array(HEADER % "()", b"1"), "x.npy is a single value, and no array"),
        (array(HEADER % "(60, 0, 5, 3)", b""), "have the wrong shape"),
        (array("{'descr': '|V0', 'fortran_order': False, 'shape': (60,)}", b""), "cannot be read as an .npz file"),
        (array("{'descr': '|O', 'fortran_order': False, 'shape': (60,)}", b"1"), "pickled Python objects"),
        (array("(" * 9000, b""), "cannot be read as an .npz file"),
        (array(HEADER % ("9" * 5000), b""), "cannot be read as an .npz file"),
        (array(HEADER % "(60,)", bytes(60), b"\x03\x00"), "version \\(3, 0\\) of the format of arrays"),
        (array(HEADER % "(60, 6, 5, 3)", PIXELS.tobytes(), b"\x02\x00"), "version \\(2, 0\\) of the format of arrays"),
        (b"PK", "cannot be read as an .npz file"),
    ],
)
def test_arrays_that_are_not_what_they_declare(tmp_path: Path, x: bytes, message: str) -> None:
    path = forged(tmp_path / "a.npz", x)
    with pytest.raises(DataError, match=rf"(?s)'{path}'.*{message}|{message}"):
        data.prepare(npz.Settings(path=str(path)))


def test_compression_that_numpy_does_not_write(tmp_path: Path) -> None:
    path = forged(tmp_path / "a.npz", array(HEADER % "(60, 6, 5, 3)", PIXELS.tobytes()), zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="compressed in a way that NumPy does not write"):
        data.prepare(npz.Settings(path=str(path)))


def test_arrays_in_the_order_of_columns(tmp_path: Path) -> None:
    found = npz.load(folder(tmp_path, {"x": np.asfortranarray(PIXELS), "y": LABELS}))
    assert np.array_equal(found.pixels[:60].permute(0, 2, 3, 1).numpy(), PIXELS)


def test_arrays_that_take_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over both files, before a byte is unpacked; arrays that nobody asks for are not counted."""
    settings = folder(tmp_path, {**GOOD, "other": np.zeros(10**6)})
    needs = 2 * 2 * (PIXELS.nbytes + LABELS.nbytes)
    monkeypatch.setenv(VARIABLE, str(needs))
    npz.load(settings)
    monkeypatch.setenv(VARIABLE, str(needs - 1))
    with pytest.raises(
        DataError,
        match=rf"(?s)^'{tmp_path}' takes too much memory to read\n  got: +21.9KB, with the array y.*size 21.9KB",
    ):
        npz.load(settings)


def test_packed_images_that_take_too_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A white picture of 4 million pixels is a file of some hundred bytes."""
    white = packed([np.full((2000, 2000, 3), 255, np.uint8)] * 6)
    assert white["webp"].nbytes < 50_000
    settings = folder(tmp_path, {**white, "y": np.arange(6) % 2})
    monkeypatch.setenv(VARIABLE, "60MB")
    with pytest.raises(DataError, match="to decode 2000x2000 pixels"):
        npz.load(settings)
    monkeypatch.setenv(VARIABLE, "70MB")
    with pytest.raises(DataError, match=r"12 images like row 0, \(3, 2000, 2000\)"):
        npz.load(settings)


def test_soft_labels_have_a_way_in(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"(?s)are soft: a number for each class\n  got: +float64 \(60, 3\).*import ddranking",
    ):
        npz.load(folder(tmp_path, {"x": PIXELS, "y": np.eye(3)[LABELS]}))


def test_labels_of_ids_take_no_memory(tmp_path: Path) -> None:
    for highest in (20_000_000, 10**12, 2**63 - 1):
        labels = np.where(LABELS == 2, highest, LABELS.astype(np.int64))
        with pytest.raises(DataError, match=rf"(?s)no numbers of classes.*3 distinct labels, the largest {highest}"):
            npz.load(folder(tmp_path, {"x": PIXELS, "y": labels}))
    with pytest.raises(DataError, match="labels outside its classes"):
        npz.load(folder(tmp_path, {"x": PIXELS, "y": np.where(LABELS == 2, 2**64 - 1, LABELS.astype(np.uint64))}))


def test_a_part_may_have_a_longer_name(tmp_path: Path) -> None:
    for name, rows in (("train10k", 12), ("test", 4)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((rows, 4, 4), np.uint8), y=np.arange(rows) % 2)
    settings = npz.Settings(path=str(tmp_path))
    assert len(npz.load(settings).labels) == 16 and len(npz.fingerprint(settings)) == 64
    np.savez(tmp_path / "train2.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.arange(2))
    with pytest.raises(DataError, match=r"(?s)has no train.npz.*got:      test.npz, train10k.npz, train2.npz"):
        npz.load(settings)


@pytest.mark.parametrize("order", ["<", ">"])
def test_classes_of_letters_that_there_are_not(order: str, tmp_path: Path) -> None:
    good = np.array(["cat", "dog"], f"{order}U3")
    assert npz_file._check_classes(tmp_path, good) == ("cat", "dog")
    assert npz_file._check_classes(tmp_path, np.array([], "U0")) == ()
    bad = np.frombuffer(bytes([0xFF]) * good.nbytes, good.dtype)
    with pytest.raises(DataError, match="letters that there are not"):
        npz_file._check_classes(tmp_path, bad)
