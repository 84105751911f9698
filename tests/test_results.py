"""docs/results.md is what its command makes of the records beside it, and claims are judged by figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import claims  # noqa: E402
import results  # noqa: E402


def test_the_page_is_what_the_records_make():
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results.page(), "run python bench/results.py"


def test_every_claim_has_its_pipeline():
    assert all((ROOT / "pipelines" / c.pipeline).exists() for c in claims.CLAIMS)
    names = {c.what for c in claims.CLAIMS}
    assert len(names) == len(claims.CLAIMS)


def sets(synthetic: float, subset: float) -> dict:
    made = [{"set": n, "accuracy": {"mean": m}} for n, m in (("synthetic", synthetic), ("subset", subset))]
    return {"evaluations": made}


@pytest.mark.parametrize(("gap", "verdict"), [(0.15, True), (0.14, False)])
def test_a_gap_between_sets_is_the_mean_over_records(gap, verdict):
    ours, holds = claims.beats("synthetic", "subset", 14.9)
    records = [sets(0.3 + gap, 0.3), sets(0.4 + gap, 0.4)]
    assert holds(records) is verdict
    assert ours(records).endswith(f"{100 * gap:.1f} ± 0.0 points (n = 2)")


def study(barriers: dict[str, float], **row) -> dict:
    def one(arm, sparsity, barrier):
        return {"arm": arm, "sparsity": sparsity, "n": 3, "barrier_test": {"mean": barrier}, **row}

    return {"summary": {"rows": [one("real", 0.0, barriers["dense"]), *(one(a, 0.9, b) for a, b in barriers.items())]}}


def test_the_stablest_lies_below_all_others():
    ours, holds = claims.stablest("synthetic", ("real",), 0.893)
    assert holds([study({"dense": 0.09, "synthetic": 0.01, "real": 0.02})])
    assert not holds([study({"dense": 0.09, "synthetic": 0.03, "real": 0.02})])
    assert not holds([study({"dense": 0.02, "synthetic": 0.03, "real": 0.04})])
    told = ours([study({"dense": 0.09, "synthetic": 0.03, "real": 0.02})])
    assert "dense 9.0, synthetic 3.0, real 2.0 points (n = 3)" in told


def test_accuracies_lie_within_points():
    ours, holds = claims.within("real", {0.9: 80.0}, 1.5)
    near, far = (study({"dense": 0, "real": 0}, accuracy={"mean": a, "sd": 0.01}) for a in (0.812, 0.784))
    assert holds([near]) and not holds([far])
    assert ours([near]) == "81.2 ± 1.0 %, n = 3"


def test_what_was_not_run_says_so():
    assert claims.table({}).count("| not yet run |") == len(claims.CLAIMS)


def moved(gaps: dict[tuple[str, str | None], float]) -> dict:
    rows = [
        {"source": s, "target": t, "own": False, "level": 5, "to_own": {"mean": g, "low": None, "high": None, "n": 3}}
        for (s, t), g in gaps.items()
    ]
    rows += [{"source": "sst2", "target": None, "own": True, "level": 5, "to_own": None}, rows[0] | {"level": 1}]
    arms = [{"name": "sst2"}, {"name": "cola"}, {"name": "one_shot", "criterion": "initial_magnitude"}]
    return {"summary": {"transfer": rows, "arms": arms}}


def test_an_own_ticket_is_the_best_where_all_others_lie_below():
    ours, holds = claims.own_task_is_best()
    below = {("sst2", "cola"): -0.1, ("cola", None): -0.02}
    assert holds([moved(below)]) and not holds([moved({**below, ("cola", None): 0.0})])
    assert holds([moved({**below, ("one_shot", "cola"): 0.1})]), "a mask that knows no task is no task's"
    assert ours([moved(below)]).endswith("sst2 on cola -10.0, cola on the first task -2.0 (n = 3)")


def test_a_ticket_is_universal_where_no_interval_lies_below_an_own_ticket():
    ours, holds = claims.universal("mlm")

    def record(mean: float, high: float | None) -> dict:
        found = moved({("mlm", "cola"): mean, ("mlm", None): 0.01, ("sst2", "cola"): -0.2})
        for r in found["summary"]["transfer"]:
            if r["to_own"]:
                r["to_own"]["high"] = high if r["target"] == "cola" else 0.02
        return found

    assert holds([record(-0.01, 0.01)]) and not holds([record(-0.02, -0.01)]), "only its own rows count"
    assert holds([record(-0.01, None)]) is None, "one initialisation decides nothing"
    assert ours([record(-0.01, 0.01)]) == (
        "score less that of the task's own ticket, in points: cola -1.0, the first task +1.0 (n = 3)"
    )


def rated(**rates: tuple[float, str]) -> dict:
    rows = [
        {"arm": a, "sparsity": s, "n": 3, "accuracy": {"mean": m, "sd": 0.01}, "matching": v}
        for a, (m, v) in rates.items()
        for s in (0.0, 0.6)
    ]
    return {"summary": {"rows": rows}}


def test_only_the_ticket_is_matching():
    ours, holds = claims.matching_alone("real", ("random",), 0.6)
    assert holds([rated(real=(0.9, "yes"), random=(0.8, "no"))])
    assert not holds([rated(real=(0.9, "yes"), random=(0.8, "yes"))])
    assert not holds([rated(real=(0.9, "no"), random=(0.8, "no"))])
    told = ours([rated(real=(0.9, "yes"), random=(0.8, "no"))])
    assert told.endswith("dense 90.0 ± 1.0, real 90.0 ± 1.0 (matching: yes), random 80.0 ± 1.0 (matching: no) (n = 3)")


def test_a_control_is_ahead_where_every_other_lies_below():
    ours, holds = claims.ahead("distilled", ("sentences", "one_shot"), 0.6)

    def record(sentences: float, one_shot: float) -> dict:
        gaps = {"sentences": sentences, "one_shot": one_shot}
        rows = [{"arm": a, "level": s, "sparsity": 0.3 * s} for a in ("distilled", *gaps) for s in (0, 1, 2)]
        paired = [
            {
                "arm": a,
                "versus": "distilled",
                "level": level,
                "metric": metric,
                "difference": {"mean": -gap if level == 1 else gap, "low": gap - 0.01, "high": gap + 0.01, "n": 6},
            }
            for a, gap in gaps.items()
            for level in (1, 2)
            for metric in ("accuracy", "barrier_test")
        ]
        return {"summary": {"rows": rows, "paired": paired}}

    assert holds([record(-0.03, -0.1)])
    assert not holds([record(0.01, -0.1)]) and not holds([record(-0.03, 0.0)])
    assert ours([record(-0.03, -0.1)]) == (
        "accuracy less that of distilled, in points: sentences -3.0 [-4.0, -2.0], one_shot -10.0 [-11.0, -9.0] (n = 6)"
    )
