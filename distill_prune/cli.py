"""Commands: parse, call, print; nothing else. Heavy rooms are imported by the commands that need them."""

from __future__ import annotations

import json as json_
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_prune.errors import ConfigError, DistillPruneError, StoreError, UserError

if TYPE_CHECKING:
    from distill_prune.pipeline.graph import Graph
    from distill_prune.pipeline.store import Store

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find sparse networks with a few distilled images; compare their stability, curvature and accuracy with "
         "real-data pruning.\n\nBegin with:  distill-prune run digits.yaml",
)

PipelineArg = Annotated[str, typer.Argument(metavar="PIPELINE", help="a pipeline file, or the name of a shipped one")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a value, e.g. --set retrain.recipe.lr=0.1")]
StoreDir = Annotated[Path | None, typer.Option("--store", metavar="DIR", help="the store [default: $DISTILL_PRUNE_STORE, else ./artifacts]")]
Device = Annotated[str | None, typer.Option("--device", metavar="D", help="cpu, cuda or cuda:N [default: the pipeline's]")]
ExecutorName = Annotated[str, typer.Option("--executor", metavar="serial|processes|ray", help="where artifacts are made")]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="worker processes [default: one a core]")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="where the report goes")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
RefArg = Annotated[str, typer.Argument(metavar="REF", help="the beginning of a key, or a name given by `tag`")]


def _store(folder: Path | None, *, create: bool = False) -> Store:
    from distill_prune.pipeline.store import Store

    return Store(folder or Path(os.environ.get("DISTILL_PRUNE_STORE") or "artifacts"), create=create)


def _graph(pipeline: str, sets: list[str] | None, store: Store) -> tuple[str, Graph]:
    from distill_prune.pipeline.config import load
    from distill_prune.pipeline.graph import build

    name, settings = load(pipeline, sets or ())
    return name, build(settings, store)


