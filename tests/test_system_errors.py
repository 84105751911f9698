"""What the system refuses: one rule for the exit codes of all commands, and advice that fits the cause."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError
from tiny import Cli

from distill_prune.errors import DataError, RunError, UserError, system_error
from distill_prune.plan.nodes import Graph
from distill_prune.run.events import Failed, attempt
from distill_prune.store.disk import write_json
from distill_prune.store.store import Store

CODES = {
    errno.ENOSPC: (1, "make room on the disk"),
    errno.EDQUOT: (1, "make room on the disk"),
    errno.EIO: (1, "check the disk"),
    errno.ENOMEM: (1, "free memory"),
    errno.EROFS: (2, "another "),
    errno.EACCES: (2, "the permission to use this one"),
    errno.ENAMETOOLONG: (2, "a shorter path"),
    errno.ENOENT: (2, "another "),
}


@pytest.mark.parametrize("number", CODES)
def test_an_error_of_the_system_is_one_kind_everywhere(number: int) -> None:
    plain = OSError(number, os.strerror(number), "/x")
    quoted = SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    for problem in (plain, quoted):
        error = system_error("'/x' cannot be written", problem)
        assert (error.exit_code, error.got) == (CODES[number][0], os.strerror(number))
        assert CODES[number][1] in str(error.fix) and isinstance(error, RunError if CODES[number][0] == 1 else UserError)


def test_an_error_of_the_system_that_nobody_foresaw_is_the_machines() -> None:
    assert isinstance(system_error("x", OSError(errno.ESTALE, "Stale file handle")), RunError)
    assert isinstance(system_error("x", SafetensorError("something else")), RunError)
    assert isinstance(system_error("x", PermissionError(errno.EPERM, "no"), kind=DataError), DataError)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Nothing can be written from now on, for the given reason."""

    def refuse(number: int) -> None:
        def refused(*_: object) -> None:
            raise OSError(number, os.strerror(number), "/somewhere")

        monkeypatch.setattr(os, "fsync", refused)
        monkeypatch.setattr(Path, "write_bytes", refused)

    yield refuse
    monkeypatch.undo()


@pytest.mark.parametrize("command", ["data", "report", "pack", "unpack", "export", "import", "tag", "rm"])
def test_every_command_has_the_same_exit_code(
    cli: Cli, file: str, store: Store, graph: Graph, tmp_path: Path, command: str, refusing: Callable[[int], None]
) -> None:
    other, key, out = tmp_path / "other", graph.sets["synthetic"], tmp_path / "out"
    assert cli("pack", key, "-o", tmp_path / "a.tar", "--store", store.root).code == 0
    assert cli("export", key, "--to", "npz", tmp_path / "set.npz", "--store", store.root).code == 0
    Store(other, create=True)
    words = {
        "data": [file, "--executor", "serial", "--store", other],
        "report": [file, "-o", out, "--store", other],
        "pack": [key, "-o", out, "--store", store.root],
        "unpack": [tmp_path / "a.tar", "--store", other],
        "export": [key, "--to", "npz", out, "--store", store.root],
        "import": [
            "npz",
            tmp_path / "set.npz",
            "--set",
            "lr=0.1",
            "--set",
            "space=normalize",
            "--set",
            "mean=[0]",
            "--set",
            "std=[1]",
            "--store",
            other,
        ],
        "tag": [key, "name", "--store", store.root],
        "rm": [key, "--with-dependents", "--yes", "--store", store.root],
    }[command]
    for number, (code, said) in CODES.items():
        refusing(number)
        done: SimpleNamespace = cli(command, *words)
        assert (done.code, done.err.count("error: ")) == (code, 1), done.err
        assert os.strerror(number) in done.err and said in done.err, done.err
        assert not list(out.rglob("*")) and not out.is_file() and not list(other.glob("*/*/manifest.json"))


def test_paths_that_cannot_be_used(cli: Cli, file: str, store: Store, graph: Graph, tmp_path: Path) -> None:
    key, long = graph.sets["synthetic"], tmp_path / ("x" * 300)
    inside = Path(file) / "x"
    for words in (
        ["pack", key, "-o", long, "--store", store.root],
        ["export", key, "--to", "npz", long, "--store", store.root],
        ["report", file, "-o", long, "--store", store.root],
        ["data", file, "--store", long],
        ["plan", long],
        ["plan", file, "--set", f"data={{name: npz, path: {long}}}"],
        ["unpack", long, "--store", store.root],
    ):
        done = cli(*words)
        assert done.code == 2 and "File name too long" in done.err and "a shorter path" in done.err, (words, done.err)
    for words in (
        ["pack", key, "-o", inside, "--store", store.root],
        ["export", key, "--to", "npz", inside, "--store", store.root],
        ["report", file, "-o", inside, "--store", store.root],
        ["data", file, "--store", inside],
        ["unpack", inside, "--store", store.root],
    ):
        done = cli(*words)
        assert done.code == 2 and ("Not a directory" in done.err or "File exists" in done.err), (words, done.err)
        assert "make room" not in done.err


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*x.json'"):
        write_json(tmp_path / "x.json", {})


def test_a_worker_says_what_the_system_refused() -> None:
    def refused() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    failed = attempt("k", "ticket", lambda _: None, refused)
    assert isinstance(failed, Failed) and isinstance(failed.error, RunError)
    assert "make room on the disk" in str(failed.error) and "test_system_errors.py, line" in str(failed.error)


def test_no_memory_is_one_message(cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Store) -> None:
        raise MemoryError

    monkeypatch.setattr(Store, "tags", full)
    done = cli("ls", "--store", store.root)
    assert done.code == 1 and done.err.startswith("error: out of memory")
