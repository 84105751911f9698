"""Sets of DD-Ranking: soft labels as logits or probabilities, and hard labels class by class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference_interop_sets import LOGITS, X, Y, bits, made, read, saved, write

from distill_prune.errors import ConfigError, DataError, UserError


def test_ddranking_soft(tmp_path: Path) -> None:
    saved(tmp_path / "images.pt", X)
    saved(tmp_path / "labels.pt", LOGITS)
    saved(tmp_path / "lr.pt", 0.5)
    got = read("ddranking", tmp_path, space="normalize")
    assert got.label_kind == "logits" and bits(got.labels) == bits(LOGITS) and got.lr == 0.5
    shares = LOGITS.softmax(1)
    saved(tmp_path / "labels.pt", shares)
    with pytest.raises(ConfigError, match=r"(?s)labels.pt' could be logits and probabilities.*--set labels=probabilities"):
        read("ddranking", tmp_path, space="normalize")
    got = read("ddranking", tmp_path, space="normalize", labels="probabilities")
    assert got.label_kind == "probabilities" and torch.equal(got.targets, shares)
    assert read("ddranking", tmp_path, space="normalize", labels="logits").label_kind == "logits"
    saved(tmp_path / "labels.pt", shares * 2)
    with pytest.raises(DataError, match=r"(?s)are no probabilities.*add up to 1"):
        read("ddranking", tmp_path, space="normalize", labels="probabilities")


def test_ddranking_writes_probabilities_as_logits(tmp_path: Path) -> None:
    """Its losses take a softmax: what they train on must be the probabilities, zeros included."""
    shares = torch.tensor([[1.0, 0, 0], [0.5, 0.25, 0.25]]).repeat(3, 1)
    write("ddranking", made(labels=shares, label_kind="probabilities"), tmp_path / "out")
    assert torch.allclose(torch.load(tmp_path / "out" / "labels.pt").softmax(1), shares)


def test_ddranking_hard(tmp_path: Path) -> None:
    saved(tmp_path / "images.pt", X)
    got = read("ddranking", tmp_path, space="normalize")
    assert bits(got.labels) == bits(Y) and got.lr is None
    with pytest.raises(ConfigError, match=r"(?s)has hard labels.*labels=logits"):
        read("ddranking", tmp_path, space="normalize", labels="logits")
    with pytest.raises(DataError, match=r"(?s)not equally many images a class.*6 and 4"):
        read("ddranking", tmp_path, space="normalize", classes=["a", "b", "c", "d"])
    saved(tmp_path / "labels.pt", Y.flip(0))
    with pytest.raises(DataError, match=r"(?s)labels.pt' are not class by class.*\[2, 2, 1"):
        read("ddranking", tmp_path, space="normalize")
    with pytest.raises(UserError, match=r"(?s)hard labels in order.*\[2, 2, 1"):
        write("ddranking", made(labels=Y.flip(0)), tmp_path / "out")
