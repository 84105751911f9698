"""What `plan` and a run refuse before anything is made."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from PIL import Image

from distill_prune.data import DATASETS, survey
from distill_prune.data.folder import Settings as Folder
from distill_prune.data.npz import Settings as Npz
from distill_prune.errors import DistillPruneError, UserError
from distill_prune.plan.config import opened
from distill_prune.plan.files import find_pipeline
from distill_prune.plan.foresight import _Foresight, foresee
from distill_prune.plan.graph import build
from distill_prune.store.store import Store


def foreseen(store: Store, *assignments: str) -> None:
    graph = build(tiny.pipeline(*assignments), store)
    foresee(graph, store, graph.nodes)


def images(rows: int, side: int = 8, classes: int = 2) -> dict[str, NDArray[Any]]:
    draws = np.random.default_rng(0)
    return {"x": draws.integers(0, 255, (rows, side, side, 1), np.uint8), "y": np.arange(rows) % classes}


def arrays(folder: Path, train: int, test: int = 10) -> Path:
    folder.mkdir()
    np.savez(folder / "train.npz", **images(train))  # type: ignore[arg-type]
    np.savez(folder / "test.npz", **images(test))  # type: ignore[arg-type]
    return folder


def test_a_sound_study_is_foreseen(empty: Store) -> None:
    foreseen(empty)
    assert not list(empty.all())


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.depth=4"], "expert 0.*cannot take inputs of shape \\(1, 8, 8\\).*8x8 pixels cannot be halved 4 times"),
        (["distill.subset.ipc=129"], "set subset.*129 examples per class are more than class '0' has"),
        (["distill.synthetic.ipc=33", "distill.synthetic.factor=2"], "set synthetic.*132 examples per class"),
        (["experts.model={name: vgg, depth: 11, width: 2, norm: batch}", "experts.recipe.batch=68"], "expert 0.*batch of one"),
        (
            ["model={name: vgg, depth: 11, width: 2, norm: batch}", "prune.recipe.batch=3"],
            "synthetic seed 0.*10 examples in ba",
        ),
        (["data.validation=0.0001"], "validation part.*too few examples"),
    ],
)
def test_what_the_data_cannot_give(empty: Store, assignments: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        foreseen(empty, *assignments)
    assert_matches(refused.value, message)
    with pytest.raises(UserError):
        tiny.execute(empty, *assignments)
    assert not list(empty.all())


def assert_matches(error: DistillPruneError, message: str) -> None:
    assert re.search(f"(?s){message}", f"{error.label}: {error}"), f"{error.label}: {error}"


def test_other_data_than_a_shipped_file_asks_for(empty: Store, tmp_path: Path) -> None:
    """The key to change is named, and the line that it stands in."""

    def said(name: str, *assignments: str) -> str:
        study = opened(name, assignments)
        with pytest.raises(UserError) as refused:
            graph = build(study.pipeline, empty, study.locate)
            foresee(graph, empty, graph.nodes)
        return str(refused.value)

    def line(beginning: str) -> int:
        lines = find_pipeline("cifar10-small.yaml").read_text(encoding="utf-8").splitlines()
        return next(i for i, text in enumerate(lines, 1) if text.startswith(beginning))

    data, model = line("data:"), line("model:")
    path = f"data.path={arrays(tmp_path / 'arrays', 600)}"
    assert said("cifar10-small.yaml").startswith(f"'data.path' in cifar10-small.yaml, line {data}: there is no data at")
    assert said("cifar10-small.yaml", path).startswith(f"'data.rows' in cifar10-small.yaml, line {data}: ")
    assert said("cifar10-small.yaml", path, "data.rows=500").startswith(
        f"'data.test_rows' in cifar10-small.yaml, line {data}: "
    )
    fewer = (path, "data.rows=500", "data.test_rows=10")
    assert said("cifar10-small.yaml", *fewer, "data.validation=0.001").startswith("'data.validation' in --set: ")
    assert said("cifar10-small.yaml", *fewer, "model.depth=5").startswith(f"'model' in cifar10-small.yaml, line {model} (")
    assert said("cifar10-small.yaml", *fewer, "distill.subset.ipc=300").startswith(
        "'distill.subset.ipc' in --set (set subset): "
    )
    assert said("cifar10-small.yaml", "data={name: folder, path: x}").startswith("'data.path' in --set data: ")


def test_rows_beyond_the_data(empty: Store, tmp_path: Path) -> None:
    folder = arrays(tmp_path / "arrays", 60)
    with pytest.raises(UserError, match=r"(?s)rows of .*more rows asked for than there are.*got:      61.*at most 60"):
        foreseen(empty, f"data={{name: npz, path: {folder}, rows: 61}}")


def test_a_set_of_the_store_counts_its_own_images(store: Store) -> None:
    graph = build(tiny.pipeline(), store)
    ref, vgg = graph.sets["subset"][:16], "model={name: vgg, depth: 11, width: 2, norm: batch}"
    foreseen(store, f"distill.subset={{name: stored, ref: {ref}}}", vgg, "prune.recipe.batch=10")
    with pytest.raises(UserError) as refused:
        foreseen(
            store,
            f"distill.subset={{name: stored, ref: {ref}}}",
            "distill.synthetic=false",
            "arms.synthetic=false",
            vgg,
            "prune.recipe.batch=9",
        )
    assert_matches(refused.value, "subset seed 0 level 1.*: a batch of one.*10 examples in batches of 9")


def test_nothing_is_looked_at_where_all_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS["digits"], "look", lambda settings: pytest.fail("looked"))
    _, report = tiny.execute(store)
    assert report.made == 0
    shutil.rmtree(store.root / "data")
    tiny.execute(store, until="data")


def test_a_survey_says_what_prepared_data_hold(tmp_path: Path) -> None:
    """Of a folder the first image alone is decoded: the others may be anything here."""
    folder = tmp_path / "pictures"
    for name, count in (("cat", 5), ("dog", 7)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((6, 9), i, np.uint8)).save(folder / name / f"{i}.png")
    (folder / "dog" / "5.png").write_bytes(b"no image")
    seen = survey(Folder(path=str(folder), validation=0.0, channels=1))
    assert seen is not None and seen.shape == (1, 6, 9) and seen.classes == ("cat", "dog") and sum(seen.counts) == 10
    arrays(tmp_path / "arrays", 40)
    settings = Npz(path=str(tmp_path / "arrays"), validation=0.25)
    seen, prepared = survey(settings), DATASETS["npz"].load(settings)
    assert seen is not None and seen.shape == tuple(prepared.pixels.shape[1:]) and seen.counts == (15, 15)


def test_published_data_are_looked_at_where_they_lie_on_the_disk(empty: Store, tmp_path: Path) -> None:
    foreseen(empty, f"data={{name: mnist, path: {tmp_path}}}", "prune.recipe.batch=10")
    assert not list(tmp_path.rglob("*.gz"))  # nothing was fetched


def test_plan_says_it(tmp_path: Path) -> None:
    pipeline = tmp_path / "deep.yaml"
    pipeline.write_text(tiny.TINY.replace("depth: 2", "depth: 5"))
    words = [sys.executable, "-m", "distill_prune", "plan", str(pipeline), "--store", str(tmp_path / "none")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == "" and "cannot be halved 5 times" in done.stderr


def test_a_pipeline_asks_for_a_bounded_number_of_artifacts(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_prune.plan.nodes.ARTIFACTS", 40)
    with pytest.raises(UserError, match=r"(?s)more than 40 artifacts.*1 seeds, 4 arms, 2 levels, 1000000000 copies"):
        foreseen(empty, "retrain.copies=1000000000")


def test_counts_of_sets_are_of_what_is_trained_on(empty: Store) -> None:
    """Four training images for each stored one with factor 2."""
    graph = build(tiny.pipeline("distill.synthetic.factor=2"), empty)
    assert _Foresight(graph, empty)._size(graph.sets["synthetic"]) == 40
