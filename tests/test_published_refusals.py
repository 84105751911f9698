"""Published data sets, made small in their official layouts: what is refused, and what is said of files that are not there."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import pytest
from reference_published import NAMES, Made, made_cifar10, made_mnist, made_of_each, md5s

from distill_prune import data
from distill_prune.errors import DataError
from distill_prune.vision import torchvision

made = pytest.fixture(made_of_each, params=NAMES)
mnist = pytest.fixture(made_mnist)
cifar10 = pytest.fixture(made_cifar10)


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
    assert caught.value.fix == f"put {names} in '{raw}', from {' or '.join(mnist.set.urls)}; or set download: true"


def test_absent_archive_without_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^CIFAR-10 is not there, and download is off\n") as caught:
        data.prepare(data.DATASETS["cifar10"].Settings(path=str(tmp_path / "no"), download=False))
    assert caught.value.got == f"no cifar-10-python.tar.gz in '{tmp_path / 'no'}'"
    assert f"data_batch_5, test_batch in '{tmp_path / 'no' / 'cifar-10-batches-py'}'" in str(caught.value.expected)
    assert "from https://www.cs.toronto.edu/~kriz/" in str(caught.value.fix)
    assert not (tmp_path / "no").exists()


def test_unpacked_files_that_are_not_all_there(cifar10: Made) -> None:
    for name in ("cifar-10-python.tar.gz", "cifar-10-batches-py/data_batch_3"):
        (cifar10.root / name).unlink()
    with pytest.raises(DataError, match=r"^CIFAR-10 is not there, and download is off\n") as caught:
        data.prepare(cifar10.settings())
    lacking = f"data_batch_3 in '{cifar10.root / 'cifar-10-batches-py'}'"
    assert caught.value.got == f"no cifar-10-python.tar.gz in '{cifar10.root}', and no {lacking}"
