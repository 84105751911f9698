"""Studies by name: `run` makes what is missing, `study` reads what is there.

results = run("digits", store="artifacts", set={"seeds": [0, 1], "prune.levels": 4})
print(results.answer["verdict"])
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from distill_prune.api.making import make
from distill_prune.api.results import Results
from distill_prune.errors import ConfigError, UserError, nearest
from distill_prune.plan.config import Pipeline, load, parse
from distill_prune.plan.files import override
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.profile import Profile
from distill_prune.run.watching import Watcher
from distill_prune.settings import canonical
from distill_prune.store.leases import kept
from distill_prune.store.place import store_at
from distill_prune.store.store import STAGES, Store

Overrides = Mapping[str, object]
"""Values by their place in a pipeline file: {"seeds": [0, 1], "retrain.recipe.lr": 0.1}."""


def pipeline(what: str | Path | Pipeline, set: Overrides | None = None) -> tuple[str, Pipeline]:
    """The name and the settings of a pipeline.

    Args:
        what: The name of a shipped pipeline, such as "digits", the path of a file, or settings.
        set: Values to lay on top, by their place, as `--set` does.

    Raises:
        ConfigError: there is no such file, or a value cannot be used.
    """
    assignments = [_assignment(place, value) for place, value in (set or {}).items()]
    if not isinstance(what, Pipeline):
        return load(str(what), assignments)
    raw = canonical(what)
    override(raw, assignments)
    return what.title or "study", parse(raw, "the pipeline") if assignments else what


def _assignment(place: str, value: object) -> str:
    """`place=value` as `--set` takes it: JSON is YAML."""
    try:
        return f"{place}={json.dumps(canonical(value), ensure_ascii=False)}"
    except TypeError as problem:
        raise ConfigError(f"set: the value of '{place}'", got=problem, expected="plain values, as a file has them") from problem


def _open(what: str | Path | Pipeline, store: str | Path | Store | None, set: Overrides | None) -> tuple[str, Graph, Store]:
    place = store if isinstance(store, Store) else store_at(store)
    name, settings = pipeline(what, set)
    return name, build(settings, place), place


def study(what: str | Path | Pipeline, *, store: str | Path | Store | None = None, set: Overrides | None = None) -> Results:
    """What a store holds of a study; nothing is computed.

    Args:
        what: The name of a shipped pipeline, such as "digits", the path of a file, or settings.
        store: The store's folder; None is $DISTILL_PRUNE_STORE, else ./artifacts.
        set: Values to lay on top, by their place: {"seeds": [0, 1]}. Those that the study was run with.

    Raises:
        ConfigError: the pipeline cannot be used.
        DataError: its data are missing.
        StoreError: the store is a file, or has not the sets that the pipeline names.
    """
    return Results(*_open(what, store, set))


def run(
    what: str | Path | Pipeline,
    *,
    store: str | Path | Store | None = None,
    set: Overrides | None = None,
    until: str = "compare",
    executor: str = "serial",
    workers: int | None = None,
    device: str | None = None,
    watcher: Watcher | None = None,
    cost: Callable[[Node], float] | None = None,
    profile: Profile | None = None,
) -> Results:
    """Make everything that a study asks for and is not in the store yet, as the command `run` does, but for the report.

    Args:
        what: The name of a shipped pipeline, such as "digits", the path of a file, or settings.
        store: The store's folder, made where it is missing; None is $DISTILL_PRUNE_STORE, else ./artifacts.
        set: Values to lay on top, by their place: {"seeds": [0, 1], "prune.levels": 4}.
        until: The last stage: data, experts, distill, prune, retrain or compare.
        executor: `serial` makes everything in this process. `processes` takes the cores of this machine, and `ray` a cluster; a
            script that asks for one of them must stand under `if __name__ == "__main__":`, for each worker imports it.
        workers: How many; None is one a core.
        device: cpu, cuda or cuda:N; None is the pipeline's.
        watcher: Hears of everything, in place of the bars that a terminal shows. `Quiet` is a base for one.
        cost: Seconds that an artifact takes, for the order of the work; None takes the prices of `plan`.
        profile: Learns where the time went.

    Raises:
        UserError: the pipeline, its data, the store or an option cannot be used; nothing is computed.
        RunError: an artifact could not be made. All that is finished is kept, and the same call goes on from there.
    """
    if until not in STAGES:
        raise UserError(f"unknown stage '{until}'", expected=nearest(until, STAGES))
    place = store if isinstance(store, Store) else store_at(store, create=True)
    name, graph, place = _open(what, place, set)
    bars = sys.stdout.isatty() and sys.stderr.isatty()
    with kept(place, graph.keys()):
        report = make(
            graph,
            place,
            until,
            executor=executor,
            device=device,
            workers=workers,
            watcher=watcher,
            quiet=not bars,
            cost=cost,
            profile=profile,
        )
    return Results(name, graph, place, report)
