"""Commands on pipelines: run, its stages, plan, report."""

from __future__ import annotations

import contextlib
import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_prune.cli.options import (
    AsJson,
    Device,
    ExecutorName,
    Out,
    PipelineArg,
    Sets,
    StoreDir,
    Workers,
    app,
    execute,
    open_graph,
    open_store,
)

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Graph
    from distill_prune.run.profile import Profile
    from distill_prune.store.store import Store

ProfileOption = Annotated[
    bool,
    typer.Option("--profile", help="say where the time went, and write trace.json beside the report"),
]

TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", metavar="DIR", help="write training losses there for TensorBoard, as they come"),
]


def _run(
    pipeline: str,
    until: str,
    sets: list[str] | None,
    folder: Path | None,
    device: str | None,
    executor: str,
    workers: int | None,
    out: Path | None,
    json: bool,
    profiled: bool = False,
    tensorboard: Path | None = None,
) -> None:
    from distill_prune.run.profile import Profile
    from distill_prune.store.leases import kept
    from distill_prune.study.conclusion import conclusion, metrics
    from distill_prune.terminal import columns, duration, spent

    store = open_store(folder, create=True)
    name, graph = open_graph(pipeline, sets, store)
    profile = Profile() if profiled else None
    with kept(store, graph.keys()):  # what was made is read here: another process must not remove it between
        done = execute(graph, store, until, device, executor, workers, json, profile, pipeline, tensorboard)
        page = _report(pipeline, name, graph, store, out) if until == "compare" else None
        document = conclusion(graph, store) if until == "compare" else None
    trace = _trace(profile, page.parent) if profile and page and profile.parts() else None
    if json:
        keys = [k for k in graph.goals(until) if graph.nodes[k].stage == until]
        more = {} if profile is None else {"profile": [asdict(part) for part in profile.parts()], "trace": trace and str(trace)}
        print(json_.dumps({**done, "report": str(page) if page else None, "answer": document, "artifacts": keys, **more}))
        return
    if profile is not None:
        print("\n".join([*spent(profile.parts()), *([f"trace: {trace}"] if trace else []), ""]))
    print(f"{done['made']} made, {done['hits'] + done['elsewhere']} found, {duration(done['seconds'])}")
    if page is not None and document is not None:
        from distill_prune.terminal.answer_lines import answer_lines

        print("\n".join(["", *answer_lines(document, metrics(graph), columns()), ""]))
        print(f"report: {page}")
    else:
        for key in graph.goals(until):
            if graph.nodes[key].stage == until:
                print(f"{until} {key[:12]} {graph.nodes[key].label}")


def _trace(profile: Profile, folder: Path) -> Path:
    """Write the trace of a run beside its report."""
    from distill_prune.store.disk import replace_json

    path = folder / "trace.json"
    replace_json(path, profile.trace())
    return path


def _report(pipeline: str, name: str, graph: Graph, store: Store, out: Path | None) -> Path:
    """Write the report, unless the one that stands there was made of the very same artifacts by the same code."""
    from distill_prune.plan.files import origin
    from distill_prune.report import fingerprint, write
    from distill_prune.store.disk import make_folder, no_links, replace_json

    file = origin(pipeline, store.root)
    folder = out.expanduser() if out else _folder(store.root / "reports" / name, file)
    there = sorted(k for k, n in graph.nodes.items() if store.has(n.stage, k))
    mark, stamp = folder / ".made-of.json", fingerprint(name, graph.pipeline, there)
    if _is_current(mark, stamp):
        return folder / "report.html"
    from distill_prune.study.study import read

    if out is None:
        for inside in ("figures", "tables"):
            no_links(store.root, folder / inside)
            with contextlib.suppress(OSError):  # `write` says what is wrong
                make_folder(folder / inside)
    page = write(read(name, graph, store), folder)
    parts = [p for name in ("figures", "tables") for p in sorted((folder / name).glob("*"))]  # not what else lies in -o
    files = [str(p.relative_to(folder)) for p in (page, *parts)]
    replace_json(mark, {"made_of": stamp, "pipeline": name, "file": file, "files": files})
    return page


def _folder(usual: Path, file: str) -> Path:
    """Where the report of a pipeline file goes: the folder of its name, unless that is another file's of this name."""
    import hashlib

    first = _mark(usual / ".made-of.json").get("file", file)
    return usual if first == file else usual.with_name(f"{usual.name}-{hashlib.sha256(ascii(file).encode()).hexdigest()[:6]}")


def _is_current(mark: Path, stamp: str) -> bool:
    """Whether a report of the given stamp stands beside its mark, with all its files."""
    known = _mark(mark)
    return known.get("made_of") == stamp and all((mark.parent / file).exists() for file in known.get("files", ["?"]))


def _mark(path: Path) -> dict[str, str | list[str]]:
    """What a report's mark says; nothing where there is none, or it cannot be read."""
    from pydantic import TypeAdapter

    from distill_prune.store.documents import BadDocument, read

    kind: TypeAdapter[dict[str, str | list[str]]] = TypeAdapter(dict[str, str | list[str]])
    with contextlib.suppress(OSError, BadDocument):
        return read(path, kind)
    return {}


@app.command()
def run(
    pipeline: PipelineArg,
    sets: Sets = None,
    store: StoreDir = None,
    device: Device = None,
    executor: ExecutorName = "processes",
    workers: Workers = None,
    out: Out = None,
    json: AsJson = False,
    profile: ProfileOption = False,
    tensorboard: TensorBoard = None,
) -> None:
    """Make everything that a pipeline asks for and is not in the store yet, then its report.

    Example:  distill-prune run digits.yaml --set seeds=[0,1]
    """
    _run(pipeline, "compare", sets, store, device, executor, workers, out, json, profile, tensorboard)


def _stage_command(stage: str, what: str) -> None:
    def command(
        pipeline: PipelineArg,
        sets: Sets = None,
        store: StoreDir = None,
        device: Device = None,
        executor: ExecutorName = "processes",
        workers: Workers = None,
        json: AsJson = False,
        tensorboard: TensorBoard = None,
    ) -> None:
        _run(pipeline, stage, sets, store, device, executor, workers, None, json, tensorboard=tensorboard)

    app.command(stage, help=f"{what}\n\nExample:  distill-prune {stage} digits.yaml")(command)


for _stage, _what in (
    ("data", "Prepare the data set."),
    ("experts", "Train the experts (and what they need)."),
    ("distill", "Distil the synthetic sets (and what they need)."),
    ("prune", "Find the tickets of every chain (and what they need)."),
    ("retrain", "Retrain the tickets' copies on real data (and what they need)."),
):
    _stage_command(_stage, _what)

app.command(
    "compare",
    help="Measure everything, and write the report: the same as `run`.\n\nExample:  distill-prune compare digits.yaml",
)(run)


@app.command()
def report(pipeline: PipelineArg, sets: Sets = None, folder: StoreDir = None, out: Out = None) -> None:
    """Write the report of what the store holds; what is missing is shown as missing.

    Example:  distill-prune report digits.yaml -o report
    """
    store = open_store(folder)
    name, graph = open_graph(pipeline, sets, store)
    print(f"report: {_report(pipeline, name, graph, store, out)}")
