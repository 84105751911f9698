"""What holds of all that removes: it counts what the files of a store take, and imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from distill_prune.plan.nodes import Graph
from distill_prune.store.housekeeping import size
from distill_prune.store.store import Store

ROOT = Path(__file__).resolve().parent.parent


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 7)
    (tmp_path / "big").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "big")
    assert size(tmp_path / "a") == 7 + len(str(tmp_path / "big")) and size(tmp_path / "big") == 1000


def test_removing_does_not_import_torch(store: Store, graph: Graph, tmp_path: Path) -> None:
    where, file = ["--store", str(store.root)], str(tmp_path / "set.tar")
    commands = [
        ["rm", graph.summary, "--yes", *where],
        ["gc", "--yes", *where],
        ["pack", graph.sets["synthetic"], "-o", file, *where],
        ["unpack", file, "--store", str(tmp_path / "new")],
        *([c, "--help"] for c in ("rm", "gc", "pack", "unpack", "diff", "schema")),
    ]
    code = (
        "import sys, json\nfrom distill_prune.cli import main\nfor arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['distill-prune', *arguments]\n    try:\n        main()\n    except SystemExit as end:\n"
        "        assert not end.code, (arguments, end.code)\n"
        "    heavy = {'torch', 'sklearn', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Example:  distill-prune ") == 6
