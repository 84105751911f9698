"""The Ray executor: serial's bits whatever dies, errors as local ones, nothing left behind, and nodes that cannot be used.

A cluster of two workers is started once. `bench/ray_cluster.py` does the same with three nodes, of which one is killed.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from reference_plugins import LOUD
from tiny import Cli

from distill_prune.errors import DeviceError, NonFiniteError, StoreError, UserError
from distill_prune.plan.graph import Graph, build
from distill_prune.run import ray_cluster, ray_workers
from distill_prune.run.executors import make_executor
from distill_prune.run.ray_cluster import Share, address, describe, share, workers_for
from distill_prune.run.ray_workers import KEPT_LINES, Lines, check_store, check_versions
from distill_prune.store.housekeeping import busy
from distill_prune.store.store import Store


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of this machine's own, with two GPUs in name."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    names = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_worker_niceness", "RAY_USAGE_STATS_ENABLED")
    before = {name: os.environ.pop(name, None) for name in names}
    with ray_cluster.connection(4, 2) as ray:
        yield ray
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def makers() -> list[int]:
    """Every worker of a Ray cluster on this machine that is below this process."""
    found = []
    for pid in tiny.descendants(os.getpid()):
        try:
            found += [pid] if Path(f"/proc/{pid}/cmdline").read_text().startswith("ray::Maker") else []
        except OSError:
            continue
    return found


def held(store: Store) -> list[str]:
    return [path.name for path in (store.root / ".locks").iterdir() if busy(store, path.name)]


def released(store: Store, within: float = 10.0) -> bool:
    """Whether all locks are free in time: one is held until the last thread of a killed process is."""
    end = time.monotonic() + within
    while held(store) and time.monotonic() < end:
        time.sleep(0.05)
    return not held(store)


def test_ray_makes_the_bits_of_serial_though_a_worker_is_killed(
    cluster: Any, empty: Store, finished: tuple[Store, Graph]
) -> None:
    killed: list[int] = []

    def kill(n: int) -> None:
        if n == 5:
            killed.append(makers()[0])
            os.kill(killed[0], signal.SIGKILL)

    watch = tiny.Watch(kill)
    _, report = tiny.execute(empty, executor="ray", workers=2, watch=watch)
    assert report.made == len(finished[1].nodes) and tiny.damaged(empty) == []
    assert tiny.contents(empty) == tiny.contents(finished[0])
    # the killed one may have been idle
    assert [w for w in watch.warnings if "its worker died (on the Ray node " in w and "trying again" in w] == watch.warnings
    assert tiny.gone(makers()) and released(empty)
    assert not list((empty.root / ".work").iterdir()) and not list((empty.root / ".locks").glob("ray-*"))


def test_ticks_and_errors_are_those_of_local_workers(cluster: Any, empty: Store) -> None:
    ticks: list[tuple[str, int, int]] = []

    class Watch(tiny.Watch):
        def ticked(self, node: Any, done: int, total: int, note: str) -> None:
            ticks.append((node.label, done, total))

    tiny.execute(empty, "experts.recipe.length=60ep", until="experts", executor="ray", workers=2, watch=Watch())
    assert {label for label, *_ in ticks} <= {"expert 0", "expert 1"}
    assert ticks and all(0 < done <= total for _, done, total in ticks), ticks
    with pytest.raises(NonFiniteError, match=r"\Athe training loss is not finite") as caught:
        tiny.execute(empty, "experts.recipe.lr=1e30", executor="ray", workers=1)
    assert caught.value.exit_code == 1 and caught.value.label in ("expert 0 and 1 more", "expert 1 and 1 more")
    assert len(empty.keys("experts")) == 2 and tiny.damaged(empty) == [] and not held(empty)


def test_a_dead_driver_leaves_nothing_at_work_and_an_interrupt_ends_cleanly(
    cluster: Any, empty: Store, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers of an existing cluster, of whose workers they are not the parents."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.get_runtime_context().gcs_address)
    long = ("--set", "retrain.recipe.length=1000000it")
    for number in (signal.SIGINT, signal.SIGKILL):
        process = tiny.start("run", file, "--store", str(empty.root), "--executor", "ray", "--workers", "2", *long)
        tiny.lines_until(process, lambda line: " artifacts: " in line)
        end = time.monotonic() + 30
        while len(held(empty)) < 5 and time.monotonic() < end:  # two artifacts, and the three that the driver holds
            time.sleep(0.05)
        workers = makers()
        assert len(workers) == 2
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
        code, said = (130, "interrupted; what was finished is kept, run again to go on\n"), (-9, "")
        assert (process.returncode, err) == (code if number == signal.SIGINT else said)
        assert tiny.gone(workers) and released(empty) and tiny.damaged(empty) == [], number


def test_plugins_and_what_they_print_reach_workers_and_driver(
    cluster: Any, empty: Store, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    monkeypatch.setenv("RAY_ADDRESS", cluster.get_runtime_context().gcs_address)
    monkeypatch.chdir(tmp_path)
    arms = "arms={real: {images: real, criterion: {name: loud}}}"
    process = tiny.start(
        *("--plugin", "loud", "prune", file, "--store", "empty", "--executor", "ray", "--workers", "1"),
        *("--set", arms, "--set", "distill={}", "--set", "levels=[1]", "--set", "compare={}"),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    for line in ("louder than words", "and to the other stream"):
        assert err.count(f"real seed 0 level 1: {line}\n") == 1, err
    assert "prune" in out and len(empty.keys("prune")) == 3


def test_lines_that_the_mailbox_did_not_bring_in_time_come_with_the_answer() -> None:
    lines = Lines()
    assert lines.since(0) == []
    for number in range(KEPT_LINES + 5):
        lines.add(str(number))
    count = KEPT_LINES + 5
    assert lines.since(count) == [] and lines.since(count - 2) == [str(count - 2), str(count - 1)]
    assert lines.since(0) == [str(number) for number in range(5, count)]


# what cannot be used


def test_nodes_that_cannot_be_used_are_named_without_a_traceback(
    cluster: Any, empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_prune.run.worker.versions", lambda: {"torch": "1.0"})
    executor = make_executor("ray", empty, "cpu", 1, 1, lambda event: None)
    try:
        with pytest.raises(UserError, match=r"(?s)\Athe Ray node \S+ has other versions.*expected:.*torch 1.0.*same environ"):
            while not executor.room():
                time.sleep(0.05)
    finally:
        executor.close()
    with pytest.raises(UserError, match=r"(?s)no node of the Ray cluster has room.*got:.*4 CPUs, 2 GPUs.*expected: 64 CPUs"):
        make_executor("ray", empty, "cpu", 1, 64, lambda event: None)
    assert not held(empty) and not list((empty.root / ".locks").glob("ray-*"))


def test_versions_that_differ() -> None:
    check_versions("n", {"torch": "2"}, {"torch": "2"})
    with pytest.raises(UserError, match=r"(?s)node n .*got: +numpy missing, torch 2\n.*expected: numpy 1, torch 3"):
        check_versions("n", {"torch": "2", "python": "3"}, {"torch": "3", "numpy": "1", "python": "3"})


def test_a_store_that_a_node_does_not_see(empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "BEHIND_SECONDS", 0.2)
    other = Store(tmp_path / "other", create=True)
    with empty.lock("ray-1"):
        check_store("n", empty.root, "ray-1")
        for elsewhere in (other.root, tmp_path / "none"):
            with pytest.raises(StoreError, match=r"(?s)is not there on the Ray node n, or is another.*same path on every"):
                check_store("n", elsewhere, "ray-1")
        assert not (tmp_path / "none").exists() and not list((other.root / ".locks").iterdir())


def test_a_store_whose_locks_do_not_hold(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty.root / ".locks" / "ray-1").touch()
    with pytest.raises(StoreError, match=r"(?s)do not hold on the Ray node n.*that the driver holds could be taken.*flock"):
        check_store("n", empty.root, "ray-1")

    def unable(self: Store, key: str) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(Store, "lock", unable)
    with pytest.raises(StoreError, match="no flock here"):
        check_store("n", empty.root, "ray-1")


def test_shares_of_gpus() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "memory": 1e9}]
    assert share(nodes, "cpu", 2, None) == Share(2, 0.0) and Share(2, 0.0).places(nodes) == 4 + 2 + 1
    assert share(nodes, "cuda", 1, None) == Share(1, 1.0) and Share(1, 1.0).places(nodes) == 3
    assert share(nodes, "cuda", 1, 2) == Share(1, 1.0)
    assert share(nodes, "cuda", 1, 4).gpus == 0.5  # 2 a GPU, for 4 do not fit on 3
    third = share(nodes, "cuda", 1, 9)
    assert third == Share(1, 0.3333) and third.places(nodes) == 3 + 4  # the second node has 4 CPUs alone
    with pytest.raises(DeviceError, match=r"(?s)does not take 'cuda:1'.*Ray chooses which"):
        share(nodes, "cuda:1", 1, None)
    with pytest.raises(DeviceError, match="no node of the Ray cluster has a GPU"):
        share(nodes[2:], "cuda", 1, None)


@pytest.mark.parametrize("where", ["ray://host:10001", "http://host:8265", "host", "host:port"])
def test_addresses(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", own)
        assert address() is None
    for there in ("auto", "10.0.0.1:6379", "[::1]:6379"):
        monkeypatch.setenv("RAY_ADDRESS", there)
        assert address() == there
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(UserError, match=rf"(?s)RAY_ADDRESS is no.*got: +{where}.*HOST:PORT.*ray job submit"):
        address()


def test_a_cluster_that_does_not_answer(cli: Cli, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", where)
    done = cli("data", file, "--store", tmp_path / "store", "--executor", "ray")
    assert done.code == 2 and f"error: no Ray cluster can be used at '{where}'" in done.err and "ray start --head" in done.err
    assert f"{ray.__version__}" not in describe() and "Connection refused" in describe()


def test_without_the_extra(cli: Cli, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError):
        importlib.import_module("ray")
    done = cli("data", file, "--store", tmp_path / "store", "--executor", "ray")
    assert (done.code, done.err) == (2, "error: Ray is not installed\n  fix:      pip install 'distill-prune[ray]'\n")
    assert "pip install 'distill-prune[ray]'" in cli("doctor", "--store", tmp_path / "store").out


def test_the_number_of_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers_for("cpu", 1, 7) == 7
    assert workers_for("cpu", 1, None) >= 1 and workers_for("cpu", 10**6, None) == 1
    monkeypatch.setenv("RAY_ADDRESS", cluster.get_runtime_context().gcs_address)
    assert (workers_for("cpu", 1, None), workers_for("cpu", 3, None), workers_for("cuda", 1, None)) == (4, 1, 2)
    assert "1 nodes, 4 CPUs, 2 GPUs" in describe()


def test_gpus_are_looked_for_on_the_nodes(cluster: Any, empty: Store) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    graph = build(tiny.pipeline(), empty)
    with pytest.raises(DeviceError, match="there is no device 'cuda' on this machine"):
        from distill_prune.run.run import run

        run(graph, empty, "ray", "cuda", 4, "data", tiny.Watch(), lambda node: 1.0)
