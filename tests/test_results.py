"""The pages of results are what their command makes of the records, and claims are judged by one standard."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from distill_prune.analyze.estimate import estimate

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import claim_table  # noqa: E402
import claims  # noqa: E402
import masks  # noqa: E402
import regimes  # noqa: E402
import results  # noqa: E402
import verdicts  # noqa: E402
from spent import Spent  # noqa: E402
from verdicts import FEW, NOT_SHOWN, OPPOSITE, SHOWN, Part  # noqa: E402

SIX = (0.01, 0.02, 0.015, 0.012, 0.018, 0.014)


def test_the_pages_are_what_the_records_make():
    pages = results.pages()
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, "run python bench/results.py"
    assert {p for p in pages if p.parent == results.FOLDER} == {*results.FOLDER.glob("*.md")}, "a page without its record"


def test_every_claim_has_its_pipeline():
    assert all((ROOT / "pipelines" / c.pipeline).exists() for c in claims.CLAIMS)
    assert len({c.what for c in claims.CLAIMS}) == len(claims.CLAIMS)


def test_what_was_not_run_says_so():
    assert claim_table.table({}).count("| not yet run |") == len(claims.CLAIMS)


def test_a_study_that_was_run_twice_has_a_verdict_where_both_runs_give_it(monkeypatch: pytest.MonkeyPatch):
    claim = claims.Claim("more", "none", "x.yaml", ("x",), claims.ahead("synthetic", ("subset",), 0.9))
    monkeypatch.setattr(claim_table, "CLAIMS", (claim,))
    monkeypatch.setattr(claim_table, "AGAIN", {"x": "x-2"})

    def record(by: float) -> dict:
        return study({"accuracy": {"synthetic": {1: [v + by for v in reversed(SIX)]}, "subset": {1: SIX}}})

    above, open_, below = record(0.1), record(0.0), record(-0.1)
    for first, second, verdict in (
        (above, above, SHOWN),
        (above, open_, NOT_SHOWN),
        (above, below, NOT_SHOWN),
        (below, below, OPPOSITE),
    ):
        ((_, figures, judged),) = claim_table.judged({"x": first, "x-2": second})
        assert judged == verdict and figures.count("minus subset") == 2
    assert [v for _, _, v in claim_table.judged({"x": above})] == [SHOWN]


@pytest.mark.parametrize(
    ("values", "p", "verdict"),
    [
        (SIX, 0.031, SHOWN),
        ([-v for v in SIX], 0.031, OPPOSITE),
        (SIX, 0.06, NOT_SHOWN),
        ((*SIX[:5], -0.03), 0.0, NOT_SHOWN),
        (SIX[:5], 0.031, FEW),
    ],
)
def test_a_part_needs_six_an_interval_without_zero_and_p(values, p, verdict):
    assert verdicts.verdict([Part(estimate(list(values)), 1, p)]) == verdict


def test_parts_of_one_property_must_agree_and_a_claim_needs_every_property():
    yes, no = Part(estimate(list(SIX)), 1), Part(estimate(list(SIX)), -1)
    open_ = Part(estimate([*SIX[:5], -0.03]), 1)
    assert verdicts.verdict([yes], [yes]) == SHOWN and verdicts.verdict([yes], [no]) == OPPOSITE
    assert verdicts.verdict([yes], [open_]) == NOT_SHOWN and verdicts.verdict([no], [open_]) == OPPOSITE
    assert verdicts.verdict([yes, no]) == NOT_SHOWN and verdicts.verdict([no, no]) == OPPOSITE


def test_what_is_not_shown_says_what_could_have_been():
    assert "(could show" in Part(estimate([*SIX[:5], -0.03]), 1).written()
    assert Part(estimate(list(SIX)), 1).written() == "+1.5 [1.1, 1.9]"
    assert Part(estimate(list(SIX[:2])), 1).written().endswith("]")


def sets(synthetic: float, subset: float) -> dict:
    return {"evaluations": [{"set": n, "accuracy": {"mean": m}} for n, m in (("synthetic", synthetic), ("subset", subset))]}


def test_a_gap_between_sets_is_judged_over_records():
    judge = claims.beats("synthetic", "subset", 15.0)
    records = [sets(0.47 + v, 0.3) for v in SIX]
    assert judge(records)[1] == SHOWN and judge(records[:3])[1] == FEW
    assert judge([sets(0.42 + v, 0.3) for v in SIX])[1] == OPPOSITE
    assert "minus 30.0" in judge(records)[0] and judge(records)[0].endswith("points (n = 6)")


def test_a_claim_about_a_mean_has_no_verdict():
    record = study({"accuracy": {"real": {0: SIX, 1: SIX}}})
    assert claims.within("real", (0.9,))([record]) == ("1.5 [1.1, 1.9]% (n = 6)", verdicts.A_MEAN)


def study(metrics: dict, **summary) -> dict:
    """A record of arms by metric, arm and level: rows, units, and what else a summary has."""
    rows: dict = {}
    units: dict = {}
    for metric, arms in metrics.items():
        for arm, levels in arms.items():
            for level, values in levels.items():
                row = rows.setdefault((arm, level), {"arm": arm, "level": level, "sparsity": 0.9 * level, "n": len(values)})
                row[metric] = estimate(list(values))
                for seed, value in enumerate(values):
                    unit = units.setdefault((arm, level, seed), {"arm": arm, "level": level, "seed": seed})
                    unit[metric] = value
    return {"summary": {"rows": [*rows.values()], **summary}, "units": [*units.values()]}


def more(by: float) -> list[float]:
    return [v + by for v in SIX]


def test_the_stablest_lies_below_all_others_within_initialisations():
    judge = claims.stablest("synthetic", ("real",), 0.9)

    def record(dense: float, real: float) -> dict:
        arms = {"real": {0: more(dense), 1: more(real)}, "synthetic": {0: more(dense), 1: [v + 0.1 for v in reversed(SIX)]}}
        return study({"barrier_test": arms})

    assert judge([record(0.2, 0.15)])[1] == SHOWN
    assert judge([record(0.2, 0.05)])[1] == OPPOSITE, "below the dense network, above real"
    assert judge([record(0.2, 0.1)])[1] == NOT_SHOWN
    assert "dense 21.5, synthetic 11.5, real 16.5; synthetic minus dense -10.0" in judge([record(0.2, 0.15)])[0]


def test_flatter_needs_both_traces():
    judge = claims.flattest("synthetic", "real", 0.9)

    def record(per_weight: float, invariant: float) -> dict:
        both = {"trace_per_weight": per_weight, "trace_invariant": invariant}
        return study({m: {"real": {1: SIX}, "synthetic": {1: [v + d for v in reversed(SIX)]}} for m, d in both.items()})

    assert judge([record(-0.1, -0.1)])[1] == SHOWN and judge([record(0.1, 0.1)])[1] == OPPOSITE
    assert judge([record(0.1, -0.1)])[1] == judge([record(0.0, -0.1)])[1] == NOT_SHOWN


def test_matching_and_stable_are_judged_by_their_bounds():
    def record(accuracy: float, barrier: float) -> dict:
        return study({"accuracy": {"real": {0: SIX, 1: more(accuracy)}}, "barrier_test": {"real": {1: more(barrier)}}})

    judge = claims.matching_to("real", 0.9)
    assert judge([record(0.01, -0.01)])[1] == SHOWN
    assert judge([record(-0.02, -0.01)])[1] == OPPOSITE and judge([record(0.01, 0.02)])[1] == OPPOSITE
    assert judge([record(0.01, 0.005)])[1] == NOT_SHOWN


def test_only_the_ticket_is_matching():
    def record(real: float, random: float) -> dict:
        return study({"accuracy": {"real": {0: SIX, 1: more(real)}, "random": {1: more(random)}}})

    judge = claims.matching_alone("real", ("random",), 0.9)
    assert judge([record(0.01, -0.02)])[1] == SHOWN
    assert judge([record(0.01, 0.01)])[1] == OPPOSITE and judge([record(0.01, -0.004)])[1] == NOT_SHOWN


def test_an_arm_is_ahead_where_it_lies_above_every_other():
    judge = claims.ahead("distilled", ("sentences", "one_shot"), 0.9)

    def record(sentences: float, one_shot: float) -> dict:
        others = {"sentences": sentences, "one_shot": one_shot}
        arms = {"distilled": {1: [*reversed(SIX)]}} | {a: {1: more(by)} for a, by in others.items()}
        return study({"accuracy": arms})

    assert judge([record(-0.03, -0.1)])[1] == SHOWN
    assert judge([record(0.03, -0.1)])[1] == OPPOSITE and judge([record(0.0, -0.1)])[1] == NOT_SHOWN
    assert judge([record(-0.03, -0.1)])[0].startswith("accuracy of distilled in points: minus sentences +3.0 [")


def test_matching_steps_must_be_stable():
    judge = claims.only_stable_match("real")

    def record(barrier: float, matching: str) -> dict:
        step = {"arm": "real", "level": 1, "accuracy": estimate(list(SIX))}
        steps = [("0it", barrier, matching), ("9it", -0.01, "yes")]
        return study({}, scan=[{**step, "k": k, "barrier_test": estimate(more(b)), "matching": m} for k, b, m in steps])

    assert judge([record(-0.01, "yes")])[1] == judge([record(0.05, "no")])[1] == SHOWN
    assert judge([record(0.05, "yes")])[1] == OPPOSITE


def moved(gaps: dict[tuple[str, str | None], list[float]]) -> dict:
    rows = [{"source": s, "target": t, "own": False, "level": 5, "to_own": estimate(values)} for (s, t), values in gaps.items()]
    rows += [{"source": "sst2", "target": None, "own": True, "level": 5, "to_own": None}, rows[0] | {"level": 1}]
    arms = [{"name": "sst2"}, {"name": "cola"}, {"name": "one_shot", "criterion": "initial_magnitude"}]
    return {"summary": {"transfer": rows, "arms": arms}}


def test_an_own_ticket_is_the_best_where_all_others_lie_below():
    judge = claims.own_task_is_best()
    below = {("sst2", "cola"): more(-0.1), ("cola", None): more(-0.05)}
    assert judge([moved(below)])[1] == SHOWN and judge([moved({**below, ("cola", None): more(0.0)})])[1] == OPPOSITE
    assert judge([moved({**below, ("one_shot", "cola"): more(0.1)})])[1] == SHOWN, "a mask that knows no task is no task's"
    assert "sst2 on cola -8.5" in judge([moved(below)])[0] and "cola on the first task -3.5" in judge([moved(below)])[0]


def test_a_ticket_is_not_universal_where_it_lies_below_an_own_ticket():
    judge = claims.universal("mlm")

    def record(by: float) -> dict:
        return moved({("mlm", "cola"): more(by), ("mlm", None): more(0.0), ("sst2", "cola"): more(-0.2)})

    assert judge([record(0.0)])[1] == SHOWN and judge([record(-0.1)])[1] == OPPOSITE, "only its own rows count"
    assert judge([record(-0.015)])[1] == NOT_SHOWN


def cell(name: str, dense: float, real: float, synthetic: float) -> regimes.CellLevel:
    accuracies = {f"{arm}_accuracy": 0.9 for arm in ("dense", "real", "synthetic")}
    barriers = {"dense_barrier": dense, "real_barrier": real, "synthetic_barrier": synthetic}
    sets = [f"model={{name: {name}}}", "distill.synthetic.ipc=1"]
    return {"cell": name, "sets": sets, "sparsity": 0.9, "n": 3, **barriers, **accuracies}  # type: ignore[typeddict-item]


def test_candidates_are_unstable_cells_of_the_papers_order_the_largest_margin_first():
    lines = [
        cell("small", 0.05, 0.04, 0.03),
        cell("stable", 0.019, 0.03, 0.0),  # nothing to lose
        cell("large", 0.06, 0.05, 0.01),
        cell("large", 0.06, 0.05, 0.03),  # a worse level of the same cell
        cell("against real", 0.06, 0.01, 0.02),
        cell("against dense", 0.03, 0.06, 0.04),
        cell("third", 0.06, 0.05, 0.045),
    ]
    assert [(x["cell"], x["synthetic_barrier"]) for x in regimes.candidates(lines, 2)] == [("large", 0.01), ("small", 0.03)]
    assert len(regimes.candidates(lines, 9)) == 3
    costs: Spent = {
        "core_seconds_total": 90.0,
        "core_seconds": {"prune": 90.0},
        "peak_mb": 500.0,
        "disk_mb": 2.0,
        "devices": ["cpu (x86_64)"],
        "versions": {"torch": "2.13.0"},
    }
    chosen = regimes.candidates(lines, 2)
    record: regimes.Record = {"pipeline": "p", "title": "T", "lines": lines, "candidates": chosen, **costs}
    assert regimes.values(lines[0]) == ["model={name: small}", "distill.synthetic.ipc=1", "distill.subset.ipc=1"]
    text = regimes.page(record)
    assert (
        "order at 5 of 7 cells and sparsities" in text and "at 4 of 6." in text and "those with the 2 largest margins" in text
    )


def test_the_order_of_masks_is_that_of_ranks_written_out():
    rng = np.random.default_rng(0)
    sets, answers = rng.normal(size=(7, 6)), rng.normal(size=(7, 6))
    answers[3] = answers[4]
    ranked = masks.order(sets, answers, 200)
    assert ranked["rho"] == pytest.approx(spearmanr(sets.mean(1), answers.mean(1)).statistic)
    same = masks.order(sets, 2 * sets + 1, 200)
    assert (
        same["rho"] == pytest.approx(1.0)
        and same["low"] == pytest.approx(1.0)
        and same["p"] == pytest.approx(1 / 201, abs=0.01)
    )
    assert ranked["low"] <= ranked["high"] and (ranked["arms"], ranked["units"]) == (7, 6)
