"""Text from anywhere in labels, titles and names of classes: on the page, in figures and tables, on a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import reference_report as reference
import tiny
import yaml
from reference_report import only, study

from distill_prune.analyze.records import labels_of
from distill_prune.data import folder
from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.letters import look_alike, printable, printable_lines
from distill_prune.plan.config import parse
from distill_prune.plan.plain import parse_yaml
from distill_prune.report import figures, fonts, write
from distill_prune.report.tables import tables, to_csv, to_json

ODD = {
    "underscores": ("_hidden", "_hidden", "__", "_", "_child0"),
    "signs": ("$x^2$", "100 %s {0}", "back\\slash \\alpha", "<b>&amp;</b>", "$broken"),
    "scripts": ("日本語", "عربي", "🎉 👩‍👩‍👧", "cafe\u0301", "caf\u00e9"),
    "controls": ("\u202eright to left", "two\nlines", "\x1b[31mred", "caf" + os.fsdecode(b"\xe9"), "\ufeff"),
    "lengths": ("x" * 5000, "", " ", "dense", "dense"),
}


def odd(labels: tuple[str, ...]) -> SimpleNamespace:
    made: Any = study(levels=3, seeds=2, arms=5)
    for arm, label in zip(made.summary["arms"], labels, strict=True):
        arm["label"] = label
    made.title, made.question, made.classes = labels[0], labels[1], [*labels, *labels]
    made.data["title"] = labels[2]
    return made


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["accuracy", "layers"])
def test_every_arm_has_its_line_in_a_legend(kind: str, name: str) -> None:
    made: Any = odd(ODD[kind])
    figure, _ = figures.FIGURES[name](made) or pytest.fail("no figure")
    written = [text.get_text() for text in figure.legends[0].get_texts()]
    labels = set(labels_of(made.summary["arms"]).values())
    assert len(labels) == 5 and labels <= set(written)
    assert len({unicodedata.normalize("NFC", label) for label in labels}) == 5


@pytest.mark.parametrize("kind", ODD)
def test_a_report_of_any_text(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = odd(ODD[kind])
    only(monkeypatch, ("accuracy", "costs"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write(made, tmp_path)
    html = page.read_text(encoding="utf-8")
    parsed = reference.Page(html)
    for label in labels_of(made.summary["arms"]).values():
        assert " ".join(label.split()) in parsed.text
    assert not {"\x1b", "\u202e", "\ufeff"} & set(html)
    ElementTree.parse(tmp_path / "figures" / "accuracy.svg")
    for table in (tmp_path / "tables").glob("*.json"):
        json.loads(table.read_text(encoding="utf-8"))


def test_tables_hold_any_text_as_it_is() -> None:
    text = 'a "b", \n\x1b\u202e 日本 🎉'
    assert json.loads(to_json([{"label": text}])) == [{"label": text}]
    assert list(csv.DictReader(io.StringIO(to_csv([{"label": text}])))) == [{"label": text}]
    assert tables(odd(ODD["controls"]))


def test_letters_that_no_font_has_bring_no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fonts.families("plain − ± é") == []
    monkeypatch.setattr(fonts, "_installed", lambda: [("A", "a.ttf"), ("B", "b.ttf"), ("C", "c.ttf")])
    have = {"a.ttf": "x", "b.ttf": "日", "c.ttf": "日本"}
    monkeypatch.setattr(fonts, "_letters", lambda file: frozenset(map(ord, have.get(Path(file).name, "é"))))
    assert fonts.families("é 日本") == ["B", "C"] and fonts.families("é日") == ["B"]


def test_labels_that_look_the_same_come_with_their_names() -> None:
    arms: Any = [
        {"name": "a", "label": "x"},
        {"name": "b", "label": "x\u200b"},
        {"name": "c"},
        {"name": "d", "label": "\u200b"},
    ]
    assert labels_of(arms) == {"a": "x (a)", "b": "x\u200b (b)", "c": "c", "d": "d"}


def test_printable() -> None:
    assert printable("a\tb\n\x00\u2028\u202e\ud800\uffff") == "a\\tb\\n\\x00\\u2028\\u202e\\ud800\\uffff"
    assert printable("日本 👩‍👩‍👧 é") == "日本 👩‍👩‍👧 é" and printable_lines("a\nb\r") == "a\nb\\r"
    assert look_alike(["a", "caf\u00e9", "cafe\u0301"]) == ("caf\u00e9", "cafe\u0301") and look_alike(["a", "A"]) is None


def test_a_message_cannot_act_on_the_terminal() -> None:
    error = UserError("no \x1b[2Jfile", got="a\nb\u202e")
    assert str(error) == "no \\x1b[2Jfile\n  got:      a\nb\\u202e"


@pytest.mark.parametrize("section", ["arms", "distill"])
def test_names_of_a_pipeline_that_look_alike_are_refused(section: str) -> None:
    raw: Any = parse_yaml(tiny.TINY)
    some = next(iter(raw[section].values()))
    raw[section] |= {"caf\u00e9": some, "cafe\u0301": some}
    with pytest.raises(ConfigError, match=r"caf\\xe9' and 'cafe\\u0301' look alike"):
        parse(raw, "tiny.yaml")


def test_letters_that_json_writes_as_pairs() -> None:
    assert parse_yaml(json.dumps({"title": "🎉 日本"})) == {"title": "🎉 日本"}


def test_a_nul_in_a_text_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="NUL character"):
        parse_yaml('data: {path: "a\\0b"}')


def test_a_class_whose_name_has_another_form_among_the_test_images_is_refused(tmp_path: Path) -> None:
    for part, name in (("train", "caf\u00e9"), ("train", "dog"), ("test", "cafe\u0301"), ("test", "dog")):
        (tmp_path / part / name).mkdir(parents=True)
        (tmp_path / part / name / "0.png").touch()
    with pytest.raises(DataError, match=r"(?s)look alike.*'caf\\xe9' and 'cafe\\u0301'"):
        folder.fingerprint(folder.Settings(path=str(tmp_path)))