def _execute(graph: Graph, store: Store, until: str, device: str | None, executor: str, workers: int | None, json: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from distill_prune.pipeline.run import run
    from distill_prune.pipeline.study import cost_of
    from distill_prune.terminal import watcher

    if executor == "ray":
        raise UserError("--executor ray is not there yet", expected="serial or processes", mend="--executor processes")
    if executor not in ("serial", "processes"):
        raise UserError("unknown executor", got=executor, expected="serial or processes")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = 1 if executor == "serial" else workers or max(1, cores // graph.pipeline.threads)
    watch = watcher(count, json=json)
    costs = cost_of(graph, store)
    try:
        done = run(graph, store, executor, device or graph.pipeline.device, count, until, watch, lambda n: costs[n.key])
    finally:
        watch.close()
    return asdict(done)


def _run(pipeline: str, until: str, sets: list[str] | None, folder: Path | None, device: str | None, executor: str,
         workers: int | None, out: Path | None, json: bool) -> None:
    from distill_prune.terminal import duration

    store = _store(folder, create=True)
    name, graph = _graph(pipeline, sets, store)
    done = _execute(graph, store, until, device, executor, workers, json)
    page = _report(name, graph, store, out) if until == "compare" else None
    if json:
        keys = [k for k in graph.goals(until) if graph.nodes[k].stage == until]
        print(json_.dumps({**done, "report": str(page) if page else None, "artifacts": keys}))
        return
    print(f"{done['made']} made, {done['hits'] + done['elsewhere']} found, {duration(done['seconds'])}")
    if page is not None:
        from distill_prune.pipeline.study import read

        summary = read(name, graph, store).summary if done["made"] else None
        if summary:
            print(f"\n{summary['answer']}\n")
        print(f"report: {page}")
    else:
        for key in graph.goals(until):
            if graph.nodes[key].stage == until:
                print(f"{until} {key[:12]} {graph.nodes[key].label}")


def _report(name: str, graph: Graph, store: Store, out: Path | None) -> Path:
    """Write the report, unless the one that stands there was made of the very same artifacts by the same code."""
    from distill_prune.pipeline.store import replace_json
    from distill_prune.report import fingerprint, write

    folder = out or store.root / "reports" / name
    there = sorted(k for k, n in graph.nodes.items() if store.has(n.stage, k))
    mark, stamp = folder / "report.json", fingerprint(name, graph.pipeline, there)
    if (folder / "report.html").exists() and mark.exists() and json_.loads(mark.read_bytes()).get("made_of") == stamp:
        return folder / "report.html"
    from distill_prune.pipeline.study import read

    page = write(read(name, graph, store), folder)
    replace_json(mark, {"made_of": stamp, "pipeline": name})
    return page


@app.command()
def run(pipeline: PipelineArg, sets: Sets = None, store: StoreDir = None, device: Device = None,
        executor: ExecutorName = "processes", workers: Workers = None, out: Out = None, json: AsJson = False) -> None:
    """Make everything that a pipeline asks for and is not in the store yet, then its report.

    Example:  distill-prune run digits.yaml --set seeds=[0,1]
    """
    _run(pipeline, "compare", sets, store, device, executor, workers, out, json)


def _stage_command(stage: str, what: str) -> None:
    def command(pipeline: PipelineArg, sets: Sets = None, store: StoreDir = None, device: Device = None,
                executor: ExecutorName = "processes", workers: Workers = None, out: Out = None, json: AsJson = False) -> None:
        _run(pipeline, stage, sets, store, device, executor, workers, out, json)

    app.command(stage, help=f"{what}\n\nExample:  distill-prune {stage} digits.yaml")(command)


for _stage, _what in (
        ("data", "Prepare the data set."), ("experts", "Train the experts (and what they need)."),
        ("distill", "Distil the synthetic sets (and what they need)."), ("prune", "Find the tickets of every chain (and what they need)."),
        ("retrain", "Retrain the tickets' copies on real data (and what they need)."),
        ("compare", "Measure everything: all of `run`, and the report.")):
    _stage_command(_stage, _what)


@app.command()
def plan(pipeline: PipelineArg, sets: Sets = None, store: StoreDir = None, json: AsJson = False) -> None:
    """List every artifact of a pipeline: stage, key, hit or miss, and a rough cost, before any is spent.

    Example:  distill-prune plan digits.yaml
    """
    from distill_prune.pipeline.study import cost_of
    from distill_prune.terminal import duration

    held = _store(store)
    _, graph = _graph(pipeline, sets, held)
    costs = cost_of(graph, held)
    rows: list[dict[str, Any]] = [{"stage": n.stage, "key": k, "status": "hit" if held.has(n.stage, k) else "miss", "label": n.label,
             "inputs": list(n.inputs.values()), "cost_s": round(costs[k], 2)} for k, n in graph.nodes.items()]
    if json:
        print(json_.dumps({"artifacts": rows}))
        return
    for row in rows:
        print(f"{row['status']:4} {row['stage']:8} {row['key'][:12]}  {row['cost_s']:8.2f} s  {row['label']}")
    misses = [r for r in rows if r["status"] == "miss"]
    print(f"{len(rows)} artifacts: {len(rows) - len(misses)} hits, {len(misses)} misses, "
          f"roughly {duration(sum(r['cost_s'] for r in misses))} on one core")


@app.command()
def report(pipeline: PipelineArg, sets: Sets = None, store: StoreDir = None, out: Out = None) -> None:
    """Write the report of what the store holds; what is missing is shown as missing.

    Example:  distill-prune report digits.yaml -o report
    """
    held = _store(store)
    name, graph = _graph(pipeline, sets, held)
    print(f"report: {_report(name, graph, held, out)}")


@app.command()
def ls(stage: Annotated[str | None, typer.Argument(metavar="STAGE", help="data, experts, distill, prune, retrain or compare")] = None,
       store: StoreDir = None, json: AsJson = False) -> None:
    """List the artifacts of the store.

    Example:  distill-prune ls distill
    """
    from distill_prune.errors import DamagedArtifact, nearest
    from distill_prune.pipeline.store import STAGES

    held = _store(store)
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
            rows.append({"stage": ref.stage, "key": ref.key, "label": m.get("label", ""), "created": m.get("created", ""),
                         "bytes": sum(f["size"] for f in m["files"].values()), "names": names.get(ref.key, [])})
        except DamagedArtifact as found:
            rows.append({"stage": ref.stage, "key": ref.key, "label": f"DAMAGED: {found.reason}", "created": "", "bytes": 0, "names": []})
    if json:
        print(json_.dumps({"artifacts": rows}))
        return
    for r in rows:
        print(f"{r['stage']:8} {r['key'][:12]}  {r['bytes'] / 1e6:9.2f} MB  {r['created'][:16]}  {r['label']}"
              + (f"  [{', '.join(r['names'])}]" if r["names"] else ""))
    print(f"{len(rows)} artifacts, {sum(r['bytes'] for r in rows) / 1e6:.1f} MB in {held.root}")


@app.command()
def show(ref: RefArg, store: StoreDir = None) -> None:
    """Print an artifact's manifest and numbers as one JSON document.

    Example:  distill-prune show 3fa9c1
    """
    held = _store(store)
    found = held.find(ref)
    print(json_.dumps({"path": str(held.path(found.stage, found.key)), "manifest": held.check(found.stage, found.key),
                       "numbers": held.numbers(found.stage, found.key)}, indent=1))


@app.command()
def verify(refs: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="default: everything")] = None,
           store: StoreDir = None, json: AsJson = False) -> None:
    """Compare artifacts with their manifests, byte by byte; exit code 1 where one is damaged.

    Example:  distill-prune verify
    """
    from distill_prune.errors import DamagedArtifact

    held = _store(store)
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
    found = _store(store).tag(ref, name)
    print(f"{name} -> {found.stage} {found.key[:12]}")


