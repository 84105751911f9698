"""The answer's table in words: the heads and cells that `run` prints and the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill_prune.analyze.estimate import Estimate, estimate
from distill_prune.analyze.metric import Metric
from distill_prune.study.outcome import DifferenceLine, Document, SetLine

COULD_SHOW = "could show: the smallest true difference that so many initialisations show with a probability of 80%"


def heading(document: Document) -> str:
    """Where the arms of the table stand: sparsity, and the initialisations where all have as many."""
    counts = {arm["n"] for arm in document["arms"]}
    n = f", n = {counts.pop()}" if len(counts) == 1 else ""
    return f"at {100 * (document['sparsity'] or 0.0):.1f}% sparsity{n}"


def set_lines(lines: Sequence[SetLine]) -> list[str]:
    """What fresh networks reach that are trained on a set alone, a sentence a set. Of a set that was drawn several times it is
    the mean over its draws."""
    groups: dict[tuple[str, str], list[SetLine]] = {}
    for line in lines:
        groups.setdefault((line["set"].partition("/")[0], line["network"]), []).append(line)
    return [_set_line(name, network, of_set) for (name, network), of_set in groups.items()]


def _set_line(name: str, network: str, lines: Sequence[SetLine]) -> str:
    what, accuracy, of = f"set {lines[0]['set']}", lines[0]["accuracy"], "network"
    if len(lines) > 1:
        what, accuracy, of = f"set {name}", estimate([line["accuracy"]["mean"] for line in lines]), "draw"
    n = f"{accuracy['n']} {of}{'s' if accuracy['n'] != 1 else ''}"
    return f"{what}: fresh networks ({network}) reach {_mean(accuracy, 100)}% test accuracy (n = {n})"


def arm_rows(document: Document, metrics: Mapping[str, Metric]) -> list[list[str]]:
    """The table of arms, its head first; each arm has its number of initialisations where they differ."""
    arms = document["arms"]
    each = len({arm["n"] for arm in arms}) > 1
    names = [name for name in arms[0]["values"] if any(arm["values"][name] for arm in arms)]
    heads = [heading(document), *(_head(metrics[name]) for name in names), "examples for masks"]
    rows = [heads]
    for arm in arms:
        cells = [_value(arm["values"][name], metrics[name].scale) for name in names]
        rows.append(
            [
                f"{arm['label']} (n = {arm['n']})" if each else arm["label"],
                *cells,
                _images(arm["images_search"], arm["images_in_all"]),
            ]
        )
    return rows


def difference_rows(differences: Sequence[DifferenceLine], metrics: Mapping[str, Metric]) -> list[list[str]]:
    """The table of differences, its head first."""
    rows = [["difference", "of", "mean [95% interval]", "p", ""]]
    for line in differences:
        metric, difference = metrics[line["metric"]], line["difference"]
        low, high, could = difference["low"], difference["high"], line["could_show"]
        interval = "" if low is None or high is None else f" [{_short(low * metric.scale)}, {_short(high * metric.scale)}]"
        rows.append(
            [
                f"{line['arm']} - {line['versus']}",
                _head(metric, "points"),
                f"{_short(difference['mean'] * metric.scale)}{interval}",
                f"{line['p']:.2g}",
                line["outcome"] + ("" if could is None else f" (could show {_short(could * metric.scale)})"),
            ]
        )
    return rows


def _head(metric: Metric, share: str = "%") -> str:
    """A metric's heading; shares are in percent, barriers and differences of shares in points."""
    if metric.scale != 100:
        return metric.in_words
    return f"{metric.in_words} ({'points' if metric.group == 'barrier' else share})"


def _value(estimate: Estimate | None, scale: float) -> str:
    return "–" if estimate is None else _mean(estimate, scale)


def _mean(estimate: Estimate, scale: float) -> str:
    spread = estimate["sd"]
    if scale == 100:
        return f"{scale * estimate['mean']:.1f}" + ("" if spread is None else f" ± {scale * spread:.1f}")
    return _short(estimate["mean"]) + ("" if spread is None else f" ± {_whole(spread, 9.5) or f'{spread:.1g}'}")


def _short(number: float) -> str:
    return _whole(number, 1000) or (f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.2g}")


def _whole(number: float, least: float) -> str:
    """A number of at least so much without decimals, where few digits would write it as 2e+01; empty of smaller ones."""
    return f"{number:,.0f}" if abs(number) >= least else ""


def _images(search: float | None, in_all: float | None) -> str:
    if search is None:
        return "–"
    text = _count(search)
    if in_all is None:
        return f"{text} + ? to distil"
    return text if in_all <= search else f"{text} + {_count(in_all - search)} to distil"


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"
