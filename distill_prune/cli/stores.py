"""Commands on a store and what lies in it."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_prune.cli.options import (
    AsJson,
    Device,
    ExecutorName,
    RefArg,
    Sets,
    StoreDir,
    app,
    execute,
    open_store,
)
from distill_prune.errors import ConfigError

if TYPE_CHECKING:
    from distill_prune.store.store import Store


@app.command()
def ls(
    stage: Annotated[
        str | None, typer.Argument(metavar="STAGE", help="data, experts, distill, prune, retrain or compare")
    ] = None,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """List the artifacts of the store.

    Example:  distill-prune ls distill
    """
    from distill_prune.errors import DamagedArtifact, UnreadableArtifact, nearest
    from distill_prune.store.store import STAGES

    store = open_store(folder)
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"unknown stage '{stage}'", expected=nearest(stage, STAGES))
    names: dict[str, list[str]] = {}
    for name, key in store.tags().items():
        names.setdefault(key, []).append(name)
    rows: list[dict[str, Any]] = []
    for ref in store.all():
        if stage not in (None, ref.stage):
            continue
        try:
            m = store.manifest(ref.stage, ref.key)
            rows.append(
                {
                    "stage": ref.stage,
                    "key": ref.key,
                    "label": m.label,
                    "created": m.created,
                    "bytes": sum(f.size for f in m.files.values()),
                    "names": names.get(ref.key, []),
                }
            )
        except (DamagedArtifact, UnreadableArtifact) as damage:
            what = "DAMAGED" if isinstance(damage, DamagedArtifact) else "UNREADABLE"
            rows.append(
                {
                    "stage": ref.stage,
                    "key": ref.key,
                    "label": f"{what}: {damage.reason}",
                    "created": "",
                    "bytes": 0,
                    "names": [],
                }
            )
    if json:
        print(json_.dumps({"artifacts": rows}))
        return
    for r in rows:
        print(
            f"{r['stage']:8} {r['key'][:12]}  {r['bytes'] / 1e6:9.2f} MB  {r['created'][:16]}  {r['label']}"
            + (f"  [{', '.join(r['names'])}]" if r["names"] else "")
        )
    print(f"{len(rows)} artifacts, {sum(r['bytes'] for r in rows) / 1e6:.1f} MB in {store.root}")


@app.command()
def show(ref: RefArg, folder: StoreDir = None) -> None:
    """Print an artifact's manifest and numbers as one JSON document.

    Example:  distill-prune show 3fa9c1
    """
    store = open_store(folder)
    target = store.find(ref)
    print(
        json_.dumps(
            {
                "path": str(store.path(target.stage, target.key)),
                "manifest": store.check(target.stage, target.key).document(),
                "numbers": store.numbers(target.stage, target.key),
            },
            indent=1,
        )
    )


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="default: everything")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="move damaged artifacts aside, so that a run makes again what it needs of them")
    ] = False,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Compare artifacts with their manifests, byte by byte; exit code 1 where one is damaged and stays.

    Example:  distill-prune verify --repair
    """
    from distill_prune.errors import DamagedArtifact, UnreadableArtifact

    store = open_store(folder)
    chosen = list(dict.fromkeys(store.find(r) for r in refs)) if refs else list(store.all())
    damaged, unreadable = [], []
    for ref in chosen:
        try:
            store.check(ref.stage, ref.key)
        except DamagedArtifact as damage:
            damaged.append({"stage": ref.stage, "key": ref.key, "reason": damage.reason})
        except UnreadableArtifact as other:
            unreadable.append({"stage": ref.stage, "key": ref.key, "reason": other.reason})
    moved = [d for d in damaged if repair and _moved_aside(store, d["stage"], d["key"])]
    left = len(damaged) - len(moved)
    if json:
        found = {"checked": len(chosen), "damaged": damaged, "unreadable": unreadable, "moved": [d["key"] for d in moved]}
        print(json_.dumps(found))
    else:
        for what, those in (("damaged", damaged), ("unreadable", unreadable)):
            for each in those:
                print(f"{what}: {each['stage']} {each['key']}: {each['reason']}")
        summary = f"{len(chosen)} checked, {len(damaged)} damaged"
        if unreadable:
            summary += f", {len(unreadable)} not shared by their owners"
        if moved:
            summary += f", {len(moved)} moved to {store.root / '.damaged'}; `run` makes again what it needs of them"
        elif damaged and not repair:
            summary += "; `run` makes those again that it reads, and with --repair all that a pipeline needs"
        elif damaged:
            summary += "; another process works on them"
        print(summary)
    if left or unreadable:
        raise typer.Exit(1)


