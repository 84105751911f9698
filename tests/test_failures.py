"""What does not depend on a failure is made; the reasons are told once, with what was not made because of them."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import tiny
from reference_plugins import LOUD, Write, written
from test_schedule import node

from distill_prune.errors import DataError, NonFiniteError, RunError, UserError, system_error
from distill_prune.plan.nodes import Graph
from distill_prune.run import run as module
from distill_prune.run.failures import SHOWN, Failures
from distill_prune.store import logs
from distill_prune.store.store import Store

write = pytest.fixture(written)


def test_equal_reasons_are_told_once() -> None:
    failures = Failures()
    for number in range(300):
        error = NonFiniteError(f"the training loss is not finite in epoch {number}", got=number, fix="a smaller rate")
        assert failures.add(node(f"{number}", [], "a"), error) == (number == 0)
    error = failures.error(7, 0, 400, "the others are kept")
    assert isinstance(error, NonFiniteError) and error.label == "label 0 and 299 more" and error.exit_code == 1
    assert error.__notes__ == ["  not made: 307 of 400 artifacts: 300 failed, 7 depend on them; the others are kept"]


def test_several_reasons_are_listed_each_with_its_log() -> None:
    failures = Failures()
    for number, what in enumerate(["a", "b", *(f"{'c' * n}" for n in range(1, SHOWN))]):
        error = UserError(what, fix="another")
        error.log = f"logs/{what}.log"
        failures.add(node(str(number), [], "a"), error)
    told = failures.error(0, 2, 50, "kept")
    assert type(told) is UserError and str(told) == f"{SHOWN + 1} artifacts failed, for {SHOWN + 1} reasons"
    assert told.__notes__[:3] == ["  label 0: a", "    fix:      another", "    log:      logs/a.log"]
    last = f"  not made: {SHOWN + 3} of 50 artifacts: {SHOWN + 1} failed, 2 not begun; kept"
    assert told.__notes__[-2:] == ["  and 1 more reasons", last]
    failures.add(node("x", [], "a"), RunError("no mistake"))
    assert failures.error(0, 0, 50, "").exit_code == 1


def test_a_plugin_that_fails_once_costs_what_depends_on_it_alone(cli: tiny.Cli, empty: Store, file: str, write: Write) -> None:
    broken = LOUD.replace('"loud"', '"fails_once"')
    broken = broken.replace("    return", '    if settings.fails:\n        raise ValueError("boom")\n    return')
    broken = broken.replace(' = "fails_once"\n', ' = "fails_once"\n    fails: bool = False\n')
    write("fails_once", broken)
    good, bad = "{name: fails_once}", "{name: fails_once, fails: true}"
    arms = f"arms={{real: {{images: real, criterion: {good}}}, bad: {{images: real, criterion: {bad}}}}}"
    changes = [word for change in (arms, "distill={}", "levels=[2]", "compare={}") for word in ("--set", change)]
    done = cli("--plugin", "fails_once", "prune", file, "--store", empty.root, "--executor", "serial", *changes)
    assert done.code == 1 and "failed: bad seed 0 level 1: ValueError: boom" in done.err, done.err
    assert "1 that depend on it are given up; the rest goes on\n" in done.err
    assert "  not made: 2 of 6 artifacts: 1 failed, 1 depends on it; the others are kept, and `distill-prune report" in done.err
    assert done.err.count("error: ") == 1 and len(empty.keys("prune")) == 3
    assert "not made" not in done.out and "made, " not in done.out


class Scripted:
    """An executor that answers as `answers` says, and makes everything else."""

    answers: Any
    made: list[str]

    def __init__(self, *_: object) -> None:
        self.nodes: list[Any] = []
        Scripted.made = []

    def room(self) -> int:
        return 1 - len(self.nodes)

    def submit(self, nodes: Any) -> None:
        self.nodes += nodes

    def events(self, timeout: float) -> list[Any]:
        node = self.nodes.pop()
        event = Scripted.answers(node)
        if event is None:
            Scripted.made.append(node.label)
            return [module.Made(node.key, 1.0, 0.0, 0.0, 0.0, "scripted")]
        return [event]

    def close(self) -> None: ...


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(module, "make_executor", Scripted)
    return Scripted


def test_a_full_disk_ends_the_run_at_once(empty: Store, scripted: type[Scripted]) -> None:
    full = system_error("it could not be written", OSError(errno.ENOSPC, "full"))
    scripted.answers = lambda node: module.Failed(node.key, full) if node.label == "expert 0" else None
    with pytest.raises(RunError, match="it could not be written") as caught:
        tiny.execute(empty)
    assert "not begun" in caught.value.__notes__[-1] and not {"summary", "subset"} & {*scripted.made}
    scripted.answers = lambda node: module.Failed(node.key, RunError("else")) if node.label == "expert 0" else None
    with pytest.raises(RunError, match="else") as caught:
        tiny.execute(empty)
    assert "not begun" not in caught.value.__notes__[-1] and "accuracy of dense seed 0" in scripted.made


def test_all_mistakes_of_the_user_are_one(empty: Store, scripted: type[Scripted]) -> None:
    def answer(node: Any) -> Any:
        error = DataError("no such file") if node.label == "set subset" else UserError("another")
        return module.Failed(node.key, error) if node.stage == "distill" else None

    scripted.answers = answer
    with pytest.raises(UserError, match="2 artifacts failed, for 2 reasons") as caught:
        tiny.execute(empty)
    assert caught.value.exit_code == 2


def test_workers_that_die_at_one_artifact_cost_that_alone(empty: Store, scripted: type[Scripted]) -> None:
    """And the run ends where they die at every one."""
    scripted.answers = lambda node: module.Died(node.key, "gone") if node.label == "expert 0" else None
    with pytest.raises(RunError, match="its worker died"):
        tiny.execute(empty)
    assert "accuracy of dense seed 0" in scripted.made and "summary" not in scripted.made
    scripted.answers = lambda node: module.Died(node.key, "gone") if node.stage != "data" else None
    watch = tiny.Watch()
    with pytest.raises(RunError, match="its worker died"):
        tiny.execute(empty, watch=watch)
    assert len(watch.failures) == module.TRIES


def test_a_log_is_written_only_where_there_is_something_to_say(finished: tuple[Store, Graph]) -> None:
    names = {path.name for path in logs.folder(finished[0]).iterdir()}
    assert names and not [name for name in names if name.endswith(".log")]
