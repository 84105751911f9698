"""Studies in lanes: what is trained together changes nothing of what is made, whoever makes it, however often it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from distill_prune.errors import NonFiniteError, UserError
from distill_prune.plan.jobs import CompareJob, ControlJob, DataJob, MaskLevelJob
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run import worker as module
from distill_prune.run.events import Failed, Made
from distill_prune.run.schedule import Schedule
from distill_prune.store.store import Store

SMALL = (
    "lanes=4",
    "seeds=[0,1]",
    "distill={synthetic: {name: subset, ipc: 1}}",
    "arms={real: {images: real}, synthetic: {images: synthetic}}",
    "prune.levels=1",
    "levels=[1]",
    "compare={accuracy: {}, evaluation: {nets: 2, length: 4it}}",
)


@pytest.fixture(scope="module")
def laned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Graph]:
    """A finished study in four lanes, made serially; not to be changed."""
    store = Store(tmp_path_factory.mktemp("laned") / "store", create=True)
    return store, tiny.execute(store, *SMALL)[0]


def test_only_what_shares_steps_has_lanes_in_its_key(laned: tuple[Store, Graph]) -> None:
    plain = tiny.execute(laned[0], *SMALL[1:], until="data")[0]
    for (key, node), (other, before) in zip(laned[1].nodes.items(), plain.nodes.items(), strict=True):
        assert node.label == before.label
        if isinstance(node.job, DataJob | ControlJob | MaskLevelJob) or node.stage == "distill":
            assert key == other and node.job.lanes == 1, node.label
        if node.stage == "retrain" or ("level" in node.label and node.stage == "prune"):
            assert key != other and node.job.identity()["lanes"] == 4, node.label
        if isinstance(node.job, CompareJob) and node.job.analysis.name in ("overlap", "summary"):
            assert node.job.lanes == 1


def test_executors_make_equal_bits(laned: tuple[Store, Graph], empty: Store) -> None:
    tiny.execute(empty, *SMALL, executor="processes", workers=2)
    assert tiny.contents(empty) == tiny.contents(laned[0])


def test_a_study_grows_by_a_seed(laned: tuple[Store, Graph], empty: Store) -> None:
    """Other groups, other lanes, and the same artifacts; what is there already is not made again."""
    _, first = tiny.execute(empty, *SMALL, "seeds=[1]")
    watch = tiny.Watch()
    graph, second = tiny.execute(empty, *SMALL, watch=watch)
    assert second.hits > 0 and first.made + second.made == len(graph.nodes) + 1  # the first summary
    whole, grown = tiny.contents(laned[0]), tiny.contents(empty)
    assert whole.items() <= grown.items()


class Stop(BaseException):
    """An interrupt at a place of our choice."""


def test_a_stopped_group_goes_on_in_other_groups(
    laned: tuple[Store, Graph], empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, graph = laned
    copies = [n for n in graph.nodes.values() if n.stage == "retrain"][:4]
    tiny.execute(empty, *SMALL, until="prune")
    saves = 0

    class Stops(module.WorkProgress):
        def due(self) -> bool:
            return True

        def save(self, tensors: Any, numbers: Any) -> None:
            nonlocal saves
            super().save(tensors, numbers)
            saves += 1
            if saves == 10:  # in the third step, when two of four have saved it
                raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(module, "WorkProgress", Stops)
        module.Worker(empty, "cpu").make(copies, lambda event: None)
    steps: list[int] = []
    begin = module.train_group

    def counts(trainings: Sequence[Any], lanes: int, device: str, progress: Sequence[Any]) -> Any:
        snapshots = [listener.load() for listener in progress]
        steps.extend(s.numbers["step"] for s in snapshots if s is not None)
        return begin(trainings, lanes, device, progress)

    monkeypatch.setattr(module, "train_group", counts)
    worker = module.Worker(empty, "cpu")
    for group in (copies[1:], copies[:1]):
        assert all(isinstance(outcome, Made) for outcome in worker.make(group, lambda event: None))
    assert sorted(steps) == [2, 2, 3, 3]
    whole, part = tiny.contents(finished), tiny.contents(empty)
    assert part.items() <= whole.items() and sum(name.startswith("retrain/") for name in part) == 12


def test_one_of_a_group_fails_alone(laned: tuple[Store, Graph], empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [n for n in laned[1].nodes.values() if n.stage == "retrain"][:3]
    tiny.execute(empty, *SMALL, until="prune")
    begin = module.train_group

    def diverges(*arguments: Any) -> Any:
        first, _, last = begin(*arguments)
        return [first, NonFiniteError("the training loss is not finite"), last]

    monkeypatch.setattr(module, "train_group", diverges)
    first, second, third = module.Worker(empty, "cpu").make(copies, lambda event: None)
    assert isinstance(first, Made) and isinstance(third, Made)
    assert isinstance(second, Failed) and second.key == copies[1].key and second.error.label == copies[1].label
    assert [empty.has("retrain", n.key) for n in copies] == [True, False, True]


def test_lanes_are_checked_once_for_each_kind_of_training(
    laned: tuple[Store, Graph], empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_prune.training import independence

    checks: list[int] = []
    measured = independence._beside

    def counted(training: Any, lanes: int, place: int, device: str) -> Any:
        checks.extend([lanes] if place else [])
        return measured(training, lanes, place, device)

    monkeypatch.setattr(independence, "_beside", counted)
    monkeypatch.setattr(independence, "_checked", set())
    tiny.execute(empty, *SMALL, until="retrain")
    assert checks == [4, 4]  # on real data, levels and copies alike; and levels on the set


LEAKS = """
from typing import Literal

