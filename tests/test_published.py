"""Published data sets, made small in their official layouts: what is read, what is refused, what is fetched."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat

from distill_prune import data
from distill_prune.data.published import Published, PublishedSource
from distill_prune.data.split import stratified
from distill_prune.data.vision import torchvision
from distill_prune.errors import DataError
from distill_prune.rng import stream

NAMES = ("cifar10", "cifar100", "fashion_mnist", "mnist", "svhn")


@dataclass
class Made:
    """A made set: its entry with the checksums of the made files, its root, and what is in it."""

    entry: Any
    root: Path
    x: np.ndarray
    y: np.ndarray

    @property
    def set(self) -> Published:
        return self.entry.SET

    def settings(self, **more: Any) -> PublishedSource:
        return self.entry.Settings(**{"path": str(self.root), "download": False, "validation": 0, **more})

    def know(self, **changed: Any) -> None:
        """Let our table know other files."""
        known = replace(self.set, **changed)
        for name, value in (("SET", known), ("fingerprint", known.fingerprint), ("load", known.load)):
            setattr(self.entry, name, value)


def md5s(root: Path, names: Any) -> dict[str, str]:
    return {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in names}


def cifar(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """Pickles of rows of pixels and a list of labels, loose and in an archive."""
    fine = known.reader == "CIFAR100"
    names = [n for n in known.unpacked if "meta" not in n]
    bounds = [*np.linspace(0, train, len(names)).astype(int).tolist(), len(x)]
    for i, name in enumerate(sorted(names, key=lambda n: (n.endswith(("test", "test_batch")), n))):
        rows = slice(bounds[i], bounds[i + 1])
        content = {"data": x[rows].reshape(-1, 3072), "fine_labels" if fine else "labels": y[rows].tolist()}
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = next(n for n in known.unpacked if "meta" in n)
    (root / meta).write_bytes(pickle.dumps({"fine_label_names" if fine else "label_names": list(known.classes)}, protocol=2))
    with tarfile.open(root / next(iter(known.files)), "w:gz") as archive:
        for name in known.unpacked:
            archive.add(root / name, name)


def idx(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """Numbers of bytes behind a big-endian head, gzipped."""
    for name in known.files:
        rows = slice(train) if "train" in name else slice(train, None)
        content = x[rows, 0] if "images" in name else y[rows].astype(np.uint8)
        head = struct.pack(f">{1 + content.ndim}i", 0x800 + content.ndim, *content.shape)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(gzip.compress(head + content.tobytes()))


def mat(root: Path, known: Published, x: np.ndarray, y: np.ndarray, train: int) -> None:
    """MATLAB's arrays, rows last; the digit 0 is called 10."""
    for name in known.files:
        rows = slice(train) if "train" in name else slice(train, None)
        savemat(root / name, {"X": x[rows].transpose(2, 3, 1, 0), "y": np.where(y[rows] == 0, 10, y[rows])[:, None]})


LAYOUTS: dict[str, Callable[..., None]] = dict(zip(NAMES, (cifar, cifar, idx, idx, mat), strict=True))


def make(name: str, root: Path, patch: pytest.MonkeyPatch) -> Made:
    """Four training and two test rows of each class, shuffled; our table and torchvision's know the made files."""
    entry: Any = data.DATASETS[name]
    known: Published = entry.SET
    generator, classes = np.random.default_rng(len(name)), len(known.classes)
    shape = (1, 28, 28) if LAYOUTS[name] is idx else (3, 32, 32)
    x = generator.integers(0, 256, (6 * classes, *shape), dtype=np.uint8)
    y = np.concatenate([generator.permutation(np.arange(n * classes) % classes) for n in (4, 2)])
    LAYOUTS[name](root, known, x, y, 4 * classes)
    for attribute in ("SET", "fingerprint", "load"):
        patch.setattr(entry, attribute, getattr(entry, attribute))
    made = Made(entry, root, x, y)
    made.know(files=md5s(root, known.files), unpacked=md5s(root, known.unpacked))
    reader, names = getattr(torchvision().datasets, known.reader), {Path(n).name: m for n, m in made.set.unpacked.items()}
    if LAYOUTS[name] is cifar:
        for field in ("train_list", "test_list"):
            patch.setattr(reader, field, [[n, names[n]] for n, _ in getattr(reader, field)])
        patch.setattr(reader, "meta", {**reader.meta, "md5": names[reader.meta["filename"]]})
    if LAYOUTS[name] is mat:
        parts = {p: [u, n, made.set.files[n]] for p, (u, n, _) in reader.split_list.items() if p != "extra"}
        patch.setattr(reader, "split_list", parts)
    return made


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return make(request.param, tmp_path, monkeypatch)


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return make("mnist", tmp_path, monkeypatch)


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return make("cifar10", tmp_path, monkeypatch)


