"""Every stage and every entry of every table on a second device: nothing is refused, bits are the CPU's, and no step waits.

Registering the device changes the process, so the studies are made in one of their own, once for this file.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

Waits = Mapping[str, int]
"""How often the host waited, by what for and where: "reads training/run.py:129"."""
Scaled = list[Mapping[str, Waits]]
"""The waits of a case at each scale, by the kind of artifact."""


@dataclass(frozen=True)
class More:
    """Reads of the host and copies to the device that a longer study has more."""

    reads: int = 0
    copies: int = 0

    def times(self, count: int) -> More:
        return More(self.reads * count, self.copies * count)


# What still waits, by the unit that it waits for. A number that is too high fails as one that is too low does: lower it.
STATE = More(reads=4)
"""A state on a line or plane, on two parts of the data: loss and error of each (training/evaluation.py)."""
DRAW = More(copies=1)
"""The augmentation of one of nine more inner steps (distill/trajectory.py)."""

MORE_STEPS: Mapping[str, More] = {
    "method: trajectory": DRAW.times(9),
    "method: trajectory, soft labels": DRAW.times(9),
    "method: trajectory, adam": DRAW.times(9),
    "method: trajectory, batches": DRAW.times(35),  # rows are copied, too
    "analysis: connectivity": STATE.times(3),
    "analysis: layerwise": STATE.times(30),
    "analysis: between": STATE.times(36),
    "analysis: rebasin": STATE.times(6),  # two lines
    "analysis: landscape": STATE.times(54),
    "analysis: spectrum": More(reads=6, copies=3),  # a vector more of each basis
    "analysis of text: connectivity": More(reads=30),
}
"""By case, what twice the steps, probes or points wait for; the other cases for nothing: no training step and no inner step."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, object]]:
    """The outcome of every case, by name."""
    backends = importlib.import_module("torch.utils.backend_registration")
    if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot register a device in Python")
    file, here = tmp_path_factory.mktemp("second") / "outcomes.json", Path(__file__).resolve().parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    done = subprocess.run(
        [sys.executable, str(here / "second_device_studies.py"), str(file)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    loaded: dict[str, dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def more(scaled: Scaled) -> More:
    """What a study with twice the steps waited for more."""
    first, second = (
        [
            sum(n for waits in scale.values() for line, n in waits.items() if line.startswith(what))
            for what in ("reads", "copies")
        ]
        for scale in scaled[:2]
    )
    return More(second[0] - first[0], second[1] - first[1])


def test_nothing_is_refused_and_bits_are_the_cpu_s(outcomes: Mapping[str, dict[str, object]]) -> None:
    failures = {name: outcome for name, outcome in outcomes.items() if outcome["error"] or outcome["differing"]}
    assert not failures
    assert {name.partition(":")[0] for name in outcomes} >= {"network", "method", "criterion", "control", "analysis", "recipe"}


def test_no_step_waits_for_the_host(outcomes: Mapping[str, dict[str, object]]) -> None:
    waiting = {name: more(outcome["waits"]) for name, outcome in outcomes.items()}  # type: ignore[arg-type]
    assert {name: waits for name, waits in waiting.items() if waits != More()} == {
        name: waits for name, waits in MORE_STEPS.items() if name in outcomes
    }
