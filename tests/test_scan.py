"""The same arms at several rewinding steps: their order, their controls, and from which step on a verdict lasts."""

from __future__ import annotations

import pytest
from reference_summary import BARRIER, KS, arm, name_at, row_of, scan_arms, summarise, unit, units_of_scan

from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.scan import ascending, onsets, scan


def test_rows_of_a_scan_are_the_rows_of_its_arms():
    units = units_of_scan(BARRIER, dense_barrier=[0.3, 0.1, 0.01])
    numbers = summarise(units, scan_arms(*KS))
    assert [(r["arm"], r["level"], r["k"]) for r in numbers["scan"]] == [
        *((base, level, k) for base in ("real", "syn") for level in (0, 1) for k in KS),
        *(("shuffled", 0, k) for k in KS),
    ]
    row = next(r for r in numbers["scan"] if (r["arm"], r["level"], r["k"]) == ("syn", 1, "50it"))
    twin = row_of(numbers, "syn@50it", 1)
    assert row == {"arm": "syn", "k": "50it", "level": 1} | {
        key: twin[key] for key in ("sparsity", "accuracy", "barrier_test", "matching", "stable")
    }
    assert row["accuracy"] == estimate([0.95, 0.951, 0.952]) and row["stable"] == "yes"


def test_onsets_are_where_stable_and_matching_begin():
    numbers = summarise(units_of_scan(BARRIER, dense_barrier=[0.3, 0.1, 0.01]), scan_arms(*KS))
    found = {(o["arm"], o["level"]): (o["stable_at"], o["matching_at"]) for o in numbers["onset"]}
    # Dense networks are shared: they stand there once.
    assert found == {("real", 0): ("50it", "0it"), ("real", 1): ("10it", "10it"), ("syn", 1): ("50it", "0it")}
    assert all(o["ks"] == list(KS) for o in numbers["onset"])
    assert next(o for o in numbers["onset"] if o["level"])["sparsity"] == pytest.approx(0.2)


def test_tickets_with_equal_numbers_all_stand_there():
    same = {"real": BARRIER["real"], "syn": BARRIER["real"]}
    numbers = summarise(units_of_scan(same, {"real": [0.95] * 3, "syn": [0.95] * 3}), scan_arms(*KS))
    assert [o["arm"] for o in numbers["onset"] if o["level"]] == ["real", "syn"]


def test_dense_networks_that_differ_stand_there_for_each_arm():
    units = units_of_scan(BARRIER, dense_barrier=[0.3, 0.1, 0.01])
    for u in units:
        if u["arm"] == "syn@10it" and u["level"] == 0:
            u["barrier_test"] = 0.001
    found = {o["arm"]: o["stable_at"] for o in summarise(units, scan_arms(*KS))["onset"] if o["level"] == 0}
    assert found == {"real": "50it", "syn": "10it"}


@pytest.mark.parametrize(
    ("verdicts", "at"),
    [
        (["yes", "yes", "yes"], "a"),
        (["no", "yes", "yes"], "b"),
        (["yes", "no", "yes"], "c"),
        (["yes", "yes", "no"], None),
        (["no", "no", "no"], None),
        (["not measured", "yes", "yes"], "b"),
        (["yes", "not measured", "yes"], "c"),
        (["yes", "yes", "not measured"], None),
        (["yes"], "a"),
    ],
)
def test_an_onset_lasts_to_the_end(verdicts, at):
    other = ["no"] * len(verdicts)
    rows = [
        {"arm": "x", "k": k, "level": 1, "sparsity": 0.2, "accuracy": None, "barrier_test": None, "stable": v, "matching": o}
        for k, v, o in zip("abc", verdicts, other, strict=False)
    ]
    (found,) = onsets(rows)
    assert found["stable_at"] == at and found["matching_at"] is None


def test_below_three_initialisations_no_onset_of_matching():
    numbers = summarise(units_of_scan(BARRIER, seeds=range(2)), scan_arms(*KS))
    onset = next(o for o in numbers["onset"] if (o["arm"], o["level"]) == ("real", 1))
    assert onset["matching_at"] is None and onset["stable_at"] == "10it"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["0it", "10it", "50it"], ["0it", "10it", "50it"]),
        (["100it", "0it", "20it", "500it"], ["0it", "20it", "100it", "500it"]),
        (["9it", "10it", "9it"], ["9it", "10it"]),
        (["500it", "0it", "2ep", "10ep"], ["0it", "500it", "2ep", "10ep"]),
        (["2ep", "0it", "1ep"], ["0it", "1ep", "2ep"]),
        ([], []),
    ],
)
def test_steps_are_in_ascending_order(given, expected):
    assert ascending(given) == expected


def test_the_first_step_may_lie_in_the_middle():
    ks = ("10it", "0it", "50it")
    barrier = {"real": [0.05, 0.01, 0.01], "syn": [0.01, 0.05, 0.01]}  # in the order of ks
    numbers = summarise(units_of_scan(barrier, ks=ks), scan_arms(*ks))
    found = {o["arm"]: o for o in numbers["onset"] if o["level"] == 1}
    assert found["real"]["ks"] == ["0it", "10it", "50it"]
    assert found["real"]["stable_at"] == "50it" and found["syn"]["stable_at"] == "10it"


def test_without_a_scan_there_is_none():
    arms = [arm("real"), arm("syn")]
    numbers = summarise([unit(n, s, 1, accuracy=0.9) for n in ("real", "syn") for s in range(3)], arms)
    assert numbers["scan"] == [] and numbers["onset"] == []


def test_an_arm_with_a_step_of_its_own_is_no_part_of_the_scan():
    arms = [*scan_arms(*KS), arm("late")]
    units = [*units_of_scan(BARRIER), *(unit("late", s, 1, accuracy=0.9) for s in range(3))]
    numbers = summarise(units, arms)
    assert "late" not in {r["arm"] for r in numbers["scan"]} and "late" in {r["arm"] for r in numbers["rows"]}
    assert scan([arm("late")], numbers["rows"]) == []


def test_dense_networks_are_those_of_the_arms_own_step():
    units = [unit(name_at("real", k), s, 0, accuracy=0.5 + 0.1 * i + 0.01 * s) for i, k in enumerate(KS) for s in range(3)]
    units += [unit(name_at("syn", k), s, 1, accuracy=0.6 + 0.01 * s) for k in KS for s in range(3)]
    numbers = summarise(units, scan_arms(*KS))
    assert numbers["dense"]["accuracy"] == estimate([0.5, 0.51, 0.52])
    assert row_of(numbers, "syn@50it", 0)["accuracy"] == estimate([0.7, 0.71, 0.72])
    assert [row_of(numbers, name_at("syn", k), 1)["matching"] for k in KS] == ["yes", "yes", "no"]
    assert not any("Dense networks differ" in n for n in numbers["notes"])
    odd = [*units, unit("syn@10it", 0, 0, accuracy=0.1)]
    assert any("Dense networks differ" in n for n in summarise(odd, scan_arms(*KS))["notes"])


def test_overlap_is_with_the_control_of_the_same_step():
    pairs = [
        {"arm": "syn@10it", "versus": versus, "seed": s, "level": 1, "iou": iou, "chance": 0.1, "z": 1.0}
        for versus, iou in (("real@10it", 0.4), ("real", 0.7))
        for s in range(3)
    ]
    row = row_of(summarise(units_of_scan(BARRIER), scan_arms(*KS), pairs), "syn@10it", 1)
    assert row["iou"] == estimate([0.4, 0.4, 0.4])
