"""The papers behind a pipeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tiny
from tiny import Cli

from distill_prune.analyze import ANALYSES
from distill_prune.data import DATASETS
from distill_prune.distill import METHODS
from distill_prune.models import MODELS
from distill_prune.plan.catalog import pipelines
from distill_prune.plan.papers import Paper, bibtex, papers, references
from distill_prune.plan.sweep import load_cells
from distill_prune.prune import CRITERIA

NO_PAPER = {"accuracy", "folder", "npz", "overlap", "random", "subset", "torchvision", "tsv", "union"}
"""Entries that follow from no paper: plain files, chance, a mean."""


def test_every_entry_names_its_paper_or_is_known_to_have_none() -> None:
    tables = (DATASETS, MODELS, METHODS, CRITERIA, ANALYSES)
    without = {name for table in tables for name in table.own if not references(table[name].__doc__)}
    assert without == NO_PAPER


def test_references_are_read_as_docstrings_write_them() -> None:
    text = """A method.

    References:
        | Title: With a Colon, sections 4-5 (One et al., 2018), on planes, https://arxiv.org/abs/1712.09913
        | Another, whose title goes
          on (Two and Three, 1989)
        | https://example.org
    """
    assert references(text) == [
        Paper("Title: With a Colon", "One et al.", 2018, "https://arxiv.org/abs/1712.09913", "on planes"),
        Paper("Another, whose title goes on", "Two and Three", 1989),
    ]
    assert references(None) == references("no papers") == []


def test_a_paper_is_listed_once_with_all_that_rests_on_it() -> None:
    cited = {paper.title: paper for paper in papers(tiny.pipeline())}
    mtt = cited["Dataset Distillation by Matching Training Trajectories"]
    assert mtt.used_by == ("model convnet", "method trajectory", "experts", "analysis evaluation")
    assert mtt.url == "https://arxiv.org/abs/2203.11932"
    assert "CutMix" not in " ".join(cited) and "Decoupled Weight Decay" not in " ".join(cited)
    more = {p.title for p in papers(tiny.pipeline("retrain.recipe={optimizer: adamw, cutmix: 0.5}", "data.transform=zca"))}
    assert {"Decoupled Weight Decay Regularization"} <= more - cited.keys()
    assert any(title.startswith("CutMix") for title in more)


def test_what_is_not_used_is_not_cited() -> None:
    titles = {
        p.title for p in papers(tiny.pipeline("distill={}", "arms={real: {criterion: {name: snip}}}", "compare={accuracy: {}}"))
    }
    assert any(title.startswith("SNIP") for title in titles)
    assert "The Lottery Ticket Hypothesis" not in titles and not any(
        "Distillation" in title and "Matching" in title
        for title in titles - {"Dataset Distillation by Matching Training Trajectories"}
    )
    assert "A stochastic estimator of the trace of the influence matrix" not in titles


def test_entries_of_bibtex_have_keys_of_their_own() -> None:
    cited = [
        Paper("On & Off", "Van Dyk, Two and Three", 2020, "https://arxiv.org/abs/2001.00001"),
        Paper("On or Off", "Van Dyk et al.", 2020),
    ]
    text = bibtex(cited, "1.0")
    assert re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE) == ["distill-prune", "vandyk2020", "vandyk2020b"]
    assert "author = {{Van Dyk} and Two and Three}" in text and "author = {{Van Dyk} and others}" in text
    assert r"title = {{On \& Off}}" in text and "eprint = {2001.00001}" in text


def test_the_command(cli: Cli) -> None:
    shown = cli("cite", "digits.yaml")
    assert shown.code == 0 and "used by: data digits" in shown.out and "Optical Recognition" in shown.out
    assert cli("cite", "digits", "--bibtex").out.startswith("@software{distill-prune,")
    assert json.loads(cli("cite", "digits", "--json").out)["papers"][0]["year"] == 1998
    stored = cli("cite", "digits", "--set", "distill.synthetic={name: stored, ref: mine}")
    assert "The set 'synthetic' comes from the store" in stored.out and "method trajectory" not in stored.out
    assert cli("cite", "digits", "--json", "--bibtex").code == 2
    assert cli("cite", "no-such").code == 2


@pytest.mark.parametrize("name", [line.name for line in pipelines()])
def test_every_shipped_pipeline_has_papers(name: str) -> None:
    cited = papers(*(cell.pipeline for cell in load_cells(name)[1].each))
    assert cited and all(paper.used_by and paper.text.count("\n") == 0 for paper in cited)
    assert len(re.findall("^@", bibtex(cited, "0"), re.MULTILINE)) == len(cited) + 1


def test_a_sweep_cites_what_any_of_its_cells_uses(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "extends: digits.yaml\nsweep: {model: [{name: lenet}, {name: cifar_resnet, depth: 8}]}\n", encoding="utf-8"
    )
    done = cli("cite", tmp_path / "sweep.yaml", "--json")
    users = {use for paper in json.loads(done.out)["papers"] for use in paper["used_by"]}
    assert done.code == 0 and {"model lenet", "model cifar_resnet"} <= users
