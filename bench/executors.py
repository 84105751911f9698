"""Overhead of the executors: 1,000 artifacts with nothing to compute, on two workers.

A worker locks each artifact's key, finds it in the store with the right hashes, and says so. What `serial` takes for that is
the artifact; what `processes` and `ray` take beyond half of it, two workers sharing it, is overhead. Started once, before the
clock; rounds alternate.

python bench/executors.py [--artifacts 1000] [--workers 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from distill_prune.artifacts import Parts
from distill_prune.data.digits import Settings
from distill_prune.plan.jobs import VERSIONS, DataJob
from distill_prune.plan.nodes import Node
from distill_prune.run.events import Hit
from distill_prune.run.executors import Executor, make_executor
from distill_prune.store.manifest import Provenance
from distill_prune.store.store import Store, identity


def nodes_in(store: Store, count: int) -> list[Node]:
    """Nodes whose artifacts, a number each, stand in the store already."""
    nodes = []
    for index in range(count):
        job = DataJob(source=Settings(split_seed=index), fingerprint="nothing")
        key = identity("data", VERSIONS["data"], job.identity(), {})
        store.write(
            Provenance(
                key=key,
                stage="data",
                version=VERSIONS["data"],
                label=f"nothing {index}",
                settings=job.identity(),
                inputs={},
                versions={},
                device="cpu",
                threads=1,
                seconds=0.0,
                peak_mb=0.0,
                created="",
            ),
            Parts({}, {"index": index}),
        )
        nodes.append(Node("data", key, job, {}, f"nothing {index}", "data"))
    return nodes


def seconds(executor: Executor, nodes: Sequence[Node]) -> float:
    """From the first artifact submitted to the last one heard of."""
    waiting, heard = list(nodes), 0
    began = time.perf_counter()
    while heard < len(nodes):
        while waiting and executor.room():
            executor.submit([waiting.pop()])
        for event in executor.events(0.5):
            assert isinstance(event, Hit), event
            heard += 1
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"), create=True)
        nodes = nodes_in(store, a.artifacts)
        executors, took = dict[str, Executor](), dict[str, list[float]]()
        try:
            for name in ("serial", "processes", "ray"):
                began = time.perf_counter()
                executors[name] = make_executor(name, store, "cpu", a.workers, 1, lambda _: None)
                seconds(executors[name], nodes[: 4 * a.workers])  # all workers are there, and have imported what they need
                print(f"{name:10} ready after {time.perf_counter() - began:6.2f} s", flush=True)
            for _ in range(a.rounds):
                for name, executor in executors.items():
                    took.setdefault(name, []).append(1000 * seconds(executor, nodes) / a.artifacts)
        finally:
            for executor in executors.values():
                executor.close()
    own = statistics.median(took["serial"])
    print(f"{a.artifacts} artifacts, {a.workers} workers, ms an artifact, median of {a.rounds} (least, most)")
    for name, found in took.items():
        middle = statistics.median(found)
        beyond = "" if name == "serial" else f"  overhead {middle - own / a.workers:6.3f}"
        print(f"{name:10} {middle:6.3f} ({min(found):.3f}, {max(found):.3f}){beyond}", flush=True)


if __name__ == "__main__":
    main()