@app.command()
def evaluate(ref: RefArg, sets: Sets = None, store: StoreDir = None, device: Device = None,
             executor: ExecutorName = "serial", json: AsJson = False) -> None:
    """Train fresh networks on a synthetic set and test them on real data; cached like any comparison.

    --set changes the evaluation (nets=3, steps, lr ...) or the network (model.width=32).

    Example:  distill-prune evaluate 3fa9c1
    """
    from distill_prune.pipeline.evaluate import evaluation_graph

    held = _store(store, create=True)
    graph, key = evaluation_graph(held, ref, sets or ())
    done = _execute(graph, held, "compare", device, executor, 1, json)
    numbers = held.numbers("compare", key)
    if json:
        print(json_.dumps({**done, "key": key, "numbers": numbers}))
        return
    for part, found in numbers["accuracy"].items():
        each = ", ".join(f"{100 * n[part]['accuracy']:.2f}" for n in numbers["nets"])
        print(f"{part:10} {100 * found['mean']:.2f}% ± {100 * (found['sd'] or 0):.2f} (standard deviation over {found['n']} fresh "
              f"{numbers['network']} networks: {each})")
    print(f"compare {key[:12]}")


@app.command()
def doctor(store: StoreDir = None, json: AsJson = False) -> None:
    """Say what this machine has: versions, devices, cores, memory, and whether the store can be used.

    Example:  distill-prune doctor
    """
    from distill_prune.pipeline.doctor import examine

    found = examine(store or Path(os.environ.get("DISTILL_PRUNE_STORE") or "artifacts"))
    if json:
        print(json_.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:14} {value}")


def _not_yet(name: str, instead: str) -> None:
    def command(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
        raise UserError(f"`distill-prune {name}` is not there yet", mend=instead)

    app.command(name, hidden=True, context_settings={"ignore_unknown_options": True})(command)


for _name, _instead in (
        ("import", "make a set with `distill`, or copy a store's distill/<key> folder"),
        ("export", "read tensors.safetensors of the artifact: `show REF` prints its path"),
        ("diff", "the report compares the arms of a study"), ("rm", "delete the artifact's folder: `show REF` prints its path"),
        ("gc", "delete artifacts' folders by hand: `ls` lists them"), ("schema", "the shipped pipelines show every section")):
    _not_yet(_name, _instead)


class _Interrupted(BaseException):
    """An interrupt under a name of our own: typer answers KeyboardInterrupt itself, without a word."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def main() -> None:
    """The command. Exit codes: 0 done, 2 the user's mistake, 1 a failed run, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except DistillPruneError as error:
        label = getattr(error, "label", None)
        print(f"error: {label}: {error}" if label else f"error: {error}", file=sys.stderr)
        if os.environ.get("DISTILL_PRUNE_DEBUG") and (trace := getattr(error, "trace", None)):
            print(trace, file=sys.stderr)
        sys.exit(error.exit_code)
    except (_Interrupted, KeyboardInterrupt):
        print("interrupted; what was finished is kept, run again to go on", file=sys.stderr)
        sys.exit(130)
    except PermissionError as problem:
        print(f"error: {StoreError(f'no permission for {problem.filename!r}', mend='another --store or -o')}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
