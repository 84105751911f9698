"""What comes from outside is counted before it is decoded; what is no file, or has no end, is not waited for."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
from reference_data import GOOD, save
from tiny import Cli

from distill_prune import limits
from distill_prune.data import npz_file, tsv_file
from distill_prune.errors import DataError, UserError
from distill_prune.fingerprints import file_hash
from distill_prune.limits import DEFAULT, VARIABLE, Budget, max_size, shown, size_of
from distill_prune.outside import content, gunzipped, json_of, opened, read_json, unzipped
from distill_prune.plugins import Registered


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("1.5 gb", 15 * 10**8), ("800MB", 8 * 10**8), ("7", 7), ("2kB", 2000)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text, "x") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0MB", "4GiB", "1e9", "four", "\u0664GB", "1_000", "0.1", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"(?s)^--max-size is no size.*got: .*a number and a unit, such as 800MB or 4GB"):
        size_of(text, "--max-size")


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 123_456_789, DEFAULT, 3 * 10**9 + 1, 7 * 10**12])
def test_a_size_that_is_shown_is_enough(size: int) -> None:
    assert size <= size_of(shown(size), "x") <= 1.11 * size


def test_the_limit_is_the_variable_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert max_size() == DEFAULT == 512_000_000
    monkeypatch.setenv(VARIABLE, "3GB")
    assert max_size() == 3 * 10**9 == Registered.here().max_size
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(UserError, match=r"\$DISTILL_PRUNE_MAX_SIZE is no size"):
        max_size()
    Registered({}, (), 12345).restore()  # as a worker of another machine does
    assert max_size() == 12345


def test_a_budget_says_what_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1MB")
    budget = Budget("a.npz")
    budget.take(600_000)
    budget.check(400_000)
    with pytest.raises(
        DataError,
        match=r"^'a.npz' takes too much memory to read\n  got:      1.1MB, images\n  expected: at most 1MB\n"
        r"  fix:      --max-size 1.1MB \(or \$DISTILL_PRUNE_MAX_SIZE\), where it is meant to be so large$",
    ):
        budget.take(450_000, "images")
    budget.take(400_000)


def test_the_option_stands_anywhere(cli: Cli, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "30KB")
    path = save(tmp_path / "a.npz", x=np.zeros((60, 20, 20), np.uint8), y=np.arange(60) % 3)
    command = ["data", file, "--store", tmp_path / "s", "--executor", "serial", "--set", f"data={{name: npz, path: {path}}}"]
    done = cli(*command)
    assert done.code == 2 and "a.npz' takes too much memory to read" in done.err and "--max-size 48KB" in done.err, done.err
    assert "constant" in cli(*command, "--max-size", "1MB").err  # read, and found to be without content
    assert "constant" in cli("--max-size=1MB", *command).err
    for given, said in ((["--max-size"], "--max-size needs a size"), (["--max-size", "much"], "--max-size is no size")):
        done = cli(*command, *given)
        assert done.code == 2 and said in done.err
    assert "--max-size SIZE" in cli("--help").out


# -- files


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What is no regular file, by what it is called; nobody writes to the FIFO."""
    os.mkfifo(tmp_path / "fifo")
    place = os.open(tmp_path, os.O_RDONLY)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"/proc/self/fd/{place}/socket")  # a path may be too long for a socket
    finally:
        listener.close()
        os.close(place)
    return {"a FIFO": tmp_path / "fifo", "a socket": tmp_path / "socket", "a device": Path("/dev/zero"), "a folder": tmp_path}


def test_only_regular_files_are_opened(odd: dict[str, Path], tmp_path: Path) -> None:
    for called, path in odd.items():
        for ask in (opened, file_hash, lambda p: content(p, Budget(p)), lambda p: gunzipped(p, Budget(p)), read_json):
            with pytest.raises(DataError, match=rf"(?s)^'{path}' is not a file\n  got:      {called}\n.*a regular file"):
                ask(path)  # type: ignore[operator]
        for read in (npz_file.Archive.read, tsv_file.text_of):
            with pytest.raises(DataError, match=rf"is not a file\n  got:      {called}"):
                read(path)
    (tmp_path / "link").symlink_to(save(tmp_path / "a.npz", **GOOD))
    assert len(npz_file.Archive.read(tmp_path / "link").labels) == 60
    with pytest.raises(DataError, match=r"cannot read '.*nowhere'"):
        file_hash(tmp_path / "nowhere")


