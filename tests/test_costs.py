"""What a study takes: prices seen, tried and guessed; the outlook made of them; and the words of `plan`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from tiny import Cli

from distill_prune.cli import planning
from distill_prune.data import survey
from distill_prune.data.npz import Settings as Npz
from distill_prune.data.source import Source
from distill_prune.plan.alike import work_of
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run import devices, pilot
from distill_prune.run import imagined as imagined_module
from distill_prune.run.imagined import Imagined
from distill_prune.run.pilot import INNER_STEPS, _shortened, _Stopped, _Watch, measured
from distill_prune.store.store import Store
from distill_prune.study import costs
from distill_prune.study.costs import Memory, Price, prices
from distill_prune.study.further import further
from distill_prune.study.outlook import arms_of, outlook


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_watch_says_how_long_the_whole_takes() -> None:
    """Ten steps of 0.2 s after 3 s of preparation, of which it sees two."""
    times = iter([0.0, 3.2, *(3.2 + 0.2 * i for i in range(1, 10))])
    watch = _Watch(lambda: next(times))
    watch.tick(1, 10)
    with pytest.raises(_Stopped) as stopped:
        for step in range(2, 11):
            watch.tick(step, 10)
    assert stopped.value.seconds == pytest.approx(3.2 + 9 * 0.2)


def test_a_step_that_takes_too_long_stands_for_the_others() -> None:
    times = iter([0.0, 2.0])
    watch = _Watch(lambda: next(times))
    watch.tick(1, 5)
    with pytest.raises(_Stopped) as stopped:
        watch.stop()
    assert stopped.value.seconds == pytest.approx(10.0)
    times = iter([1.0, 16.0])
    with pytest.raises(_Stopped) as silent:
        _Watch(lambda: next(times)).stop()
    assert silent.value.seconds == pytest.approx(15.0)


def test_work_that_is_stopped_late_counts_what_it_reported() -> None:
    """The first of ten steps takes 2 s, for it prepares; the next one takes 0.1 s."""
    times = iter([0.0, 2.0, 2.1])
    watch = _Watch(lambda: next(times))
    watch.tick(1, 10)
    with pytest.raises(_Stopped) as stopped:
        watch.tick(2, 10)
    assert stopped.value.seconds == pytest.approx(2.0 + 9 * 0.1)


def test_a_part_of_large_data_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image takes 2 ms and each call 1 s more."""
    y = np.arange(4_000) % 4
    np.savez(tmp_path / "a.npz", x=np.zeros((len(y), 4, 4), np.uint8), y=y)
    now, rows = [0.0], list[int]()

    def prepare(source: Source) -> SimpleNamespace:
        seen = survey(source)
        assert seen is not None
        rows.append(sum(seen.splits))
        now[0] += 1.0 + 0.002 * rows[-1]
        return SimpleNamespace(split=range(rows[-1]))

    monkeypatch.setattr(pilot, "prepare", prepare)
    source = Npz(path=str(tmp_path / "a.npz"))
    assert pilot.prepared(source, lambda: now[0]) == pytest.approx(1.0 + 0.002 * 4_000) and max(rows) < 2_500
    few = source.model_copy(update={"rows": 400, "test_rows": 100})
    assert pilot.prepared(few, lambda: now[0]) == pytest.approx(1.0 + 0.002 * 500)


def test_few_inner_steps_stand_for_many(graph: Graph) -> None:
    longer, shorter = _shortened(graph.nodes[graph.sets["synthetic"]])
    assert longer == 3 / INNER_STEPS and dict(shorter.job)["method"].inner_steps == INNER_STEPS
    assert _shortened(tiny.node_of(graph, "expert 0"))[0] == 1.0


@pytest.mark.parametrize(
    ("sets", "mb"),
    [
        ([], 150.0),
        (["distill.synthetic.memory_gb=0.12"], 0.12e9 / 2**20),
        (["distill.synthetic.segment=1"], 100.0),
        (["distill.synthetic.inner=adam"], 150.0),
    ],
)
def test_all_inner_steps_keep_memory_as_far_as_there_is(sets: list[str], mb: float, empty: Store) -> None:
    graph = build(tiny.pipeline(*sets), empty)
    node = graph.nodes[graph.sets["synthetic"]]
    assert pilot._kept(node, _shortened(node)[0], 100.0) == pytest.approx(mb)


