"""The answer as a table: its outcomes, and lines that fit any screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import Cli

from distill_prune.analyze.answer import Answer, compare
from distill_prune.analyze.declared import in_rows
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.inputs import Study
from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import ArmRecord
from distill_prune.analyze.summary import Settings, measure
from distill_prune.study.answer_table import arm_rows, difference_rows, set_lines
from distill_prune.study.outcome import Document, SetLine, outcome
from distill_prune.terminal.answer_lines import answer_lines

METRICS = {metric.name: metric for metric in in_rows()}


def document(
    seeds: int, gain: float, barrier: float | None, draw: dict[str, int] | None = None, learned: bool = True
) -> Document:
    """Of a study in which the synthetic arm is more accurate by `gain`, and its barrier larger by `barrier` (None: there are no
    barriers); `draw` says which draw of the set it is on."""
    arms: list[ArmRecord] = [
        {"name": "synthetic", "images": "synthetic", "learned": learned},
        {"name": "real", "images": "real"},
    ]
    units: list[Any] = []
    for seed in range(seeds):
        wobble = 0.001 * seed
        for arm, more, rough in (("synthetic", gain, barrier or 0.0), ("real", 0.0, 0.0)):
            for level, sparsity in ((0, 0.0), (3, 0.488)):
                values = {
                    "accuracy": 0.9 + wobble + more * (1 + 0.1 * seed) * bool(level),
                    "barrier_test": 0.03 + wobble + rough * (1 + 0.1 * seed) * bool(level),
                }
                values = {name: value for name, value in values.items() if barrier is not None or name == "accuracy"}
                drawn = draw if draw and arm == "synthetic" else {}
                units.append({"arm": arm, "seed": seed, "level": level, "sparsity": sparsity, "n": 2, **values, **drawn})
    numbers: Any = measure(Settings(), Study(units, arms, [], {"search": [], "sets": {}})).numbers
    compared = compare(arms, numbers["rows"], numbers["paired"], [], [], "real")
    return outcome(Answer(compared), numbers, METRICS)


def outcomes(document: Document) -> dict[str, str]:
    return {line["metric"]: line["outcome"] for line in document["differences"]}


def test_differences_are_shown_from_six_initialisations_on() -> None:
    assert outcomes(document(6, -0.02, -0.01)) == {ACCURACY: "lower", BARRIER: "shown"}
    assert outcomes(document(6, 0.02, 0.01)) == {ACCURACY: "higher", BARRIER: "opposite shown"}
    assert outcomes(document(6, 0.0, 0.0)) == {ACCURACY: "not shown", BARRIER: "not shown"}
    assert set(outcomes(document(5, -0.02, -0.01)).values()) == {"too few seeds"}


def test_the_verdict_is_one_sentence() -> None:
    assert document(5, 0.02, 0.01)["verdict"] == "Inconclusive: 5 initialisations, and a difference can be claimed from 6 on."
    one_set = document(6, 0.02, 0.01, {"draw": 0})["verdict"]
    assert one_set == "Inconclusive: 1 initialisation or set, and a difference can be claimed from 6 on."
    assert document(6, -0.02, -0.01)["verdict"] == (
        "Synthetic against real: less accurate, more stable, flatness not measured (n = 6)."
    )
    assert "more stable: not shown" in document(6, 0.02, 0.0)["verdict"]
    assert outcome(Answer("no arms"), None, METRICS)["verdict"] == "no arms"


def test_the_verdict_without_learned_arms_says_first_whether_the_control_is_matching() -> None:
    assert document(6, -0.02, None, learned=False)["verdict"] == (
        "Real is matching; synthetic against real: less accurate (n = 6)."
    )
    assert document(6, 0.0, None, learned=False)["verdict"] == (
        "Real is matching; synthetic against real: more or less accurate: not shown (n = 6)."
    )


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_nothing_is_wider_than_the_screen(width: int) -> None:
    of_six = document(6, -0.02, -0.01)
    of_six["next"] = {"option": "--set seeds=[0,1,2,3,4,5]", "artifacts": 1200, "seconds": 300.0, "workers": 2}
    of_six["sets"] = [{"set": "synthetic", "network": "convnet", "accuracy": of_six["arms"][0]["values"][ACCURACY]}]  # type: ignore[typeddict-item]
    lines = answer_lines(of_six, METRICS, width)
    assert max(map(len, lines)) <= max(width, 60) and "1,200 more artifacts" in " ".join(" ".join(lines).split())
    assert sum("synthetic" in line for line in lines) >= 3


def test_draws_of_a_set_are_one_sentence() -> None:
    def line(name: str, *accuracies: float, network: str = "convnet") -> SetLine:
        return {"set": name, "network": network, "accuracy": estimate(accuracies)}

    lines = [line("a/0", 0.8, 0.9), line("b", 0.5, 0.7), line("a/1", 0.6), line("a/0", 0.4, network="lenet")]
    assert set_lines(lines) == [
        "set a: fresh networks (convnet) reach 72.5 ± 17.7% test accuracy (n = 2 draws)",
        "set b: fresh networks (convnet) reach 60.0 ± 14.1% test accuracy (n = 2 networks)",
        "set a/0: fresh networks (lenet) reach 40.0% test accuracy (n = 1 network)",
    ]


@pytest.mark.parametrize("width", [100, 60, 48])
def test_figures_stay_whole_on_a_narrow_screen(width: int) -> None:
    """Heads and names are wrapped, columns go on in a table below; a mean, its deviation and its interval stay on one line."""
    of_six = document(6, -0.02, -0.01)
    rows = [*arm_rows(of_six, METRICS)[1:], *difference_rows(of_six["differences"], METRICS)[1:]]
    figures = {cell for row in rows for cell in row[1:] if any(letter.isdigit() for letter in cell)}
    lines = answer_lines(of_six, METRICS, width)
    assert len(figures) > 6 and not [cell for cell in figures if not any(cell in line for line in lines)]
    assert max(map(len, lines)) <= width and not [line for line in lines if line.rstrip().endswith((" n", " n ="))]


def test_large_figures_have_no_exponent() -> None:
    of_six = document(6, -0.02, -0.01)
    for arm in of_six["arms"]:
        arm["values"] = {"trace_per_weight": estimate([1200.0, 1260.0])}
    assert arm_rows(of_six, METRICS)[1][1] == "1,230 ± 42"
    line = {**of_six["differences"][0], "metric": "trace_per_weight", "difference": estimate([-1200.0, -1260.0])}
    assert difference_rows([line], METRICS)[1][2].startswith("-1,230 [-1,611, -84")  # type: ignore[list-item]


def test_run_prints_it_and_has_it_as_data(cli: Cli, tmp_path: Path, store: Any) -> None:
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(tiny.TINY)
    words = cli("run", str(pipeline), "--store", str(store.root))
    assert "Inconclusive: 1 initialisation" in words.out and "--set seeds=[0,1,2,3,4,5]" in words.out
    answer = json.loads(cli("run", str(pipeline), "--store", str(store.root), "--json").out)["answer"]
    assert (
        answer["arms"]
        and answer["next"]["artifacts"] > 10
        and {line["outcome"] for line in answer["differences"]} == {"too few seeds"}
    )
