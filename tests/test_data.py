"""Data sets: reading, splitting, fitting, fingerprints."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import reference_data as reference
import torch
from pydantic import ValidationError
from reference_data import GOOD, LABELS, PIXELS, folder, part, save

from distill_prune import data, vision
from distill_prune.data import digits, npz
from distill_prune.data.normalize import fit_normalize
from distill_prune.data.split import quotas, stratified
from distill_prune.data.whiten import fit_zca
from distill_prune.errors import ConfigError, DataError
from distill_prune.rng import stream
from distill_prune.settings import digest

# digits


def test_digits() -> None:
    images = data.prepare(digits.Settings())
    assert images.pixels.shape == (1797, 1, 8, 8) and images.pixels.dtype == torch.uint8
    assert (int(images.pixels.max()), images.scale) == (16, 16.0)
    assert images.classes == tuple("0123456789") and images.title == "digits"
    assert [int(part(images, p).sum()) for p in ("train", "validation", "test")] == [1293, 144, 360]
    whole = images.labels.bincount()
    for name, size in (("train", 1293), ("validation", 144), ("test", 360)):
        counts = images.labels[part(images, name)].bincount()
        assert bool(((counts - whole * size / 1797).abs() < 2).all())
    from sklearn.datasets import load_digits

    source = load_digits()
    assert np.array_equal(images.pixels[:, 0].numpy(), source.images)
    assert np.array_equal(images.labels.numpy(), source.target)


def test_split_of_digits_is_pinned() -> None:
    """Keys promise the same rows for ever: a changed split must change a VERSION."""
    split = data.prepare(digits.Settings()).split
    assert hashlib.sha256(split.numpy().tobytes()).hexdigest()[:16] == "4b8b122a76a4878f"


def test_split_follows_its_seed() -> None:
    first, again = data.prepare(digits.Settings()), data.prepare(digits.Settings())
    other = data.prepare(digits.Settings(split_seed=1))
    assert torch.equal(first.split, again.split)
    assert not torch.equal(first.split, other.split)
    assert first.transform.same_space(again.transform) and not first.transform.same_space(other.transform)


def test_validation_leaves_the_test_part_alone() -> None:
    with_it, without = data.prepare(digits.Settings()), data.prepare(digits.Settings(validation=0))
    assert torch.equal(part(with_it, "test"), part(without, "test"))
    assert not bool(part(without, "validation").any())


def test_changed_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="digits of the installed scikit-learn are not the known ones"):
        digits.load(digits.Settings())


# transforms


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize_is_fitted_on_the_training_part_alone(tmp_path: Path, dtype: torch.dtype) -> None:
    x = PIXELS if dtype == torch.uint8 else (PIXELS / 255).astype(np.float32)
    settings = folder(
        tmp_path, {"x": x, "y": LABELS}, {"x": x[:9] // 2 if dtype == torch.uint8 else x[:9] / 2, "y": LABELS[:9]}
    )
    images = data.prepare(settings.model_copy(update={"validation": 0.2}))
    assert int(part(images, "validation").sum()) == 12
    train = images.pixels[part(images, "train")].double().numpy() / images.scale
    np.testing.assert_allclose(images.transform.tensors["mean"], train.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(images.transform.tensors["std"], train.std((0, 2, 3)), rtol=1e-6)
    assert all(t.dtype == torch.float32 for t in images.transform.tensors.values())
    inputs = images.examples("train").inputs(slice(None))
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)


def test_normalize_sums_in_float64() -> None:
    pixels = torch.full((9000, 1, 20, 20), 0.5)
    pixels[::2] += 1e-4
    transform = fit_normalize(pixels, 1.0)
    assert float(transform.tensors["std"]) == pytest.approx(5e-5, rel=1e-3)


def test_zca_equals_its_twin() -> None:
    pixels = torch.from_numpy(PIXELS[..., :1]).permute(0, 3, 1, 2)
    transform = fit_zca(pixels, 255.0)
    mean, matrix = reference.zca(pixels.numpy() / 255, 0.1)
    np.testing.assert_allclose(transform.tensors["mean_vector"][0], mean, atol=1e-6)
    np.testing.assert_allclose(transform.tensors["transform_matrix"], matrix, atol=1e-4)
    x = pixels.float() / 255
    torch.testing.assert_close(transform.invert(transform.apply(x)), x, rtol=0, atol=1e-4)


def test_zca_is_fitted_on_the_training_part_alone() -> None:
    images = data.prepare(digits.Settings(transform="zca"))
    expected = fit_zca(images.pixels[part(images, "train")], 16.0)
    assert images.transform.kind == "zca" and images.transform.same_space(expected)


def test_constant_channel(tmp_path: Path) -> None:
    x = PIXELS.copy()
    x[..., 1] = 51
    with pytest.raises(DataError, match=r"channel 1 of the training images is constant\n  got:      every pixel 0.2"):
        data.prepare(folder(tmp_path, {"x": x, "y": LABELS}))


# splits


@pytest.mark.parametrize(("counts", "total"), [([178, 182, 177], 36), ([5, 5, 5], 7), ([1, 2, 3], 6), ([10, 1], 3)])
def test_quotas_equal_their_twin(counts: list[int], total: int) -> None:
    found = quotas(counts, total)
    assert found == reference.quotas(counts, total)
    assert sum(found) == total


def test_stratified_rows_are_distinct_and_random() -> None:
    labels = torch.arange(30) % 3
    drawn = [stratified(labels, 9, "abc", stream(s, "test"), what="rows", leave=True) for s in range(2)]
    for rows in drawn:
        assert rows.unique().tolist() == rows.tolist() and labels[rows].bincount().tolist() == [3, 3, 3]
    assert not torch.equal(drawn[0], drawn[1])


def test_class_too_small_for_its_share(tmp_path: Path) -> None:
    labels = np.array([0] * 30 + [1] * 29 + [2])
    settings = folder(tmp_path, {"x": PIXELS, "y": labels, "classes": np.array(["cat", "dog", "eel"])})
    message = r"validation part: class 'eel' has too few examples to keep its share\n  got:      0 of 1"
    with pytest.raises(DataError, match=message):
        data.prepare(settings)
    assert len(data.prepare(settings.model_copy(update={"validation": 0.0})).classes) == 3


# identity


def test_identity_leaves_paths_and_titles_out() -> None:
    here, there = (npz.Settings(path=p, title=t) for p, t in (("a", "A"), ("b", "B")))
    assert here.identity() == there.identity()
    assert set(here.identity()) == {"name", "split_seed", "validation", "transform", "rows", "test_rows", "test_share"}
    assert digest(here.identity()) != digest(here.model_copy(update={"rows": 9}).identity())
    assert digits.Settings().identity() == {"name": "digits", "split_seed": 0, "validation": 0.1, "transform": "normalize"}


def test_fingerprint_of_files(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", GOOD), folder(tmp_path / "two", GOOD)
    first = data.fingerprint(one)
    assert first == data.fingerprint(two) and len(first) == 64
    (tmp_path / "one" / "notes.txt").write_text("not data")
    assert data.fingerprint(one) == first
    save(tmp_path / "one" / "test.npz", x=PIXELS, y=LABELS[::-1])
    assert data.fingerprint(one) != first
    file = npz.Settings(path=str(tmp_path / "two" / "train.npz"))
    assert data.fingerprint(file) == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()


def test_fingerprint_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **GOOD)
    settings, remembered = npz.Settings(path=str(path)), dict[str, str]()
    first = data.fingerprint(settings, remembered)
    assert list(remembered.values()) == [first]
    (name,) = remembered
    remembered[name] = "from memory"
    assert data.fingerprint(settings, remembered) == "from memory"
    save(path, x=PIXELS[:30], y=LABELS[:30])
    assert data.fingerprint(settings, remembered) not in (first, "from memory")


def test_fingerprint_of_digits_holds_the_pinned_hash() -> None:
    assert data.fingerprint(digits.Settings()) == f"sklearn-digits-1797-{digits.SHA256}"


# the table


def test_every_data_set_is_an_entry() -> None:
    for name in data.DATASETS:
        entry = data.DATASETS[name]
        assert entry.Settings.model_fields["name"].default == name
        assert callable(entry.load) and callable(entry.fingerprint)
        with pytest.raises(ValidationError, match="Extra inputs"):
            entry.Settings(path="x", colour=1)
    with pytest.raises(ConfigError, match=r"unknown data set 'digit'.*\n.*did you mean 'digits'"):
        data.DATASETS["digit"]


def test_importing_is_light() -> None:
    """Planning imports every entry and asks for a fingerprint."""
    code = (
        "import sys; from distill_prune import data; "
        "from distill_prune.data import augment, glue, masked, normalize, npz, preparation, split, tokens, tsv, union, whiten; "
        "data.fingerprint(data.DATASETS['digits'].Settings()); "
        "print([m for m in ('sklearn', 'kornia', 'PIL', 'torchvision', 'scipy', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torchvision_imports() -> None:
    """Here, beside whichever torch is installed, with or without its operators."""
    code = (
        "from distill_prune.vision import torchvision; "
        "assert torchvision() is torchvision(); import torchvision.datasets, torchvision.transforms; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "ok", done.stderr


def test_other_failures_of_torchvision_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise RuntimeError("something else")

    monkeypatch.setattr(vision.importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="something else"):
        vision.torchvision()
