"""Commands on pipelines: run, its stages, plan, report."""

from __future__ import annotations

import contextlib
import json as json_
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    open_cells,
    open_graph,
    open_store,
)
from distill_prune.letters import printable

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Graph
    from distill_prune.plan.sweep import Cells
    from distill_prune.run.profile import Profile
    from distill_prune.store.store import Store
    from distill_prune.store.studies import Origin
    from distill_prune.study.outcome import Document
    from distill_prune.study.sweep import SweepDocument

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
    from distill_prune.study.shelf import origin_of, shelve
    from distill_prune.terminal import duration, spent

    store = open_store(folder, create=True)
    name, graph, cells = open_cells(pipeline, sets, store)
    of = origin_of(pipeline, sets or (), store)
    profile = Profile() if profiled else None
    keys = [k for k in graph.goals(until) if graph.nodes[k].stage == until]
    with kept(store, graph.keys()):  # what was made is read here: another process must not remove it between
        study = shelve(store, name, of, graph, reports=until == "compare" and out is None)
        done = execute(graph, store, until, device, executor, workers, json, profile, pipeline, tensorboard)
        if until == "compare":
            page, answer, lines = _whole(name, study, of, graph, cells, store, out)
        else:
            page, answer, lines = None, None, _listed(study, graph, keys)
    trace = _trace(profile, page.parent) if profile and page and profile.parts() else None
    if json:
        more = {} if profile is None else {"profile": [asdict(part) for part in profile.parts()], "trace": trace and str(trace)}
        made = {"study": study, "report": str(page) if page else None, "answer": answer, "artifacts": keys}
        print(json_.dumps({**done, **made, **more}))
        return
    if profile is not None:
        print("\n".join([*spent(profile.parts()), *([f"trace: {trace}"] if trace else []), ""]))
    there = done["hits"] + done["elsewhere"]
    if done["made"]:
        print(f"{done['made']:,} made, {there:,} in the store already, {duration(done['seconds'])}")
    else:
        print(f"nothing to do: all {there:,} artifacts are in the store ({duration(done['seconds'])})")
    for line in lines:
        print(line)


def _whole(
    name: str, study: str, of: Origin, graph: Graph, cells: Cells, store: Store, out: Path | None
) -> tuple[Path, Document | SweepDocument, list[str]]:
    """Write the page of a study or sweep that is made; its path, the answer, and the lines that say both."""
    from distill_prune.study.conclusion import conclusion, metrics
    from distill_prune.terminal import columns
    from distill_prune.terminal.answer_lines import answer_lines, sweep_lines

    answer: Document | SweepDocument
    if cells.is_sweep:
        page, answer = _map(name, study, of, graph, cells, store, out)
        lines = sweep_lines(answer, columns())
    else:
        page, answer = _report(name, study, of, graph, store, out), conclusion(graph, store)
        lines = answer_lines(answer, metrics(graph), columns())
    return page, answer, ["", *lines, "", f"report: {page}"]


def _listed(study: str, graph: Graph, keys: Sequence[str]) -> list[str]:
    """A line for each artifact of a stage: key, label and path."""
    from distill_prune.study.shelf import full_paths

    path_of, nodes = full_paths(study, graph), graph.nodes
    return [f"{nodes[key].stage} {key[:12]} {printable(f'{nodes[key].label}  {path_of[key][0]}')}" for key in keys]


def _map(
    name: str, study: str, of: Origin, graph: Graph, cells: Cells, store: Store, out: Path | None
) -> tuple[Path, SweepDocument]:
    """Write the page of a sweep; its path, and what it says."""
    from distill_prune.report.map import write_map
    from distill_prune.store.disk import no_links
    from distill_prune.study.conclusion import metrics
    from distill_prune.study.shelf import folder_of
    from distill_prune.study.sweep import sweep_document

    document = sweep_document(graph, cells, store)
    folder = out.expanduser() if out else folder_of(store, study)
    if out is None:
        no_links(store.root, folder / "tables")
    page = write_map(document, cells.title, cells.question, metrics(graph), folder)
    _record(page, "", name, cells.title, of, None if out else store)
    return page, document


