"""The command `show`: one artifact for a person, for a program, or as a picture."""

from __future__ import annotations

import json as json_
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_prune.cli.columns import Column, table, width
from distill_prune.cli.options import AsJson, RefArg, StoreDir, app, open_store
from distill_prune.errors import UserError
from distill_prune.letters import printable

if TYPE_CHECKING:
    from distill_prune.store.store import Ref, Store
    from distill_prune.study.description import Description, Figure, Input

_MANY = 12
"""Inputs that are listed one by one."""


@app.command()
def show(
    ref: RefArg,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="write the images of a synthetic set as one .png")
    ] = None,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Say what an artifact is, where its files are, what it is made from, its figures; with --json its manifest and numbers.

    Example:  distill-prune show digits/synthetic/0/3
    """
    from distill_prune.study.description import describe

    store = open_store(folder)
    target = store.find(ref)
    if picture is not None:
        _draw(store, target, ref, picture)
    if json:
        manifest, numbers = store.check(target.stage, target.key), store.numbers(target.stage, target.key)
        path = str(store.path(target.stage, target.key))
        print(json_.dumps({"path": path, "manifest": manifest.document(), "numbers": numbers}, indent=1))
        return
    for line in _lines(describe(store, target), store, width()):
        print(line)
    if picture is not None:
        print(f"picture: {picture}")


def _draw(store: Store, target: Ref, ref: str, picture: Path) -> None:
    """Write the sheet of a set's images.

    Raises:
        UserError: it is no set of images, or the file cannot be written.
    """
    if picture.suffix.lower() != ".png":
        raise UserError("--picture writes a PNG file", got=str(picture), expected="a name that ends in .png")
    if target.stage != "distill":
        raise UserError(f"'{ref}' has no images to show", got=f"{target.stage}/{target.key[:12]}", expected="a synthetic set")
    from distill_prune.artifacts import SyntheticSet
    from distill_prune.report.pictures import contact_sheet
    from distill_prune.store.archive import aside
    from distill_prune.study.sets import eight_bit

    synthetic = store.noun("distill", target.key, SyntheticSet.of)
    if synthetic.transform.kind == "text":
        raise UserError(f"'{ref}' has no images to show", got="a set of text", expected="a set of images")
    if synthetic.images.shape[1] not in (1, 3):
        raise UserError(f"'{ref}' cannot be drawn", got=f"{synthetic.images.shape[1]} channels", expected="1 or 3")
    drawn = contact_sheet(eight_bit(synthetic), synthetic.hard.tolist(), list(synthetic.classes))
    with aside(picture.expanduser()) as file:
        file.write(drawn.png)


def _lines(d: Description, store: Store, room: int | None) -> Iterator[str]:
    from distill_prune.store.logs import log_path, losses_path
    from distill_prune.terminal import duration, moment, size

    m = d.manifest
    yield from _wrapped(f"{d.paths[0] if d.paths else m.label}: {d.what}", room, "")
    about = {
        "key": d.ref.key,
        "label": m.label,
        "also": ", ".join(d.paths[1:]),
        "names": ", ".join(d.names),
        "made": f"{moment(m.created)}, {duration(m.seconds)} on {m.device}, up to {m.peak_mb:,.0f} MiB of memory",
        "size": f"{size(d.bytes)} in {len(m.files)} file{'s' * (len(m.files) != 1)}",
        "folder": str(store.path(d.ref.stage, d.ref.key)),
        "log": str(log) if (log := log_path(store, d.ref.key)).exists() else "",
        "losses": str(losses) if (losses := losses_path(store, d.ref.key)).exists() else "",
    }
    yield from _block("", {name: text for name, text in about.items() if text}, room)
    if d.inputs:
        yield from _block("made from", dict(_inputs(d.inputs)), room)
    if d.users is None:
        yield from _block("used by", {"": "not known: an artifact of this store cannot be read"}, room)
    elif d.users:
        counts = ", ".join(f"{count:,} {stage}" for stage, count in d.users.items())
        more = f"; with what was made from these {d.after:,}" if d.after > sum(d.users.values()) else ""
        yield from _block("used by", {"": f"{counts}{more}"}, room)
    if d.figures:
        yield from ("", "figures", *(f"  {line}" for line in _figures(d.figures, room)))
    if d.text:
        yield from ("", "answer", *_wrapped(d.text, room, "  "))
    yield from _block("settings", d.settings, room)


def _inputs(inputs: Sequence[Input]) -> Iterator[tuple[str, str]]:
    for each in inputs[:_MANY]:
        text = each.paths[0] if each.paths else f"{each.stage} {each.key[:12]}".strip()
        yield each.role, text if each.stage else f"{text} (not in the store)"
    if len(inputs) > _MANY:
        yield "...", f"{len(inputs) - _MANY:,} more (--json has all)"


def _block(title: str, lines: Mapping[str, str], room: int | None) -> Iterator[str]:
    """Names and what they stand for, below a title."""
    if title:
        yield ""
        yield title
    first = max(map(len, lines), default=0)
    for name, text in lines.items():
        start = f"  {printable(name):{first}}  " if first else "  "
        yield from _wrapped(text, room, start)


def _wrapped(text: str, room: int | None, start: str) -> list[str]:
    """The text behind `start`, in lines of the terminal; a key or a path is not broken."""
    text = printable(text)
    if room is None:
        return [f"{start}{text}"]
    wrapped = textwrap.wrap(
        text, room, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False, break_on_hyphens=False
    )
    return wrapped or [start.rstrip()]


def _figures(figures: Sequence[Figure], room: int | None) -> list[str]:
    heads = (
        Column("figure", shrinks=16),
        Column("value", right=True),
        Column("sd", right=True, last=1),
        Column("95% interval", right=True, last=2),
        Column("n", right=True),
    )
    rows = [
        (
            figure.name,
            f"{_number(figure.value)}{_unit(figure.unit)}",
            "" if figure.sd is None else _number(figure.sd),
            "" if figure.interval is None else f"{_number(figure.interval[0])} to {_number(figure.interval[1])}",
            "" if figure.n is None else str(figure.n),
        )
        for figure in figures
    ]
    lines = table(heads, rows, None if room is None else room - 2)
    return lines if any(figure.n for figure in figures) else lines[1:]


def _number(value: float | int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _unit(unit: str) -> str:
    return unit if unit in ("", "%") else f" {unit}"
