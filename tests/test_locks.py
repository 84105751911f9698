"""Lock files: anybody's, nothing else, and one lock whatever becomes of the file."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from distill_prune.errors import StoreError
from distill_prune.store.locks import locked
from distill_prune.store.store import Store


def test_a_lock_waits_or_does_not(tmp_path: Path) -> None:
    path, order = tmp_path / ".locks" / "a", list[str]()
    (tmp_path / ".locks").mkdir()

    def later() -> None:
        with locked(path, wait=True) as mine:
            order.append(f"second {mine}")

    with locked(path) as mine, locked(path) as other:
        assert (mine, other) == (True, False)
        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second True"]


def test_who_waits_for_a_file_that_goes_locks_the_new_one(tmp_path: Path) -> None:
    path, held = tmp_path / "a", threading.Event()

    def later() -> None:
        with locked(path, wait=True), locked(path) as again:
            assert not again and path.exists()
            held.set()

    with locked(path):
        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.2)
        path.unlink()  # as `gc` does, which holds the lock
    assert held.wait(10)
    thread.join(10)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_lock_file_is_as_open_as_its_folder(tmp_path: Path, mask: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o2775)
    before = os.umask(mask)
    try:
        with locked(tmp_path / "open" / "a"), locked(tmp_path / "open" / ".locks" / "b"):
            pass
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in (tmp_path / "open").rglob("*")}
    assert modes == {"a": 0o664, ".locks": 0o2775, "b": 0o664}


def test_what_is_no_lock_file_is_refused(empty: Store, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (empty.root / ".locks" / "a").symlink_to(tmp_path / "precious")
    (empty.root / ".locks" / "b").mkdir()
    (empty.root / ".locks" / "c").symlink_to(tmp_path / "not there")
    for name in "abc":
        with pytest.raises(StoreError, match="is no lock file"), empty.lock(name):
            pass
    assert (tmp_path / "precious").read_text() == "as it was" and not (tmp_path / "not there").exists()


def test_a_forked_process_frees_with_its_parent(tmp_path: Path) -> None:
    with locked(tmp_path / "a"):
        child = os.fork()
        if not child:
            time.sleep(2)
            os._exit(0)
    with locked(tmp_path / "a") as mine:
        assert mine
    os.waitpid(child, 0)
