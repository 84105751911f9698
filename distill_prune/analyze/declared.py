"""The metrics that the analyses of a study declare: of a row, of the tests, of the page, of `diff`; and their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import GROUPS, Metric
from distill_prune.errors import ConfigError, RunError, nearest

ROWS = ("accuracy", "connectivity", "curvature", "disagreement", "spectrum", "diagonal", "metrics", "rebasin")
TESTS = ("accuracy", "connectivity", "curvature", "spectrum", "disagreement")
"""Built-in analyses in the order that stored summaries have: of the metrics of a row, and of the rows of paired tests."""

_OF_TICKETS = tuple(n for n in ANALYSES.own if n in ROWS)

_TAKEN = frozenset(
    (
        *("arm", "seed", "level", "sparsity", "n", "k", "key", "label", "remaining", "total"),
        *("matching", "stable", "iou", "chance", "z"),
        *("synthetic", "distillation", "interpolation", "training", "layerwise", "between", "scan", "layer_traces", "diagonal"),
        *("histograms", "density", "layers", "transfer", "costs", "overlap"),
    )
)
"""Names that rows, tickets and figures have for something else."""


def declared(analysis: str) -> tuple[Metric, ...]:
    """The metrics of an analysis; none where it declares none.

    Raises:
        ConfigError: a plugin's declaration cannot be used.
    """
    entry = ANALYSES[analysis]
    if analysis not in ANALYSES.own:
        _check(analysis, entry.TAKES, entry.METRICS)
    return entry.METRICS


def _check(analysis: str, takes: str, metrics: object) -> None:
    """Look at a plugin's declaration as far as a study would fail, or mix two numbers up, after hours."""
    what = f"METRICS of the analysis '{analysis}'"
    if not isinstance(metrics, tuple) or not all(isinstance(m, Metric) for m in metrics):
        raise ConfigError(what, got=repr(metrics), expected="a tuple of distill_prune.analyze.metric.Metric")
    if metrics and takes not in ("copies", "set"):
        raise ConfigError(what, got=f"an analysis that takes '{takes}'", expected="one that takes 'copies' or 'set'")
    taken = {*_TAKEN, *beside(), *(m.name for built_in in ROWS for m in declared(built_in))}
    for m in metrics:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", m.name):
            raise ConfigError(f"{what}: a name", got=repr(m.name), expected="small letters, digits and underscores")
        for name in (m.name, m.beside or m.name):
            if name in taken or name.startswith(("paired_", "landscape_", "against_")):
                raise ConfigError(f"{what}: the name '{name}' is taken", fix=f"another one, like '{analysis}_{name}'")
        if not isinstance(m.at, tuple) or not all(isinstance(key, str) for key in m.at):
            raise ConfigError(f"{what}: the place of '{m.name}'", got=repr(m.at), expected='keys, like at=("inner", "mean")')
        if m.part not in Estimate.__annotations__:
            known = nearest(m.part, Estimate.__annotations__)
            raise ConfigError(f"{what}: the part of '{m.name}'", got=repr(m.part), expected=known)
        if m.scale not in (1, 100):
            raise ConfigError(f"{what}: the scale of '{m.name}'", got=m.scale, expected="1, or 100 for a share")
        if m.group is not None and m.group not in GROUPS:
            raise ConfigError(f"{what}: the group of '{m.name}'", got=repr(m.group), expected=f"one of {', '.join(GROUPS)}")
        if not m.title:
            raise ConfigError(f"{what}: '{m.name}' has no title", fix=f'Metric("{m.name}", "What it is called")')
        taken |= {m.name, m.beside or m.name}


def foreign(analyses: Iterable[str]) -> tuple[str, ...]:
    """Those of the analyses that are plugins' and declare metrics of tickets, in alphabetical order.

    Raises:
        ConfigError: a declaration cannot be used, or two analyses declare metrics of one name.
    """
    by_name: dict[str, str] = {}
    names = [n for n in sorted(analyses) if n not in ANALYSES.own and declared(n) and ANALYSES[n].TAKES == "copies"]
    for analysis in names:
        for m in declared(analysis):
            if (other := by_name.setdefault(m.name, analysis)) != analysis:
                raise ConfigError(f"the analyses '{other}' and '{analysis}' both have a metric '{m.name}'", fix="other names")
    return tuple(names)


def in_rows(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics of a summary's row, in its order; `more` are plugins' analyses."""
    return (*_of(ROWS), *_of(more))


def tested(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics whose differences are tested, in the order of the rows."""
    return tuple(m for m in (*_of(TESTS), *_of(more)) if m.tested)


def on_page(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics that have a title: in the order of the table of analyses, what only some tasks are scored by after the
    others, and what has no figure last."""
    titled = [m for m in (*_of(_OF_TICKETS), *_of(more)) if m.title]
    return tuple(sorted(titled, key=lambda m: (m.group is None, m.some_tasks)))


def columns(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics that have a column in the table of all levels, in the order of the table of analyses."""
    return tuple(m for m in (*_of(_OF_TICKETS), *_of(more)) if m.title and m.column is not None)


def beside(more: Iterable[str] = ()) -> dict[str, tuple[str, Metric]]:
    """The analysis and the metric by its name in `diff`, which lists tickets' first.

    Raises:
        ConfigError: two plugins' analyses have a metric of one name.
    """
    by_name: dict[str, tuple[str, Metric]] = {}
    for analysis in [*_OF_TICKETS, "evaluation", *more]:
        for m in declared(analysis):
            if m.beside is None:
                continue
            if (other := by_name.setdefault(m.beside or m.name, (analysis, m))[0]) != analysis:
                raise ConfigError(f"the analyses '{other}' and '{analysis}' both have a metric '{m.name}'", fix="other names")
    return by_name


def _of(analyses: Iterable[str]) -> Iterator[Metric]:
    for analysis in analyses:
        yield from declared(analysis)


def at(numbers: Mapping[str, object], metric: Metric) -> object:
    """What lies where a metric is read from: a number, an estimate, or `_ABSENT`."""
    node: object = numbers
    for key in metric.place:
        node = node.get(key, _ABSENT) if isinstance(node, Mapping) else _ABSENT
    return node


def readings(analysis: str, numbers: Mapping[str, object]) -> dict[str, float | None]:
    """The values of an analysis's metrics by name; a metric that its numbers do not have is left out.

    Raises:
        RunError: there is something else than a number or an estimate where a metric should lie.
    """
    values: dict[str, float | None] = {}
    for m in declared(analysis):
        node = at(numbers, m)
        if isinstance(node, Mapping):
            node = node.get(m.part, _ABSENT)
        if node is _ABSENT:
            continue
        if node is not None and (isinstance(node, bool) or not isinstance(node, int | float)):
            raise RunError(
                f"the metric '{m.name}' of the analysis '{analysis}'",
                got=f"{node!r} under {' / '.join(m.place)}",
                expected="a number or an estimate",
            )
        values[m.name] = node
    return values


_ABSENT = object()
