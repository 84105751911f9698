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