from torch import nn

from distill_prune.settings import Entry


DISTILL_PRUNE = {"models": {"leaks": "leaks"}}


class Settings(Entry):
    name: Literal["leaks"] = "leaks"


class Leaks(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.linear = nn.Linear(4, classes)

    def forward(self, x):
        x = self.conv(x)
        x = x - x.mean(1, keepdim=True)  # over the channels: over those of all lanes
        return self.linear(x.amax((2, 3)))


def build(settings, shape, classes):
    return Leaks(shape[0], classes)
"""


def test_a_network_whose_lanes_are_not_independent_is_refused(
    cli: tiny.Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    from distill_prune.models import MODELS

    monkeypatch.setattr(MODELS, "_registered", MODELS.registered)  # what the plugin brings goes with the test
    (tmp_path / "leaks.py").write_text(LEAKS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    store = str(tmp_path / "store")
    sets = [f"--set={assignment}" for assignment in (*SMALL, "model={name: leaks}", "experts.model=null")]
    result = cli("prune", file, "--store", store, "--plugin", "leaks", "--executor", "serial", *sets)
    assert result.code == 2, result.err
    assert "the network cannot be trained in lanes: it joins, splits or mixes channels\n  got:      outputs" in result.err
    assert "\n  fix:      lanes: 1\n" in result.err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (0, "one network ends at different bits beside different neighbours"),
        (None, "a network in lanes ends elsewhere than alone"),
    ],
)
def test_lanes_that_end_elsewhere_are_refused(
    place: int | None, message: str, empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_prune.training import independence

    measured = independence._beside

    def moved(training: Any, lanes: int, lane: int, device: str) -> Any:
        trained = measured(training, lanes, lane, device)
        return replace(trained, state={n: 2 * t for n, t in trained.state.items()}) if place in (None, lane) else trained

    monkeypatch.setattr(independence, "_beside", moved)
    monkeypatch.setattr(independence, "_checked", set())
    with pytest.raises(UserError, match=f"^4 lanes of this network are not independent of each other\n  got:      {message}\n"):
        tiny.execute(empty, *SMALL, until="prune")


def test_what_rounding_moves_is_no_error_of_lanes(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill_prune.training import independence

    monkeypatch.setattr(independence, "TOLERANCE", 0.0)  # so that lanes, which round otherwise, never are near
    monkeypatch.setattr(independence, "_checked", set())
    asked, measured = [], independence._rounded

    def counted(*arguments: Any) -> bool:
        asked.append(measured(*arguments))
        return asked[-1]

    monkeypatch.setattr(independence, "_rounded", counted)
    tiny.execute(empty, *SMALL, until="prune")
    assert asked and all(asked)
    monkeypatch.setattr(independence, "_checked", set())
    monkeypatch.setattr(independence, "ROUNDING", 0.0)
    with pytest.raises(UserError, match="a network in lanes ends elsewhere than alone"):
        tiny.execute(empty, *SMALL, "seeds=[7]", until="prune")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("lanes=5", "one of: 1, 4, 8, 16"), ("lanes=2", "got:      2\n")],
)
def test_other_numbers_of_lanes_are_refused(cli: tiny.Cli, file: str, assignment: str, message: str) -> None:
    result = cli("plan", file, "--set", assignment)
    assert result.code == 2 and "'lanes' in --set" in result.err and message in result.err


def test_text_is_told_that_it_has_no_lanes(cli: tiny.Cli) -> None:
    result = cli("plan", "bert-tickets-sst2-small", "--set", "lanes=8")
    assert result.code == 2 and "networks of text are trained one by one" in result.err


def test_the_most_urgent_takes_along_its_like(laned: tuple[Store, Graph]) -> None:
    """Twelve copies that are ready, in four lanes, from the most urgent down."""
    nodes: dict[str, Node] = laned[1].nodes
    ready = [k for k, n in nodes.items() if n.stage == "retrain"]
    schedule = Schedule(nodes, ready, {k: float(i) for i, k in enumerate(ready)}, lambda node: 1.0)
    groups = []
    while keys := schedule.take(0.0):
        groups.append(keys)
    assert [key for group in groups for key in group] == ready[::-1]
    assert [len(group) for group in groups] == [4, 4, 4]


def test_an_unknown_layer_has_no_lanes() -> None:
    from torch import nn

    from distill_prune.models.lanes import laned

    with pytest.raises(UserError, match="has no form for several lanes"):
        laned(nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), 4)
