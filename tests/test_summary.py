"""Statistics over initialisations: rows, verdicts, paired tests, costs and the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reference_analyze import ARMS, COSTS, units_of
from reference_summary import row_of, summarise, verdict_and_rest

from distill_prune.analyze import summary
from distill_prune.analyze.answer import SetScore
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.sentences import of_sets

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def test_level_zero_is_the_same_for_every_arm():
    numbers = summarise(units_of(range(3)))
    zero = [{k: v for k, v in row_of(numbers, a, 0).items() if k != "arm"} for a in ("syn", "real")]
    assert zero[0] == zero[1] and zero[0]["n"] == 3
    assert zero[0]["accuracy"] == numbers["dense"]["accuracy"] == estimate([0.9, 0.901, 0.902])
    assert numbers["dense"]["trace"] is None
    repeated = units_of(range(3)) + [u | {"arm": "syn"} for u in units_of(range(3)) if u["level"] == 0]
    assert summarise(repeated)["rows"] == numbers["rows"]


def test_rows_hold_every_metric_or_none():
    row = row_of(summarise(units_of(range(3))), "syn", 1)
    assert row["sparsity"] == pytest.approx(0.2) and row["n"] == 3
    assert row["trace"] == estimate([5.0, 5.0, 5.0]) and row["trace_per_weight"] is None and row["train_loss"] is None
    assert set(summary.METRICS) <= set(row)


def test_matching_is_within_one_sample_deviation_of_dense():
    sd = estimate([0.9, 0.901, 0.902])["sd"]

    def verdict(drop, seeds=range(3), **settings):
        units = [u | ({"accuracy": 0.901 - drop} if u["arm"] == "syn" else {}) for u in units_of(seeds)]
        return row_of(summarise(units, **settings), "syn", 1)["matching"]

    assert sd == pytest.approx(0.001)
    assert verdict(0.9 * sd) == "yes" and verdict(1.1 * sd) == "no"
    assert verdict(1.1 * sd, margin=0.002) == "yes"
    assert verdict(0.0, seeds=range(2)) == "not decidable"


def test_stable_is_below_two_points_on_average():
    assert row_of(summarise(units_of(range(3), barrier=0.0199)), "syn", 1)["stable"] == "yes"
    assert row_of(summarise(units_of(range(3), barrier=0.02)), "syn", 1)["stable"] == "no"
    assert row_of(summarise(units_of(range(3), barrier=None)), "syn", 1)["stable"] == "not measured"


def test_overlap_with_the_real_arm_enters_the_row():
    pairs = [
        {"arm": "syn", "versus": v, "seed": s, "level": 1, "iou": 0.3 + 0.1 * s + (v == "random"), "chance": 0.2, "z": 4.0}
        for s in range(3)
        for v in ("real", "random")
    ]
    row = row_of(summarise(units_of(range(3)), pairs=pairs), "syn", 1)
    assert row["iou"] == estimate([0.3, 0.4, 0.5]) and row["chance"]["mean"] == pytest.approx(0.2)
    assert row["z"]["n"] == 3
    assert row_of(summarise(units_of(range(3))), "syn", 1)["iou"] is None


def paired_of(numbers, metric, level=1):
    (held,) = [p for p in numbers["paired"] if p["metric"] == metric and p["level"] == level]
    return held


def test_paired_differences_are_taken_seed_by_seed():
    units = [u for u in units_of(range(4), gap=0.01) if not (u["arm"] == "real" and u["seed"] == 3 and u["level"] > 0)]
    numbers = summarise(units)
    held = paired_of(numbers, "accuracy")
    assert held["difference"] == pytest.approx(estimate([0.01, 0.0101, 0.0102]))
    assert (held["arm"], held["versus"], held["p"], held["p_smallest"], held["claim"]) == ("syn", "real", 0.25, 0.25, None)
    assert not [p for p in numbers["paired"] if p["level"] == 0 or p["metric"] == "trace_per_weight"]
    assert summarise(units, arms=ARMS[:1])["paired"] == []


def test_claims_need_six_units_and_an_interval_without_zero():
    assert paired_of(summarise(units_of(range(5), gap=0.02)), "accuracy")["claim"] is None
    held = paired_of(summarise(units_of(range(6), gap=0.02)), "accuracy")
    assert held["claim"] == "accuracy of Synthetic IMP is higher than of Real IMP by 2.02 points at level 1 (n = 6)"
    assert held["p"] == held["p_smallest"] == 0.03125
    barrier = paired_of(summarise(units_of(range(6))), "barrier_test")
    assert barrier["claim"] == "test barrier of Synthetic IMP is lower than of Real IMP by 4 points at level 1 (n = 6)"
    wave = {seed: {"accuracy": 0.9 + 0.01 * (-1) ** seed} for seed in range(6)}
    mixed = [u | (wave[u["seed"]] if u["arm"] == "syn" else {}) for u in units_of(range(6))]
    assert paired_of(summarise(mixed), "accuracy")["claim"] is None


def test_costs_are_chain_totals_and_only_synthetic_arms_pay_for_distillation():
    syn, real = summarise(units_of(range(2)))["costs"]
    # seed 0: 10 + 20 images, seed 1: 20 + 40
    assert syn["search"] == {"images": 45, "steps": 3, "flops": 14} and syn["n"] == 2
    assert syn["with_distillation"] == {"images": 1045, "steps": 13, "flops": 114}
    assert syn["with_experts"] == {"images": 6045, "steps": 63, "flops": 614}
    assert real["search"] == real["with_distillation"] == real["with_experts"]
    unknown = {"synthetic": COSTS["sets"]["synthetic"] | {"experts": None}}
    numbers = summarise(units_of(range(2)), costs=COSTS | {"sets": unknown})
    assert numbers["costs"][0]["with_distillation"] and numbers["costs"][0]["with_experts"] is None
    assert any("not known" in note for note in numbers["notes"])
    assert summarise(units_of(range(2)), costs={"search": []})["costs"][0]["search"] is None


def test_a_chain_pays_for_the_set_that_it_begins_with():
    begun = [*ARMS, {"name": "on", "images": "real", "begins": {"arm": "syn", "level": 1}, "label": ""}]
    search = [*COSTS["search"], *(s | {"arm": "on"} for s in COSTS["search"] if s["arm"] == "syn")]
    syn, _, on = summarise(units_of(range(2)), begun, costs=COSTS | {"search": search})["costs"]
    assert {k: v for k, v in on.items() if k != "arm"} == {k: v for k, v in syn.items() if k != "arm"}
    further = [*begun, {"name": "yet", "images": "other", "begins": {"arm": "on", "level": 2}, "label": ""}]
    sets = COSTS["sets"] | {"other": {"distill": {"images": 7, "steps": 1, "flops": 1}, "experts": None}}
    search += [s | {"arm": "yet"} for s in COSTS["search"] if s["arm"] == "syn"]
    yet = summarise(units_of(range(2)), further, costs={"search": search, "sets": sets})["costs"][-1]
    assert yet["with_distillation"]["images"] == 45 + 1000 + 7 and yet["with_experts"] is None


def test_unequal_compute_is_told_of_the_first_step_of_a_scan():
    arms = [ARMS[0] | {"learned": True}, ARMS[1] | {"recipe": "prune"}]
    scanned = [a | {"k": "0it"} for a in arms] + [a | {"name": f"{a['name']}@5it", "base": a["name"], "k": "5it"} for a in arms]
    search = [*COSTS["search"], *(s | {"arm": f"{s['arm']}@5it"} for s in COSTS["search"])]
    search = [s | ({"images": 1} if s["arm"].startswith("real") else {}) for s in search]
    notes = summarise(units_of(range(2)), scanned, costs=COSTS | {"search": search})["notes"]
    told = [n for n in notes if "not at equal compute" in n]
    assert told == ["Arm real is not at equal compute with syn: 2 images seen against 45."]


def test_the_answer_is_plain_and_counts_its_units():
    first, text = verdict_and_rest(summarise(units_of(range(3), gap=0.01)))
    assert "below 6 initialisations nothing can be shown" in first
    assert text == (
        "At 40.0% sparsity (level 2), Synthetic IMP reaches 80.1 ± 0.1% test accuracy (mean ± sd, n = 3) with a test "
        "barrier of 1.0 points; Real IMP reaches 90.1 ± 0.1% test accuracy (mean ± sd, n = 3) with a test barrier of "
        "5.0 points. Synthetic IMP is last matching at 20.0% sparsity and last stable at 40.0% sparsity (n = 3); Real "
        "IMP is last matching at 40.0% sparsity and stable at no pruned level (n = 3); below 6 initialisations no difference "
        "is claimed. Synthetic IMP more stable than Real IMP: not shown in test barrier (n = 3); flatter than Real IMP: not "
        "measured."
    )
    assert "no difference is claimed" not in summarise(units_of(range(6)))["answer"]


def test_the_answer_of_sets_alone():
    accuracies = [{"mean": 0.4772, "sd": 0.0153, "n": 3}, {"mean": 0.29, "sd": None, "n": 1}]
    names = ("mine", "subset")
    told = of_sets([SetScore(s, "convnet", a) for s, a in zip(names, accuracies, strict=True)])
    assert told.endswith("(mean ± sd): set mine 47.7 ± 1.5% (convnet, n = 3); set subset 29.0% (convnet, n = 1).")
    assert of_sets([]) == ""


def test_the_answer_of_a_small_or_unfinished_study():
    text = summarise(units_of([0], barrier=None))["answer"]
    assert "not decidably matching below 3 initialisations and of unmeasured stability" in text
    assert "±" not in text.split("(mean")[0]
    assert "no answer yet" in summarise(units_of(range(3), levels=()))["answer"]
    nothing = [{**ARMS[1], "name": "other"}]
    assert "no arm on synthetic images" in summarise(units_of(range(3)), arms=nothing)["answer"]


def test_the_answer_of_a_study_without_synthetic_images():
    """Of real tickets and their controls: the control's name first, no talk of the papers' claims."""
    numbers = summarise(units_of(range(3)), arms=[{**ARMS[0], "images": "real", "label": "the control"}, ARMS[1]])
    text, rest = numbers["answer"], verdict_and_rest(numbers)[1].split(";")
    assert "Real IMP reaches" in rest[0] and "the control reaches" in rest[1]
    assert "more stable" not in text
    assert "below 6 initialisations no difference is claimed" in text
    assert summarise([], costs={})["rows"] == []


def test_notes_say_what_intervals_cover():
    notes = summarise(units_of(range(3)))["notes"]
    assert any("smallest attainable p-value is 0.25" in n and "below 6" in n for n in notes)
    assert any("conditional on the sets of images at hand, one each (synthetic)" in n for n in notes)
    assert not any("conditional" in n for n in summarise(units_of(range(3)), ARMS[1:])["notes"])
    odd = [*units_of(range(3)), {"arm": "syn", "seed": 0, "level": 0, "sparsity": 0.0, "accuracy": 0.5}]
    assert any("Dense networks differ" in n for n in summarise(odd)["notes"])


def test_notes_count_what_was_looked_at():
    units = units_of(range(6))
    notes = summarise(units)["notes"]
    # Accuracy and barrier at two levels.
    assert any("4 paired differences of 2 metrics" in n and "with 2 rows cannot fall below 0.0625" in n for n in notes)
    assert any("by their intervals alone, not corrected" in n for n in notes)
    assert any("by their intervals and p <= 0.05, not corrected" in n for n in summarise(units, claim_p=0.05)["notes"])
    some = [u for u in units if not (u["arm"] == "real" and u["level"] == 2 and u["seed"] == 5)]
    assert any("With n = 6" in n and "(with n = 5, the fewest here, 0.0625)" in n for n in summarise(some)["notes"])


def test_notes_say_which_weights_a_number_covers():
    def covered(**metrics):
        notes = " ".join(summarise([u | metrics for u in units_of(range(3), barrier=None)])["notes"])
        return "over all parameters" in notes, "surviving prunable weights alone" in notes

    nothing = dict.fromkeys(("barrier_test", "trace", "trace_per_weight"))
    assert covered(**nothing) == (False, False)
    assert covered(**nothing | {"relative_distance": 0.5}) == (True, False)
    assert covered(**nothing | {"diagonal_median": 0.5}) == (False, True)


@pytest.mark.parametrize("name", ["digits", "cifar10-small"])
def test_numbers_of_an_earlier_study_have_not_moved(name):
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    earlier = record["summary"]
    found = summarise(record["units"], earlier["arms"], costs={})
    masks = {"iou", "chance", "z"}
    for ours, theirs in zip(found["rows"], earlier["rows"], strict=True):
        assert {k: ours[k] for k in theirs.keys() - masks} == {k: v for k, v in theirs.items() if k not in masks}
    assert {k: found["dense"][k] for k in earlier["dense"]} == earlier["dense"]
    paired = {(p["arm"], p["level"], p["metric"]): p for p in found["paired"]}
    for theirs in earlier["paired"]:
        ours = paired[theirs["arm"], theirs["level"], theirs["metric"]]
        assert all(ours[k] == theirs[k] for k in ("versus", "difference", "p", "p_smallest"))
