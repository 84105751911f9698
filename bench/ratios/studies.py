"""Whole studies by the command: with lanes or compiled steps against without, shrunk equally on both sides."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from measure import Row, Scene, Side

from distill_prune.plan.config import Pipeline
from ratios.optional import lacking

AS_IT_WAS = ("seeds=[0,1,2]", "levels=null", "prune.levels=10", "retrain.copies=2")
"""digits.yaml with three seeds and every level: 1,049 artifacts."""

QUARTER = (
    *("retrain.recipe.length=100it", "prune.real.length=100it", "prune.recipe.length=75it", "experts.recipe.length=4ep"),
    *("distill.synthetic.iterations=200", "distill.synthetic.max_start=3"),
    *("compare.connectivity.points=8", "compare.curvature.rows=64", "compare.evaluation.length=250it"),
)
"""A quarter of the steps and points of digits.yaml."""

PART = (
    *("seeds=[0]", "data.rows=2000", "data.test_rows=500", "prune.levels=2", "levels=[2]", "retrain.copies=2"),
    *("retrain.recipe.length=100it", "prune.real.length=100it", "prune.recipe.length=40it", "experts.recipe.length=3ep"),
    *("experts.count=2", "distill.synthetic.iterations=30", "distill.synthetic.max_start=2"),
    *("compare.connectivity.points=10", "compare.curvature.probes_max=48", "compare.spectrum.starts=2"),
    *("compare.diagonal.probes=16", "compare.diagonal.sketch=8", "compare.landscape.points=5", "compare.evaluation.nets=2"),
    *("compare.evaluation.length=100it", "only.between.levels=[2]", "only.spectrum.levels=[0,2]", "only.diagonal.levels=[2]"),
    "only.landscape.levels=[2]",
)
"""A part of cifar10-small.yaml: a fifth of its images, and of everything else a sixth to a third."""

TINY = (
    *("retrain.recipe.length=2it", "prune.real.length=2it", "prune.recipe.length=2it", "experts.recipe.length=2ep"),
    *("experts.count=1", "distill.synthetic.iterations=1", "distill.synthetic.inner_steps=1", "distill.synthetic.max_start=1"),
    *("distill.synthetic.expert_epochs=1", "compare.connectivity.points=2", "compare.connectivity.train_rows=10"),
    *("compare.curvature.rows=2", "compare.evaluation.nets=1", "compare.evaluation.length=2it"),
)
"""digits.yaml with all its artifacts and next to no work."""


def command(*arguments: str) -> None:
    """Run the command; its messages are shown where it fails."""
    done = subprocess.run([sys.executable, "-m", "distill_prune", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"distill-prune {' '.join(arguments)}\n{done.stdout}{done.stderr}")


def sets(assignments: Iterable[str]) -> list[str]:
    """Assignments as options of the command."""
    return [word for a in assignments for word in ("--set", a)]


def from_empty(scene: Scene, pipeline: str, assignments: Iterable[str]) -> Callable[[], None]:
    """A run on a store that holds nothing but the code that was compiled in the runs before."""
    options, store = sets(assignments), Path(tempfile.mkdtemp(dir=scene.scratch))

    def run() -> None:
        for place in store.iterdir():
            if place.name != ".compiled":
                shutil.rmtree(place) if place.is_dir() else place.unlink()
        command("run", pipeline, *options, "--store", str(store), "--device", scene.device)

    return run


def against(scene: Scene, pipeline: str, shrunk: Iterable[str], key: str, values: tuple[str, str]) -> list[Callable[[], None]]:
    """Runs of a shrunk study, one for each value of a key; one without the key where no pipeline has it."""
    if key not in Pipeline.model_fields:
        return [from_empty(scene, pipeline, shrunk)]
    return [from_empty(scene, pipeline, [*shrunk, f"{key}={value}"]) for value in values]


def digits_lanes(scene: Scene) -> Row:
    shrunk = [*AS_IT_WAS, *scene.size(QUARTER, (*TINY, "seeds=[0]", "prune.levels=1"))]
    without, *lanes = against(scene, "digits.yaml", shrunk, "lanes", ("1", "8"))
    return Row(
        "digits.yaml as it was (3 seeds, all levels), a quarter of the steps, from an empty store to its report",
        Side("without lanes", without, warm=False),
        [Side("lanes: 8", run, 0.55, warm=False) for run in lanes],
        absent=lacking("lanes: 8", "lanes"),
    )


def pictures(folder: Path, train: int, test: int) -> None:
    """Made-up images of CIFAR-10's shape that can be told apart: a pattern a class, and noise."""
    draws = np.random.default_rng(0)
    patterns = draws.normal(0, 25, (10, 32, 32, 3))
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        pixels = (128 + patterns[labels] + draws.normal(0, 50, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
        np.savez(folder / f"{part}.npz", x=pixels, y=labels)


def cifar10_compiled(scene: Scene) -> Row:
    if scene.data is None:
        pictures(scene.scratch, 2500, 500)
    shrunk = [f"data.path={scene.data or scene.scratch}", *PART]
    eager, *compiled = against(scene, "cifar10-small.yaml", shrunk, "compile", ("false", "true"))
    return Row(
        "cifar10-small.yaml, a part of its rows and steps, from a store without artifacts to its report",
        Side("eager", eager, warm=False),
        [Side("compiled", run, 0.6) for run in compiled],
        absent=lacking("compiled", "compile"),
    )
