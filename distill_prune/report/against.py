"""Figures of two studies side by side: a metric against sparsity, a panel a study, on one scale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distill_prune.report import sweep
from distill_prune.report.axes import legend, panels, room_for_numbers
from distill_prune.report.style import Arm, arms, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

_APART = 1000
"""Places of the other study's arms begin here where this study has none of their name: the legend does not move them."""


def beside(study: Study, name: str) -> tuple[Figure, str] | None:
    """The metric `name` of this study and of the other one; None without one, or where either has not measured it."""
    if study.against is None:
        return None
    other = study.against.other
    what = metrics(study)[name]
    shown = [(study, arms(study)), (other, _places(arms(other), arms(study)))]
    drawn = [sweep.measured(s, what, listed) for s, listed in shown]
    if not all(m.values for m in drawn):
        return None
    figure, cells = panels(
        what.heading, [study.name, other.name if other.name != study.name else f"{other.name} (other store)"]
    )
    bounds: list[float] = []
    for axes, m, (_, listed) in zip(cells, drawn, shown, strict=True):
        bounds += sweep.panel(axes, listed, what, m)
    sweep.finish(cells, what, drawn, bounds)
    room_for_numbers(figure, cells)
    legend(figure, cells)
    return figure, f"{study.name} beside {other.name}. {sweep.alt(what, drawn[0])} {other.name}: {sweep.alt(what, drawn[1])}"


def _places(theirs: list[Arm], ours: list[Arm]) -> list[Arm]:
    """Arms of one name look alike and have one place in the legend."""
    by_name = {a.name: a for a in ours}
    return [by_name.get(a.name) or replace(a, place=_APART + a.place) for a in theirs]
