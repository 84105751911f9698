"""A cluster of this machine's own listens to this machine alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_prune.errors import RunError
from distill_prune.run.ray_workers import OWN_PATIENCE_SECONDS, PATIENCE_SECONDS, RayWorkers

SHOW = """
import contextlib
import os
from pathlib import Path
from distill_prune.run.ray_cluster import connection

def family():
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    members = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return members

def sockets():
    for pid in family():
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    yield os.readlink(file)

with connection() as ray:
    ours = {name for name in sockets() if name.startswith("socket:")}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in ours:
                print(words[1].rpartition(":")[0])
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
def test_no_socket_listens_to_other_machines() -> None:
    pytest.importorskip("ray")
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stdout.split()
    assert shown and set(shown) <= LOOPBACK


def test_a_cluster_of_our_own_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its only node is this machine: where that is lost, nobody brings another one."""
    pytest.importorskip("ray")
    workers = RayWorkers.__new__(RayWorkers)
    monkeypatch.setattr(RayWorkers, "_hear", lambda *_: None)
    workers._pool, workers._alive, workers._patience = [], time.monotonic() - OWN_PATIENCE_SECONDS - 1, OWN_PATIENCE_SECONDS
    with pytest.raises(RunError, match=r"(?s)no worker of the Ray cluster for 60 s.*run again: what is finished is kept"):
        workers.room()
    workers._patience = PATIENCE_SECONDS
    assert workers.room() == 0
