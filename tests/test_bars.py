"""Progress in terminals of any width, and in a pipe."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console
from test_schedule import node

from distill_prune.cli import columns
from distill_prune.errors import UserError
from distill_prune.run.status import Bar, Board
from distill_prune.terminal.bars import LONGEST_BAR, layout, rows, summary
from distill_prune.terminal.watchers import SILENCE_SECONDS, Lines, Quiet

NOW = 1_700_000_000.0


def board() -> Board:
    """A run of three groups, one of which does not say how far it is, and labels that a terminal could mind."""
    state = Board()
    state.begin(1043, 12, 380.0)
    for key, label in (("a", "set synthetic"), ("b", "real at the compute 日本語 \x1b[2J seed 3 level 7 copy 1"), ("c", "x")):
        state.started([replace(node(key, [], "kind"), stage="retrain", label=label)])
    state.ticked(node("a", [], "kind"), 310, 800, "loss 0.412, inner lr 0.0523")
    state.ticked(node("b", [], "kind"), 12_000, 40_000, "loss 0.31")
    return state


def screen(width: int, state: Board) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(rows(state.status(), time.time(), width))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_nothing_wraps(width: int) -> None:
    lines = screen(width, board())
    assert len(lines) == 4 and all(cell_len(line) <= width for line in lines), lines
    assert "\x1b[2J" not in "".join(lines)
    if width >= 40:
        assert "310/800" in lines[1] and "12,000/40,000" in lines[2]
    if width >= 60:
        assert "set synthetic" in lines[1] and "left" in lines[0] and "━" in lines[1]
    assert ("loss 0.412" in lines[1]) == (width >= 120) and ("…" in lines[2]) == (width < 200)


def test_notes_go_before_bars_and_bars_before_labels_and_counts() -> None:
    wide = layout(120, 30, 7, 20)
    assert (wide.label, wide.bar, wide.note) == (30, LONGEST_BAR, 20)
    seen = [layout(width, 30, 7, 20) for width in range(10, 130)]
    assert all(not part.note or part.bar == LONGEST_BAR for part in seen), "a note has room beside a whole bar alone"
    assert all(part.count == 7 and part.label >= 1 for part in seen)
    for width, part in enumerate(seen, start=10):
        used = part.label + sum(2 + size for size in (part.bar, part.count, part.note) if size)
        assert used <= max(width, 10), (width, part)


def test_the_line_of_a_run() -> None:
    state = board()
    state.finished(node("a", [], "kind"), "made", 1.0, 100.0)
    state.failed(node("b", [], "kind"), UserError("no"), 31, new=True)
    status = state.status().model_copy(update={"began": NOW - 250, "written": NOW})
    told = "13 of 1,043 artifacts, about 1 min 40 s left, 1 failed and 31 depend on them, after 4 min 10 s"
    assert summary(status, NOW) == told
    assert "about 1 min 30 s left" in summary(status, NOW + 10) and "about 0.0 s left" in summary(status, NOW + 1000)
    ended = status.model_copy(update={"state": "failed"})
    assert summary(ended, NOW + 1000) == "13 of 1,043 artifacts, 1 failed and 31 depend on them, after 4 min 10 s"
    assert [bar.label for bar in status.at_work] == ["x"] and isinstance(status.at_work[0], Bar)


def test_a_plain_log_says_what_begins_and_ends_and_breaks_its_silence(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    log = Lines(clock=lambda: now)
    one, other = node("1" * 64, [], "kind"), node("2" * 64, [], "kind")
    log.begin(3, 1, 100.0)
    log.started([one, other])
    log.ticked(one, 5, 10, "loss 1")
    now = SILENCE_SECONDS - 1
    log.beat(90.0)
    now = SILENCE_SECONDS
    log.beat(80.0)
    log.beat(80.0)
    log.printed(one, "careful\x1b")
    log.finished(one, "made", 2.5, 50.0)
    log.finished(other, "hit", 0.0, 0.0)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert all(time.strptime(line[:8], "%H:%M:%S") and line[8] == " " for line in lines)
    name = "label " + "1" * 64
    assert [line[9:] for line in lines] == [
        "3 artifacts: 1 in the store, 2 to make; about 1 min 40 s",
        f"begin compare {name} and 1 more",
        f"at work: compare {name} and 1 more 5/10; about 1 min 20 s left",
        f"[2/3] compare 111111111111 {name}: 2.5 s; about 50 s left",
        f"[3/3] compare 222222222222 label {'2' * 64}: made elsewhere",
    ]
    assert err == f"{name}: careful\\x1b\n"


def test_a_failure_is_said_once_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Quiet()
    for new in (True, False):
        quiet.failed(node("a", [], "kind"), UserError("no such\x1b file", fix="another"), 3, new=new)
    assert capsys.readouterr().err == "failed: label a: no such\\x1b file; 3 that depend on it are given up; the rest goes on\n"


@pytest.mark.parametrize(("room", "lines"), [(None, 1), (200, 1), (60, 2), (40, 3)])
def test_a_line_of_status_is_wrapped_on_a_narrow_terminal_and_whole_in_a_pipe(
    room: int | None, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "  compare  connectivity of herded_soft seed 1 draw 1 level 2  1/10  copies 0 and 1, of the second pair"
    monkeypatch.setattr(columns, "width", lambda: room)
    parts = columns.fitted(line)
    assert len(parts) == lines and max(map(len, parts)) <= (room or 200)
    assert " ".join(" ".join(parts).split()) == " ".join(line.split()) and all(part.startswith("      ") for part in parts[1:])