def test_what_is_made_up_keeps_to_the_threads_of_the_pipeline(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, threads = build(tiny.pipeline(), empty), list[int]()
    train = imagined_module.train_alone
    monkeypatch.setattr(imagined_module, "train_alone", lambda *a: threads.append(torch.get_num_threads()) or train(*a))
    torch.set_num_threads(2)
    try:
        Imagined(graph, empty, "cpu").size(tiny.node_of(graph, "dense seed 0 copy 0"))
    finally:
        torch.set_num_threads(1)
    assert threads == [1]


def test_every_kind_of_work_can_be_tried_without_a_store(empty: Store) -> None:
    graph = build(tiny.pipeline(), empty)
    imagined = Imagined(graph, empty, "cpu")
    kinds = {node.kind: node for node in graph.nodes.values() if node.kind != "compare summary"}
    trials = {kind: measured(node, imagined) for kind, node in kinds.items()}
    assert [kind for kind, trial in trials.items() if trial is None] == []
    assert all(trial and 0 <= trial.seconds < 20 and trial.mb > 50 for trial in trials.values())
    assert not list(empty.all())


def test_sizes_of_what_is_not_made_yet(store: Store, empty: Store, graph: Graph) -> None:
    imagined = Imagined(build(tiny.pipeline(), empty), empty, "cpu")
    for node in graph.nodes.values():
        if node.stage != "compare":
            files = store.manifest(node.stage, node.key).files
            assert imagined.size(node) == pytest.approx(sum(f.size for f in files.values()), rel=0.6, abs=6000)


def test_what_was_seen_comes_before_what_is_tried(store: Store, graph: Graph) -> None:
    known = prices(graph, store, try_out=lambda nodes: pytest.fail("tried"))
    assert {price.known for price in known.values()} == {"seen"}
    experts = [tiny.node_of(graph, f"expert {i}").key for i in range(2)]
    spent = [store.manifest("experts", key).seconds for key in experts]
    assert known[experts[0]].seconds == known[experts[1]].seconds == pytest.approx(sum(spent) / 2, abs=0.1)


def test_more_seeds_cost_what_the_first_did(store: Store) -> None:
    grown = build(tiny.pipeline("seeds=[0,1]"), store)
    known = prices(grown, store)
    assert {known[key].known for key, node in grown.nodes.items() if node.stage in ("prune", "retrain")} == {"seen"}


def test_what_was_tried_is_remembered(empty: Store, cache: Path) -> None:
    graph, heard = build(tiny.pipeline(), empty), list[Collection[Node]]()
    first = prices(graph, empty, try_out=heard.append)
    again = prices(graph, empty, try_out=heard.append)
    assert len(heard) == 1 and first == again and len({work_of(node, graph.nodes) for node in heard[0]}) == len(heard[0])
    assert {price.known for key, price in first.items() if key != graph.summary} == {"tried"}
    (cache / "distill-prune" / "prices.json").write_text('{"a": {"b": [1]}}')
    assert prices(graph, empty)[graph.summary] == first[graph.summary]  # what cannot be read is forgotten
    assert {price.known for price in prices(graph, empty).values()} == {"guessed"}


def test_a_cache_that_cannot_be_written_is_no_error(empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    memory = Memory.of("cpu")
    memory.add({"work": Price(1.0, "tried", 2.0, 3)})
    assert memory.prices == {"work": Price(1.0, "tried", 2.0, 3)} and Memory.of("cpu").prices == {}


def test_an_outlook_adds_up(graph: Graph) -> None:
    missing = {graph.sets["synthetic"], graph.summary}
    known = {key: Price(2.0, "seen", 100.0, 10) for key in graph.nodes}
    view = outlook(graph, missing, known, workers=2)
    assert sum(line.artifacts for line in view.lines) == len(graph.nodes)
    assert sum(line.hits for line in view.lines) == len(graph.nodes) - 2
    assert view.work == pytest.approx(4.0) and view.bytes == 20 and view.mb == 100.0
    assert view.low < view.high and not view.can_claim and view.seeds == 1
    assert sum(line.missing_seconds for line in view.lines) == pytest.approx(view.work)


def test_one_long_path_is_no_shorter_on_many_workers(empty: Store) -> None:
    graph = build(tiny.pipeline(), empty)
    known = {key: Price(1000.0 if node.stage == "distill" else 0.0, "seen") for key, node in graph.nodes.items()}
    one, many = (outlook(graph, graph.nodes.keys(), known, workers) for workers in (1, 64))
    assert many.low > 0.8 * 1000 and one.low > 1.5 * many.low


def test_artifacts_belong_to_arms(graph: Graph) -> None:
    arms = arms_of(graph)
    assert arms[graph.sets["synthetic"]] == "synthetic" and arms[graph.data] == arms[tiny.node_of(graph, "dense seed 0").key]
    assert {arms[key] for (arm, _), chain in graph.chains.items() if arm == "random" for key in list(chain.values())[1:]} == {
        "random"
    }


def test_what_a_claim_would_take(store: Store, graph: Graph) -> None:
    more = further(graph, store, workers=2)
    assert more is not None and more["option"] == "--set seeds=[0,1,2,3,4,5]" and more["artifacts"] > 5 * 10
    assert further(build(tiny.pipeline("seeds=[3,4,5,6,7,8]"), store), store, 2) is None


def test_the_command(cli: Cli, store: Store, tmp_path: Path) -> None:
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(tiny.TINY)
    words = cli("plan", str(pipeline), "--store", str(store.root)).out
    assert "0 misses" in words and "no difference can be claimed; from 6 on it can" in words
    missing = cli("plan", str(pipeline), "--store", str(tmp_path / "new"), "--no-measure")
    assert "time  " in missing.out and "disk      not known of " in missing.out and missing.err == ""
    assert all(len(line) <= 100 for line in missing.out.splitlines())
    listed = cli("plan", str(pipeline), "--store", str(store.root), "--all").out.splitlines()
    assert sum(line.startswith("hit ") for line in listed) > 20
    document = json.loads(cli("plan", str(pipeline), "--store", str(store.root), "--json").out)
    assert {a["status"] for a in document["artifacts"]} == {"hit"}


def test_memory_and_disk_that_do_not_suffice_are_said(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {key: Price(2.0, "seen", 100.0, 10**6) for key in graph.nodes}
    view = outlook(graph, graph.nodes.keys(), known, workers=4)

    def words(memory: int, free: int) -> dict[str, str]:
        monkeypatch.setattr(devices, "memory", lambda: memory)
        return {line.split()[0]: line for line in planning._lines(view, graph, free) if line}

    enough, scarce = words(2**40, 10**12), words(250 * 2**20, 5 * 10**6)
    assert enough["memory"].endswith("MiB a worker") and enough["disk"].endswith(" MB")
    assert scarce["memory"].endswith("about 100 MiB a worker, and this machine has 250 MiB: --workers 2")
    assert scarce["disk"].endswith(f"about {len(graph.nodes)} MB, and 5.0 MB are free")
    few = outlook(graph, graph.nodes.keys(), dict.fromkeys(graph.nodes, Price(2.0, "seen", 100.0, 1000)), workers=4)
    assert planning._disk(few, len(graph.nodes)) == f"about {len(graph.nodes)} kB"


def test_lanes_that_are_left_over_are_paid_by_those_that_are_used(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "tried", lambda graph, store, nodes: dict.fromkeys(nodes, Price(1.0, "tried")))
    graph = build(tiny.pipeline("lanes=4", "seeds=[0,1,2]"), empty)
    known = prices(graph, empty, try_out=lambda nodes: None)
    level, copies = (tiny.node_of(graph, f"real seed 0 level 2{copy}").key for copy in ("", " copy 0"))
    assert known[level].seconds == pytest.approx(4 / 3)  # three seeds in four lanes
    alike = [k for k, n in graph.nodes.items() if n.stage == "retrain" and "level 2" in n.label and "random" not in n.label]
    assert len(alike) == 18 and known[copies].seconds == pytest.approx(4 * 5 / 18)
    assert known[graph.sets["synthetic"]].seconds == 1.0


def test_a_training_takes_a_lane_of_several_and_an_evaluation_all(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilot, "_seconds", lambda node, imagined: 8.0)
    graph = build(tiny.pipeline("lanes=4"), empty)
    nodes = [tiny.node_of(graph, "dense seed 0 copy 0"), graph.nodes[graph.evaluations["subset"]]]
    trials = [measured(node, Imagined(graph, empty, "cpu")) for node in nodes]
    assert [trial.seconds for trial in trials if trial is not None] == [2.0, 8.0]


def test_the_guess_of_an_evaluation_counts_its_trainings(empty: Store) -> None:
    """Five networks of 1,000 steps take five times as long as one."""
    long = "compare.evaluation.length=1000it"
    one, five = (build(tiny.pipeline(long, f"compare.evaluation.nets={n}"), empty) for n in (1, 5))
    first, fifth = (costs.guess(g.nodes[g.set_measures[0].key]) - 0.05 for g in (one, five))
    assert fifth == pytest.approx(5 * first) and first > 0.5
