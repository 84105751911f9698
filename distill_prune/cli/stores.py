"""Commands on a store and what lies in it."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import Annotated, Any

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


@app.command()
def ls(
    stage: Annotated[
        str | None, typer.Argument(metavar="STAGE", help="data, experts, distill, prune, retrain or compare")
    ] = None,
    store: StoreDir = None,
    json: AsJson = False,
) -> None:
    """List the artifacts of the store.

    Example:  distill-prune ls distill
    """
    from distill_prune.errors import DamagedArtifact, nearest
    from distill_prune.store.store import STAGES

    held = open_store(store)
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"unknown stage '{stage}'", expected=nearest(stage, STAGES))
    names: dict[str, list[str]] = {}
    for name, key in held.tags().items():
        names.setdefault(key, []).append(name)
    rows: list[dict[str, Any]] = []
    for ref in held.all():
        if stage not in (None, ref.stage):
            continue
        try:
            m = held.manifest(ref.stage, ref.key)
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
        except DamagedArtifact as found:
            rows.append(
                {
                    "stage": ref.stage,
                    "key": ref.key,
                    "label": f"DAMAGED: {found.reason}",
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
    print(f"{len(rows)} artifacts, {sum(r['bytes'] for r in rows) / 1e6:.1f} MB in {held.root}")


@app.command()
def show(ref: RefArg, store: StoreDir = None) -> None:
    """Print an artifact's manifest and numbers as one JSON document.

    Example:  distill-prune show 3fa9c1
    """
    held = open_store(store)
    found = held.find(ref)
    print(
        json_.dumps(
            {
                "path": str(held.path(found.stage, found.key)),
                "manifest": held.check(found.stage, found.key).document(),
                "numbers": held.numbers(found.stage, found.key),
            },
            indent=1,
        )
    )


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="default: everything")] = None,
    store: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Compare artifacts with their manifests, byte by byte; exit code 1 where one is damaged.

    Example:  distill-prune verify
    """
    from distill_prune.errors import DamagedArtifact

    held = open_store(store)
    chosen = [held.find(r) for r in refs] if refs else list(held.all())
    damaged = []
    for ref in chosen:
        try:
            held.check(ref.stage, ref.key)
        except DamagedArtifact as found:
            damaged.append({"stage": ref.stage, "key": ref.key, "reason": found.reason})
    if json:
        print(json_.dumps({"checked": len(chosen), "damaged": damaged}))
    else:
        for d in damaged:
            print(f"damaged: {d['stage']} {d['key']}: {d['reason']}")
        print(f"{len(chosen)} checked, {len(damaged)} damaged" + ("; `run` makes damaged artifacts again" if damaged else ""))
    if damaged:
        raise typer.Exit(1)


@app.command()
def tag(ref: RefArg, name: Annotated[str, typer.Argument(metavar="NAME")], store: StoreDir = None) -> None:
    """Give an artifact a name, by which pipelines and commands find it.

    Example:  distill-prune tag 3fa9c1 digits-5ipc
    """
    found = open_store(store).tag(ref, name)
    print(f"{name} -> {found.stage} {found.key[:12]}")


@app.command()
def evaluate(
    ref: RefArg,
    sets: Sets = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="also HLR, IOR and the label-robust score")] = False,
    store: StoreDir = None,
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

    held = open_store(store, create=True)
    graph = evaluation_graph(held, ref, sets or (), ("evaluation", "ranking") if ranking else ("evaluation",))
    done = execute(graph, held, "compare", device, executor, 1, json)
    found = [(m, held.numbers("compare", m.key)) for m in graph.set_measures]
    if json:
        made = [{"analysis": m.analysis, "architecture": m.architecture, "key": m.key, "numbers": n} for m, n in found]
        print(json_.dumps({**done, "key": found[0][0].key, "numbers": found[0][1], "measurements": made}))
        return
    for measure, numbers in found:
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
    for part, found in numbers["accuracy"].items():
        each = ", ".join(f"{100 * n[part]['accuracy']:.2f}" for n in numbers["nets"])
        lines.append(
            f"{part:10} {100 * found['mean']:.2f}% ± {100 * (found['sd'] or 0):.2f} (sd over {found['n']} fresh "
            f"{network} networks: {each})"
        )
    return lines


@app.command()
def doctor(store: StoreDir = None, json: AsJson = False) -> None:
    """Say what this machine has: versions, devices, cores, memory, and whether the store can be used.

    Example:  distill-prune doctor
    """
    from distill_prune.study.doctor import examine

    found = examine(store or Path(os.environ.get("DISTILL_PRUNE_STORE") or "artifacts"))
    if json:
        print(json_.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:14} {value}")
