"""Where the time of a run goes: every artifact once, its seconds split, and workers that do one thing at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from test_lanes_study import SMALL

from distill_prune.plan.graph import build
from distill_prune.run.profile import Profile
from distill_prune.run.run import run
from distill_prune.store.store import Store


def slices(profile: Profile) -> list[dict[str, Any]]:
    events: Any = profile.trace()["traceEvents"]
    return [event for event in events if event["ph"] == "X"]


@pytest.mark.parametrize(("executor", "workers"), [("serial", 1), ("processes", 2)])
def test_every_artifact_once_and_nothing_at_the_same_time(executor: str, workers: int, empty: Store) -> None:
    graph, profile = build(tiny.pipeline(*SMALL), empty), Profile()
    report = run(graph, empty, executor, "cpu", workers, "compare", tiny.Watch(), lambda node: 1.0, profile)
    parts = profile.parts()
    assert sum(part.artifacts for part in parts) == report.made == len(graph.nodes)
    assert {part.stage for part in parts} == {node.stage for node in graph.nodes.values()}
    recorded = sum(empty.manifest(node.stage, key).seconds for key, node in graph.nodes.items())
    assert sum(part.computing + part.reading for part in parts) == pytest.approx(recorded, abs=1e-3)
    assert all(part.writing > 0 and part.waiting >= 0 and part.reading >= 0 for part in parts)
    assert sum(part.total for part in parts) <= workers * report.seconds
    assert {event["args"]["key"] for event in slices(profile)} == set(graph.nodes)
    by_worker: dict[int, list[tuple[int, int]]] = {}
    for event in slices(profile):
        by_worker.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    assert len(by_worker) <= workers
    for spans in by_worker.values():
        assert all(end <= begin + 2 for (_, end), (begin, _) in zip(sorted(spans), sorted(spans)[1:], strict=False))
        assert max(end for _, end in spans) <= report.seconds * 1e6


def test_the_command_writes_a_trace(cli: tiny.Cli, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(tiny.TINY)
    words = ("run", str(file), "--store", str(tmp_path / "store"), "--executor", "serial", "--set", "seeds=[0]", "--profile")
    shown = cli(*words).out
    assert "computing" in shown and "compare curvature" in shown
    trace = tmp_path / "store" / "reports" / "tiny" / "trace.json"
    assert str(trace) in shown and json.loads(trace.read_bytes())["traceEvents"]
    again = cli(*words)
    assert "nothing was made" in again.out
    document = json.loads(cli(*words, "--json").out)
    assert document["profile"] == [] and document["trace"] is None and json.loads(trace.read_bytes())["traceEvents"]
