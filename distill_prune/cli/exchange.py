"""Commands that bring foreign files in and take artifacts out."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated

import typer

from distill_prune.cli.options import AsJson, RefArg, Sets, StoreDir, app, open_store

FORMATS = (
    "Sets: mtt, datm, dc (DSA, DM), idc, ddranking, png, npz. Experts: mtt-experts. Tickets: torch-prune, openlth, "
    "bert-tickets, state-dict, safetensors. Networks, export only: onnx."
)


@app.command(
    "import",
    help="Bring a foreign file into the store. If the format lacks a value, give it by --set: lr, space (normalize, zca, "
    "pixels), dataset (a prepared data set of the store, or cifar10, cifar100), factor, classes, model.name, ...\n\n"
    f"{FORMATS}\n\n"
    "Example:  distill-prune import mtt images_best.pt labels_best.pt --set lr=0.02 --set space=zca --set dataset=3fa9c1 "
    "--tag mtt-10",
)
def import_(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="the format, see above")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="the foreign files, or the folder that holds them")],
    sets: Sets = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="NAME", help="a name for what is imported")] = None,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    from distill_prune.study.exchange import bring_in

    imported = bring_in(open_store(folder, create=True), form, paths, sets or (), tag)
    if json:
        rows = [{"stage": m.ref.stage, "key": m.ref.key, "label": m.label, "found": m.found} for m in imported]
        print(json_.dumps({"artifacts": rows}))
        return
    for m in imported:
        print(f"{m.ref.stage} {m.ref.key[:12]} {m.label}" + (" (there already)" if m.found else ""))


@app.command(
    help="Write an artifact in a foreign format: a synthetic set, an expert (or the experts of a set), a ticket or a retrained "
    "network. Networks come with their stored size, operations and measured latency.\n\n"
    f"{FORMATS}\n\n"
    "Example:  distill-prune export 3fa9c1 --to torch-prune ticket.pt"
)
def export(
    ref: RefArg,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a file or folder that is not there yet")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="the format")],
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    from distill_prune.interop.footprint import lines
    from distill_prune.study.exchange import take_out

    files, size = take_out(open_store(folder), ref, to, path)
    if json:
        print(json_.dumps({"files": [str(f) for f in files], "footprint": size}))
        return
    for file in files:
        print(file)
    for line in lines(size) if size else ():
        print(line)