def check(made: Made, settings: PublishedSource) -> None:
    loaded, train = made.entry.load(settings), 4 * len(made.set.classes)
    assert np.array_equal(loaded.pixels.numpy(), made.x) and loaded.pixels.dtype == torch.uint8
    assert loaded.pixels.is_contiguous() and loaded.labels.dtype == torch.int64
    assert loaded.labels.tolist() == made.y.tolist()
    assert loaded.test.tolist() == [False] * train + [True] * (len(made.y) - train)
    assert (loaded.classes, loaded.scale, loaded.title) == (made.set.classes, 255.0, made.set.title)


# what is known without the files


def test_checksums_are_those_that_torchvision_publishes() -> None:
    sets, known = torchvision().datasets, {name: data.DATASETS[name].SET for name in NAMES}
    for name in ("cifar10", "cifar100"):
        reader, ours = getattr(sets, known[name].reader), known[name]
        assert ours.files == {reader.filename: reader.tgz_md5} and reader.url == ours.urls[0] + reader.filename
        listed = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
        assert ours.unpacked == {f"{reader.base_folder}/{n}": m for n, m in listed}
    for name in ("mnist", "fashion_mnist"):
        reader, ours = getattr(sets, known[name].reader), known[name]
        assert ours.files == {f"{ours.reader}/raw/{n}": m for n, m in reader.resources} and ours.urls[0] == reader.mirrors[0]
    assert known["fashion_mnist"].classes == tuple(sets.FashionMNIST.classes)
    parts = [sets.SVHN.split_list[part] for part in ("train", "test")]
    assert known["svhn"].files == {n: m for _, n, m in parts}
    assert [known["svhn"].urls[0] + n for _, n, _ in parts] == [url for url, _, _ in parts]
    assert [len(known[name].classes) for name in NAMES] == [10, 100, 10, 10, 10]
    assert known["cifar100"].classes == tuple(sorted(set(known["cifar100"].classes)))


def test_fingerprints_are_pinned() -> None:
    """Keys promise the same bytes for ever."""
    found = {name: data.fingerprint(data.DATASETS[name].Settings(path="/nowhere")) for name in NAMES}
    assert {name: text.rpartition("-")[0] for name, text in found.items()} == {
        name: f"torchvision-{reader}"
        for name, reader in zip(NAMES, ("CIFAR10", "CIFAR100", "FashionMNIST", "MNIST", "SVHN"), strict=True)
    }
    assert {name: text.rpartition("-")[2][:12] for name, text in found.items()} == {
        "cifar10": "eae0dfc66092",
        "cifar100": "448d77a26eca",
        "fashion_mnist": "7773105ee0e5",
        "mnist": "c86297732656",
        "svhn": "7277ef7766bb",
    }


def test_fingerprint_follows_the_checksums(made: Made) -> None:
    before = data.fingerprint(made.settings())
    made.know(files=dict.fromkeys(made.set.files, "0" * 32))
    assert data.fingerprint(made.settings()) != before


def test_importing_is_light() -> None:
    code = (
        "import sys; from distill_prune import data; "
        f"[data.fingerprint(data.DATASETS[n].Settings()) for n in {NAMES}]; data.DATASETS['folder']; "
        "print([m for m in ('torchvision', 'PIL', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_identity_and_root(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = data.DATASETS["cifar10"].Settings
    monkeypatch.delenv("DISTILL_PRUNE_DATA", raising=False)
    assert settings().path == "data"
    monkeypatch.setenv("DISTILL_PRUNE_DATA", "/elsewhere")
    assert settings().path == "/elsewhere" and settings(path="here").path == "here"
    assert settings(path="here", download=False).identity() == settings().identity()
    assert set(settings().identity()) == {"name", "split_seed", "validation", "transform", "rows", "test_rows"}


# what is read


def test_official_layouts(made: Made) -> None:
    check(made, made.settings())
    images = data.prepare(made.settings(validation=0.25))
    assert images.split.bincount().tolist() == [n * len(made.set.classes) for n in (3, 1, 2)]


def test_unpacked_files_or_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("cifar100", tmp_path, monkeypatch)
    archive, aside = next(iter(made.set.files)), tmp_path / "aside"
    (tmp_path / archive).rename(aside)
    check(made, made.settings())
    aside.rename(tmp_path / archive)
    (tmp_path / "cifar-100-python").rename(aside)
    check(made, made.settings())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aside", archive]


def test_rows_take_a_stratified_part(made: Made) -> None:
    classes = len(made.set.classes)
    loaded = made.entry.load(made.settings(rows=2 * classes, test_rows=classes, split_seed=3))
    y, train = torch.from_numpy(made.y), 4 * classes
    expected = [
        stratified(y[:train], 2 * classes, made.set.classes, stream(3, "data", "rows"), what="", leave=False),
        stratified(y[train:], classes, made.set.classes, stream(3, "data", "test_rows"), what="", leave=False) + train,
    ]
    assert np.array_equal(loaded.pixels.numpy(), made.x[torch.cat(expected)])
    assert loaded.labels.tolist() == made.y[torch.cat(expected)].tolist()
    assert loaded.test.sum() == classes and loaded.labels[~loaded.test].bincount().tolist() == [2] * classes
    with pytest.raises(DataError, match=f"^rows of '{made.set.title}': more rows asked for than there are\n  got:      9999"):
        made.entry.load(made.settings(rows=9999))


def test_only_checked_files_are_read(mnist: Made) -> None:
    """torchvision prefers files of old versions, and unpacked ones, neither of which it checks."""
    folder = mnist.root / "MNIST"
    (folder / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2)), folder / "processed" / name)
    (folder / "raw" / "train-images-idx3-ubyte").write_bytes(b"other")
    check(mnist, mnist.settings())


