"""What code of the user's prints while an artifact is made reaches the driver with the artifact's name, whoever makes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny
from reference_plugins import LOUD

from distill_prune.run import printed
from distill_prune.run.printed import LONGEST, Printed, heard, quiet_libraries
from distill_prune.store.store import Store

ARMS = "arms={real: {images: real, criterion: {name: loud}}}"


def test_lines_are_whole() -> None:
    lines: list[str] = []
    stream = Printed(sys.stdout)
    stream.hear = lines.append
    for text in ("a", "b\nc\r\n", "", "10%\r20%\r", "\n", "x" * (2 * LONGEST + 3)):
        assert stream.write(text) == len(text)
    assert lines == ["ab", "c", "10%", "20%", "", "x" * LONGEST, "x" * LONGEST]
    stream.end()
    stream.end()
    assert lines[7:] == ["xxx"]


def test_what_hears_may_print_itself_and_streams_are_put_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(RuntimeError), heard(lambda line: print(f"<{line}>")):
        print("one")
        print("two", file=sys.stderr, end="")
        raise RuntimeError
    assert capsys.readouterr() == ("<one>\n<two>\n", "") and (sys.stdout, sys.stderr) == before


def test_a_kept_stream_is_heard_by_whoever_hears_at_the_time(capfd: pytest.CaptureFixture[str]) -> None:
    """As a handler of `logging` keeps it that was made while an artifact was made."""
    lines: list[str] = []
    with heard(lambda line: lines.append(f"first: {line}")):
        kept = sys.stderr
        kept.writelines(["a\n", "b\n"])
        subprocess.run(["true"], stdout=sys.stdout, check=True)  # a stream with a file number
    with heard(lambda line: lines.append(f"second: {line}")):
        kept.write("c\n")
    kept.write("d\n")
    kept.flush()
    assert lines == ["first: a", "first: b", "second: c"] and capfd.readouterr().err == "d\n"


def test_warnings_of_libraries_are_dropped_and_one_of_a_plugin_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet_libraries()
        for place in (pytest.__file__, shutil.__file__, printed.__file__, "<string>", "sys"):
            warnings.warn_explicit("of a library", UserWarning, place, 1)
        warnings.warn_explicit("careful,\n\x1btwice", UserWarning, str(plugin), 7)
    assert capsys.readouterr().err == f"warning: careful, \\x1btwice ({plugin}, line 7)\n"


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_what_plugins_print_is_named_and_said_once(
    executor: str, empty: Store, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    process = tiny.start(
        *("--plugin", "loud", "prune", file, "--store", "empty", "--executor", executor, "--json"),
        *("--set", ARMS, "--set", "distill={}", "--set", "levels=[1]", "--set", "compare={}"),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    for line in ("louder than words", "and to the other stream"):
        assert err.count(f"real seed 0 level 1: {line}\n") == 1, err
    assert out.count("\n") == 1 and out.startswith("{"), "one JSON document, whatever is printed meanwhile"


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_why_an_artifact_failed_says_where(
    executor: str, empty: Store, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LOUD.replace("    return", '    raise ValueError("boom")\n    return')
    (tmp_path / "loud.py").write_text(broken)
    monkeypatch.chdir(tmp_path)
    process = tiny.start(
        *("--plugin", "loud", "prune", file, "--store", "empty", "--executor", executor),
        *("--set", ARMS, "--set", "distill={}", "--set", "levels=[1]", "--set", "compare={}"),
    )
    _, err = process.communicate(timeout=60)
    line = 1 + broken.splitlines().index('    raise ValueError("boom")')
    assert process.returncode == 1 and "louder than words" in err
    assert f"error: real seed 0 level 1: ValueError: boom ({tmp_path / 'loud.py'}, line {line})\n" in err
    (log,) = (tmp_path / "empty" / ".logs").glob("*.log")
    not_made = "not made: 2 of 4 artifacts: 1 failed, 1 depends on it; the others are kept"
    assert f"  log:      {Path('empty', '.logs', log.name)}\n  {not_made}" in err
    said = log.read_text()
    assert " begin: prune " in said and " louder than words\n" in said and " Traceback (most recent call last):\n" in said
    assert re.search(r"failed: ValueError: boom .*line \d+\)\n\Z", said)
