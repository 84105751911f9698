"""Figures of two arms, or two levels: paired differences, the overlap of masks, and barriers between tickets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill_prune.analyze.metric import BARRIER, Metric
from distill_prune.analyze.records import PairedRow, value
from distill_prune.report.axes import (
    apart,
    estimates,
    fit,
    interval,
    known,
    legend,
    line,
    panels,
    room_for_numbers,
    sparsity_axis,
)
from distill_prune.report.formats import estimate, finite, fixed, said, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.style import GREY, INK, Arm, arms, metrics, sides, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import Between
    from distill_prune.study.study import Study


def paired(study: Study, name: str) -> tuple[Figure, str] | None:
    """Differences from the real arm within initialisations, with 95% intervals; None where none were taken."""
    what, at = metrics(study)[name], sparsities(study)
    listed = {a.name for a in arms(study)}
    entries = [
        p
        for p in (study.summary or {}).get("paired") or []
        if p["metric"] == name and known(p["difference"]) and (p["arm"], p["level"]) in at and p["arm"] in listed
    ]
    if not entries:
        return None
    versus = {a.name: a.label for a in arms(study)}.get(entries[0]["versus"], entries[0]["versus"])
    unit = "points" if what.scale == 100 else what.unit
    have = {p["arm"] for p in entries}
    drawn = [(title, [a for a in shown if a.name in have]) for title, shown in sides(study)]
    drawn = [(title, shown) for title, shown in drawn if shown]
    figure, cells = panels(f"{what.title}, arm minus {versus}" + (f" ({unit})" if unit else ""), [t for t, _ in drawn])
    points: list[float] = [0.0]
    bounds: list[float] = []
    levels = sorted({at[p["arm"], p["level"]] for p in entries})
    for axes, (_, shown) in zip(cells, drawn, strict=True):
        axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
        # Neighbours stand a little apart so that their intervals can be told from each other.
        shifts, room = apart(levels, len(shown))
        for arm, shift in zip(shown, shifts, strict=True):
            of_arm = [p for p in entries if p["arm"] == arm.name]
            at_x = [(1 - at[arm.name, p["level"]]) * shift for p in of_arm]
            middle, ends = _differences(axes, arm, at_x, of_arm, at, what)
            points += middle
            bounds += ends
        sparsity_axis(axes, levels, room)
    fit(cells[0], points, bounds, log=False)
    room_for_numbers(figure, cells)
    legend(figure, cells)
    last = [
        max((p for p in entries if p["arm"] == n), key=lambda p: p["level"]) for n in dict.fromkeys(p["arm"] for p in entries)
    ]
    labels = {a.name: a.label for a in arms(study)}
    remarks = [
        f"{labels[p['arm']]} at {sparsity(at[p['arm'], p['level']])}% sparsity: "
        f"{estimate(p['difference'], difference_unit(what))['mean']}."
        for p in last
    ]
    return figure, f"{what.title}: paired differences from {versus} against sparsity, with 95% intervals. {' '.join(remarks)}"


def _differences(
    axes: Axes, arm: Arm, xs: list[float], rows: Sequence[PairedRow], at: Mapping[tuple[str, int], float], what: Metric
) -> tuple[list[float], list[float]]:
    """One arm's differences with their intervals; returns the means and the bounds that were drawn."""
    means = [p["difference"]["mean"] * what.scale for p in rows]
    sure = [(x, *ends) for x, p in zip(xs, rows, strict=True) if (ends := interval(p["difference"], what.scale))]
    with drawn_for(axes, arm):
        (dots,) = axes.plot(xs, means, linestyle="none", color=arm.color, marker=arm.marker, label=arm.entry, zorder=3)
        for x, low, high in sure:
            axes.vlines(x, low, high, color=arm.color, linewidth=1, alpha=0.8, zorder=2)
    unit = difference_unit(what)
    say(
        axes,
        dots,
        [f"{arm.label}, {sparsity(at[arm.name, p['level']])}% sparsity: {said(p['difference'], unit)}" for p in rows],
    )
    return means, [end for _, low, high in sure for end in (low, high)]


def difference_unit(what: Metric) -> str:
    """How a difference of the metric is written (formats.estimate)."""
    return "signed" if what.scale == 100 else "difference"


