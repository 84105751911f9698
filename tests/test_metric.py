"""Metrics are declared once, by their analyses; a plugin's are tabulated, tested, drawn and worded like the built-in ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference_report as reference
from reference_plugins import ANALYSIS, Write, written
from reference_summary import TWO, row_of, summarise, unit, verdict_and_rest

import distill_prune
from distill_prune.analyze import ANALYSES
from distill_prune.analyze.declared import _TAKEN, declared, foreign, on_page, readings
from distill_prune.analyze.metric import GROUPS, IS_ACCURATE, IS_FLAT, Metric, Question
from distill_prune.analyze.summary import METRICS
from distill_prune.errors import ConfigError, RunError
from distill_prune.plugins import load
from distill_prune.report.figures import FIGURES, draw
from distill_prune.report.page import page
from distill_prune.report.tables import tables

PACKAGE = Path(distill_prune.__file__).parent
DECLARED = ANALYSIS.replace(
    "def measure",
    """from distill_prune.analyze.metric import Metric, Question
ROUND = Question("roundness", "rounder", "less round", "rounder")
METRICS = (
    Metric("analysis", "Edge <b>&", "mm", at=("edge",), words="edge", tested=True, question=ROUND, note="Edges are of ink."),
    Metric("analysis_share", "Share of edge", "%", 100, group="barrier", column=None),
)
def measure""",
)

PLACE = {"arm": "real", "seed": 0, "level": 0, "sparsity": 0.0, "copy": 0}
DENSITY = {**PLACE, "grid": [0.0], "values": [1.0], "sigma": 1.0, "eigenvalues": [{"value": 1.0, "residual": 0.0}]}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    yield from written(tmp_path, monkeypatch)


def declaring(module: Write, metrics: str) -> None:
    module("analysis", DECLARED.partition("ROUND =")[0] + f"METRICS = {metrics}\ndef measure(settings, copies): ...\n")
    load("analysis")


def test_a_metric_is_spelled_where_it_is_declared() -> None:
    sources = {p: p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*") if p.suffix in (".py", ".j2", ".js")}
    for name in ("barrier_test", "trace_invariant", "top_eigenvalue", "diagonal_negative", "train_accuracy"):
        assert sum(name in text for text in sources.values()) == 1, name


def test_built_in_declarations_keep_to_what_is_asked_of_plugins() -> None:
    names = [m.name for analysis in ANALYSES.own if analysis != "summary" for m in declared(analysis)]
    assert len(names) == len(set(names)) and set(METRICS) < set(names)
    assert all(m.group in GROUPS for m in on_page() if m.group) and set(GROUPS) >= {"further"}
    fixed = {n for n in FIGURES if n not in names and not n.startswith(("paired_", "landscape_"))}
    assert fixed <= _TAKEN, "a plugin's figure could take the place of another one"


def test_the_spectrum_negative_share_is_shown_nowhere() -> None:
    """Its Student interval covers directions alone and misses the truth half of the time; `negative_bounds` hold."""
    assert not any("negative" in key for m in declared("spectrum") for key in m.place)
    shown = reference.small(densities=[])
    shown.densities = [{**DENSITY, "negative": {"mean": 0.1, "low": 0.05, "high": 0.15}, "negative_bounds": [0.0, 0.3]}]
    assert not any("negative" in column for records in tables(shown).values() for column in records[0])


def test_readings_are_numbers_or_estimates(module: Write) -> None:
    module("analysis", DECLARED)
    load("analysis")
    assert readings("analysis", {"edge": {"mean": 2.0, "sd": None}, "analysis_share": 1}) == {
        "analysis": 2.0,
        "analysis_share": 1,
    }
    assert readings("analysis", {"edge": None}) == {"analysis": None} and readings("analysis", {"edge": {"sd": 1}}) == {}
    for wrong in ("long", True, [1.0], {"mean": "2"}):
        with pytest.raises(RunError, match=r"the metric 'analysis' of the analysis 'analysis'(?s:.)*a number or an estimate"):
            readings("analysis", {"edge": wrong})
    curvature = {"trace": {"mean": 1.0, "se": 0.1}}
    assert readings("curvature", curvature) == {"trace": 1.0, "trace_se": 0.1}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ('["edge"]', r"METRICS of the analysis 'analysis'\n  got: .*\n  expected: a tuple of .*\.Metric"),
        (
            '(Metric("accuracy", "Accuracy"),)',
            "the name 'accuracy' is taken\n  fix:      another one, like 'analysis_accuracy'",
        ),
        ('(Metric("sparsity", "S"),)', "the name 'sparsity' is taken"),
        ('(Metric("costs", "S"),)', "the name 'costs' is taken"),
        ('(Metric("paired_edge", "S"),)', "the name 'paired_edge' is taken"),
        ('(Metric("edge", "E"), Metric("edge", "F"))', "the name 'edge' is taken"),
        ('(Metric("../edge", "E"),)', "small letters, digits and underscores"),
        ('(Metric("edge"),)', r"'edge' has no title\n  fix:      Metric\(\"edge\", "),
        ('(Metric("edge", "E", group="mine"),)', "the group of 'edge'\n  got:      'mine'\n  expected: one of accuracy, "),
        ('(Metric("edge", "E", scale=1000),)', "the scale of 'edge'\n  got:      1000\n  expected: 1, or 100 for a share"),
        ('(Metric("edge", "E", at=("inner")),)', "the place of 'edge'\n  got:      'inner'\n  expected: keys, like"),
        ('(Metric("edge", "E", part="men"),)', "the part of 'edge'\n  got:      'men'\n  expected: did you mean 'mean'"),
        ('(Metric("edge", "E", beside="accuracy_train"),)', "the name 'accuracy_train' is taken"),
        ('(Metric("edge", "E"),)\nTAKES = "pair"', "one that takes 'copies' or 'set'"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_refused(module: Write, metrics: str, message: str) -> None:
    declaring(module, metrics)
    with pytest.raises(ConfigError, match=message):
        foreign(["analysis", "accuracy"])


def test_two_plugins_cannot_have_one_metric(module: Write) -> None:
    declaring(module, '(Metric("edge", "E"),)')
    module("other", Path("analysis.py").read_text(encoding="utf-8").replace('analysis"', 'other"'))
    load("other")
    with pytest.raises(ConfigError, match="the analyses 'analysis' and 'other' both have a metric 'edge'"):
        foreign(["other", "analysis"])


def test_an_analysis_without_metrics_is_left_alone(module: Write) -> None:
    module("analysis", ANALYSIS)
    load("analysis")
    assert foreign(["analysis"]) == () and readings("analysis", {"copies": 3}) == {}


def units(gap: float) -> list[dict[str, Any]]:
    """Six initialisations: the learned arm's edge lies `gap` from the real arm's, and accuracies are alike."""
    places = [(arm, s, level) for arm in ("real", "syn") for s in range(6) for level in (0, 1)]
    return [
        unit(arm, s, level, accuracy=0.8 + 0.001 * s, analysis=5.0 + (gap + 0.01 * s if arm == "syn" and level else 0.1 * s))
        for arm, s, level in places
    ]


def test_the_summary_and_the_answer_have_it(module: Write) -> None:
    module("analysis", DECLARED)
    load("analysis")
    numbers = summarise(units(-2.011), TWO, plugins=("analysis",), claim_p=0.05)
    row = row_of(numbers, "syn", 1)
    assert list(row)[list(row).index("units_fixed") + 1 :][:2] == ["analysis", "analysis_share"]
    assert row["analysis"]["mean"] == pytest.approx(3.014) and row["analysis_share"] is None
    assert numbers["dense"]["analysis"]["n"] == 6 and "Edges are of ink." in numbers["notes"]
    (paired,) = [p for p in numbers["paired"] if p["metric"] == "analysis"]
    assert paired["claim"] == "edge of syn is lower than of real by 2.24 at level 1 (n = 6)"
    assert "shown to be rounder than real and not shown to be more or less accurate" in numbers["answer"]
    assert "edge lower by 2.24 [" in numbers["answer"] and "rounder than real: shown in edge (n = 6)" in numbers["answer"]


def test_studies_without_it_do_not_know_it(module: Write) -> None:
    before = summarise(units(-2.0), TWO)
    module("analysis", DECLARED)
    load("analysis")
    assert summarise(units(-2.0), TWO) == before and "analysis" not in before["rows"][0]
    verdict_and_rest(before)


def test_the_page_has_it_and_its_words_are_data(module: Write) -> None:
    module("analysis", DECLARED)
    load("analysis")
    study = reference.small(plugins=("analysis",))
    for u in study.units:
        u["analysis"] = 3.0 + u["level"]
    for r in study.summary["rows"]:
        r["analysis"] = reference.estimate([3.0 + r["level"]] * 3)
    study.summary["paired"].append({**study.summary["paired"][-1], "metric": "analysis"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_prune.report.figures._render", reference.vector)
        reference.only(patch, ("accuracy", "barrier_test"))
        drawings = draw(study)
    assert {"analysis", "paired_analysis"} < drawings.keys() and "analysis_share" not in drawings
    html = page(study, drawings)[0]
    assert '<section id="further">' in html and '<a href="#further">Further</a>' in html
    assert '<th scope="col">Edge &lt;b&gt;&amp; (mm)</th>' in html and "<b>" not in html
    assert "Share of edge" in html[html.index('id="unmeasured"') :], "among what was not measured"
    assert 'id="further"' not in page(reference.small(), {})[0]


def test_questions_have_two_sides() -> None:
    assert IS_FLAT.either == "more or less flat" and IS_ACCURATE.either == "more or less accurate"
    assert Question("size", "smaller", "larger").either == "smaller or larger"
    assert Metric("edge", "Edge of INK").in_words == "edge of ink"
