"""Every foreign format of distilled sets: out and in again bit by bit, and files that are written whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_interop_sets import LOGITS, PIXELS, SETS, X, Y, made, read, same, write

from distill_prune.artifacts import Ticket, Transform
from distill_prune.artifacts.tickets import Mask
from distill_prune.errors import RunError, UserError
from distill_prune.interop import FORMATS, files

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
    with pytest.raises(UserError, match="exists already"):
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


# -- writing


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

    with pytest.raises(UserError, match="exists already"):
        files.publish_folder(tmp_path / "out", meanwhile())
    assert (tmp_path / "out").read_text(encoding="utf-8") == "other" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"):
        write("dc", made(), tmp_path / "link")
    with pytest.raises(UserError, match=r"(?s)cannot be written.*(Not a directory|File exists)"):
        write("dc", made(), tmp_path / "out" / "below")


# -- options


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