def _moved_aside(store: Store, stage: str, key: str) -> bool:
    """Move a damaged artifact to where such lie, unless another process works on it."""
    with store.lock(key) as mine:
        if mine and store.exists(stage, key) and not store.sound(stage, key):
            store.set_aside(stage, key)
        return mine


@app.command()
def tag(ref: RefArg, name: Annotated[str, typer.Argument(metavar="NAME")], folder: StoreDir = None) -> None:
    """Give an artifact a name, by which pipelines and commands find it.

    Example:  distill-prune tag 3fa9c1 digits-5ipc
    """
    target = open_store(folder).tag(ref, name)
    print(f"{name} -> {target.stage} {target.key[:12]}")


@app.command()
def evaluate(
    ref: RefArg,
    sets: Sets = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="also HLR, IOR and the label-robust score")] = False,
    folder: StoreDir = None,
    device: Device = None,
    executor: ExecutorName = "serial",
    json: AsJson = False,
) -> None:
    """Train fresh networks on a synthetic set and test them on real data; cached like any comparison.

    --set changes the evaluation (nets=3, length, lr ...) or the network (model.width=32), or adds networks
    (architectures.alex.name=alexnet).

    Example:  distill-prune evaluate 3fa9c1 --set architectures.alex.name=alexnet
    """
    from distill_prune.plan.evaluate import evaluation_graph
    from distill_prune.run.measured import numbers as read
    from distill_prune.store.leases import kept

    store = open_store(folder, create=True)
    graph = evaluation_graph(store, ref, sets or (), ("evaluation", "ranking") if ranking else ("evaluation",))
    with kept(store, graph.keys()):
        done = execute(graph, store, "compare", device, executor, 1, json)
        measured = [(m, read(store, "compare", m.key)) for m in graph.set_measures]
    if json:
        measurements = [
            {"analysis": m.analysis, "architecture": m.architecture, "key": m.key, "numbers": n} for m, n in measured
        ]
        print(json_.dumps({**done, "key": measured[0][0].key, "numbers": measured[0][1], "measurements": measurements}))
        return
    for measure, numbers in measured:
        for line in _scores(measure.analysis, measure.architecture or numbers["network"], numbers):
            print(line)
        print(f"compare {measure.key[:12]}")


def _scores(analysis: str, network: str, numbers: dict[str, Any]) -> list[str]:
    """What was measured of a set, a line a quantity."""
    if analysis == "ranking":
        return [
            f"{name.upper():10} {numbers[name]['mean']:.4f} ± {numbers[name]['sd'] or 0:.4f} (sd over {numbers[name]['n']}; "
            "fractions)"
            for name in ("hlr", "ior", "lrs")
        ]
    lines = []
    for part, accuracy in numbers["accuracy"].items():
        each = ", ".join(f"{100 * n[part]['accuracy']:.2f}" for n in numbers["nets"])
        lines.append(
            f"{part:10} {100 * accuracy['mean']:.2f}% ± {100 * (accuracy['sd'] or 0):.2f} (sd over {accuracy['n']} fresh "
            f"{network} networks: {each})"
        )
    return lines


@app.command()
def doctor(folder: StoreDir = None, json: AsJson = False) -> None:
    """Say what this machine has: versions, devices, cores, memory, and whether the store can be used.

    Example:  distill-prune doctor
    """
    from distill_prune.study.doctor import examine

    facts = examine(folder or Path(os.environ.get("DISTILL_PRUNE_STORE") or "artifacts"))
    if json:
        print(json_.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:14} {value}")
