"""Commands that remove, carry away and compare what lies in a store; and the schema of pipeline files."""

from __future__ import annotations

import json as json_
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_prune.cli.columns import Column, table, width
from distill_prune.cli.options import AsJson, RefArg, Sets, StoreDir, app, open_graph, open_store
from distill_prune.errors import ConfigError, StoreError, UserError
from distill_prune.terminal import size

if TYPE_CHECKING:
    from distill_prune.store.archive import Index
    from distill_prune.store.housekeeping import Item
    from distill_prune.store.store import Ref, Store

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="list what would be deleted, and leave it")]


def _agreed(question: str, *, ask: bool = True) -> None:
    """Go on only where a person at a terminal says so."""
    if not ask or not sys.stdin.isatty():
        raise UserError("nothing is deleted without a confirmation", fix="--yes, or --dry-run to see what would be deleted")
    if not typer.confirm(question):
        print("nothing was deleted")
        raise typer.Exit(1)


def _listing(items: Sequence[Item], store: Store) -> None:
    """One line an item, but for locks, which are many and empty."""
    from distill_prune.store.studies import paths_by_key

    paths, _ = paths_by_key(store.root)
    heads = (
        Column("kind"),
        Column("stage", last=1),
        Column("key"),
        Column("size", right=True),
        Column("path", shrinks=16),
        Column("about", shrinks=16, last=2),
    )
    rows = [
        (
            item.kind,
            item.ref.stage if item.ref else "",
            item.ref.key[:12] if item.ref else item.path.name[:21],
            size(item.bytes),
            paths.get(item.ref.key, [""])[0] if item.ref else "",
            item.label,
        )
        for item in items
        if item.kind != "lock"
    ]
    for line in table(heads, rows, width()) if rows else ():
        print(line)
    if locks := sum(item.kind == "lock" for item in items):
        print(f"unused lock files: {locks:,}")


def _total(items: Sequence[Item], what: str) -> str:
    """How many they are, and their size: 1,053 items (29 MB)."""
    return f"{len(items):,} {what}{'s' * (len(items) != 1)} ({size(sum(item.bytes for item in items))})"


@app.command()
def rm(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="paths, beginnings of keys, or names")],
    dependents: Annotated[bool, typer.Option("--with-dependents", help="and all that was made from them")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    folder: StoreDir = None,
) -> None:
    """Delete artifacts, and their names.

    Example:  distill-prune rm digits/synthetic/0/3 --with-dependents --dry-run
    """
    from distill_prune.store.housekeeping import removable, remove_all

    store = open_store(folder)
    items = removable(store, [store.find(r) for r in refs], with_dependents=dependents)
    _listing(items, store)
    total = _total(items, "artifact")
    if dry_run:
        print(f"{total} would be deleted")
        return
    if not yes:
        _agreed(f"delete {total}?")
    remove_all(store, items)
    print(f"{total} deleted")


@app.command()
def gc(
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="PIPELINE", help="delete artifacts that no kept pipeline needs; several times"),
    ] = None,
    sets: Sets = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STAGE", help="with --keep: artifacts of this stage alone")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Delete what dead runs left: unfinished work, damaged artifacts, half-written files, paths of deleted studies, unused
    lock files. With --keep, also artifacts that no kept pipeline needs; what has a name stays, with all it was made from.

    Example:  distill-prune gc --keep digits.yaml --only retrain --dry-run
    """
    from distill_prune.errors import nearest
    from distill_prune.store.housekeeping import litter, remove, unneeded
    from distill_prune.store.store import STAGES

    store = open_store(folder)
    if (only or sets) and not keep:
        raise UserError(f"{'--only' if only else '--set'} goes with --keep", fix="--keep PIPELINE")
    if unknown := [s for s in only or () if s not in STAGES]:
        raise ConfigError(f"unknown stage '{unknown[0]}'", expected=nearest(unknown[0], STAGES))
    kept = {p: _keys(p, sets, store) for p in keep or ()}
    spared = {key for keys in kept.values() for key in keys}
    items = litter(store, spared) + (unneeded(store, spared, only or STAGES) if kept else [])
    if not json:
        for name, keys in kept.items():
            there = {r.key for r in store.all()} & keys
            print(f"kept for {name}: {len(there):,} artifacts of the store")
        _listing(items, store)
    if items and not dry_run and not yes:
        _agreed(f"delete {_total(items, 'item')}?", ask=not json)
    left = [] if dry_run else remove(store, items)
    gone = [i for i in items if i not in left]
    if json:
        print(json_.dumps({"removed": _records(gone, store), "busy": _records(left, store), "dry_run": dry_run}))
        return
    for item in left:
        print(f"not deleted, another process works on it now: {item.path.name}")
    print(f"{_total(gone, 'item')} {'would be deleted' if dry_run else 'deleted'}")


def _records(items: Iterable[Item], store: Store) -> list[dict[str, object]]:
    return [
        {"kind": i.kind, "path": str(i.path.relative_to(store.root)), "bytes": i.bytes, "label": i.label}
        | ({"stage": i.ref.stage, "key": i.ref.key} if i.ref else {})
        for i in items
    ]


def _keys(pipeline: str, sets: list[str] | None, store: Store) -> set[str]:
    """Every key that a pipeline makes or takes from the store."""
    _, graph = open_graph(pipeline, sets, store)
    keys = set(graph.nodes) | {k for n in graph.nodes.values() for k in n.inputs.values()} | set(graph.sets.values())
    if not any(r.key in keys for r in store.all()):
        raise UserError(
            f"the store holds nothing of the pipeline '{pipeline}', so --keep would keep nothing of it",
            got=f"store '{store.root}'",
            fix="--set with the values that it was run with, or another --store",
        )
    return keys


@app.command()
def pack(
    what: Annotated[str, typer.Argument(metavar="REF|PIPELINE", help="an artifact, or all that the store has of a study")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="the file to write, a plain tar")],
    inputs: Annotated[bool, typer.Option("--with-inputs", help="with a REF: all that it was made from, too")] = False,
    sets: Sets = None,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Write a synthetic set, or a whole study with its report and its resolved pipeline, into one file for `unpack`.

    Equal artifacts make equal files. A set alone is enough to prune with elsewhere.

    Example:  distill-prune pack digits-5ipc -o digits-5ipc.tar
    """
    from distill_prune.store.archive import needed
    from distill_prune.store.archive import pack as write
    from distill_prune.store.disk import file_digest

    store = open_store(folder)
    ref = _artifact(store, what, sets)
    if ref is not None:
        refs, missing = needed(store, ref, with_inputs=inputs)
        index = write(store, refs, out, missing=missing)
    elif inputs:
        raise UserError("--with-inputs goes with an artifact: a study has its inputs", got=what, fix="leave it out")
    else:
        index = _pack_study(store, what, sets, out)
    count, total = len(index.artifacts), sum(f.size for f in index.members().values())
    sha = file_digest(out)
    if json:
        print(json_.dumps({"file": str(out), "sha256": sha, **index.model_dump(mode="json")}))
        return
    print(f"{out}: {_artifacts(count)}, {size(total)}, sha256 {sha}")
    if index.missing:
        more = " ..." if len(index.missing) > 3 else ""
        print(f"not in the store, so left out: {_artifacts(len(index.missing))} ({', '.join(index.missing[:3])}{more})")


