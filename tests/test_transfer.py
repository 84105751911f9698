"""The matrix of transfers: whose masks, on which task, against what."""

from __future__ import annotations

import pytest

from distill_prune.analyze.inputs import Study
from distill_prune.analyze.summary import Settings, measure
from distill_prune.analyze.transfer import transfer

ARMS = [
    {"name": "a", "label": "", "images": "real"},
    {"name": "b", "label": "", "images": "real", "task": "B"},
    {"name": "a_on_b", "label": "", "images": "real", "task": "B", "control": {"of": "a", "kind": "transferred"}},
    {"name": "b_on_a", "label": "", "images": "real", "control": {"of": "b", "kind": "transferred"}},
]
SCORES = {  # dense, then level 3, by arm and seed
    "a": ([0.90, 0.88, 0.92], [0.89, 0.88, 0.90]),
    "b": ([0.70, 0.72, 0.71], [0.69, 0.72, 0.70]),
    "a_on_b": (None, [0.60, 0.65, 0.66]),
    "b_on_a": (None, [0.91, 0.89, 0.93]),
}


def units(metric="accuracy"):
    out = []
    for arm, (dense, pruned) in SCORES.items():
        for level, values in ((0, dense), (3, pruned)):
            for seed, value in enumerate(values or []):
                out.append({"arm": arm, "seed": seed, "level": level, "sparsity": 0.1 * level, "accuracy": 0.5, metric: value})
    return out


def cell(rows, source, target):
    (found,) = [r for r in rows if (r["source"], r["target"]) == (source, target)]
    return found


def test_cells_are_paired_differences_within_a_task():
    rows = transfer(ARMS, units())
    assert [(r["source"], r["target"], r["own"], r["level"]) for r in rows] == [
        ("a", None, True, 3),
        ("b", "B", True, 3),
        ("a", "B", False, 3),
        ("b", None, False, 3),
    ]
    moved = cell(rows, "a", "B")
    assert moved["to_dense"]["mean"] == pytest.approx(((0.60 - 0.70) + (0.65 - 0.72) + (0.66 - 0.71)) / 3)
    assert moved["to_own"]["mean"] == pytest.approx(((0.60 - 0.69) + (0.65 - 0.72) + (0.66 - 0.70)) / 3)
    assert moved["to_dense"]["n"] == 3 and moved["score"]["mean"] == pytest.approx(0.6366667)
    own = cell(rows, "a", None)
    assert own["to_own"] is None and own["to_dense"]["mean"] == pytest.approx(-0.01)
    assert cell(rows, "b", None)["to_dense"]["mean"] == pytest.approx(0.01)


def test_a_task_is_scored_by_what_its_arms_say_where_that_was_measured():
    arms = [a | ({"score": "matthews"} if a.get("task") else {}) for a in ARMS]
    rows = transfer(arms, units("matthews"))
    assert {r["target"]: r["metric"] for r in rows} == {None: "accuracy", "B": "matthews"}
    assert cell(rows, "a", "B")["to_dense"]["mean"] == pytest.approx(-0.0733333, abs=1e-6)
    assert cell(rows, "a", None)["to_dense"]["mean"] == 0.0  # accuracies are all 0.5
    assert {r["metric"] for r in transfer(arms, units())} == {"accuracy"}


def test_masks_that_know_no_task_are_no_ones_own():
    plain = {"name": "plain", "label": "", "images": "real"}
    moved = {**plain, "name": "plain_on_b", "task": "B", "control": {"of": "plain", "kind": "transferred"}}
    more = [
        {"arm": n, "seed": s, "level": 3, "sparsity": 0.3, "accuracy": 0.7} for n in ("plain", "plain_on_b") for s in range(3)
    ]
    rows = transfer([*ARMS, plain, moved], units() + more)
    mine, theirs = cell(rows, "plain", None), cell(rows, "plain", "B")
    assert not mine["own"] and not theirs["own"]
    assert mine["to_own"]["mean"] == pytest.approx(0.7 - 0.89) and theirs["to_own"]["mean"] == pytest.approx(-0.01 / 3)


def test_a_task_has_its_own_ticket_where_that_goes_nowhere():
    """b is found on B and trained on nothing else; a is held to it all the same."""
    arms = [a for a in ARMS if a["name"] != "b_on_a"]
    rows = transfer(arms, [u for u in units() if u["arm"] != "b_on_a"])
    assert cell(rows, "b", "B")["own"] and cell(rows, "b", "B")["to_own"] is None
    assert cell(rows, "a", "B")["to_own"]["mean"] == pytest.approx(((0.60 - 0.69) + (0.65 - 0.72) + (0.66 - 0.70)) / 3)


def test_without_transferred_arms_there_is_no_matrix():
    assert transfer(ARMS[:2], units()) == []


def test_the_summary_keeps_tasks_apart():
    found = measure(Settings(versus="a"), Study(units(), ARMS, [], {})).numbers
    rows = {(r["arm"], r["level"]): r for r in found["rows"]}
    assert rows["a_on_b", 0]["accuracy"]["mean"] == pytest.approx(0.71)  # the dense networks of its own task
    assert rows["b_on_a", 0]["accuracy"]["mean"] == pytest.approx(0.90)
    assert rows["b_on_a", 3]["matching"] == "yes" and rows["a_on_b", 3]["matching"] == "no"
    against = {(p["arm"], p["versus"]) for p in found["paired"]}
    assert against == {("b_on_a", "a"), ("a_on_b", "b")}
    assert len(found["transfer"]) == 4
    assert found["dense"]["accuracy"]["mean"] == pytest.approx(0.90)