# what is refused


def test_other_bytes_are_refused(made: Made) -> None:
    name = next(iter(made.set.unpacked or made.set.files))
    path = made.root / name
    path.write_bytes(path.read_bytes() + b"!")
    found, expected = md5s(made.root, [name])[name], {**made.set.files, **made.set.unpacked}[name]
    message = f"^'{path}' is not the published file of {made.set.title}\n  got:      md5 {found}\n  expected: md5 {expected}\n"
    for download in (False, True):
        with pytest.raises(DataError, match=message):
            data.prepare(made.settings(download=download))


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("alone", [False, True])
def test_hostile_pickle_is_not_executed(cifar10: Made, name: str, alone: bool) -> None:
    folder, mark = cifar10.root / "cifar-10-batches-py", cifar10.root / "executed"
    (folder / name).write_bytes(pickle.dumps(Hostile(mark)))
    if alone:
        for path in [cifar10.root / "cifar-10-python.tar.gz", *folder.iterdir()]:
            if path.name != name:
                path.unlink()
    with pytest.raises(DataError, match=f"{name}' is not the published file of CIFAR-10\n"):
        cifar10.entry.load(cifar10.settings())
    assert not mark.exists()
    pickle.loads((folder / name).read_bytes())
    assert mark.exists(), "the pickle was harmless"


def test_hostile_archive_is_not_unpacked(cifar10: Made) -> None:
    archive = cifar10.root / "cifar-10-python.tar.gz"
    (cifar10.root / "cifar-10-batches-py" / "test_batch").unlink()
    with tarfile.open(archive, "w:gz") as file:
        file.add(__file__, "../outside")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz' is not the published file of CIFAR-10"):
        cifar10.entry.load(cifar10.settings())


def test_torchvision_that_knows_other_files(cifar10: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision().datasets.CIFAR10, "test_list", [["test_batch", "0" * 32]])
    with pytest.raises(DataError, match=r"^the installed torchvision does not take .* of CIFAR-10\n  got: .*corrupted"):
        cifar10.entry.load(cifar10.settings())


# what is not there


def test_absent_files_without_download(mnist: Made) -> None:
    raw = mnist.root / "MNIST" / "raw"
    for name in ("train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (raw / name).unlink()
    names = "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz"
    with pytest.raises(DataError, match=r"^MNIST is not there, and download is off\n") as caught:
        data.prepare(mnist.settings())
    assert caught.value.got == f"no {names} in '{raw}'"
    assert caught.value.mend == f"put {names} in '{raw}', from {' or '.join(mnist.set.urls)}; or set download: true"


def test_absent_archive_without_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^CIFAR-10 is not there, and download is off\n") as caught:
        data.prepare(data.DATASETS["cifar10"].Settings(path=str(tmp_path / "no"), download=False))
    assert caught.value.got == f"no cifar-10-python.tar.gz in '{tmp_path / 'no'}'"
    assert f"data_batch_5, test_batch in '{tmp_path / 'no' / 'cifar-10-batches-py'}'" in str(caught.value.expected)
    assert "from https://www.cs.toronto.edu/~kriz/" in str(caught.value.mend)
    assert not (tmp_path / "no").exists()


def test_unpacked_files_that_are_not_all_there(cifar10: Made) -> None:
    for name in ("cifar-10-python.tar.gz", "cifar-10-batches-py/data_batch_3"):
        (cifar10.root / name).unlink()
    with pytest.raises(DataError, match=r"^CIFAR-10 is not there, and download is off\n") as caught:
        data.prepare(cifar10.settings())
    lacking = f"data_batch_3 in '{cifar10.root / 'cifar-10-batches-py'}'"
    assert caught.value.got == f"no cifar-10-python.tar.gz in '{cifar10.root}', and no {lacking}"


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
    assert caught.value.mend == f"put t10k-labels-idx1-ubyte.gz in '{raw}', from {' or '.join(mnist.set.urls)}"
    assert len(list(raw.iterdir())) == 3
    assert waits == [30.0, 30.0] and socket.getdefaulttimeout() is None


# what is fetched


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
    assert str(caught.value.mend).startswith("put t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz in")
    found = sorted(p.name for p in (mnist.root / "MNIST" / "raw").iterdir())
    assert found == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^SVHN could not be downloaded\n  got: .*(exists|Not a directory)"):
        data.prepare(data.DATASETS["svhn"].Settings(path=str(tmp_path / "file")))
