"""Shrinking a study by `--set` or in a file that extends it: what was written for what is gone is narrowed, and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from distill_prune.errors import ConfigError
from distill_prune.plan.config import Opened, opened
from distill_prune.plan.files import find_pipeline, read_file, shipped_files

SHIPPED = [path.name for path in shipped_files()]
BASE = (
    tiny.TINY.replace("seeds: [0]", "seeds: [0, 1, 2]").replace("levels: [0, 2]", "")
    + """
versus: synthetic
only:
  accuracy: {seeds: [0, 2], levels: [0, 2], arms: [real, shuffled]}
  curvature: {seeds: [1]}
"""
).replace(
    "  random: {criterion: {name: random}}",
    """  random: {criterion: {name: random}}
  shuffled: {control: {of: synthetic, kind: shuffled}}
  again: {control: {of: on, kind: reinitialised}}
  on: {begins: {arm: synthetic, level: 2}, images: subset}""",
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    return tmp_path / "base.yaml"


def study(file: Path, *assignments: str) -> Opened:
    return opened(str(file), assignments)


def test_nothing_is_narrowed_that_nobody_shrinks(base: Path) -> None:
    assert study(base).notes == study(base, "title=x", "prune.rate=0.4", "retrain.copies=3").notes == ()
    for name in SHIPPED:
        assert read_file(next(p for p in shipped_files() if p.name == name)).notes == (), name


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_can_be_shrunk(name: str) -> None:
    """To one seed, to one level, and by each of its arms and sets: what is left is a study; of a sweep, the study under it."""
    alone = ["sweep={}"] if read_file(find_pipeline(name)).values.get("sweep") else []
    whole = opened(name, alone).pipeline
    assert opened(name, [*alone, f"seeds=[{whole.seeds[0]}]"]).pipeline.seeds == whole.seeds[:1]
    if whole.prune.levels > 1:
        assert opened(name, [*alone, "prune.levels=1"]).pipeline.compared() == (0, 1)
    for section, names in (("arms", whole.arms), ("distill", whole.distill), ("compare", whole.compare)):
        for one in names:
            try:
                shrunk = opened(name, [*alone, f"{section}.{one}={'null' if section == 'compare' else 'false'}"]).pipeline
            except ConfigError as problem:  # the only arm, or that of which all others are made
                assert problem.what.startswith("'arms' in "), (one, problem)
                continue
            assert one not in getattr(shrunk, section)


def test_seeds(base: Path) -> None:
    shrunk = study(base, "seeds=[0]")
    assert shrunk.pipeline.only["accuracy"].seeds == (0,) and "curvature" not in shrunk.pipeline.compare
    assert shrunk.notes == (
        "only.accuracy.seeds narrowed to [0] (--set leaves out 2)",
        "compare.curvature is left out (all of only.curvature.seeds is gone: --set leaves out 1)",
    )
    assert study(base, "seeds=[0, 1, 2, 3]").notes == ()


def test_levels(base: Path) -> None:
    shrunk = study(base, "prune.levels=1")
    assert shrunk.pipeline.only["accuracy"].levels == (0,) and "on" not in shrunk.pipeline.arms
    assert "arms.on is left out (it begins after level 2, and --set ends chains at level 1)" in shrunk.notes
    assert "arms.again is left out (--set leaves out arms.on)" in shrunk.notes
    (base.parent / "levels.yaml").write_text(BASE + "levels: [1, 2]\n", encoding="utf-8")
    shrunk = study(base.parent / "levels.yaml", "prune.levels=1")
    assert "levels has its default (--set sets prune.levels to 1)" in shrunk.notes and shrunk.pipeline.compared() == (0, 1)
    shrunk = study(base.parent / "levels.yaml", "levels=[1]", "only.accuracy.levels=[0, 1]")
    assert shrunk.notes == () and shrunk.pipeline.only["accuracy"].levels == (0, 1)


def test_levels_beyond_any_chain_are_refused_before_they_are_counted(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)'prune.levels' in --set.*a whole number from 0 to 1000"):
        study(base, f"prune.levels={10**15}")


def test_arms_and_what_is_made_from_them(base: Path) -> None:
    shrunk = study(base, "arms.synthetic=false")
    assert [*shrunk.pipeline.arms] == ["real", "subset", "random"] and shrunk.pipeline.versus == "real"
    assert shrunk.pipeline.only["accuracy"].arms == ("real",)
    assert "versus is real (--set leaves out arms.synthetic)" in shrunk.notes
    shrunk = study(base, "distill.subset=false")
    assert [*shrunk.pipeline.arms] == ["real", "synthetic", "random", "shuffled"]
    assert "arms.subset is left out (--set leaves out distill.subset)" in shrunk.notes


def test_draws_of_sets(base: Path) -> None:
    base.write_text(BASE + "distill_seeds: [4, 5, 6]\n", encoding="utf-8")
    assert study(base).notes == study(base, "distill_grid=crossed", "title=x").notes == ()
    shrunk = study(base, "seeds=[0]")
    assert shrunk.pipeline.distill_seeds == (4,) and "distill_seeds narrowed to [4] (--set leaves 1 seed)" in shrunk.notes
    assert study(base, "seeds=[0]", "distill_grid=crossed").pipeline.distill_seeds == (4, 5, 6)
    shrunk = study(base, "distill=false")
    assert shrunk.pipeline == study(base, "distill={synthetic: false, subset: false}").pipeline and not shrunk.pipeline.distill
    assert shrunk.pipeline.distill_seeds == () and "distill_seeds is dropped (--set leaves out all sets)" in shrunk.notes
    with pytest.raises(ConfigError, match="'distill_seeds' in --set: each seed takes one draw"):
        study(base, "seeds=[0]", "distill_seeds=[1, 2]")


def test_analyses(base: Path) -> None:
    shrunk = study(base, "compare.curvature=null")
    assert [*shrunk.pipeline.only] == ["accuracy"]
    assert shrunk.notes == ("only.curvature is dropped (--set leaves out compare.curvature)",)


def test_the_scan_of_a_shorter_retraining(base: Path) -> None:
    shrunk = opened("digits-instability.yaml", ["retrain.recipe.length=60it"])
    assert [*map(str, shrunk.pipeline.prune.scan)] == ["0it", "10it", "50it"]
    assert shrunk.notes == ("prune.scan is without 100it, 200it (--set retrains for 60it)",)
    with pytest.raises(ConfigError, match=r"'prune.scan' in --set: the rewinding step 100it lies behind"):
        opened("digits-instability.yaml", ["retrain.recipe.length=60it", "prune.scan=[0it, 100it]"])


def test_a_file_that_extends_another_shrinks_it_as_well(base: Path) -> None:
    over = base.parent / "over.yaml"
    over.write_text("extends: base.yaml\nseeds: [0, 1]\narms: {shuffled: false}\n", encoding="utf-8")
    assert study(over).notes == (
        "only.accuracy.arms narrowed to [real] (over.yaml leaves out shuffled)",
        "only.accuracy.seeds narrowed to [0] (over.yaml leaves out 2)",
    )
    assert len(study(over, "seeds=[0]").notes) == 3


@pytest.mark.parametrize(
    ("more", "assignments", "place"),
    [
        ("only: {accuracy: {seeds: [0, 5]}}", ["seeds=[0, 1]"], "'only.accuracy.seeds' in base.yaml, line"),
        ("only: {acuracy: {seeds: [0]}}", ["seeds=[0, 1]"], "'only.acuracy' in base.yaml, line"),
        ("only: {accuracy: {arms: [reel]}}", ["arms.random=false"], "'only.accuracy.arms' in base.yaml, line"),
        ("", ["seeds=[0]", "only.accuracy.seeds=[0, 2]"], "'only.accuracy.seeds' in --set:"),
        ("", ["arms.synthetic=false", "versus=synthetic"], "'versus' in --set:"),
        ("", ["arms.synthetic=false", "arms.on.begins.arm=synthetic"], "'arms.on.begins.arm' in --set:"),
        ("versus: nobody", ["arms.synthetic=false"], "'versus' in base.yaml, line"),
    ],
)
def test_a_mistake_is_not_narrowed_away(base: Path, more: str, assignments: list[str], place: str) -> None:
    key = more.partition(":")[0]
    start = BASE.index(f"\n{key}:") + 1 if key else len(BASE)
    end = len(BASE) if key in ("only", "") else BASE.index("\n", start) + 1
    base.write_text(BASE[:start] + more + "\n" + BASE[end:], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        study(base, *assignments)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "assignments",
    [
        ["seeds=3"],
        ["arms=x"],
        ["arms={a: 3, b: false}"],
        ["only=3"],
        ["only.accuracy=3"],
        ["prune=[1]"],
        ["levels={a: 1}"],
        ["compare=[a]"],
        ["versus=[a]"],
        ["distill=[]", "tasks=3"],
        ["retrain=4"],
        ["prune.levels=[3]"],
        ["only.accuracy.seeds=[[0]]"],
    ],
)
def test_values_of_a_wrong_kind_are_left_to_be_refused(base: Path, assignments: list[str]) -> None:
    with pytest.raises(ConfigError):
        study(base, *assignments)


def test_notes_are_said_by_the_command(cli: tiny.Cli, base: Path, tmp_path: Path) -> None:
    done = cli("plan", base, "--store", tmp_path / "store", "--no-measure", "--set", "compare.curvature=null", "--json")
    assert done.code == 0 and done.out.startswith('{"artifacts"')
    assert done.err == "note: only.curvature is dropped (--set leaves out compare.curvature)\n"
