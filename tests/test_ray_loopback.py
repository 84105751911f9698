"""A cluster of this machine's own listens to this machine alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHOW = """
import os
from pathlib import Path
from distill_prune.run.ray_cluster import connection

def listening():
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                yield words[9], words[1].rpartition(":")[0]

before = set(listening())
with connection() as ray:
    for address in sorted({a for _, a in set(listening()) - before}):
        print(address)
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
def test_no_socket_listens_to_other_machines() -> None:
    pytest.importorskip("ray")
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stdout.split()
    assert shown and set(shown) <= LOOPBACK
