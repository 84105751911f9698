"""Standard streams of any state: closed, full, without a reader, of few letters; and interrupts that come early."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_prune import interrupts
from distill_prune.cli import streams
from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store

COMMAND = f"{sys.executable} -m distill_prune"
SAID = f"{interrupts.SAID}\n"


PATHS = {**os.environ, "PYTHONPATH": str(Path(interrupts.__file__).parent.parent)}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What bash makes of a line, in which `dp` is the command."""
    script = f'dp() {{ {COMMAND} "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, errors="replace", check=False
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, empty: Store) -> None:
    assert shell(f"dp ls --store {empty.root} {closed}").returncode == 0
    assert shell(f"dp show abcd --store {empty.root} {closed}").returncode == 2


def test_an_artifact_is_whole_where_every_stream_is_closed(file: str, tmp_path: Path) -> None:
    """The files of the store do not get the numbers of the streams, so nothing that is printed gets into them."""
    done = shell(f"dp data {file} --store {tmp_path / 's'} --executor processes --workers 1 <&- >&- 2>&-")
    assert done.returncode == 0
    assert [Store(tmp_path / "s").sound(r.stage, r.key) for r in Store(tmp_path / "s").all()] == [True]


def test_an_answer_that_cannot_be_written(file: str, tmp_path: Path) -> None:
    done = shell(f"dp data {file} --store {tmp_path / 's'} --executor serial > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: the answer could not be written to standard output\n  got:      No space left on device"
    )
    assert [Store(tmp_path / "s").sound(r.stage, r.key) for r in Store(tmp_path / "s").all()] == [True]
    assert shell("dp --help > /dev/full").returncode == 1
    assert shell(f"dp show abcd --store {tmp_path / 's'} 2> /dev/full").returncode == 2


def test_a_reader_that_leaves(empty: Store) -> None:
    done = shell(
        f"dp schema | head -1; echo ${{PIPESTATUS[0]}}; dp ls --store {empty.root} 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    )
    assert done.stdout == "{\n0\n0\n" and done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "cp1252"])
def test_an_encoding_of_few_letters(encoding: str, store: Store, graph: Graph) -> None:
    store.tag(graph.data, "日本é")
    done = shell(f"dp ls --store {store.root}", PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(shell(f"dp ls --json --store {store.root}", PYTHONIOENCODING="ascii").stdout)["artifacts"]


def test_an_answer_holds_nothing_that_acts_on_a_terminal(store: Store, graph: Graph) -> None:
    manifest = store.path("data", graph.data) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"label": "data"', '"label": "\\u001b[2J\\u202edata"'))
    done = shell(f"dp ls data --store {store.root}")
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout


@pytest.mark.parametrize("terminal", [{"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "20"}])
def test_a_small_or_dumb_terminal(terminal: dict[str, str], file: str, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    words = [*COMMAND.split(), "data", file, "--store", str(tmp_path / "s"), "--executor", "serial"]
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **terminal}) as process:
        os.close(slave)
        said = b""
        while select.select([master], [], [], 60)[0]:
            try:
                said += os.read(master, 4096)
            except OSError:  # the other end is closed
                break
    os.close(master)
    assert process.returncode == 0 and b"Traceback" not in said and b"1 made" in said
    assert (b"\x1b" in said) == (terminal["TERM"] != "dumb") and (b"1 artifact: " in said) == (terminal["TERM"] == "dumb")


def test_a_stream_that_fails_keeps_the_first_problem() -> None:
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - as a number
        outlet = streams.Outlet(full.fileno())
        assert outlet.write(b"abc") == 3 and outlet.problem is not None and outlet.problem.strerror == "No space left on device"
        first = outlet.problem
        assert outlet.write(b"abc") == 3 and outlet.problem is first


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    child = subprocess.Popen(["bash", "-c", "sleep 0.3; wc -c"], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    outlet, content = streams.Outlet(writing), b"x" * 200_000
    while content:
        content = content[outlet.write(content) :]
    os.close(writing)
    assert outlet.problem is None and child.communicate()[0].strip() == b"200000"


# interrupts

TRYING = re.compile(r"\Atrying \d+ kinds? of work for about a second each \(once for this machine\)\n")
"""What `plan` says on stderr before it measures what an interrupted one has not."""
READY = "import distill_prune.interrupts as i, os, sys; real = i.Interrupts.listen\ndef listen(self):\n" \
    "    real(self); os.write(1, b'!')\ni.Interrupts.listen = listen\nsys.argv = ['dp', *sys.argv[1:]]\n" \
    "from distill_prune.cli import main; main()"  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_interrupt_at_any_time(command: str, number: signal.Signals, file: str, tmp_path: Path) -> None:
    """From the moment on that the command listens, while it imports and when it is at work: one line, and 130."""
    draw = random.Random(f"{command} {number}")
    for i in range(3):
        words = [sys.executable, "-c", READY, command, file, "--store", str(tmp_path / f"{i}")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.read(1) == "!"
            time.sleep(draw.uniform(0, 1.5))
            process.send_signal(number)
            _, said = process.communicate()
        assert (process.returncode, TRYING.sub("", said) if command == "plan" else said) in ((130, SAID), (0, ""))


def test_an_interrupt_that_is_lost_comes_again() -> None:
    """An exception in a callback of Python's own goes nowhere."""
    code = (
        "import os, signal\nfrom distill_prune.interrupts import Interrupted, Interrupts\nheard = Interrupts()\n"
        "heard.listen()\nclass Lost:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        for _ in range(1000): pass\ntry:\n    Lost()\n    signal.pause()\nexcept Interrupted:\n"
        "    print('heard')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("heard\n", "")


def test_an_interrupt_of_an_import_ends_the_process() -> None:
    """Little is imported before interrupts are answered, and what comes then is one line."""
    code = (
        "import sys\nbefore = set(sys.modules)\nfrom distill_prune import interrupts\nprint(*set(sys.modules) - before)\n"
        "sys.stdout.flush()\ninterrupts.end_at_once()\nimport os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport typing\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env=PATHS)
    assert (done.returncode, done.stderr) == (130, SAID)
    assert not {"typing", "re", "importlib", "collections.abc"} & set(done.stdout.split())


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.getsignal(signal.SIGHUP)
    others = [(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hook = sys.unraisablehook
    try:
        interrupts.Interrupts().listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        sys.unraisablehook = hook
        for number, handler in (*others, (signal.SIGHUP, before)):
            signal.signal(number, handler)
