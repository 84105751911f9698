"""One store, several users: read by who may not write, and by all of a group. Needs root, who can be anybody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
GROUP, ANN, BEN = 60000, 60001, 60002
As = Callable[..., SimpleNamespace]


def _python() -> str | None:
    """A Python with this one's packages that other users can run; None where there is none."""
    names = (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
    for python in names:
        tried = _start(python, ANN, 0o022, ["-c", "import pydantic, torch"])
        if tried is not None and tried.returncode == 0:
            return python
    return None


def _start(python: str, user: int, mask: int, arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    paths = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    command = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin"]
    settings = [f"PYTHONPATH={paths}", "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=1", "HOME=/nonexistent"]
    try:
        return subprocess.run(
            [*command, *settings, python, *arguments], cwd="/", umask=mask, capture_output=True, text=True, check=False
        )
    except OSError:
        return None


@pytest.fixture(scope="session")
def python() -> str:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    found = _python()
    if found is None:
        pytest.skip("no Python that other users can run")
    return found


@pytest.fixture
def shared(python: str) -> Iterator[Path]:
    """A folder that everybody can enter, with the tiny pipeline."""
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o755)
    (folder / "tiny.yaml").write_text(tiny.TINY, encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def user(python: str) -> As:
    """The command as another user: `user(ANN, "ls", ..., mask=0o022)`."""

    def call(who: int, *arguments: object, mask: int = 0o002) -> SimpleNamespace:
        done = _start(python, who, mask, ["-m", "distill_prune", *map(str, arguments)])
        assert done is not None and "Traceback" not in done.stderr, done
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return call


@pytest.fixture
def read_only(shared: Path, finished: tuple[Store, Graph]) -> Path:
    root = Path(shutil.copytree(finished[0].root, shared / "store"))
    subprocess.run(["chmod", "-R", "a+rX,a-w", root], check=True)
    return root


def contents(root: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in sorted(root.rglob("*"))}


def test_who_may_not_write_can_do_all_that_reads(
    user: As, read_only: Path, finished: tuple[Store, Graph], shared: Path
) -> None:
    graph, before = finished[1], contents(read_only)
    synthetic, ticket = graph.sets["synthetic"], tiny.node_of(graph, "real seed 0 level 2").key
    copy, out = next(u.copies[0] for u in graph.units if u.level == 2), shared / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    file = shared / "tiny.yaml"
    for command, said in (
        (("ls",), f"{len(graph.nodes)} artifacts"),
        (("plan", file), f"{len(graph.nodes)} hits, 0 misses"),
        (("show", synthetic), "a synthetic set (trajectory)"),
        (("show", synthetic, "--json"), '"seal"'),
        (("verify",), "0 damaged"),
        (("gc", "--dry-run"), "would be deleted"),
        (("rm", copy, "--with-dependents", "--dry-run"), "would be deleted"),
        (("diff", ticket, tiny.node_of(graph, "synthetic seed 0 level 2").key), "rewinding weights"),
        (("export", copy, "--to", "state-dict", out / "net.pt"), "net.pt"),
        (("pack", synthetic, "-o", out / "set.tar"), "1 artifact, "),
        (("unpack", out / "set.tar"), "1 there already"),
        (("report", file, "-o", out / "report"), "report.html"),
        (("run", file, "--executor", "serial", "-o", out / "again"), "nothing to do: all "),
    ):
        done = user(ANN, *command, "--store", read_only)
        assert done.code == 0 and said in done.out, (command, done)
    assert contents(read_only) == before


def test_a_current_report_is_found_where_nothing_can_be_written(user: As, read_only: Path, shared: Path) -> None:
    file = shared / "tiny.yaml"
    refused = user(ANN, "run", file, "--executor", "serial", "--store", read_only)
    assert refused.code == 2 and "the report cannot be written" in refused.err and "another folder with -o" in refused.err
    subprocess.run(["chmod", "-R", "u+w", read_only], check=True)
    assert user(0, "report", file, "--store", read_only, mask=0o022).code == 0
    subprocess.run(["chmod", "-R", "a-w", read_only], check=True)
    done = user(ANN, "run", file, "--executor", "serial", "--store", read_only)
    assert done.code == 0 and done.out.endswith("report.html\n"), done


def test_what_has_to_write_says_so(user: As, read_only: Path, finished: tuple[Store, Graph], shared: Path) -> None:
    synthetic, before = finished[1].sets["synthetic"], contents(read_only)
    for command in (
        ("tag", synthetic, "mine"),
        ("rm", synthetic, "--with-dependents", "-y"),
        ("gc", "-y"),
        ("prune", shared / "tiny.yaml", "--set", "seeds=[1]", "--executor", "serial"),
    ):
        done = user(ANN, *command, "--store", read_only)
        assert done.code == 2 and f"the store '{read_only}' cannot be written to" in done.err, (command, done)
    assert contents(read_only) == before


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_a_group_shares_a_store(user: As, shared: Path, mask: int) -> None:
    """The mode of the store's folder says who may write; masks keep what each user's own files are."""
    root, file = shared / "store", shared / "tiny.yaml"
    root.mkdir()
    os.chown(root, 0, GROUP)
    root.chmod(0o2775)
    with Store(root).lock("0" * 64):
        pass  # a lock file of another user
    first = user(ANN, "experts", file, "--executor", "serial", "--store", root, mask=mask)
    assert first.code == 0, first
    modes = {oct(p.stat().st_mode & 0o7777) for p in root.rglob("*") if p.is_dir() and ".compiled" not in p.parts}
    assert modes == {"0o2775"}
    if mask == 0o077:  # who shares no files shares no artifacts, and stops nobody's locks
        told = user(BEN, "verify", "--store", root)
        assert told.code == 1 and "3 not shared by their owners" in told.out, told
        refused = user(BEN, "experts", file, "--executor", "serial", "--store", root)
        assert refused.code == 2 and "cannot be read by this user" in refused.err and "chmod -R g+rX" in refused.err
        assert "UNREADABLE" in user(BEN, "ls", "--store", root).out
        return
    assert user(BEN, "distill", file, "--executor", "serial", "--store", root, mask=mask).code == 0
    key = Store(root).keys("distill")[0]
    for who, name in ((ANN, "one"), (BEN, "two")):
        assert user(who, "tag", key, name, "--store", root, mask=mask).code == 0
    assert Store(root).tags() == {"one": key, "two": key}
    assert user(ANN, "rm", key, "-y", "--store", root).code == 0  # another's
    assert user(BEN, "gc", "-y", "--store", root).code == 0
    assert list((root / ".locks").iterdir()) == [] and not tiny.damaged(Store(root))


def test_unfinished_work_of_another_user_is_moved_aside(user: As, shared: Path, finished: tuple[Store, Graph]) -> None:
    root, key = shared / "store", tiny.node_of(finished[1], "data").key
    (root / ".work").mkdir(parents=True)
    for folder in (root, root / ".work"):
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)
    theirs = root / ".work" / key
    theirs.mkdir()
    theirs.chmod(0o777)
    (theirs / "snapshot.safetensors").write_text("mine")
    done = user(ANN, "data", shared / "tiny.yaml", "--executor", "serial", "--store", root)
    assert done.code == 0 and Store(root).sound("data", key), done
    (moved,) = (root / ".work").iterdir()
    assert moved.name.startswith(f"{key}.") and [p.read_text() for p in moved.iterdir()] == ["mine"]


def test_what_cannot_be_moved_aside_is_one_message(user: As, shared: Path, finished: tuple[Store, Graph]) -> None:
    """In a folder like /tmp nobody moves what is another's."""
    root, key = shared / "store", tiny.node_of(finished[1], "data").key
    (root / ".work").mkdir(parents=True)
    root.chmod(0o777)
    (root / ".work").chmod(0o1777)
    outside = shared / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (root / ".work" / key).symlink_to(outside)
    done = user(ANN, "data", shared / "tiny.yaml", "--executor", "serial", "--store", root)
    assert done.code == 2 and "is a link, or another user's, and cannot be moved" in done.err, done
    assert list(outside.iterdir()) == [] and Store(root).keys("data") == []


@pytest.fixture
def mounted(tmp_path: Path, finished: tuple[Store, Graph]) -> Iterator[Path]:
    """The finished store on a disk that nobody can write to."""
    place = tmp_path / "mounted"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(finished[0].root, place / "store")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place / "store"
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_read_only(
    cli: tiny.Cli, mounted: Path, finished: tuple[Store, Graph], file: str, tmp_path: Path
) -> None:
    key, where = finished[1].sets["synthetic"], ("--store", mounted)
    for command in (["ls"], ["verify"], ["plan", file], ["gc", "--dry-run"], ["run", file, "-o", tmp_path / "report"]):
        done = cli(*command, *where)
        assert done.code == 0, (command, done)
    for command in (
        ["tag", key, "a"],
        ["gc", "-y"],
        ["rm", key, "--with-dependents", "-y"],
        ["data", file, "--set", "data.validation=0.2"],
    ):
        done = cli(*command, *where)
        assert done.code == 2 and f"the store '{mounted}' cannot be written to" in done.err, (command, done)
