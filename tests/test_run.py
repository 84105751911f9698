"""Runs: equal bits under every executor, whatever is killed on the way, each artifact made once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest
import tiny
from torch import Tensor

from distill_prune.errors import DeviceError, NonFiniteError, RunError
from distill_prune.plan.graph import Graph, build
from distill_prune.progress import SILENT
from distill_prune.run import run as module
from distill_prune.run.devices import check_device
from distill_prune.run.events import Made
from distill_prune.run.reader import Reader
from distill_prune.run.worker import Worker, WorkProgress, conditions
from distill_prune.store import logs
from distill_prune.store.store import Store


def whole(store: Store) -> bool:
    """Nothing damaged, and nothing but artifacts where artifacts lie."""
    return tiny.damaged(store) == [] and not (store.root / ".damaged").exists()


def test_processes_make_the_bits_of_serial_though_a_worker_is_killed(empty: Store, finished: tuple[Store, Graph]) -> None:
    killed: list[int] = []

    def kill(n: int) -> None:
        if n == 5:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.pid or 0)
            victim.kill()

    watch = tiny.Watch(kill)
    _, report = tiny.execute(empty, executor="processes", workers=2, watch=watch)
    assert killed and tiny.gone(killed) and multiprocessing.active_children() == []
    assert report.made == len(finished[1].nodes) and whole(empty)
    assert tiny.contents(empty) == tiny.contents(finished[0])
    assert [w for w in watch.warnings if "its worker died (exit code -9); trying again" in w] == watch.warnings
    assert not list((empty.root / ".work").iterdir())


def test_a_worker_that_always_dies_ends_the_run(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __init__(self, *_: object) -> None:
            self.node: Any = None

        def room(self) -> int:
            return int(self.node is None)

        def submit(self, nodes: Any) -> None:
            (self.node,) = nodes

        def events(self, timeout: float) -> list[Any]:
            node, self.node = self.node, None
            return [module.Died(node.key, "exit code -9")]

        def close(self) -> None: ...

    monkeypatch.setattr(module, "make_executor", Dying)
    watch = tiny.Watch()
    with pytest.raises(RunError, match=r"(?s)its worker died \(exit code -9\), 3 times.*fewer --workers") as caught:
        tiny.execute(empty, watch=watch)
    assert caught.value.label == "data"
    assert logs.log_path(empty, watch.failures[0].key).read_text().count("its worker died (exit code -9)\n") == 3
    assert len(watch.warnings) == 2


def test_killed_drivers_leave_a_store_to_go_on_with(empty: Store, finished: tuple[Store, Graph], file: str) -> None:
    """kill -9 at three random moments, then a last run: bit-equal to the undisturbed store; no worker outlives its driver."""
    moments = random.Random(time.time_ns())
    arguments = ("run", file, "--store", str(empty.root), "--workers", "2")
    for _ in range(3):
        process = tiny.start(*arguments)
        stop = moments.randint(1, 12)
        seen = iter(range(stop))
        lines = tiny.lines_until(process, lambda line, seen=seen: next(seen, None) is None)  # type: ignore[misc]
        time.sleep(moments.random() * 0.2)
        workers = list(tiny.descendants(process.pid))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert tiny.gone(workers), (stop, lines)
        assert whole(empty), (stop, lines)
    watch = tiny.Watch()
    _, report = tiny.execute(empty, watch=watch)
    assert watch.warnings == [] and report.made + report.hits >= 21
    assert tiny.contents(empty) == tiny.contents(finished[0])


def test_two_runs_at_once_make_each_artifact_once(empty: Store, finished: tuple[Store, Graph], file: str) -> None:
    few = "compare={accuracy: {}, overlap: {}}"  # whose report is soon drawn
    graph = build(tiny.pipeline(few), empty)
    arguments = ("run", file, "--store", str(empty.root), "--executor", "serial", "--set", few, "--json")
    both = [tiny.start(*arguments) for _ in range(2)]
    done = []
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        done.append(json.loads(out))
    assert sum(d["made"] for d in done) == len(graph.nodes), done
    assert sum(d["elsewhere"] for d in done) > 0, "the runs did not overlap"
    found, serial = tiny.contents(empty), tiny.contents(finished[0])
    own = {name for name in found if graph.summary in name}
    assert own and {n: v for n, v in found.items() if n not in own} == {n: serial[n] for n in found.keys() - own}
    assert (empty.root / "reports" / "tiny" / "report.html").exists()


@pytest.mark.parametrize(("line", "number"), [("45 artifacts", signal.SIGINT), ("[2/45]", signal.SIGTERM)])
def test_an_interrupt_ends_cleanly(empty: Store, file: str, line: str, number: int) -> None:
    """While workers start, and while they work."""
    process = tiny.start("run", file, "--store", str(empty.root), "--workers", "2")
    tiny.lines_until(process, lambda seen: line in seen)
    time.sleep(0.5)
    workers = list(tiny.descendants(process.pid))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal interrupts everything in the foreground
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "interrupted; what was finished is kept, run again to go on\n")
    assert tiny.gone(workers) and whole(empty) and len(workers) >= 2


def test_a_failed_artifact_keeps_the_others(empty: Store) -> None:
    with pytest.raises(NonFiniteError, match="the training loss is not finite") as caught:
        tiny.execute(empty, "experts.recipe.lr=1e30", executor="processes", workers=1)
    assert caught.value.exit_code == 1 and caught.value.label in ("expert 0 and 1 more", "expert 1 and 1 more")
    assert empty.keys("data") and empty.keys("experts") == [] and whole(empty)
    assert empty.keys("retrain") and empty.keys("compare"), "what does not depend on experts was made"
    assert multiprocessing.active_children() == []


def test_what_fails_unforeseen_is_told_as_a_failed_run(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("distill_prune.run.worker.compute", breaks)
    with pytest.raises(RunError, match=r"\AZeroDivisionError: unforeseen") as caught:
        tiny.execute(empty)
    assert "breaks" in caught.value.trace and caught.value.label == "data"

    def too_much(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("distill_prune.run.worker.compute", too_much)
    with pytest.raises(RunError, match=r"\Aout of memory"):
        tiny.execute(empty)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", "gpu", ""):
        with pytest.raises(DeviceError, match=rf"(?s)there is no device '{device}' on this.*expected: cpu\n.*--device cpu"):
            check_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    for device in ("cuda:2", "cuda:x", "cudafoo"):
        with pytest.raises(DeviceError, match="expected: cpu, cuda:0, cuda:1"):
            check_device(device)


# only what is missing and needed


def test_a_second_run_makes_nothing(store: Store, graph: Graph) -> None:
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    watch = tiny.Watch()
    _, report = tiny.execute(store, watch=watch)
    assert (report.made, report.elsewhere, watch.made, watch.warnings) == (0, 0, [], [])
    assert report.hits == len(graph.nodes)
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("until", "stages"),
    [
        ("data", {"data"}),
        ("experts", {"data", "experts"}),
        ("distill", {"data", "experts", "distill"}),
        ("prune", {"data", "experts", "distill", "prune"}),
        ("retrain", {"data", "experts", "distill", "prune", "retrain"}),
    ],
)
def test_a_stage_is_a_goal(graph: Graph, empty: Store, until: str, stages: set[str]) -> None:
    wanted, missing = module.needed(graph, empty, until)
    assert wanted == missing == {k for k, n in graph.nodes.items() if n.stage in stages}


def test_what_nothing_missing_needs_is_not_made(store: Store, graph: Graph) -> None:
    shutil.rmtree(store.path("experts", tiny.node_of(graph, "expert 0").key))
    assert module.needed(graph, store, "compare")[1] == set()
    summary = graph.nodes[graph.summary]
    shutil.rmtree(store.path("compare", summary.key))
    shutil.rmtree(store.path("retrain", tiny.node_of(graph, "dense seed 0 copy 0").key))
    watch = tiny.Watch()
    tiny.execute(store, watch=watch)
    # the summary names its experts' costs, so they are made again; weights that are measured already are not
    assert [n.label for n in watch.made] == ["expert 0", "summary"]


def test_a_lost_set_is_made_again_from_its_experts(store: Store, graph: Graph, finished: tuple[Store, Graph]) -> None:
    shutil.rmtree(store.path("distill", graph.sets["synthetic"]))
    watch = tiny.Watch()
    tiny.execute(store, watch=watch, until="distill")
    assert [n.label for n in watch.made] == ["set synthetic"]
    assert tiny.contents(store) == tiny.contents(finished[0])


def test_the_longest_path_is_the_most_urgent(graph: Graph) -> None:
    rank = module.urgency(graph, graph.nodes, lambda node: 1.0)
    assert rank[graph.data] == max(rank.values()) == 8  # data, expert, set, 2 levels, copy, analysis, summary
    assert rank[graph.summary] == 1 and rank[tiny.node_of(graph, "expert 0").key] == 7


# resuming


class Interrupted(Exception):
    pass


class Stops(WorkProgress):
    """Saves whenever it may, and breaks the work after `times` snapshots."""

    def __init__(self, folder: Any, times: int) -> None:
        super().__init__(folder, lambda *_: None, save_seconds=0)
        self.times, self.loaded = times, False

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        super().save(tensors, numbers)
        self.times -= 1
        if not self.times:
            raise Interrupted

    def load(self) -> Any:
        found = super().load()
        self.loaded = found is not None
        return found


@pytest.mark.parametrize("label", ["set synthetic", "expert 1", "synthetic seed 0 level 1", "dense seed 0 copy 0"])
def test_interrupted_work_goes_on_bit_by_bit(store: Store, graph: Graph, label: str) -> None:
    """Interrupted after its first snapshot, and again after two more, by way of the files."""
    node = tiny.node_of(graph, label)
    before = tiny.contents(store)
    with conditions(1):
        for times in (1, 2):
            with pytest.raises(Interrupted):
                tiny.computed(node, Reader(store, "cpu"), Stops(store.work(node.key), times))
        assert (store.work(node.key) / "snapshot.safetensors").exists()
        last = Stops(store.work(node.key), 0)
        tiny.computed(node, Reader(store, "cpu"), last)
        assert last.loaded
    shutil.rmtree(store.path(node.stage, node.key))
    assert isinstance(Worker(store, "cpu").make([node], lambda event: None)[0], Made)  # from the snapshot, through the store
    assert tiny.contents(store) == before and not store.work(node.key).exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a snapshot"])
def test_a_broken_snapshot_begins_again(store: Store, graph: Graph, content: bytes) -> None:
    node, before = tiny.node_of(graph, "set synthetic"), tiny.contents(store)
    shutil.rmtree(store.path(node.stage, node.key))
    store.work(node.key).mkdir()
    (store.work(node.key) / "snapshot.safetensors").write_bytes(content)
    assert isinstance(Worker(store, "cpu").make([node], lambda event: None)[0], Made)
    assert tiny.contents(store) == before


@pytest.mark.parametrize("label", ["set synthetic", "synthetic seed 0 level 1", "curvature of dense seed 0"])
def test_bits_do_not_depend_on_what_fresh_memory_holds(store: Store, graph: Graph, label: str) -> None:
    """Fresh memory is not filled under the conditions of a run, and filling it changes no bit."""
    import torch

    memory, node = torch.utils.deterministic, tiny.node_of(graph, label)
    results = []
    for filled in (False, True):
        with conditions(1):
            assert not memory.fill_uninitialized_memory
            memory.fill_uninitialized_memory = filled
            results.append(tiny.computed(node, Reader(store, "cpu"), SILENT))
        assert memory.fill_uninitialized_memory, "what was before is put back"
    one, other = results
    assert one.numbers == other.numbers and one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(t, other.tensors[n]) for n, t in one.tensors.items())
