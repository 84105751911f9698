"""`report --against` and `report --pdf`: two studies side by side, and figures for papers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from reference_page import Page
from reference_report import only
from tiny import Cli

from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.report import figures
from distill_prune.store.store import Store
from distill_prune.study import details
from distill_prune.study.against import against
from distill_prune.study.study import read


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, ("accuracy",))


def test_two_studies_side_by_side(cli: Cli, finished: tuple[Store, Graph], tmp_path: Path, file: str) -> None:
    other = tmp_path / "fewer.yaml"
    other.write_text(tiny.TINY.replace("title: tiny", "title: fewer"))
    done = cli("report", file, "--store", finished[0].root, "-o", tmp_path / "out", "--against", other)
    assert done.code == 0, done.err
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "against" in page.contents() and "Beside fewer" in page.text and "Settings that differ (1)" in page.text
    assert "no difference is tested" in page.text and "figures/against_accuracy.png" in [a["href"] for a in page.having("a")]
    rows = json.loads((tmp_path / "out" / "tables" / "against.json").read_text())
    assert rows and all(r["accuracy_here"] == r["accuracy_there"] for r in rows)
    # Without it again: what is left of the other study goes.
    assert cli("report", file, "--store", finished[0].root, "-o", tmp_path / "out").code == 0
    assert not list((tmp_path / "out").rglob("*against*"))
    missing = cli("report", file, "--store", finished[0].root, "--against-store", tmp_path)
    assert missing.code == 2 and "--against-store goes with --against" in missing.err


def test_what_only_one_study_has(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    here = read("here", graph, store)
    there = read("there", build(tiny.pipeline("arms.random=false"), store), store)
    assert here.summary is not None
    there = replace(there, summary={**here.summary, "arms": [a for a in here.summary["arms"] if a["name"] != "random"]})
    both = against(here, there)
    assert both.only_here == ["random"] and both.only_there == [] and against(there, here).only_there == ["random"]
    assert {"arms.random.criterion.name"} <= {s.name for s in both.settings if s.here == "random" and not s.there}
    assert [(b.arm, b.sparsity) for b in both.both] == [(r["arm"], r["sparsity"]) for r in here.summary["rows"]]
    assert against(here, replace(there, summary=None)).both == []


def test_pdf_is_written_where_asked_for(cli: Cli, finished: tuple[Store, Graph], tmp_path: Path, file: str) -> None:
    where = ("--store", finished[0].root, "-o", tmp_path / "out")
    assert cli("report", file, *where, "--pdf").code == 0
    pdf = (tmp_path / "out" / "figures" / "accuracy.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf.replace(b" ", b"") and b"/CIDFontType2" in pdf.replace(b" ", b"")
    assert "figures/accuracy.pdf" in (tmp_path / "out" / "report.html").read_text()
    assert cli("report", file, *where).code == 0
    assert not (tmp_path / "out" / "figures" / "accuracy.pdf").exists()


def test_a_study_reads_what_the_page_draws(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    study = read("tiny", graph, store)
    levels = {t["level"] for t in study.trainings}
    assert levels and {t["copy"] for t in study.trainings} == set(range(graph.pipeline.retrain.copies))
    assert len(details.drawn_copies(graph)) <= sum(n.stage == "retrain" for n in graph.nodes.values())
    assert len(study.pictures) == len(graph.sets) and study.shares and study.outcome["verdict"]
    assert all(title.split()[0] in ("conv", "linear") for title in study.layer_titles.values())
    assert figures.LEADS == ("accuracy", "barrier_test")
