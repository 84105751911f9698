"""What a layer of a study takes away is taken out of what the layers under it say of it.

A file, or the `--set`s of a command, may leave out seeds, levels, arms, sets, tasks, analyses, or shorten the retraining. What
was written under it for these - `only:`, `levels:`, `versus:`, `prune.scan`, arms that are made from them - is narrowed to what
is left, and each time a note says so. Nothing is narrowed that the layer itself writes, nor a name that nothing had before:
that is a mistake, and is refused later on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from distill_prune.duration import Duration
from distill_prune.plan.places import Place
from distill_prune.settings import Json

SEEDS = (0, 1, 2)
"""The seeds of a study that names none."""
LEVELS, MOST_LEVELS = 10, 1000
"""The levels of chains of a study that does not say how many, and the most that chains can have."""

CHOSEN_FOR = {("prune", "levels"): ("levels",), ("data", "name"): ("lanes", "compile")}
"""What is chosen for a value, by its place: which levels are compared, for their number; how networks share steps and whether
these are compiled, for the data."""


@dataclass(frozen=True)
class Step:
    """One layer on those under it: the values `before`, whether the layer `writes` a place, and what notes call it."""

    before: Mapping[str, Json]
    writes: Callable[[Place], bool]
    name: str


def narrowed(values: Mapping[str, Json], step: Step) -> tuple[dict[str, Json], list[str]]:
    """The values of a layer on what is under it, narrowed; and a note for each thing that was."""
    after, notes = dict(values), list[str]()
    for part in (_arms, _versus, _draws, _scan, _chosen, _only):
        notes += part(after, step)
    return after, notes


def at(values: Json | Mapping[str, Json], *place: str) -> Json:
    """The value at a place, None where there is none."""
    below: object = values
    for name in place:
        below = below.get(name) if isinstance(below, Mapping) else None
    return below  # type: ignore[return-value]  # of a mapping of plain values


def _section(values: Mapping[str, Json], name: str, absent: Json = False) -> dict[str, Json]:
    """What a section names, without what is left out."""
    section = values.get(name)
    return {n: body for n, body in section.items() if body is not absent} if isinstance(section, dict) else {}


def _levels(values: Mapping[str, Json]) -> int:
    levels = at(values, "prune", "levels")
    return min(levels, MOST_LEVELS) if isinstance(levels, int) and not isinstance(levels, bool) else LEVELS


def _arms(after: dict[str, Json], step: Step) -> Iterator[str]:
    """Arms that are made from what is gone are left out, and those that are made from these."""
    arms = _section(after, "arms")
    gone = {kind: _section(step.before, kind).keys() - _section(after, kind).keys() for kind in ("arms", "distill", "tasks")}
    while lost := next(((name, why) for name, body in arms.items() if (why := _lost(name, body, gone, after, step))), None):
        name, why = lost
        del arms[name]
        gone["arms"].add(name)
        yield f"arms.{name} is left out ({why})"
    if len(arms) < len(_section(after, "arms")):
        after["arms"] = dict(arms)


def _lost(name: str, body: Json, gone: Mapping[str, set[str]], after: Mapping[str, Json], step: Step) -> str | None:
    """Why an arm cannot be made any more; None where it can, or the layer itself says what it is made from."""
    for kind, *place in (("distill", "images"), ("tasks", "task"), ("arms", "control", "of"), ("arms", "begins", "arm")):
        source = at(body, *place)
        if isinstance(source, str) and source in gone[kind] and not step.writes(("arms", name, *place)):
            return f"{step.name} leaves out {'.'.join((kind, source))}"
    level, last = at(body, "begins", "level"), _levels(after)
    if isinstance(level, int) and last < level <= _levels(step.before) and not step.writes(("arms", name, "begins", "level")):
        return f"it begins after level {level}, and {step.name} ends chains at level {last}"
    return None


def _versus(after: dict[str, Json], step: Step) -> Iterator[str]:
    """The arm that the others are compared with is `real` again, where it is gone."""
    versus, arms = after.get("versus"), _section(after, "arms")
    if (
        isinstance(versus, str)
        and versus in _section(step.before, "arms")
        and versus not in arms
        and not step.writes(["versus"])
    ):
        del after["versus"]
        yield f"versus is {'real' if 'real' in arms else 'no arm'} ({step.name} leaves out arms.{versus})"


def _draws(after: dict[str, Json], step: Step) -> Iterator[str]:
    """No more draws of sets than seeds that take one each, and none where no set is left."""
    draws = after.get("distill_seeds")
    if not isinstance(draws, list) or step.writes(["distill_seeds"]):
        return
    if _section(step.before, "distill") and not _section(after, "distill"):
        del after["distill_seeds"]
        after.pop("distill_grid", None)
        yield f"distill_seeds is dropped ({step.name} leaves out all sets)"
    elif after.get("distill_grid") != "crossed":
        count, before = (len(_grid(values)["seeds"]) for values in (after, step.before))
        if count < len(draws) <= before:
            after["distill_seeds"] = draws[:count]
            yield f"distill_seeds narrowed to [{_listed(draws[:count])}] ({step.name} leaves {count} seed{'s' * (count > 1)})"


def _scan(after: dict[str, Json], step: Step) -> Iterator[str]:
    """Rewinding steps of the scan lie within the retraining, where that was made shorter."""
    scan, rewind = at(after, "prune", "scan"), at(after, "prune", "rewind", "schedule")
    length, before = _length(after), _length(step.before)
    if not isinstance(scan, list) or rewind == "restart" or length is None or before is None or step.writes(("prune", "scan")):
        return
    behind = [k for k in map(_duration, scan) if k and length < k and not before < k]
    if behind:
        after["prune"] = {**_section(after, "prune", None), "scan": [k for k in scan if _duration(k) not in behind]}
        yield f"prune.scan is without {_listed(behind)} ({step.name} retrains for {length})"


def _length(values: Mapping[str, Json]) -> Duration | None:
    """How long tickets are retrained; None where that is not written like a length."""
    from distill_prune.recipe import PRESETS, Recipe  # which import torch: completion lists pipelines without it

    recipe = at(values, "retrain", "recipe")
    preset = PRESETS.get(str(at(recipe, "preset")), {})
    return _duration(at(recipe, "length") or preset.get("length") or str(Recipe.model_fields["length"].default))


def _duration(text: object) -> Duration | None:
    try:
        return Duration.of(text)
    except ValueError:
        return None


def _chosen(after: dict[str, Json], step: Step) -> Iterator[str]:
    """What was chosen for a value that is another one now has its default again."""
    for place, chosen in CHOSEN_FOR.items():
        if (value := at(after, *place)) != at(step.before, *place):
            for name in chosen:
                if name in after and not step.writes([name]):
                    del after[name]
                    yield f"{name} has its default ({step.name} sets {'.'.join(place)} to {value})"


def _only(after: dict[str, Json], step: Step) -> Iterator[str]:
    """Restrictions of analyses name what is left; an analysis of nothing is left out."""
    only, compare = _section(after, "only", None), _section(after, "compare", None)
    known, left = _grid(step.before), _grid(after)
    for analysis in [*only]:
        if analysis not in compare:
            if analysis in _section(step.before, "compare", None) and not step.writes(("only", analysis)):
                del only[analysis]
                yield f"only.{analysis} is dropped ({step.name} leaves out compare.{analysis})"
            continue
        for what in known:
            names = at(only.get(analysis), what)
            if not isinstance(names, list) or step.writes(("only", analysis, what)):
                continue
            lost = [name for name in names if name in known[what] and name not in left[what]]
            kept = [name for name in names if name not in lost]
            if not lost:
                continue
            why = f"{step.name} leaves out {_listed(lost)}"
            if not kept:
                compare[analysis] = None
                del only[analysis]
                yield f"compare.{analysis} is left out (all of only.{analysis}.{what} is gone: {why})"
                break
            only[analysis] = {**_section(only, analysis, None), what: kept}
            yield f"only.{analysis}.{what} narrowed to [{_listed(kept)}] ({why})"
    if only != _section(after, "only", None):
        after["only"] = dict(only)
    if compare != _section(after, "compare", None):
        after["compare"] = dict(compare)


def _grid(values: Mapping[str, Json]) -> dict[str, list[Json]]:
    """What the restrictions of an analysis can name: arms (at each step of a scan, too), seeds, levels."""
    arms, scan, seeds, levels = _section(values, "arms"), at(values, "prune", "scan"), values.get("seeds"), values.get("levels")
    steps = scan if isinstance(scan, list) else []
    return {
        "arms": [*arms, *(f"{arm}@{k}" for arm in arms for k in steps)],
        "seeds": seeds if isinstance(seeds, list) else [*SEEDS],
        "levels": [0, *(levels if isinstance(levels, list) else range(1, _levels(values) + 1))],
    }


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names))
