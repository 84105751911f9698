"""A cluster of this machine's own listens to this machine alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
