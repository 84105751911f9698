"""The report: what a reader sees, what stands in the files, and what happens when something is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_report as reference
from PIL import Image
from reference_report import Page, laid_out
from reference_report_rich import rich

from distill_prune import report
from distill_prune.errors import UserError
from distill_prune.report import FIGURES, TABLES, style, write
from distill_prune.report.tables import tables, to_csv

# A figure of each kind: tests/test_report_figures.py draws them all.
DRAWN = ("distillation", "accuracy", "interpolation", "scan", "density", "landscape_copies_test_error", "costs", "overlap")


def only(patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Leave these entries in the table of figures, and draw coarse PNGs, which is quicker."""
    for name in FIGURES.keys() - set(names):
        patch.delitem(FIGURES, name)
    patch.setitem(style.RC, "savefig.dpi", 40)


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


def small(**changes: Any) -> Any:
    return reference.study(levels=3, seeds=changes.pop("seeds", 3), arms=2, **changes)


def bare(**changes: Any) -> Any:
    """A study with one figure and few tables: quick to write."""
    return small(**{"summary": None, "units": [], "curves": [], "layers": [], **changes})


def test_every_figure_and_table_is_written_in_both_formats(whole: Path) -> None:
    out = whole.parent
    assert {p.name for p in (out / "figures").glob("*.svg")} == {f"{n}.svg" for n in DRAWN}
    assert {p.name for p in (out / "figures").glob("*.png")} == {f"{n}.png" for n in (*DRAWN, "synthetic")}
    assert {p.stem for p in (out / "tables").iterdir()} == set(TABLES) - {"missing", "transfer"}
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
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
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
    figures = page.having("svg")
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
    links = [str(a["href"])[1:] for a in page.having("a")]
    assert links == sections and len(sections) == 16


def test_the_answer_comes_before_every_section(old: Page, page: Page) -> None:
    heads = [
        "How far each source carries",
        "The synthetic images",
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
        # The list of sections repeats some titles before the sections themselves.
        places = [text.rindex(f" {h}") for h in heads]
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


def test_a_unit_without_its_ticket_is_left_out(tmp_path: Path) -> None:
    study = small(summary=None, curves=[], layers=[], distillation=None)
    for unit in study.units[1:]:
        del unit["sparsity"]
    write(study, tmp_path)
    assert (tmp_path / "figures" / "accuracy.svg").exists()
    assert len(list(csv.DictReader((tmp_path / "tables" / "runs.csv").open()))) == len(study.units)


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


def test_an_unfinished_study_says_so_and_draws_what_there_is(tmp_path: Path) -> None:
    missing = [{"stage": "compare", "label": f"curvature of seed {i}", "key": f"{i:064d}"} for i in range(2)]
    missing.append({"stage": "retrain", "label": "copy 1", "key": "f" * 64})
    study = small(summary=None, missing=missing, synthetic=None, synthetic_labels=[], evaluations=[], distillation=None)
    path = write(study, tmp_path)
    text = Page(path.read_text()).text
    assert "This study is not finished. 3 artifacts are missing ( 2 compare, 1 retrain )" in text.replace("(2", "( 2").replace(
        "retrain)", "retrain )"
    )
    assert text.index("not finished") < text.index("No answer yet") < text.index("Accuracy against sparsity")
    assert "curvature of seed 1" in text
    assert "Not measured yet" in text
    assert (tmp_path / "figures" / "accuracy.png").exists() and not (tmp_path / "figures" / "costs.png").exists()


NOTHING: dict[str, Any] = {
    "summary": None,
    "units": [],
    "curves": [],
    "layers": [],
    "synthetic": None,
    "synthetic_labels": [],
    "evaluations": [],
    "rankings": [],
    "distillation": None,
    "provenance": [],
    "versions": {},
    "sets": [],
    "data": {},
}


def test_an_empty_study_is_a_page_too(tmp_path: Path) -> None:
    page = Page(write(small(**NOTHING), tmp_path).read_text())
    assert page.text.count("Not measured: the pipeline file does not ask for it.") >= 20
    assert page.headings().count(2) == 17 and page.having("svg") == []
    assert not (tmp_path / "figures").exists()


def test_every_section_of_an_empty_study_says_why_it_is_empty() -> None:
    text = laid_out(small(**NOTHING, missing=[{"stage": "compare", "label": "spectrum", "key": "0" * 64}])).text
    for what in (
        "How far each source is matching and stable has not been summarised.",
        "Disagreement and distance of the copies.",
        "Curves between copies.",
        "Barriers layer by layer.",
        "Barriers between levels and between arms.",
        "One rewinding step only, no scan.",
        "Trace by layer.",
        "Leading eigenvalues and the diagonal.",
        "Distributions of the diagonal.",
        "The density of the spectrum.",
        "Surfaces of loss and error.",
        "No arms have been summarised.",
        "No ticket has been retrained.",
    ):
        assert f"{what} Not measured yet" in text, what


def test_what_was_not_measured_is_said_not_drawn() -> None:
    study = small()
    for record in (*study.units, *study.summary["rows"]):
        for name in ("trace", "trace_per_weight"):
            record[name] = None
    page = laid_out(study)
    trace = page.section("Curvature: the Hessian", "Leading eigenvalues and diagonal")
    assert "examples. Trace Not measured: the pipeline file does not ask for it." in trace
    assert not any(str(a["aria-label"]).startswith(("trace:", "trace_per_weight:")) for a in page.having("svg"))
    for record in (*study.units, *study.summary["rows"]):
        record["trace_per_weight"] = record["weight_norm"]
    said = laid_out(study).section("Curvature: the Hessian", "Leading eigenvalues and diagonal")
    assert "Not shown: Hessian trace, raw. Not measured" in said


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


def test_the_same_study_gives_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, ("accuracy", "landscape_copies_test_error"))
    pages = [write(rich(seeds=2, levels=2), tmp_path / side) for side in "ab"]
    written = [p for p in pages[0].parent.rglob("*") if p.is_file()]
    assert len(written) > 40
    for path in written:
        assert path.read_bytes() == (pages[1].parent / path.relative_to(pages[0].parent)).read_bytes(), path.name


