"""The report: what a reader sees, and what stands in the files."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference_report as reference
import tiny
from PIL import Image
from reference_page import Page
from reference_report import NOTHING, laid_out, only, small
from reference_report_rich import rich

from distill_prune.report import TABLES, write
from distill_prune.report.tables import tables, to_csv
from distill_prune.report.unmeasured import WHAT

# A figure of each kind: tests/test_report_figures.py draws them all.
DRAWN = ("distillation", "accuracy", "interpolation", "scan", "density", "landscape_copies_test_error", "costs", "overlap")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole study of thirteen arms with every analysis and a scan."""
    with pytest.MonkeyPatch.context() as patch:
        only(patch, DRAWN)
        return write(rich(seeds=2, levels=3), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def old() -> Page:
    """The page of a study whose summary knows neither reach nor scan: ten levels, five arms, three seeds."""
    return laid_out(reference.study())


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return Page(whole.read_text())


def test_every_figure_and_table_is_written_in_both_formats(whole: Path) -> None:
    out = whole.parent
    assert {p.name for p in (out / "figures").glob("*.svg")} == {f"{n}.svg" for n in DRAWN}
    assert {p.name for p in (out / "figures").glob("*.png")} == {f"{n}.png" for n in (*DRAWN, "set_1")}
    assert {p.stem for p in (out / "tables").iterdir()} == set(TABLES) - {"missing", "transfer", "against"}
    for path in (out / "figures").glob("*.svg"):
        ElementTree.parse(path)
    for path in (out / "figures").glob("*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 5, f"{path.name} is blank"
    for path in (out / "tables").glob("*.json"):
        with path.with_suffix(".csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(json.loads(path.read_text()))


def test_nothing_is_left_aside(whole: Path) -> None:
    assert {p.name for p in whole.parent.iterdir()} == {"report.html", "figures", "tables"}


def test_the_page_asks_nothing_of_a_network(whole: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name)
            beside = tag == "a" and value is not None and value.startswith(("figures/", "tables/"))
            assert value is None or beside or value.startswith(("#", "data:")), (tag, name, value)
            assert not beside or (whole.parent / str(value)).is_file(), value
    assert page.having("script") == [{}] and page.having("link") == [{"rel": "icon", "href": "data:,"}]
    html = whole.read_text()
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|import\(|new (Image|Worker|WebSocket|EventSource)", html)
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert set(re.findall(r"https?://[^\s\"'<]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_ids_are_unique_and_every_reference_has_its_target(page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or ""
            assert not target.startswith("#") or target[1:] in ids
        for target in re.findall(r"url\(#([^)]+)\)", " ".join(v or "" for v in attributes.values())):
            assert target in ids


def test_figures_have_words_and_tables_have_captions_and_headers(page: Page) -> None:
    figures = [a for a in page.having("svg") if a.get("class") != "swatch"]
    assert len(figures) == len(DRAWN)
    assert all(a["role"] == "img" and re.search(r"\d", a["aria-label"] or "") for a in figures)
    assert len({a["aria-label"] for a in figures}) == len(figures)
    assert all(a["alt"] for a in page.having("img"))
    assert len(page.having("table")) == len(page.having("caption")) > 10
    assert all(a.get("scope") for a in page.having("th"))


def test_headings_are_in_order(page: Page, old: Page) -> None:
    for levels in (page.headings(), old.headings()):
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_section_is_listed_and_there(page: Page) -> None:
    sections = [a["id"] for a in page.having("section") if "id" in a]
    assert page.contents() == sections and len(sections) == 15
    assert "skip" in page.having("a")[0].values()


def test_every_figure_links_its_files(page: Page) -> None:
    links = [a["href"] for a in page.having("a")]
    for name in DRAWN:
        assert {f"figures/{name}.png", f"figures/{name}.svg"} <= set(links) and f"figures/{name}.pdf" not in links
    for table in ("levels", "interpolation", "scan", "density", "landscape", "costs", "distillation", "shares"):
        assert {f"tables/{table}.csv", f"tables/{table}.json"} <= set(links)
    assert "distill-prune report digits --pdf" in page.text


def test_one_legend_is_of_every_arm(page: Page) -> None:
    boxes = [a for a in page.having("input") if "data-mark" in a]
    assert len(boxes) == 13 and all("hidden" in a for a in boxes)
    drawn = {c for a in page.having("g") for c in (a.get("class") or "").split() if c.startswith("arm") and c != "arm"}
    assert drawn == {a["data-mark"] for a in boxes}


def test_the_answer_comes_before_every_section(old: Page, page: Page) -> None:
    heads = [
        "Sparsest matching and stable tickets",
        "The sets of images",
        "Accuracy against sparsity",
        "Stability: error barriers",
        "Where stability and matching set in",
        "Curvature: the Hessian",
        "Landscape around the retrained weights",
        "Where the weights remain",
        "All levels",
        "Differences within initialisations",
        "Do the arms keep the same weights?",
        "Sources and controls",
        "What it cost",
        "Every ticket",
        "Notes",
        "Record",
    ]
    for text, answer in ((old.text, "At 98.2 % sparsity distilled IMP reaches"), (page.text, "At 98.4 % sparsity synthetic")):
        # The list of sections repeats some titles before the sections themselves; what has nothing to show is left out.
        places = [text.rindex(f" {h}") for h in heads if f" {h}" in text]
        assert len(places) >= 12
        assert text.index(answer) < places[0] and places == sorted(places)


def test_numbers_on_the_page_are_those_of_the_summary(old: Page) -> None:
    study = reference.study()
    row = next(r for r in study.summary["rows"] if r["arm"] == "distilled" and r["level"] == 9)
    accuracy = row["accuracy"]
    shown = f"98.2 3 {100 * accuracy['mean']:.1f} {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"
    assert shown in old.text
    assert "With 3 initialisations the smallest attainable p-value is 0.25." in old.text
    assert "Dense, shared by all arms" in old.text
    assert old.section("All levels", "Differences within initialisations").count("0 (dense)") == 1


def test_a_scan_shows_its_first_step_outside_its_own_section(page: Page) -> None:
    levels = page.section("All levels", "Differences within initialisations")
    assert "random real subset" in levels and "k = 100it" not in levels and "Dense, shared by all arms" in levels
    assert "synthetic, k = 2ep" in page.section("Differences within initialisations", "Do the arms keep the same weights?")
    assert "k = 2ep" in page.section("Where stability and matching set in: the rewinding step", "Curvature: the Hessian")


def test_data_are_named_with_their_counts(old: Page) -> None:
    assert "Data: Digits, 1,293 train, 144 validation, 360 test examples of 1 × 8 × 8" in old.text


def test_dense_rows_that_differ_are_all_shown() -> None:
    study = small()
    study.summary["rows"][0]["accuracy"] = reference.estimate([0.5, 0.6, 0.7])
    text = laid_out(study).text
    assert "shared by all arms" not in text and text.count("0 (dense)") == 2


def test_tables_keep_every_digit_and_part(whole: Path) -> None:
    row = next(csv.DictReader((whole.parent / "tables" / "levels.csv").open()))
    study = rich(seeds=2, levels=3)
    first = study.summary["rows"][0]
    for part in ("mean", "sd", "se", "low", "high"):
        assert float(row[f"accuracy_{part}"]) == first["accuracy"][part]
    assert row["iou_mean"] == "" and "iou" not in row
    curve = next(csv.DictReader((whole.parent / "tables" / "interpolation.csv").open()))
    assert float(curve["alpha"]) == 0 and float(curve["test_error"]) == study.curves[0]["test_error"][0]


def test_numbers_that_json_lacks_become_null() -> None:
    study = small(layers=[{"arm": "real", "level": 1, "layer": "a", "remaining": float("nan"), "total": np.float32(2.0)}])
    (record,) = tables(study)["layers"]
    assert record["remaining"] is None and record["total"] == 2.0
    assert to_csv([record]) == "arm,level,layer,remaining,total\nreal,1,a,,2.0\n"


def test_what_was_not_measured_is_said_in_one_line_with_what_asks_for_it() -> None:
    page = laid_out(small(**NOTHING, missing=[{"stage": "compare", "label": "spectrum", "key": "0" * 64}]))
    line = page.text[page.text.index("Not measured yet, or not asked for: ") :]
    for analysis in WHAT:
        assert f"{WHAT[analysis]} --set compare.{analysis}={{}}" in line, analysis
    assert "several rewinding steps --set prune.scan=[100it,2ep]" in line
    assert page.contents() == ["answer", "notes", "record"]
    # Each option asks for what it says.
    for analysis in set(WHAT) - {"accuracy", "connectivity"}:
        assert analysis in tiny.pipeline(f"compare.{analysis}={{}}").compare
    line = laid_out(small(**NOTHING, copies=1)).text
    ask = "--set retrain.copies=2 --set compare.connectivity={}"
    assert f"error barriers between copies (needs 2 copies of each ticket) {ask}" in line and "accuracy --set compare" in line
    assert tiny.pipeline("retrain.copies=2", "compare.connectivity={}").compare["connectivity"]
    study = small()
    for record in (*study.units, *study.summary["rows"]):
        for name in ("trace", "trace_per_weight"):
            record[name] = None
    said = laid_out(study)
    assert not any(str(a.get("aria-label")).startswith(("trace:", "trace_per_weight:")) for a in said.having("svg"))
    line = said.text[said.text.index("Not measured: ") :]
    assert "Hessian trace --set" not in line and "Hessian trace, raw; Hessian trace per surviving weight" in line


def test_one_initialisation_has_no_interval() -> None:
    text = laid_out(small(seeds=1)).text
    assert "One initialisation stands behind every number" in text
    assert "no interval" in text and "not decidable" in text


def test_text_from_outside_is_escaped() -> None:
    study = small(title="<script>alert(1)</script>", question="a & b", config_text="x: '<b>'")
    study.summary["arms"][1]["label"] = '"$x_1$ <i>&'
    study.tickets = [{"arm": "<b>", "label": "</script><b>", "seed": 0, "level": 0, "sparsity": 0.0, "key": "k"}]
    html = reference.html_of(study)
    assert html.count("<script") == html.count("</script") == 1
    assert "&lt;script&gt;alert" in html and "a &amp; b" in html and "<b>" not in html
    assert '"$x_1$ <i>&' in Page(html).text
