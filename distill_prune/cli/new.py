"""The command `new`: a pipeline file for one's own data."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from distill_prune.cli.options import app
from distill_prune.errors import UserError


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the study; the file is NAME.yaml")],
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="arrays (.npz), a folder of images, or a TSV file")],
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="DIR", help="of text: a directory with the network's tokenizer")
    ] = None,
) -> None:
    """Look at data of your own, and write a pipeline that fits them.

    Example:  distill-prune new mine --data photos
    """
    from distill_prune.plan.new import new_pipeline
    from distill_prune.store.disk import write_new
    from distill_prune.terminal import columns

    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not path.parent.is_dir():
        raise UserError(
            f"there is no folder '{path.parent}' for '{path}'", fix="make it first, or give a name in another folder"
        )
    written = new_pipeline(path.stem, data, tokenizer)
    try:
        write_new(path, written.text.encode())
    except FileExistsError:
        raise UserError(f"'{path}' exists already", fix="another name: nothing is overwritten") from None
    for line in written.seen:
        print(textwrap.fill(line, columns(), subsequent_indent="  "))
    print(f"{path}\n\nnext:  distill-prune plan {path}\n       distill-prune run {path}")