def _record(page: Path, stamp: str, name: str, title: str, of: Origin, listed: Store | None) -> None:
    """Write beside a page what the report is made of, and list it on the page of a store's reports."""
    from distill_prune.report.index import write_index
    from distill_prune.store.studies import write_mark

    folder = page.parent
    parts = [p for part in ("figures", "tables") for p in sorted((folder / part).glob("*"))]  # not what else lies in -o
    files = [str(p.relative_to(folder)) for p in (page, *parts)]
    write_mark(
        folder,
        {
            "made_of": stamp,
            "pipeline": name,
            "title": title,
            "file": of.file,
            "variant": of.variant,
            "sets": [*of.sets],
            "files": files,
        },
    )
    if listed is not None:
        write_index(listed.root)


def _trace(profile: Profile, folder: Path) -> Path:
    """Write the trace of a run beside its report."""
    from distill_prune.store.disk import replace_json

    path = folder / "trace.json"
    replace_json(path, profile.trace())
    return path


@dataclass(frozen=True)
class _Other:
    """The study that a report is laid beside: its name, graph and store."""

    name: str
    graph: Graph
    store: Store


def _report(
    name: str,
    study: str,
    of: Origin,
    graph: Graph,
    store: Store,
    out: Path | None,
    pdf: bool = False,
    other: _Other | None = None,
) -> Path:
    """Write the report, unless the one that stands there was made of the very same artifacts by the same code. `study` is its
    name in the store, where the page of all reports is written, too; a report beside another study has a folder in its own."""
    from distill_prune.report import fingerprint, write
    from distill_prune.store.disk import make_folder, no_links
    from distill_prune.study.shelf import folder_of

    own = folder_of(store, study)
    folder = out.expanduser() if out else own / f"against-{other.name}" if other else own
    beside = [other.name, other.graph.pipeline, _there(other.graph, other.store)] if other else None
    stamp = fingerprint(name, graph.pipeline, _there(graph, store), pdf, beside)
    if _is_current(folder, stamp):
        return folder / "report.html"
    from distill_prune.study.against import against
    from distill_prune.study.study import read

    if out is None:
        for part in ("figures", "tables"):
            no_links(store.root, folder / part)
            with contextlib.suppress(OSError):  # `write` says what is wrong
                make_folder(folder / part)
    content = read(name, graph, store)
    if other:
        content = replace(content, against=against(content, read(other.name, other.graph, other.store)))
    page = write(content, folder, pdf)
    _record(page, stamp, name, content.title, of, None if out or other else store)
    return page


def _there(graph: Graph, store: Store) -> list[str]:
    """The keys of a graph that a store has."""
    return sorted(k for k, n in graph.nodes.items() if store.has(n.stage, k))


def _is_current(folder: Path, stamp: str) -> bool:
    """Whether a report of the given stamp stands in the folder, with all its files."""
    from distill_prune.store.studies import mark

    known = mark(folder)
    return known.get("made_of") == stamp and all((folder / file).exists() for file in known.get("files", ["?"]))


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
def report(
    pipeline: PipelineArg,
    sets: Sets = None,
    folder: StoreDir = None,
    out: Out = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="write the figures as PDF, too")] = False,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="PIPELINE", help="compare with the study of another pipeline"),
    ] = None,
    against_store: Annotated[
        Path | None,
        typer.Option("--against-store", metavar="DIR", help="the store of the other study [default: the same one]"),
    ] = None,
) -> None:
    """Write the report of what the store holds; what is missing is shown as missing.

    Example:  distill-prune report digits.yaml -o report --against other.yaml
    """
    from distill_prune.errors import UserError

    if against_store is not None and against is None:
        raise UserError("--against-store goes with --against", fix="--against PIPELINE")
    from distill_prune.study.shelf import origin_of, shelve

    store = open_store(folder)
    name, graph, cells = open_cells(pipeline, sets, store)
    if cells.is_sweep and (pdf or against is not None):
        raise UserError(f"{'--pdf' if pdf else '--against'} is of one study, and {name} is a sweep", fix="--set sweep={}")
    of = origin_of(pipeline, sets or (), store)
    study = shelve(store, name, of, graph, reports=out is None)
    if cells.is_sweep:
        print(f"report: {_map(name, study, of, graph, cells, store, out)[0]}")
        return
    other = None
    if against is not None:
        other_store = open_store(against_store) if against_store else store
        other = _Other(*open_graph(against, None, other_store), other_store)
    print(f"report: {_report(name, study, of, graph, store, out, pdf, other)}")
