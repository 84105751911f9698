"""The command `plan`: what a study makes and what that takes, before anything is spent."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from distill_prune.cli.options import AsJson, PipelineArg, Sets, StoreDir, Workers, app, open_graph, open_store
from distill_prune.errors import UserError

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Graph, Node
    from distill_prune.study.outlook import Outlook

All = Annotated[bool, typer.Option("--all", help="list every artifact")]
Measure = Annotated[
    bool,
    typer.Option("--measure/--no-measure", help="try each kind of work for about a second, where nobody knows what it takes"),
]


class Planned(TypedDict):
    """One artifact of a plan: whether it is there, the keys of what it is made of, and seconds of one worker."""

    stage: str
    key: str
    status: Literal["hit", "miss"]
    label: str
    inputs: list[str]
    cost_s: float


@app.command()
def plan(
    pipeline: PipelineArg,
    sets: Sets = None,
    folder: StoreDir = None,
    workers: Workers = None,
    every: All = False,
    measure: Measure = True,
    json: AsJson = False,
) -> None:
    """Say what a pipeline makes, what of it is there, and the time, memory and disk that the rest takes on this machine.

    Example:  distill-prune plan digits.yaml
    """
    from distill_prune.plan.foresight import foresee
    from distill_prune.run.devices import usual_workers
    from distill_prune.store.disk import free_bytes
    from distill_prune.study.costs import prices
    from distill_prune.study.outlook import outlook

    store = open_store(folder)
    _, graph = open_graph(pipeline, sets, store)
    _warn_of_compiler(graph)
    missing = {key for key, node in graph.nodes.items() if not store.has(node.stage, key)}
    foresee(graph, store, missing)
    known = prices(graph, store, try_out=_say if measure and missing else None)
    rows: list[Planned] = [
        {
            "stage": n.stage,
            "key": k,
            "status": "miss" if k in missing else "hit",
            "label": n.label,
            "inputs": list(n.inputs.values()),
            "cost_s": round(known[k].seconds, 4),
        }
        for k, n in graph.nodes.items()
    ]
    if json:
        print(json_.dumps({"artifacts": rows}))
        return
    for row in rows if every else ():
        print(f"{row['status']:4} {row['stage']:8} {row['key'][:12]}  {row['cost_s']:8.2f} s  {row['label']}")
    view = outlook(graph, missing, known, workers or usual_workers(graph.pipeline.threads))
    for line in _lines(view, graph, free_bytes(store.root)):
        print(line)


def _warn_of_compiler(graph: Graph) -> None:
    """Say where steps are to be compiled and there is no compiler: this machine need not be the one that runs it."""
    from distill_prune.compiled import check_compiler

    if graph.pipeline.compile and graph.pipeline.device == "cpu":
        try:
            check_compiler()
        except UserError as problem:
            print(problem, file=sys.stderr)


def _say(nodes: Collection[Node]) -> None:
    print(f"trying {len(nodes)} kinds of work for about a second each (once for this machine)", file=sys.stderr, flush=True)


def _scarce(view: Outlook, memory: int | None) -> str:
    """What to do where all workers together need more memory than there is."""
    if memory is None or view.mb is None or view.workers * view.mb * 2**20 <= memory:
        return ""
    fewer = int(memory / (view.mb * 2**20))
    there = f", and this machine has {memory / 2**20:,.0f} MiB"
    return f"{there}: --workers {fewer}" if fewer else there


def _disk(view: Outlook, missing: int) -> str:
    """What the missing artifacts take; nobody knows the size of work that was neither seen nor tried. A summary's, which is
    small and always such, is passed over."""
    from distill_prune.terminal import size

    if view.unsized * 10 <= missing:
        return f"about {size(view.bytes)}"
    unknown = f"not known of {view.unsized:,} artifact{'s' * (view.unsized != 1)}"
    return f"at least {size(view.bytes)}, {unknown}" if view.bytes else unknown


def _full(view: Outlook, free: int) -> str:
    """What is free where that is not enough."""
    from distill_prune.terminal import size

    return f", and {size(free)} are free" if view.bytes > free else ""


def _lines(view: Outlook, graph: Graph, free: int) -> list[str]:
    """The table by stage and arm, and what follows from it; `free` are bytes on the store's disk."""
    from distill_prune.run.devices import memory
    from distill_prune.terminal import columns, duration

    widest = max((len(line.arm) for line in view.lines), default=0)
    first = max(3, min(widest, columns() - 50))
    lines = [f"{'stage':8}  {'arm':{first}}  {'count':>7}  {'there':>7}  {'each':>11}  {'missing':>11}"]
    for line in view.lines:
        arm = line.arm if len(line.arm) <= first else f"{line.arm[: first - 1]}…"
        each, missing = duration(line.each), duration(line.missing_seconds) if line.missing_seconds else "–"
        lines.append(f"{line.stage:8}  {arm:{first}}  {line.artifacts:7,}  {line.hits:7,}  {each:>11}  {missing:>11}")
    total, hits = sum(line.artifacts for line in view.lines), sum(line.hits for line in view.lines)
    lines += ["", f"{total:,} artifacts: {hits:,} hits, {total - hits:,} miss{'es' * (total - hits != 1)}"]
    if total > hits:
        guessed = f"; {view.guessed:.0%} of it is a guess" if view.guessed > 0.05 and view.work > 1 else ""
        lines.append(
            f"time      {duration(view.low)} to {duration(view.high)} on {view.workers} worker{'s' * (view.workers != 1)} "
            f"({duration(view.work)} of one{guessed})"
        )
        lines += [f"memory    about {view.mb:,.0f} MiB a worker{_scarce(view, memory())}"] if view.mb else []
        lines.append(f"disk      {_disk(view, total - hits)}{_full(view, free)}")
        if view.wants_gpu and not graph.pipeline.device.startswith("cuda"):
            lines.append("device    a GPU is wanted: --device cuda")
    return [*lines, f"claims    {_claims(view, graph.pipeline.claim_p)}"]


def _claims(view: Outlook, claim_p: float) -> str:
    """What so many initialisations, and sets, can show."""
    from distill_prune.analyze.paired import CLAIMS_FROM
    from distill_prune.analyze.power import detectable

    units = f"{view.seeds} seed{'s' * (view.seeds != 1)}" + (f", {view.sets} sets" if view.sets else "")
    if not view.can_claim:
        return f"{units}: no difference can be claimed; from {CLAIMS_FROM} on it can"
    smallest = detectable(view.units, claim_p)
    if smallest == float("inf"):
        return f"{units}: no difference can be claimed at claim_p {claim_p:g}; it takes more seeds"
    return f"{units}: differences of {smallest:.2g} standard deviations between pairs are shown in 4 studies of 5"
