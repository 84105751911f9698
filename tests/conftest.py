"""Fixtures of the pipeline's tests: one finished store of images and one of text a session, and copies to break."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import tiny
import torch

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store

if TYPE_CHECKING:
    from tiny_text import Study

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="distill-prune-cache-")  # what work takes is remembered there
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
torch.set_num_threads(1)  # files are tested side by side, and one thread is the pipelines' own default


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Graph]:
    """A store that holds all of the tiny pipeline, made serially; not to be changed."""
    store = Store(tmp_path_factory.mktemp("finished") / "store", create=True)
    graph, report = tiny.execute(store)
    assert report.made == len(graph.nodes)
    return store, graph


@pytest.fixture(scope="session")
def text_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A store that holds all of the text study, made serially; not to be changed."""
    import tiny_text

    return tiny_text.study(tmp_path_factory.mktemp("text"))


@pytest.fixture
def graph(finished: tuple[Store, Graph]) -> Graph:
    return finished[1]


@pytest.fixture
def store(finished: tuple[Store, Graph], tmp_path: Path) -> Store:
    """A copy of the finished store, to be changed at will."""
    shutil.copytree(finished[0].root, tmp_path / "store")
    return Store(tmp_path / "store", create=True)


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "empty", create=True)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The tiny pipeline as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny.TINY, encoding="utf-8")
    return str(path)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[tiny.Cli]:
    """The command in this process: `cli("ls", "--store", ...)` gives `code`, `out` and `err`; a traceback fails."""
    from distill_prune import cli as module

    before = [(s, signal.getsignal(s)) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    def call(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr("sys.argv", ["distill-prune", *map(str, arguments)])
        capfd.readouterr()
        code: object = 0
        try:
            module.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return SimpleNamespace(code=code, out=out, err=err)

    yield call
    for number, handler in before:
        signal.signal(number, handler)