def overlap(study: Study) -> tuple[Figure, str] | None:
    """Intersection over union with the real arm's mask, beside what chance gives; None where not measured."""
    lines = estimates(study, "iou")
    if not lines:
        return None
    chance = {a.name: points for a, points in estimates(study, "chance")}
    have = {a.name for a, _ in lines}
    drawn = [(title, shown) for title, shown in sides(study) if any(a.name in have for a in shown)]
    figure, cells = panels("Overlap with the real arm's mask (intersection over union)", [title for title, _ in drawn])
    values = [e["mean"] for _, points in lines for _, e in points]
    bounds: list[float] = []
    for axes, (_, shown) in zip(cells, drawn, strict=True):
        for arm, points in lines:
            if arm in shown:
                bounds += line(axes, arm, points, 1.0, "number", len(shown))
        for arm in (a for a in shown if a.name in chance):
            by_chance = sorted(chance[arm.name], key=lambda p: p[0])
            xs, means = [1 - s for s, _ in by_chance], [e["mean"] for _, e in by_chance]
            with drawn_for(axes, arm):
                axes.plot(xs, means, color=arm.color, linewidth=1, linestyle=(0, (1, 2)), label="by chance (dotted)")
            values += means
        sparsity_axis(axes, [s for _, points in lines for s, _ in points])
    fit(cells[0], values, bounds, log=False)
    low, high = cells[0].get_ylim()
    cells[0].set_ylim(max(low, 0), min(high, 1.02))
    room_for_numbers(figure, cells)
    legend(figure, cells)
    ends = [(a.label, *max(p, key=lambda q: q[0])) for a, p in lines]
    return figure, "Mask overlap against sparsity. " + " ".join(
        f"{label} at {sparsity(s)}% sparsity: {estimate(e, 'number')['mean']}." for label, s, e in ends
    )


def between(study: Study) -> tuple[Figure, str] | None:
    """Test barriers on the line between two tickets of one initialisation: of two arms at a level, and of two levels."""
    listed = {a.name: a for a in arms(study)}
    lines = [b for b in study.between if b["arm"] in listed and finite(value(b, BARRIER))]
    kinds = [(k, [b for b in lines if b["kind"] == k]) for k in ("arms", "levels")]
    kinds = [(k, of_kind) for k, of_kind in kinds if of_kind]
    if not kinds:
        return None
    titles = {"arms": "to the ticket of another arm, equal level", "levels": "to the arm's own ticket of another level"}
    figure, cells = panels("Test error barrier between tickets (points)", [titles[k] for k, _ in kinds])
    for axes, (_, entries) in zip(cells, kinds, strict=True):
        shown = [a for a in listed.values() if any(b["arm"] == a.name for b in entries)]
        levels = [b["sparsity"] for b in entries]
        shifts, room = apart(levels, len(shown))
        for arm, shift in zip(shown, shifts, strict=True):
            _initialisations(axes, arm, [b for b in entries if b["arm"] == arm.name], shift)
        axes.axhline(2, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1)
        sparsity_axis(axes, levels, room)
    fit(cells[0], [2.0, 0.0, *(_points(b) for _, entries in kinds for b in entries)], [], log=False)
    room_for_numbers(figure, cells)
    legend(figure, cells)
    return figure, "Test error barriers between tickets of one initialisation. " + " ".join(
        _between_words(kind, arm, [b for b in entries if b["arm"] == arm.name])
        for kind, entries in kinds
        for arm in listed.values()
        if any(b["arm"] == arm.name for b in entries)
    )


def _initialisations(axes: Axes, arm: Arm, entries: list[Between], shift: float) -> None:
    """A line for each initialisation, through its dots."""
    chains = dict.fromkeys((b["seed"], b["versus"]) for b in entries)
    for i, (seed, versus) in enumerate(chains):
        chain = sorted((b for b in entries if (b["seed"], b["versus"]) == (seed, versus)), key=lambda b: b["sparsity"])
        with drawn_for(axes, arm):
            (dots,) = axes.plot(
                [(1 - b["sparsity"]) * shift for b in chain],
                [_points(b) for b in chain],
                color=arm.color,
                linestyle=arm.dash,
                linewidth=0.8,
                marker=arm.marker,
                markersize=3.4,
                markeredgecolor="white",
                markeredgewidth=0.4,
                alpha=0.85,
                label=None if i else arm.entry,
            )
        say(
            axes,
            dots,
            [f"{arm.label}, seed {seed}, {sparsity(b['sparsity'])}% sparsity: {fixed(_points(b), 2)}" for b in chain],
        )


def _points(line: Between) -> float:
    """The test barrier on a line."""
    return 100 * (value(line, BARRIER) or 0.0)


def _between_words(kind: str, arm: Arm, lines: list[Between]) -> str:
    last = max(b["sparsity"] for b in lines)
    heights = sorted(_points(b) for b in lines if b["sparsity"] == last)
    to = "another arm" if kind == "arms" else "another level"
    span = fixed(heights[0], 2) + (f" to {fixed(heights[-1], 2)}" if len(heights) > 1 else "")
    return f"{arm.label}, to {to}, at {sparsity(last)}% sparsity: {span} points (n = {len(heights)})."
