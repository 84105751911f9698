"""Sets as the original code of DC, DSA and IDC writes them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_interop_sets import NORMALIZE, PIXELS, X, Y, bits, made, read, saved, write

from distill_prune.errors import ConfigError, DataError


def zip_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def zip_again(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)


@pytest.mark.parametrize(
    ("name", "method", "augment"),
    [("res_DC_CIFAR10_ConvNet_10ipc.pt", "dc", "none"), ("res_DSA_MNIST_ConvNet_1ipc.pt", "dsa", None), ("a.pt", "dc", None)],
)
def test_dc(tmp_path: Path, name: str, method: str, augment: str | None) -> None:
    """Accuracies beside the images are NumPy numbers, whose pickles `weights_only` refuses."""
    accs = {"ConvNet": [np.float64(0.5), np.float64(0.25)], "MLP": np.array([0.1, 0.2])}
    path = saved(tmp_path / name, {"data": [[X, Y], [X + 1, Y]], "accs_all_exps": accs})
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    got = read("dc", path)
    assert torch.equal(got.images, X + 1) and got.transform.same_space(NORMALIZE) and got.method == method
    assert got.augment == (augment or "color_crop_cutout_flip_scale_rotate")
    assert torch.equal(read("dc", path, experiment=0).images, X)
    assert read("dc", path, augment="flip").augment == "flip"
    with pytest.raises(ConfigError, match=r"(?s)no experiment 2.*2 of them.*0\.\.1"):
        read("dc", path, experiment=2)


def test_dc_of_numpy_1(tmp_path: Path) -> None:
    """NumPy before 2 pickles the module `numpy.core`."""
    path = saved(tmp_path / "res.pt", {"data": [[X, Y]], "accs_all_exps": {"a": [np.float64(1)]}})
    members = zip_members(path)
    assert b"numpy._core" in members["data.pkl"]
    members["data.pkl"] = members["data.pkl"].replace(b"numpy._core", b"numpy.core")
    zip_again(path, members)
    assert torch.equal(read("dc", path).images, X)


def test_idc(tmp_path: Path) -> None:
    path = saved(tmp_path / "data.pt", [PIXELS.images, Y])
    for given in (path, tmp_path):
        got = read("idc", given, factor=2)
        assert bits(got.images) == bits(PIXELS.images) and got.count == 24 and got.transform.kind == "pixels"
        assert got.augment == "flip+color+crop_scale_rotate" and got.lr is None
    with pytest.raises(ConfigError, match=r"(?s)data.pt' does not say how many.*--set factor=2"):
        read("idc", path)
    with pytest.raises(DataError, match="too small for factor 5"):
        read("idc", path, factor=5)


def test_idc_maps_network_input_back(tmp_path: Path) -> None:
    write("idc", made(images=NORMALIZE.apply(PIXELS.images)), tmp_path / "data.pt")
    assert torch.allclose(read("idc", tmp_path, factor=1).images, PIXELS.images)


@pytest.mark.parametrize("value", [X, [X, Y], {"data": []}, {"data": [[X]]}, {"data": X}])
def test_other_contents(tmp_path: Path, value: Any) -> None:
    path = saved(tmp_path / "a.pt", value)
    with pytest.raises(DataError, match="is not a result of DC"):
        read("dc", path)
    if not isinstance(value, list):
        with pytest.raises(DataError, match="is not a set of IDC"):
            read("idc", path, factor=1)