def test_writing_again_removes_what_is_stale(tmp_path: Path) -> None:
    write(bare(), tmp_path)
    (tmp_path / "figures" / "mine.txt").write_text("kept")
    assert (tmp_path / "figures" / "distillation.svg").exists()
    write(bare(distillation=None), tmp_path)
    assert not (tmp_path / "figures" / "distillation.svg").exists()
    assert (tmp_path / "figures" / "mine.txt").read_text() == "kept"


def test_a_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(bare(), tmp_path).read_bytes()
    real, calls = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        calls.append(self)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        UserError, match=r"the report cannot be written to .*\n.*No space left(.|\n)*name another folder with -o"
    ):
        write(bare(title="new"), tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_bytes() == old
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "figures", "tables"}


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"the report cannot be written to .*out"):
        write(bare(), tmp_path / "out")


def test_a_report_is_made_again_when_a_part_of_the_page_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.copytree(Path(report.__file__).parent, tmp_path / "report", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(report, "__file__", str(room / "__init__.py"))
    first = report.fingerprint("a")
    assert first == report.fingerprint("a") != report.fingerprint("b")
    part = next((room / "parts").iterdir())
    part.write_text(part.read_text() + " ")
    assert report.fingerprint("a") != first


PROBE = """<script>
const table = document.getElementById("ticket-table"), heads = [...table.tHead.rows[0].cells], said = [];
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const at = heads.findIndex((head) => head.textContent === "Largest Hessian eigenvalue (nats)");
const column = () => shown().map((row) => row.cells[at].textContent).join(" ");
const by = (i) => heads[i].querySelector("button").click();
by(at); said.push(column(), heads[at].getAttribute("aria-sort"));
by(at); said.push(column(), heads[at].getAttribute("aria-sort"));
by(0); said.push(shown()[0].cells[0].textContent, heads[at].getAttribute("aria-sort"));
const text = document.getElementById("ticket-text"), arm = document.getElementById("ticket-arm");
text.value = "BETA 10.0"; text.dispatchEvent(new Event("input"));
said.push(shown().length, document.getElementById("ticket-count").textContent);
text.value = ""; arm.value = "a"; arm.dispatchEvent(new Event("change"));
said.push(document.getElementById("ticket-count").textContent, document.getElementById("ticket-tools").hidden);
document.title = "PROBE" + JSON.stringify(said) + "END";
</script></body>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_table_of_tickets_sorts_and_filters(tmp_path: Path) -> None:
    tops = {("b", 0): 9.0, ("b", 1): 10.0, ("a", 0): None, ("a", 1): -1.5e-5}
    tickets = [
        {"arm": arm, "label": {"a": "alpha", "b": "Beta"}[arm], "seed": seed, "level": 1, "sparsity": 0.5, "key": "k" * 64}
        | {"top_eigenvalue": top, "k": "0it", "remaining": 10}
        for (arm, seed), top in tops.items()
    ]
    html = reference.html_of(small(**NOTHING, tickets=tickets))
    (tmp_path / "page.html").write_text(html.replace("</body>", PROBE))
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    )
    done = subprocess.run(
        ["chromium", *flags, "--dump-dom", (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr
    found = re.search("<title>PROBE(.*?)END</title>", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    assert json.loads(found.group(1)) == [
        *("−1.50 × 10⁻⁵ 9.00 10.0 –", "ascending"),
        *("10.0 9.00 −1.50 × 10⁻⁵ –", "descending"),
        *("alpha", "none"),
        *(1, "1 of 4 tickets"),
        *("2 of 4 tickets", False),
    ]
