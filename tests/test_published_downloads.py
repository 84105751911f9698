"""Published data sets, made small and served on this machine: what is fetched, and what is said where that fails."""

from __future__ import annotations

import errno
import http.server
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest
from reference_published import NAMES, Made, check, made_mnist, made_of_each

from distill_prune import data
from distill_prune.errors import DataError, RunError

made = pytest.fixture(made_of_each, params=NAMES)
mnist = pytest.fixture(made_mnist)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that it is published at."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def publish(made: Made, served: tuple[Path, str]) -> None:
    for name in made.set.files:
        (made.root / name).rename(served[0] / Path(name).name)
    for name in made.set.unpacked:
        (made.root / name).unlink()
    made.know(urls=(served[1] + "moved/", served[1]))


def test_absent_files_are_fetched(made: Made, served: tuple[Path, str]) -> None:
    publish(made, served)
    check(made, made.settings(download=True))
    folder = (made.root / next(iter(made.set.files))).parent
    assert not list(folder.glob(".*"))
    for file in served[0].iterdir():
        file.unlink()
    check(made, made.settings(download=True))
    check(made, made.settings())


def test_other_bytes_are_not_kept(mnist: Made, served: tuple[Path, str]) -> None:
    publish(mnist, served)
    (served[0] / "t10k-images-idx3-ubyte.gz").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"^MNIST could not be downloaded\n  got: .*moved.*404.*; .*corrupted") as caught:
        mnist.entry.load(mnist.settings(download=True))
    assert str(caught.value.fix).startswith("put t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz in")
    found = sorted(p.name for p in (mnist.root / "MNIST" / "raw").iterdir())
    assert found == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_no_network(mnist: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def fail(*_: object, **__: object) -> None:
        waits.append(socket.getdefaulttimeout())
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    raw = mnist.root / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"^MNIST could not be downloaded\n  got:      https://ossci") as caught:
        data.prepare(mnist.settings(download=True))
    assert str(caught.value.got).count("t10k-labels-idx1-ubyte.gz: <urlopen error no route to host>") == 2
    assert caught.value.fix == f"put t10k-labels-idx1-ubyte.gz in '{raw}', from {' or '.join(mnist.set.urls)}"
    assert len(list(raw.iterdir())) == 3
    assert waits == [30.0, 30.0] and socket.getdefaulttimeout() is None


def test_a_full_disk_is_not_the_fault_of_the_network(mnist: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(urllib.request, "urlopen", full)
    (mnist.root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RunError, match=r"(?s)t10k-labels-idx1-ubyte.gz' cannot be written.*make room on the disk"):
        data.prepare(mnist.settings(download=True))


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^SVHN could not be downloaded\n  got: .*(exists|Not a directory)"):
        data.prepare(data.DATASETS["svhn"].Settings(path=str(tmp_path / "file")))
