"""Foreign files of sets that do not fit, or do not say what has to be known: refused by name, with a fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_interop_sets import BYTES, LOGITS, LR, NAMES, NAN, NORMALIZE, X, Y, read, saved

from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Origin

WRONG: list[tuple[Any, Any, dict[str, Any], str]] = [
    (X, Y, {"space": "normalize"}, r"(?s)x.pt' does not say the learned learning rate.*--set lr="),
    (X, Y, {"lr": 0.01}, r"(?s)x.pt' does not say which input space.*--set space=normalize"),
    (X, Y[:5], LR, r"(?s)y.pt' has not one label for each image.*6 images, 5 labels"),
    (X, Y + 1, LR, r"(?s)y.pt' has labels outside its classes.*1\.\.3.*0\.\.2"),
    (X, Y - 1, LR, r"(?s)labels outside its classes.*-1\.\.1"),
    (NAN, Y, LR, r"(?s)images of '.*x.pt' are not finite.*1 bad values, first in row 3"),
    (X[0], Y, LR, r"(?s)images of '.*x.pt'.*float32 \(3, 4, 4\).*\(N, C, H, W\)"),
    (BYTES, Y, LR, r"(?s)images of '.*x.pt'.*uint8.*floating-point"),
    (X[:0], Y[:0], LR, r"(?s)images of '.*x.pt'.*\(0, 3, 4, 4\).*at least 1"),
    (X, Y.float(), LR, r"(?s)labels of '.*y.pt'.*float32 \(6,\).*integers"),
    (X, LOGITS, LR, r"(?s)one file of labels are expected.*y.pt torch.float32 \(6, 3\).*format datm"),
    (X.numpy().tolist(), Y, LR, r"(?s)what is saved of '.*x.pt'.*list.*a tensor"),
    (X[..., :3], Y, LR, r"(?s)x.pt' have another shape than the data set.*\(3, 4, 3\).*\(3, 4, 4\)"),
    (X.to_sparse(), Y, LR, r"(?s)x.pt'.*sparse.*a dense tensor"),
    (torch.empty(6, 3, 4, 4, device="meta"), Y, LR, r"(?s)x.pt'.*meta.*a dense tensor"),
    (X * 1j, Y, LR, r"(?s)x.pt'.*complex.*real numbers"),
    (torch.zeros(1, 1, 1, 1).expand(10**9, 3, 4, 4), Y, LR, r"(?s)x.pt' claims more numbers.*from 4 bytes"),
    (X * 9, Y, {**LR, "space": "pixels"}, r"(?s)x.pt' are no pixels.*values -.*about 0 to 1.*space=normalize"),
    (X, Y, {**LR, "mean": [0.1, 0.2, 0.3]}, r"(?s)`mean` and `std`.*std None.*both"),
    (X, Y, {**LR, "mean": [], "std": []}, r"`mean` and `std` of normalized"),
    (X, Y, {**LR, "mean": [0.0] * 3, "std": [1, 1, 0]}, r"(?s)`mean` and `std`.*positive std"),
    (X, Y, {**LR, "mean": [0.1], "std": [1]}, r"(?s)the transform does not fit.*1 means.*3 means"),
    (X, Y, {**LR, "space": "pixels", "mean": [0.1] * 3}, r"mean nothing to space 'pixels'"),
]


@pytest.mark.parametrize(("images", "labels", "options", "match"), WRONG)
def test_refusals(tmp_path: Path, images: Any, labels: Any, options: dict[str, Any], match: str) -> None:
    paths = saved(tmp_path / "x.pt", images), saved(tmp_path / "y.pt", labels)
    with pytest.raises((ConfigError, DataError), match=match):
        read("mtt", *paths, **options)


def test_what_nobody_says_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path / "x.pt", X), saved(tmp_path / "y.pt", Y)
    with pytest.raises(ConfigError, match=r"(?s)y.pt' does not name its classes.*dataset=REF or --set classes="):
        read("mtt", *paths, origin=Origin(transform=NORMALIZE), **LR)
    assert read("mtt", *paths, origin=Origin(transform=NORMALIZE), classes=["a", "b", "c"], **LR).classes == ("a", "b", "c")
    with pytest.raises(ConfigError, match=r"(?s)x.pt' does not say how its images were normalized.*--set mean=\[...\]"):
        read("mtt", *paths, origin=Origin(NAMES), **LR)
    with pytest.raises(DataError, match=r"(?s)no folder '.*none'.*images_best.pt"):
        read("mtt", tmp_path / "none", **LR)
    with pytest.raises(DataError, match=r"(?s)has no images_best.pt.*x.pt, y.pt.*by name"):
        read("mtt", tmp_path, **LR)
    with pytest.raises(DataError, match=r"there is no file '.*none.pt'"):
        read("mtt", paths[0], tmp_path / "none.pt", **LR)
    with pytest.raises(DataError, match=r"(?s)format dc is read from one path.*x.pt, "):
        read("dc", *paths)


@pytest.mark.parametrize("rate", [torch.tensor(-0.1), torch.tensor([0.1, 0.2]), torch.nan, torch.tensor(torch.inf), True, "1"])
def test_learning_rates(tmp_path: Path, rate: Any) -> None:
    for name, value in (("images_best", X), ("labels_best", LOGITS), ("lr_best", rate)):
        saved(tmp_path / f"{name}.pt", value)
    with pytest.raises(DataError, match=r"(?s)the learning rate of '.*lr_best.pt'.*one positive number"):
        read("datm", tmp_path, space="normalize")


def test_soft_labels(tmp_path: Path) -> None:
    for labels, match in (
        (LOGITS[:, :2], r"(?s)2 classes.*3: T-shirt"),
        (LOGITS * torch.nan, r"(?s)labels of '.*' are not finite.*18 bad"),
        (Y, r"int64 \(6,\)"),
    ):
        for name, value in (("images_best", X), ("labels_best", labels), ("lr_best", torch.tensor(1.0))):
            saved(tmp_path / f"{name}.pt", value)
        with pytest.raises(DataError, match=match):
            read("datm", tmp_path, space="normalize")
