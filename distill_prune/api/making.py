"""Making what a graph lacks, with plain defaults: the one way from a command or a program to the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from distill_prune.errors import UserError
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.devices import EXECUTORS, usual_workers
from distill_prune.run.profile import Profile
from distill_prune.run.run import Report
from distill_prune.run.run import run as engine
from distill_prune.run.tensorboard import Curves
from distill_prune.run.watching import Watcher, Watchers
from distill_prune.store.store import Store
from distill_prune.study.costs import prices
from distill_prune.terminal.watchers import watcher as usual_watcher


def make(
    graph: Graph,
    store: Store,
    until: str = "compare",
    *,
    executor: str = "serial",
    device: str | None = None,
    workers: int | None = None,
    watcher: Watcher | None = None,
    quiet: bool = False,
    cost: Callable[[Node], float] | None = None,
    profile: Profile | None = None,
    name: str = "",
    tensorboard: Path | None = None,
) -> Report:
    """Make every artifact of `graph` that is missing, up to stage `until`.

    Args:
        executor: `serial` (in this process), `processes` or `ray`.
        device: cpu, cuda or cuda:N; None is the pipeline's.
        workers: Worker processes; None is one for each core that a worker has threads for.
        watcher: Hears of everything. Without one, progress is shown on the standard streams, and with `quiet` warnings alone.
        cost: Seconds of one worker that a node takes, for the order of the work; None takes the prices that `plan` shows.
        profile: Learns where the time went.
        name: What `status` calls the run.
        tensorboard: A folder for the losses of trainings, for TensorBoard.

    Returns:
        How many artifacts were made (`made`), there already (`hits`) or made by another run (`elsewhere`), and `seconds`.

    Raises:
        UserError: there is no such executor, several workers are asked of a serial one, or what `run.run.run` refuses.
        DistillPruneError: an artifact could not be made; finished ones are kept.
    """
    if executor not in EXECUTORS:
        raise UserError("unknown executor", got=executor, expected=f"{', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}")
    if executor == "serial" and (workers or 1) > 1:
        raise UserError("--workers goes with --executor processes or ray", got=f"--executor serial --workers {workers}")
    device, threads = device or graph.pipeline.device, graph.pipeline.threads
    if executor == "ray":
        from distill_prune.run.ray_cluster import workers_for

        count = workers_for(device, threads, workers)
    else:
        count = 1 if executor == "serial" else workers or usual_workers(threads)
    priced = cache(lambda: prices(graph, store))  # nobody asks where nothing is missing
    seconds = cost or (lambda node: priced()[node.key].seconds)
    curves = [Curves(tensorboard, store)] if tensorboard else []
    shown = [] if watcher is not None else [usual_watcher(json=quiet)]
    everyone = Watchers([*([watcher] if watcher is not None else []), *shown, *curves])
    try:
        return engine(graph, store, executor, device, count, until, everyone, seconds, profile, name)
    finally:
        for passing in (*shown, *curves):
            passing.close()