def test_a_hole_of_terabytes_is_not_hashed(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(2 * 10**12)
    for ask in (file_hash, npz_file.Archive.read, tsv_file.text_of, read_json):
        with pytest.raises(DataError, match=r"a.npz' (takes too much memory to read|is not an .npz file)"):
            ask(tmp_path / "a.npz")  # type: ignore[operator]


@pytest.mark.parametrize("what", ["data", "run", "unpack", "import"])
def test_no_command_waits_for_a_fifo(cli: Cli, file: str, tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "x.png")
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.png").symlink_to(tmp_path / "x.png")
    given = {
        "data": ["data", file, "--set", f"data={{name: folder, path: {tmp_path / 'set'}}}"],
        "run": ["run", tmp_path / "x.png"],
        "unpack": ["unpack", tmp_path / "x.png"],
        "import": ["import", "state-dict", tmp_path / "x.png", "--set", "dataset=cifar10", "--set", "model={name: convnet}"],
    }[what]
    done = cli(*given, "--store", tmp_path / "s")
    assert done.code == 2 and "x.png'" in done.err and done.err.startswith("error: "), done.err


# -- gzip


def test_gzip_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, text = tmp_path / "a.gz", os.urandom(3_000_000) + bytes(3_000_000)
    for packed in (gzip.compress(text), gzip.compress(text[:5]) + gzip.compress(text[5:]) + bytes(512), gzip.compress(b"") * 9):
        path.write_bytes(packed)
        assert gunzipped(path, Budget(path)) == gzip.decompress(packed)
    path.write_bytes(gzip.compress(text)[:-9])
    with pytest.raises(EOFError, match="before the end"):
        gunzipped(path, Budget(path))
    path.write_bytes(gzip.compress(bytes(10**8)))
    assert path.stat().st_size < 10**5
    monkeypatch.setenv(VARIABLE, "5MB")
    with pytest.raises(DataError, match=r"(?s)a.gz' takes too much memory.*unpacked so far"):
        gunzipped(path, Budget(path))


def test_text_is_paid_for_by_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "5MB")
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a" * 600_000)
    assert len(tsv_file.text_of(path)) == 600_000
    path.write_bytes(b"\t" * 60_000)
    with pytest.raises(DataError, match=r"(?s)a.tsv' takes too much memory.*60000 columns"):
        tsv_file.text_of(path)


# -- JSON


def test_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json_of(b'{"a": [1]}') == {"a": [1]}
    for text in (b"[" * 65 + b"]" * 65, b"[" * 10**5 + b"]" * 10**5, b'{"a":' * 65 + b"1" + b"}" * 65):
        with pytest.raises(ValueError, match="deeper than 64 levels"):
            json_of(text)
    assert json_of(b"[" * 64 + b"]" * 64)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(list(range(1000))))
    assert read_json(path)[-1] == 999
    monkeypatch.setenv(VARIABLE, "100KB")
    with pytest.raises(DataError, match=r"a.json' takes too much memory"):
        read_json(path)


# -- zip files


def zipped(*names: str, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, name * 9)
        archive.comment = comment
    return out.getvalue()


def test_one_table_of_members_alone() -> None:
    good = zipped("a", "b")
    assert unzipped(io.BytesIO(good)).namelist() == ["a", "b"]
    for odd in (b"x" + good, good + b"x", good + good, zipped("a", comment=b"y"), good[:-1], b"", good[:4]):
        with pytest.raises(zipfile.BadZipFile):
            unzipped(io.BytesIO(odd))
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped("a", "a")
    with pytest.raises(zipfile.BadZipFile, match="two members have one name"):
        unzipped(io.BytesIO(twice))


def test_many_members_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from distill_prune import outside

    monkeypatch.setattr(outside, "MEMBERS", 2)
    assert limits.MEMBERS == 100_000
    with pytest.raises(zipfile.BadZipFile, match="3 members, and at most 2"):
        unzipped(io.BytesIO(zipped("a", "b", "c")))
