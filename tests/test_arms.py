"""Arms of the grid: controls, one-shot, chains that go on from another's, and scans of the rewinding step."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from distill_prune.duration import NONE
from distill_prune.errors import ConfigError
from distill_prune.plan.arms import Arm, Begin, ControlOf, placed
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.reader import Reader
from distill_prune.store.store import Store
from distill_prune.study.study import read

ALL = (
    "arms.shuffled={control: {of: real, kind: shuffled}}",
    "arms.layers={control: {of: synthetic, kind: random}}",
    "arms.again={control: {of: real, kind: reinitialised}}",
    "arms.signs={control: {of: synthetic, kind: signs}}",
    "arms.at_once={one_shot: true}",
    "arms.on={begins: {arm: synthetic, level: 1}}",
    "arms.snip={criterion: {name: snip, rows: 50}, one_shot: true}",
    "arms.snip_on_set={criterion: {name: snip}, images: synthetic}",
    "arms.synflow={criterion: {name: synflow, rounds: 3}}",
    "arms.early={criterion: {name: initial_magnitude}}",
)


def of(*assignments: str) -> Graph:
    return build(tiny.pipeline(*assignments), Store("/nonexistent"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Store]:
    store = Store(tmp_path_factory.mktemp("s") / "store", create=True)
    return tiny.execute(store, *ALL, "compare.overlap=null", "compare.evaluation=null")[0], store


def test_more_arms_leave_every_other_artifact_as_it_is() -> None:
    before, after = of(), of(*ALL)
    assert set(before.nodes) - {before.summary} < set(after.nodes)


def test_all_arms_have_the_same_counts(made: tuple[Graph, Store]) -> None:
    graph, store = made
    counts = {arm: store.numbers("prune", chain[2])["remaining"] for (arm, _), chain in graph.chains.items()}
    assert len(counts) == 14 and len(set(counts.values())) == 1, counts


def test_controls_are_their_parents_with_one_thing_taken_away(made: tuple[Graph, Store]) -> None:
    graph, store = made
    reader = Reader(store, "cpu")
    real, shuffled, again = (reader.ticket(graph.chains[a, 0][2]) for a in ("real", "shuffled", "again"))
    assert shuffled.mask.layers() == real.mask.layers()
    assert any(not torch.equal(shuffled.mask.kept[n], k) for n, k in real.mask.kept.items())
    assert all(torch.equal(again.mask.kept[n], k) for n, k in real.mask.kept.items())
    name = next(iter(real.mask.kept))
    kept = real.mask.kept[name]
    assert not torch.equal(again.state[name][kept], real.state[name][kept])
    signs, learned = (reader.ticket(graph.chains[a, 0][2]) for a in ("signs", "synthetic"))
    copy = reader.state(graph.unit("synthetic", graph.chains["synthetic", 0][2]).copies[0])
    assert all(torch.equal(signs.mask.kept[n], k) for n, k in learned.mask.kept.items())
    for n, k in learned.mask.kept.items():
        assert torch.equal(signs.state[n].sign()[k], copy[n].sign()[k])
        if bool((k & again.mask.kept[n]).any()):
            both = k & again.mask.kept[n]
            assert torch.equal(signs.state[n][both].abs(), again.state[n][both].abs())
    synthetic, layers = (reader.ticket(graph.chains[a, 0][2]) for a in ("synthetic", "layers"))
    assert layers.mask.layers() == synthetic.mask.layers()


def test_controls_start_at_the_parents_dense_network(made: tuple[Graph, Store]) -> None:
    graph, _ = made
    assert len({chain[0] for chain in graph.chains.values()}) == 1
    assert len([n for n in graph.nodes.values() if n.kind == "dense"]) == 2  # the other draw of the re-initialised one


def test_a_chain_goes_on_from_anothers(made: tuple[Graph, Store]) -> None:
    graph, store = made
    on, synthetic = graph.chains["on", 0], graph.chains["synthetic", 0]
    assert on[1] == synthetic[1] and on[2] != synthetic[2]
    reader = Reader(store, "cpu")
    assert reader.ticket(on[2]).mask.inside(reader.ticket(synthetic[1]).mask)


def test_one_shot_at_level_one_is_the_chain_itself() -> None:
    graph = of(*ALL, "levels=[1, 2]")
    assert graph.chains["at_once", 0][1] == graph.chains["real", 0][1]
    assert graph.nodes[graph.chains["at_once", 0][2]].inputs["previous"] == graph.chains["real", 0][0]


def test_one_shot_masks_nest(tmp_path: Path) -> None:
    graph, _ = tiny.execute(
        store := Store(tmp_path / "s", create=True), "arms.at_once={one_shot: true}", "levels=[1, 2]", until="prune"
    )
    reader = Reader(store, "cpu")
    first, second = (reader.ticket(graph.chains["at_once", 0][level]).mask for level in (1, 2))
    assert second.inside(first) and second.remaining < first.remaining


def test_costs_leave_controls_out_and_count_one_training_of_one_shot(made: tuple[Graph, Store]) -> None:
    graph, store = made
    costs = {c["arm"]: c["search"] for c in store.numbers("compare", graph.summary)["costs"]}
    assert costs["shuffled"] is None and costs["again"] is None
    assert costs["at_once"]["steps"] == 8 and costs["real"]["steps"] == 16
    assert costs["on"]["steps"] == 6 + 8
    assert costs["early"]["steps"] == 0


def test_the_study_lists_every_ticket(made: tuple[Graph, Store]) -> None:
    graph, store = made
    study = read("tiny", graph, store)
    assert {(t["arm"], t["level"]) for t in study.tickets} == {(u.arm, u.level) for u in graph.units}
    ticket = next(t for t in study.tickets if t["arm"] == "shuffled" and t["level"] == 2)
    assert ticket["key"] == graph.chains["shuffled", 0][2] and ticket["accuracy"] is not None and ticket["k"] == "0it"


# -- scans


SCAN = ("prune.scan=[0it, 2it, 4it]", "arms.again={control: {of: real, kind: reinitialised}}", "arms.subset=false")


def test_a_scan_has_every_arm_at_every_step() -> None:
    graph = of(*SCAN)
    arms = [a for a, _ in graph.chains]
    assert arms[:4] == ["real", "synthetic", "random", "again"]
    assert {"real@2it", "again@4it", "synthetic@2it"} < set(arms) and len(arms) == 12
    dense = {a: chain[0] for (a, _), chain in graph.chains.items()}
    assert dense["real@2it"] == dense["synthetic@2it"] != dense["real"]
    copy = next(u for u in graph.units if u.arm == "real@4it").copies[0]
    assert graph.nodes[copy].job.first == "4it"  # type: ignore[attr-defined]
    assert graph.nodes[graph.chains["again@2it", 0][2]].inputs["of"] == graph.chains["real@2it", 0][2]


def test_a_scan_leaves_the_first_step_as_it_is() -> None:
    before, after = of(*SCAN[1:]), of(*SCAN)
    assert set(before.nodes) - {before.summary} < set(after.nodes)


def test_masks_of_a_scan_are_compared_at_one_step() -> None:
    graph = of(*SCAN)
    pairs = {(b.unit.arm, b.other.arm) for b in graph.betweens if b.kind == "arms"}
    assert ("synthetic@2it", "real@2it") in pairs and ("synthetic", "real") in pairs
    assert not any(("@" in a) != ("@" in b) for a, b in pairs)


def test_the_summary_of_a_scan_knows_its_steps(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", create=True)
    graph, _ = tiny.execute(
        store, *SCAN, "seeds=[0, 1, 2]", "compare={accuracy: {}, connectivity: {points: 3, train_rows: 50}}"
    )
    found = store.numbers("compare", graph.summary)
    steps = {(r["arm"], r["level"]): [] for r in found["scan"]}
    for r in found["scan"]:
        steps[r["arm"], r["level"]].append(r["k"])
    assert steps["real", 2] == ["0it", "2it", "4it"]
    assert {o["arm"] for o in found["onset"]} >= {"real", "synthetic", "random", "again"}


def test_an_arm_has_its_own_step() -> None:
    graph = of("arms.late={k: 4it}", "arms.again={control: {of: late, kind: reinitialised}}", "prune.scan=[0it, 2it]")
    arms = [a for a, _ in graph.chains]
    assert "late@2it" not in arms and "again@2it" not in arms
    unit = next(u for u in graph.units if u.arm == "again" and u.level)
    assert graph.nodes[unit.copies[0]].job.first == "4it"  # type: ignore[attr-defined]


# -- a part of the grid


def test_an_analysis_of_a_part_of_the_grid() -> None:
    graph = of("only={curvature: {arms: [synthetic], levels: [2]}}")
    with_it = {(u.arm, u.level) for u in graph.units if "curvature" in u.measured}
    assert with_it == {("synthetic", 2)}
    keys = {u.measured["curvature"] for u in graph.units if "curvature" in u.measured}
    assert keys < set(of().nodes), "what is left out changes no key of what is made"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("only={nothing: {}}", "'only.nothing' in .*`compare` has no analysis"),
        ("only={accuracy: {arms: [reel]}}", "'only.accuracy.arms' in .*no arm reel(?s:.*)one of: .*real"),
        ("only={accuracy: {levels: [1]}}", r"'only.accuracy.levels' in .*no level 1(?s:.*)one of: 0, 2"),
        ("only={accuracy: {seeds: [5]}}", "'only.accuracy.seeds' in .*no seed 5"),
        (
            "arms.a={control: {of: reel, kind: shuffled}}",
            "'arms.a.control.of' in .*no arm(?s:.*)got: +reel(?s:.*)did you mean 'real'",
        ),
        ("arms.a={control: {of: a, kind: shuffled}}", "'arms.a' in tiny.yaml: the arm is made from itself(?s:.*)a -> a"),
        ("arms.a={control: {of: real, kind: shuffled}, images: synthetic}", "leave out images, recipe, criterion"),
        (
            "arms.a={control: {of: real, kind: flipped}}",
            "(?s)'arms.a.control.kind' in .*one of: intersection, permuted, random, reinitialised, shuffled, signs, swapped, "
            "transferred",
        ),
        (
            "arms.a={control: {of: real, kind: random, mask: false}}",
            "mask' in .*it belongs to kind signs, and the kind is random",
        ),
        (
            "arms.a={control: {of: real, kind: random, norms: kept}}",
            "norms' in .*it belongs to kind signs, and the kind is random",
        ),
        ("arms.a={begins: {arm: synthetic, level: 3}}", "'arms.a.begins.level' in .* chains end at level 2(?s:.*)got: +3"),
        ("arms.a={begins: {arm: synthetic, level: 1}, one_shot: true}", "one_shot prunes the dense network"),
        ("arms.a={criterion: {name: snip}, recipe: prune}", "the criterion 'snip' trains on nothing(?s:.*)leave out recipe"),
        ("arms.a={criterion: {name: synflow}, images: synthetic}", "trains on nothing(?s:.*)leave out images and recipe"),
        ("arms={real: {}, a@2it: {}}", "'@' stands for a rewinding step of a scan"),
        ("prune.scan=[2it, 2it]", "a rewinding step is given twice"),
        ("prune.scan=[20it]", "the rewinding step 20it lies behind the end of the schedule"),
        ("arms.a={k: 20it}", "the rewinding step 20it lies behind the end of the schedule"),
    ],
)
def test_arms_that_mean_nothing(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.pipeline(assignment)


def control(of: str) -> Arm:
    return Arm(control=ControlOf(of=of, kind="shuffled"))


def test_an_arm_comes_after_the_one_that_it_is_made_from_and_else_as_the_file_has_it() -> None:
    arms = {"a": control("d"), "b": control("a"), "c": Arm(), "d": Arm(), "e": control("c")}
    assert list(placed(arms, NONE, ())) == ["c", "d", "a", "b", "e"]
    many = {str(i): control(str(i - 1)) if i else Arm() for i in reversed(range(500))}
    assert list(placed(many, NONE, ())) == [str(i) for i in range(500)]


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"real": Arm(), "a": control("b"), "b": control("a")}, r"arms\.a: the arm is made from itself: got a -> b -> a$"),
        ({"on": control("round"), "round": control("round")}, r"arms\.round: the arm is made from itself: got round -> round$"),
        ({"a": control("c")}, r"arms\.a\.control\.of: no arm has this name: got c: one of: a"),
        ({"a": Arm(begins=Begin(arm="c", level=1))}, r"arms\.a\.begins\.arm: no arm has this name: got c"),
    ],
)
def test_arms_that_come_from_nowhere_are_named_before_they_are_placed(arms: dict[str, Arm], message: str) -> None:
    """Also where nobody called `check`."""
    with pytest.raises(ValueError, match=message):
        placed(arms, NONE, ())


def test_false_leaves_an_inherited_arm_or_set_out() -> None:
    graph = of("arms.subset=false", "distill.subset=false")
    assert "subset" not in {a for a, _ in graph.chains} and "subset" not in graph.sets
    assert graph.nodes.keys() - {graph.summary} < of().nodes.keys()