def _artifacts(count: int) -> str:
    return f"{count:,} artifact{'s' * (count != 1)}"


def _artifact(store: Store, what: str, sets: list[str] | None) -> Ref | None:
    """The artifact that is meant, or None where it is a pipeline. Names of the store come first."""
    from distill_prune.plan.files import find_pipeline

    if what in store.tags() and not sets:
        return store.find(what)
    try:
        find_pipeline(what)
        return None
    except ConfigError:
        if sets or what.endswith((".yaml", ".yml")):
            raise
    try:
        return store.find(what)
    except StoreError as unknown:
        raise StoreError(
            unknown.what, got=unknown.got, expected=f"{unknown.expected or 'one artifact'}; or a pipeline", fix=unknown.fix
        ) from unknown


def _pack_study(store: Store, pipeline: str, sets: list[str] | None, out: Path) -> Index:
    """The report is written anew beside the store: the one in it may be older, or of other values of --set."""
    from distill_prune.report import write
    from distill_prune.store.archive import PIPELINE, pack
    from distill_prune.study.packing import contents
    from distill_prune.study.study import read

    name, graph = open_graph(pipeline, sets, store)
    if graph.cells:
        raise UserError(f"{name} is a sweep, and `pack` takes one study", fix="--set sweep={} and the values of a cell")
    refs, missing, text = contents(graph, store)
    if not refs:
        raise StoreError(f"the store '{store.root}' holds nothing of the pipeline '{pipeline}'", fix="`distill-prune run` it")
    extra = {PIPELINE: text}
    with tempfile.TemporaryDirectory() as folder:
        write(read(name, graph, store), Path(folder))
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                extra[f"report/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return pack(store, refs, out, name=name, extra=extra, missing=missing)


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what `pack` wrote")],
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """Put the artifacts of a file into the store. Everything is checked first; what is there already is left alone.

    Example:  distill-prune unpack digits-5ipc.tar
    """
    from dataclasses import asdict

    from distill_prune.store.unpack import examine
    from distill_prune.store.unpack import unpack as publish

    archive = examine(file)
    store = open_store(folder, create=True)
    done = publish(archive, store)
    if json:
        print(json_.dumps({**asdict(done), "pipeline": str(done.pipeline) if done.pipeline else None}))
    else:
        print(f"{_artifacts(len(done.written))} written, {len(done.present)} there already, in {store.root}")
        for artifact in archive.index.artifacts:
            for name in artifact.names:
                if name in done.names:
                    print(f"{name} -> {artifact.stage} {artifact.key[:12]}")
        if done.pipeline:
            print(f"pipeline: {done.pipeline}; the packed report: tar -xf {file} report")
        for name in done.taken:
            print(f"the name {name} stands on another artifact here, and stays there", file=sys.stderr)
    if done.busy:
        raise StoreError(
            f"another run is making {_artifacts(len(done.busy))}; they were left to it",
            got=", ".join(k[:12] for k in done.busy[:3]),
            fix="unpack again when it has ended: what is there is left alone",
        )


@app.command()
def schema() -> None:
    """Print the JSON schema of pipeline files, for editors. A file's first line can name it:

    # yaml-language-server: $schema=pipeline.schema.json

    Example:  distill-prune schema > pipeline.schema.json
    """
    from distill_prune.plan.schema import schema as made

    print(json_.dumps(made(), indent=1))


@app.command()
def diff(
    a: RefArg,
    b: RefArg,
    folder: StoreDir = None,
    store_b: Annotated[Path | None, typer.Option(help="the store of the second, where it is another one")] = None,
    json: AsJson = False,
) -> None:
    """Compare two tickets, or two synthetic sets: sparsity by layer, overlap against chance, what was measured,
    costs, and what differs in their settings.

    Example:  distill-prune diff 3fa9c1 77b0e2 --store-b ../theirs
    """
    from distill_prune.study.difference import difference

    sides = difference(open_store(folder), a, b, open_store(store_b) if store_b else None)
    if json:
        print(json_.dumps(sides))
        return
    from distill_prune.cli.side_by_side import lines

    for line in lines(sides):
        print(line)
