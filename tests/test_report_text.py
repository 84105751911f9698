"""The report of a study of text and of several tasks: transfer, its own words, and what figures leave out is said."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import reference_report as reference
from reference_report import laid_out
from reference_report_rich import rich

from distill_prune.analyze import answer
from distill_prune.report import figures, style, tickets, transfer, words
from distill_prune.report.page import claims, unseen
from distill_prune.report.tables import tables, to_csv

ARMS = (
    ("sst2", "SST-2", None, None),
    ("cola", "CoLA", "cola", None),
    ("one_shot", "one-shot", None, None),
    ("sst2_cola", "SST-2 on CoLA", "cola", "sst2"),
    ("cola_sst2", "CoLA on SST-2", None, "cola"),
    ("one_shot_cola", "one-shot on CoLA", "cola", "one_shot"),
)
APART = {"sst2": -0.01, "cola": -0.05, "one_shot": -0.02, "sst2_cola": -0.12, "cola_sst2": 0.03, "one_shot_cola": -0.09}


def text(**changes: Any) -> SimpleNamespace:
    """Masks of two tasks and a one-shot mask on both tasks, three initialisations, dense and 50 %."""
    arms = [
        {"name": name, "label": label, "images": "real", "criterion": "initial_magnitude" if "one" in name else "magnitude"}
        | ({"task": task} if task else {})
        | ({"control": {"of": of, "kind": "transferred"}} if of else {})
        for name, label, task, of in ARMS
    ]
    units, moved = [], []
    for name, _, task, of in ARMS:
        base = 0.5 if task else 0.9
        score = "matthews" if task else "accuracy"
        for seed in range(3):
            for level in (0, 1):
                value = base + 0.01 * seed + (APART[name] * level)
                units.append({"arm": name, "seed": seed, "level": level, "sparsity": 0.5 * level})
                units[-1] |= {"accuracy": value, "matthews": value - 0.1, "f1": value}
        own = of is None
        to_own = (
            None
            if own
            else reference.estimate([APART[name] - (APART["cola"] if task else APART["sst2"]) + e for e in (0, 0.01)])
        )
        moved.append(
            {"source": of or name, "target": task, "own": own, "level": 1, "sparsity": 0.5, "metric": score, "to_own": to_own}
            | {
                "score": reference.estimate([base, base + 0.01]),
                "to_dense": reference.estimate([APART[name], APART[name] - 0.02]),
            }
        )

    def over(name: str, level: int, metric: str) -> dict[str, Any]:
        return reference.estimate([u[metric] for u in units if (u["arm"], u["level"]) == (name, level)])

    rows = [
        {"arm": name, "level": level, "sparsity": 0.5 * level, "n": 3, "iou": None, "chance": None}
        | {m: over(name, level, m) for m in ("accuracy", "f1", "matthews")}
        | {"matching": "yes", "stable": "not measured"}
        for name, *_ in ARMS
        for level in (0, 1)
    ]
    summary = {
        "arms": arms,
        "dense": {"accuracy": rows[0]["accuracy"]},
        "rows": rows,
        "paired": [],
        "costs": [],
        "transfer": moved,
    }
    fields = {
        "summary": {**summary, "transfer": moved, "notes": []},
        "answer": answer.Answer(answer.compare(arms, [{"barrier_test": None, **r} for r in rows], [], [], [], "sst2")),
        "title": "Transfer",
        "question": "Which mask?",
        "units": units,
        "curves": [],
        "layers": [],
        "synthetic": None,
        "synthetic_labels": [],
        "distillation": None,
        "evaluations": [],
        "rankings": [],
        "classes": ["negative", "positive"],
        "data": {"title": "glue sst2", "task": "sst2", "transform": "text", "counts": {"train": 800}, "shape": [2, 48]},
        "versus": "sst2",
        "tasks": {name: task for name, _, task, _ in ARMS},
        "tickets": [{**u, "label": u["arm"], "key": "k" * 64, "remaining": 1, "k": "0it"} for u in units],
    }
    return reference.whole({**vars(reference.study(levels=2, seeds=2, arms=2)), **fields, **changes})


def words_of(figure: Any) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def test_the_matrix_prints_its_numbers_and_frames_own_tasks() -> None:
    study = text()
    figure, alt = transfer.matrix(study) or pytest.fail("no figure")
    panel = figure.axes[0]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["on sst2\n(Test accuracy)", "on cola\n(Matthews correlation)"]
    assert [t.get_text() for t in panel.get_yticklabels()] == ["SST-2", "CoLA", "one-shot"]
    cells = [t for t in words_of(figure) if re.fullmatch(r"[+−][\d.]+", t)]
    means = {n: f"{100 * (g - 0.01):+.2f}".replace("-", "−") for n, g in APART.items()}
    order = ("sst2", "sst2_cola", "cola_sst2", "cola", "one_shot", "one_shot_cola")
    assert cells == [means[n] for n in order] and sum(", n = 2" in t for t in words_of(figure)) == 6
    frames = [p.get_linewidth() > 1 for p in panel.patches]
    assert frames == [True, False, False, True, False, False]
    assert "CoLA on sst2: +2.00." in alt and "one-shot on cola: −10.00." in alt


def test_the_matrix_colours_are_about_zero_and_readable() -> None:
    from test_report_parts import _contrast

    figure, _ = transfer.matrix(text()) or pytest.fail("no figure")
    colors = ["#" + "".join(f"{round(255 * c):02x}" for c in p.get_facecolor()[:3]) for p in figure.axes[0].patches]
    assert all(_contrast(c, style.INK) >= 4.5 for c in (*colors, style.AGAINST, style.EVEN, style.FOR))
    lost, won = (tuple(int(colors[i][j : j + 2], 16) for j in (1, 3, 5)) for i in (1, 2))
    assert lost[0] > lost[2] and won[2] > won[0], "below zero is orange, above it blue"


def test_a_cell_that_was_not_measured_says_so() -> None:
    study = text()
    study.summary["transfer"] = [r for r in study.summary["transfer"] if (r["source"], r["target"]) != ("cola", None)]
    figure, _ = transfer.matrix(study) or pytest.fail("no figure")
    assert words_of(figure).count("not measured") == 1
    study.summary["transfer"] = [{**r, "to_dense": None} for r in study.summary["transfer"]]
    assert transfer.matrix(study) is None


def test_beside_the_own_ticket() -> None:
    sst2, cola, one_shot = transfer.beside_own(text())
    assert [c.own for c in sst2.cells] == [True, False] and [c.own for c in cola.cells] == [False, True]
    assert [c.own for c in one_shot.cells] == [False, False]
    assert (sst2.at_least, cola.at_least, one_shot.at_least) == ("0 of 1", "1 of 1", "0 of 1")


def test_figures_and_cards_are_of_the_main_task_alone() -> None:
    study = text()
    assert [a.name for a in style.arms(study)] == ["sst2", "one_shot", "cola_sst2"]
    assert {a.name: a.role for a in style.arms(study)} == {"sst2": "real", "one_shot": "control", "cola_sst2": "control"}
    _, alt = figures.FIGURES["accuracy"](study) or pytest.fail("no figure")
    assert "CoLA on SST-2 at 50%" in alt and "SST-2 on CoLA" not in alt
    shown = laid_out(study, ("accuracy", "matthews", "transfer"))
    head = shown.text[: shown.text.rindex(" Sparsest matching and stable tickets ")]
    assert "one-shot" in head and "on CoLA" not in head and "Stable at" not in shown.text
    levels = shown.section("All levels", "Transfer between tasks")
    assert "Dense, shared by all arms of sst2" in levels and "Dense, shared by all arms of cola" in levels
    assert "SST-2 on CoLA, on cola 50" in levels and "CoLA on SST-2 50" in levels
    assert "F1 score (%)" in levels and "Spearman" not in levels
    section = shown.section("Transfer between tasks", "Sources and controls")
    assert "Beside each task's own ticket" in section and "are of sst2 alone" in section and " own " in section
    assert "on cola Matthews correlation" in section
    assert "transfer" in shown.contents() and shown.contents() == [a["id"] for a in shown.having("section") if "id" in a]


def test_a_study_of_one_task_has_no_transfer() -> None:
    old = laid_out(reference.study(levels=2, seeds=2, arms=2), ())
    assert "Transfer between" not in old.text and all(a.get("href") != "#transfer" for a in old.having("a"))
    assert "transfer" not in tables(reference.study(levels=2, seeds=2, arms=2))


def test_the_table_of_transfer_names_its_targets() -> None:
    rows = tables(text())["transfer"]
    assert {r["target"] for r in rows} == {"sst2", "cola"}
    assert "to_dense_mean" in to_csv(rows).splitlines()[0]


def test_scores_stand_where_they_were_measured() -> None:
    made = tickets.table(text())
    assert made is not None and {"f1", "matthews"} <= {c.name for c in made.columns}
    assert not any("Spearman" in c.title for c in made.columns)
    image = laid_out(reference.study(levels=2, seeds=2, arms=2), ())
    assert "F1 score" not in image.text and "Matthews" not in image.text


def test_text_has_its_own_words() -> None:
    samples = {"made_of": "embeddings", "count": 2, "length": 16, "width": 384, "classes": [0, 1]}
    study = text(samples={**samples, "labels": [[0.75, 0.25], [0.1, 0.9]]}, sets=["distilled"])
    html = reference.html_of(study, ())
    said = reference.Page(html).text
    assert "800 train sentences of at most 48 word pieces" in said
    assert "2 samples, each 16 word embeddings of 384 numbers" in said and "1 0.75 0.25 2 0.10 0.90" in said
    assert html.count('class="bar"') == 4 and "width:75.0%" in html
    for word in ("image", "Image", "pixel", "Pixel"):
        assert word not in said, word
    assert "The sets of images" in laid_out(reference.study(levels=2, seeds=2, arms=2), ()).text


def test_sentences_of_the_data_are_no_embeddings() -> None:
    samples = {"made_of": "sentences", "count": 20, "length": 48, "width": None, "classes": [0] * 20, "labels": None}
    said = laid_out(text(samples=samples), ()).text
    assert "20 sentences of the training data, each at most 48 word pieces" in said and "Labels of the samples" not in said


def test_what_a_transferred_arm_is() -> None:
    records = {a["name"]: a for a in text().summary["arms"]}
    assert words.described(records["sst2_cola"], {"sst2": "SST-2"}) == "the mask of SST-2, found on another task"
    learned = {"name": "d", "images": "distilled", "learned": True}
    assert "on the learned samples of the set distilled" in words.described(learned, {}, "samples")
    assert words.described({"name": "s", "rewind": "none"}, {}).endswith("without rewinding, level by level")


def test_the_verdict_leads_and_the_rest_follows() -> None:
    html = reference.html_of(text(), ()).replace("\u00a0", " ")
    page = reference.Page(html)
    assert page.text.index("Inconclusive: 3 initialisations") < page.text.index("at 50.0% sparsity, n = 3")
    assert "SST-2 90.0 ± 1.0" in page.text and page.text.index("In sentences") < page.text.index("SST-2 reaches 90.0 ± 1.0")
    alone = reference.html_of(text(answer=answer.Answer("One sentence.")), ())
    assert '<p class="verdict">One sentence.</p>' in alone and 'class="plain' not in alone


# what is left out, and what is noise


def test_arms_without_a_panel_are_named() -> None:
    study = rich(seeds=1, levels=2)
    first = study.densities[0]
    names = [a.name for a in style.arms(study)]
    study.densities = [{**first, "arm": n} for n in names[:8]]
    hidden = unseen(study)["density"]
    shown = {a.label for a in style.shown_arms(study, set(names[:8]))}
    assert len(shown) == 6 and len(hidden) == 2 and not shown & set(hidden)
    said = laid_out(study, ("density", "histograms")).text
    assert f"Not shown, for room: {', '.join(hidden)}; their numbers are in the tables." in said
    assert said.count("Not shown, for room") == 1


def test_a_diagonal_that_is_largely_noise_is_said() -> None:
    study = rich(seeds=1, levels=2)
    assert "Read with care" not in laid_out(study, ("diagonal",)).text
    for d in study.diagonals:
        d["noise"] = 0.42 if (d["arm"], d["level"]) == ("synthetic", 1) else 0.1
    assert words.noisy(study) == ["synthetic at 75% sparsity (42%)"]
    assert "for synthetic at 75% sparsity (42%), at its worst" in laid_out(study, ("diagonal",)).text


# SVG inside the page


def points(path: str, relative: bool) -> list[tuple[str, float, float]]:
    """Places of a path, slowly: every number one by one."""
    found: list[tuple[str, float, float]] = []
    at, start, command, numbers = (0.0, 0.0), (0.0, 0.0), "", re.findall(r"[A-Za-z]|-?\d*\.?\d+", path)
    while numbers:
        if numbers[0].isalpha():
            command = numbers.pop(0)
        if command == "z":
            at = start
            found.append(("z", *at))
            command = ""
            continue
        many = {"m": 1, "l": 1, "q": 2, "c": 3}[command.lower()]
        ends = [(float(numbers.pop(0)), float(numbers.pop(0))) for _ in range(many)]
        if relative:
            ends = [(at[0] + x, at[1] + y) for x, y in ends]
        found += [(command.lower(), *e) for e in ends]
        at = ends[-1]
        if command.lower() == "m":
            start, command = at, "l" if relative else "L"
    return found


@pytest.mark.parametrize(
    "path",
    [
        "M 43.8 91.71 \nL 46.22 91.77 \nL 48.63 91.65 \n",
        "M 0 3 C 0.79 3 1.55 2.68 2.12 2.12 C 2.68 1.55 3 0.79 3 0 z",
        "M 1 1 L 2 1 L 2 2 z M -5.05 0.06 L -4.96 -0.04 Q 1 2 3 4",
        "M 1 1 M 2 2 L 0.5 -0.5",
    ],
)
def test_relative_paths_lead_to_the_same_places(path: str) -> None:
    short = figures._relative(path)
    old, new = points(path, False), points(short, True)
    assert [p[0] for p in old] == [p[0] for p in new] and len(short) < len(path)
    assert max(abs(a - b) for p, q in zip(old, new, strict=True) for a, b in zip(p[1:], q[1:], strict=True)) <= 0.0501


def test_other_paths_are_left_as_they_are() -> None:
    assert figures._relative("M 1 1 H 5 A 1 1 0 0 1 2 2") == "M 1 1 H 5 A 1 1 0 0 1 2 2"


def test_styles_that_repeat_become_classes() -> None:
    svg = '<svg viewBox="0 0 9 9" x="1"><g style="a: 1"/>\n <g style="a: 1"/><g style="b: 2"/><text style="c">a  b</text></svg>'
    inline = figures.Drawing("n", b"", svg, "n: 1").inline
    name = re.findall(r'class="(s[0-9a-f]{8})"', inline)
    assert len(name) == 2 and f"<style>.{name[0]}{{a: 1}}</style>" in inline
    assert inline.endswith('<g style="b: 2"/><text style="c">a  b</text></svg>') and 'style="a: 1"' not in inline


def test_a_study_without_small_sets_says_no_more_than_it_measured() -> None:
    study = text()
    page = laid_out(study, ())
    assert "Test barrier (points)" not in page.text and "Trace per weight" not in page.text, "no columns of dashes"
    assert "compare.connectivity={}" in page.text, "what was not measured is said once"
    assert "compare.evaluation" not in page.text and "compare.ranking" not in page.text, "there is no set to evaluate"
    assert "the bound of stable" not in page.text
    claim = {"arm": "one_shot", "level": 1, "claim": "accuracy of one-shot is lower (n = 6)"}
    study.summary["paired"] = [claim, {**claim, "level": 0}, {**claim, "claim": None}]
    assert claims(study) == [claim], "without a learned arm, those of all arms"
    plain = {"name": "o", "criterion": "initial_magnitude"}
    assert words.described(plain, {}) == "largest weights at initialisation, without training"
