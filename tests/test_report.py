"""The report: what a reader sees, what stands in the files, and what happens when something is missing."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_report as reference
from PIL import Image

from distill_prune.errors import UserError
from distill_prune.report import FIGURES, TABLES, style, write
from distill_prune.report.tables import tables, to_csv

VOID = {"meta", "link", "br", "img", "path", "use", "line", "rect", "circle"}


class Page(HTMLParser):
    """Tags, attributes that fetch, visible text and repeated ids; fails on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole study of ten levels, five arms and three seeds."""
    return write(reference.study(), tmp_path_factory.mktemp("whole"))


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
    assert {p.name for p in (out / "figures").glob("*.svg")} == {f"{n}.svg" for n in FIGURES}
    assert {p.name for p in (out / "figures").glob("*.png")} == {f"{n}.png" for n in (*FIGURES, "synthetic")}
    assert {p.stem for p in (out / "tables").iterdir()} == set(TABLES) - {"missing"}
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
    assert page.having("script") == []
    html = whole.read_text()
    assert "@import" not in html
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
    assert len(figures) == len(FIGURES)
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 30 for a in figures)
    assert len({a["aria-label"] for a in figures}) == len(figures)
    assert all(a["alt"] for a in page.having("img"))
    assert len(page.having("table")) == len(page.having("caption")) > 4
    assert all(a.get("scope") for a in page.having("th"))


def test_the_answer_comes_before_every_section(page: Page) -> None:
    answer = page.text.index("At 98.2 % sparsity distilled IMP reaches")
    heads = [
        "The synthetic images",
        "Accuracy against sparsity",
        "Stability: error barriers",
        "Curvature: Hessian trace",
        "Where the weights remain",
        "All levels",
        "Differences within initialisations",
        "What it cost",
        "Do the arms keep the same weights?",
        "Notes",
        "Record",
    ]
    # The list of sections repeats some titles before the sections themselves.
    places = [page.text.rindex(f" {h}") for h in heads]
    assert answer < places[0] and places == sorted(places)


def test_numbers_on_the_page_are_those_of_the_summary(page: Page) -> None:
    study = reference.study()
    row = next(r for r in study.summary["rows"] if r["arm"] == "distilled" and r["level"] == 9)
    accuracy = row["accuracy"]
    shown = f"98.2 3 {100 * accuracy['mean']:.1f} {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"
    assert shown in page.text
    assert "With 3 initialisations the smallest attainable p-value is 0.25." in page.text
    assert "Dense, shared by all arms" in page.text
    assert page.text.count("0 (dense)") == 1


def test_data_are_named_with_their_counts(page: Page) -> None:
    assert "Data: Digits, 1,293 train, 144 validation, 360 test examples of 1 × 8 × 8" in page.text


def test_a_unit_without_its_ticket_is_left_out(tmp_path: Path) -> None:
    study = small(summary=None, curves=[], layers=[], distillation=None)
    for unit in study.units[1:]:
        del unit["sparsity"]
    write(study, tmp_path)
    assert (tmp_path / "figures" / "accuracy.svg").exists()
    assert len(list(csv.DictReader((tmp_path / "tables" / "runs.csv").open()))) == len(study.units)


def test_dense_rows_that_differ_are_all_shown(tmp_path: Path) -> None:
    study = small()
    study.summary["rows"][0]["accuracy"] = reference.estimate([0.5, 0.6, 0.7])
    text = Page(write(study, tmp_path).read_text()).text
    assert "shared by all arms" not in text and text.count("0 (dense)") == 2


def test_tables_keep_every_digit_and_part(whole: Path) -> None:
    row = next(csv.DictReader((whole.parent / "tables" / "levels.csv").open()))
    first = reference.study().summary["rows"][0]
    for part in ("mean", "sd", "se", "low", "high"):
        assert float(row[f"accuracy_{part}"]) == first["accuracy"][part]
    assert row["iou_mean"] == "" and "iou" not in row
    curve = next(csv.DictReader((whole.parent / "tables" / "interpolation.csv").open()))
    assert float(curve["alpha"]) == 0 and float(curve["test_error"]) == reference.study().curves[0]["test_error"][0]


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


def test_an_empty_study_is_a_page_too(tmp_path: Path) -> None:
    study = small(
        summary=None,
        units=[],
        curves=[],
        layers=[],
        synthetic=None,
        synthetic_labels=[],
        evaluations=[],
        distillation=None,
        provenance=[],
        versions={},
        sets=[],
        data={},
    )
    text = Page(write(study, tmp_path).read_text()).text
    assert text.count("Not measured: the pipeline file does not ask for it.") >= 8
    assert list((tmp_path / "figures").glob("*")) == [] if (tmp_path / "figures").exists() else True


def test_what_was_not_measured_is_said_not_drawn(tmp_path: Path) -> None:
    study = small()
    for record in (*study.units, *study.summary["rows"]):
        for name in ("trace", "trace_per_weight", "trace_invariant"):
            record[name] = None
    text = Page(write(study, tmp_path).read_text()).text
    section = text[text.rindex("Curvature: Hessian trace") : text.rindex("Where the weights remain")]
    assert section.split("trace", 1)[1].strip() == "Not measured: the pipeline file does not ask for it."
    assert not (tmp_path / "figures" / "trace.svg").exists()


def test_one_initialisation_has_no_interval(tmp_path: Path) -> None:
    text = Page(write(small(seeds=1), tmp_path).read_text()).text
    assert "One initialisation stands behind every number" in text
    assert "no interval" in text and "not decidable" in text


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    study = small(title="<script>alert(1)</script>", question="a & b", config_text="x: '<b>'")
    study.summary["arms"][1]["label"] = '"$x_1$ <i>&'
    html = write(study, tmp_path).read_text()
    assert "<script" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert '"$x_1$ <i>&' in Page(html).text


def test_the_same_study_gives_equal_bytes(whole: Path, tmp_path: Path) -> None:
    again = write(reference.study(), tmp_path)
    for path in whole.parent.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again.parent / path.relative_to(whole.parent)).read_bytes(), path.name


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


def test_arms_are_told_apart_and_keep_their_look() -> None:
    looks = style.arms(reference.study())
    assert len({(a.color, a.marker, str(a.dash)) for a in looks}) == len({a.color for a in looks}) == 5
    assert looks[0].color == style._REAL and looks[1].color == style._COLORS[0]
    fewer = style.arms(small())
    assert fewer == looks[:2]
