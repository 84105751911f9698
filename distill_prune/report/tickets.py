"""The table of every ticket: what its columns are called, and each cell as it is shown and as it is sorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from distill_prune.analyze.records import value
from distill_prune.report import formats
from distill_prune.report.style import every_arm, metrics

if TYPE_CHECKING:
    from distill_prune.study.records import Ticket
    from distill_prune.study.study import Study


@dataclass(frozen=True)
class Column:
    """A column: `show` gives the words of a cell; a column of numbers is sorted by value."""

    name: str
    title: str
    show: Callable[[Any], str]
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """`value` is the number to sort by, empty where there is none; None in a column of words. `key` is that of a ticket."""

    text: str
    value: str | None
    key: str = ""


@dataclass(frozen=True)
class Row:
    arm: str
    color: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """Columns that some ticket has a value for, and rows."""

    columns: list[Column]
    rows: list[Row]


def _whole(x: int | None) -> str:
    return formats.NONE if x is None else f"{x:,}"


def _metric(scale: float) -> Callable[[Any], str]:
    return (lambda x: formats.fixed(x, 2, 100)) if scale == 100 else formats.number


PLACE = (
    Column("label", "Arm", str, numeric=False),
    Column("seed", "Seed", _whole),
    Column("level", "Level", _whole),
    Column("sparsity", "Sparsity (%)", formats.sparsity),
    Column("remaining", "Weights left", _whole),
)
RECORD = (
    Column("k", "Rewinding step", str, numeric=False),
    Column("key", "Key", lambda key: str(key)[:12], numeric=False),
)


def table(study: Study) -> Table | None:
    """Every retrained ticket; None where there is none."""
    if not study.tickets:
        return None
    measured = {n: m for n, m in metrics(study).items() if any(formats.finite(value(t, n)) for t in study.tickets)}
    columns = [*PLACE, *(Column(n, m.heading, _metric(m.scale)) for n, m in measured.items()), *RECORD]
    looks = {a.name: a for a in every_arm(study)}
    labels = {t["arm"]: looks[t["arm"]].label if t["arm"] in looks else t.get("label") or t["arm"] for t in study.tickets}
    rows = [
        Row(t["arm"], looks[t["arm"]].color if t["arm"] in looks else "", [_cell(c, t, labels) for c in columns])
        for t in study.tickets
    ]
    return Table(columns, rows)


def _cell(column: Column, ticket: Ticket, labels: dict[str, str]) -> Cell:
    shown = labels[ticket["arm"]] if column.name == "label" else cast(Mapping[str, object], ticket).get(column.name)
    if not column.numeric:
        text = formats.NONE if shown is None else column.show(shown)
        return Cell(text, None, text if column.name == "key" else "")
    return Cell(column.show(shown), repr(float(shown))) if formats.finite(shown) else Cell(formats.NONE, "")
