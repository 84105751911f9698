"""Commands on a store and what lies in it."""

from __future__ import annotations

import json as json_
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
from distill_prune.letters import printable

if TYPE_CHECKING:
    from distill_prune.analyze.estimate import Estimate
    from distill_prune.store.store import Store


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="default: everything")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="move damaged artifacts aside, so that the next run makes again what it needs")
    ] = False,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Compare artifacts with their manifests, byte by byte. The exit code is 1 if an artifact is damaged and not moved aside.

    Example:  distill-prune verify --repair
    """
    from distill_prune.errors import DamagedArtifact, UnreadableArtifact
    from distill_prune.store.studies import paths_by_key

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
        outcome = {"checked": len(chosen), "damaged": damaged, "unreadable": unreadable, "moved": [d["key"] for d in moved]}
        print(json_.dumps(outcome))
    else:
        paths, _ = paths_by_key(store.root)
        for what, those in (("damaged", damaged), ("unreadable", unreadable)):
            for each in those:
                at = "".join(f" ({path})" for path in paths.get(each["key"], ())[:1])
                print(printable(f"{what}: {each['stage']} {each['key']}: {each['reason']}{at}"))
        summary = f"{len(chosen)} checked, {len(damaged)} damaged"
        if unreadable:
            summary += f", {len(unreadable)} not shared by their owners"
        if moved:
            summary += f", {len(moved)} moved to {store.root / '.damaged'}; the next run makes again what it needs"
        elif damaged and not repair:
            summary += "; the next run makes again those that it reads; after --repair, all that it needs"
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

    Example:  distill-prune tag digits/set/synthetic digits-5ipc
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

    --set changes the evaluation (nets=3, length, lr ...) or the network (model.width=32; for an imported set,
    which names none, model.name=convnet), or adds networks (architectures.b.name=alexnet).

    Example:  distill-prune evaluate 3fa9c1 --set architectures.b.name=alexnet
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
            f"{name.upper():10} {_estimate(numbers[name], 1, 4)} ({_over(numbers[name], '')}; fractions)"
            for name in ("hlr", "ior", "lrs")
        ]
    lines = []
    for part, accuracy in numbers["accuracy"].items():
        each = ", ".join(f"{100 * n[part]['accuracy']:.2f}" for n in numbers["nets"])
        lines.append(f"{part:10} {_estimate(accuracy, 100, 2, '%')} ({_over(accuracy, f' fresh {network} network')}: {each})")
    return lines


def _estimate(accuracy: Estimate, scale: float, digits: int, unit: str = "") -> str:
    """A mean and its deviation; one network has none."""
    mean, sd = f"{scale * accuracy['mean']:.{digits}f}{unit}", accuracy["sd"]
    return mean if sd is None else f"{mean} ± {scale * sd:.{digits}f}"


def _over(accuracy: Estimate, of: str) -> str:
    """What a mean is over."""
    if accuracy["sd"] is None:
        return f"{accuracy['n']}{of}"
    return f"sd over {accuracy['n']}{f'{of}s' if of else ''}"


@app.command()
def doctor(folder: StoreDir = None, json: AsJson = False) -> None:
    """Say what this machine has: versions, devices, cores, memory, compiler, store; and what will not work for lack of it.

    Example:  distill-prune doctor
    """
    import textwrap

    from distill_prune.store.place import place_of
    from distill_prune.study.doctor import examine
    from distill_prune.terminal import columns

    facts = examine(place_of(folder))
    if json:
        follows = {fact.name: fact.follows for fact in facts if fact.follows}
        print(json_.dumps({**{fact.name: fact.value for fact in facts}, "follows": follows}))
        return
    for fact in facts:
        for mark, text in ((fact.name, fact.value), ("", fact.follows)):
            hanging = "" if mark else "  "
            lines = textwrap.wrap(text, columns() - 15, subsequent_indent=hanging, break_on_hyphens=False)
            for i, line in enumerate(lines):
                print(f"{'' if i else mark:14} {'' if mark or i else '! '}{line}")
