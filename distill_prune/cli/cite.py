"""The command `cite`: the papers behind what a pipeline uses."""

from __future__ import annotations

import json as json_
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from distill_prune.cli.options import AsJson, PipelineArg, Sets, app


@app.command()
def cite(
    pipeline: PipelineArg,
    sets: Sets = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="print entries of BibTeX")] = False,
    json: AsJson = False,
) -> None:
    """List the papers to cite for a study: those of its data, networks, methods, criteria and analyses.

    Example:  distill-prune cite digits.yaml --bibtex
    """
    from distill_prune.errors import UserError
    from distill_prune.plan.papers import bibtex as entries
    from distill_prune.plan.papers import papers
    from distill_prune.plan.sections import Stored
    from distill_prune.plan.sweep import load_cells
    from distill_prune.terminal import columns
    from distill_prune.version import VERSION

    if bibtex and json:
        raise UserError("--bibtex and --json exclude each other", fix="one of them")
    studies = [cell.pipeline for cell in load_cells(pipeline, sets or ())[1].each]
    cited = papers(*studies)
    if bibtex:
        print(entries(cited, VERSION))
        return
    if json:
        print(json_.dumps({"papers": [asdict(paper) for paper in cited]}))
        return
    for paper in cited:
        print(textwrap.fill(paper.text, columns(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
        print(
            textwrap.fill(f"used by: {', '.join(paper.used_by)}", columns(), initial_indent="    ", subsequent_indent="      ")
        )
    stored = [name for study in studies for name, method in study.distill.items() if isinstance(method, Stored)]
    for name in dict.fromkeys(stored):
        print(f"\nThe set '{name}' comes from the store: cite the method that made it, too.")
    print(f"\n{len(cited)} papers, and distill-prune {VERSION} itself (CITATION.cff). --bibtex prints entries of BibTeX.")
