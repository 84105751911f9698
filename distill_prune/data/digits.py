"""The handwritten digits that ship with scikit-learn: 1,797 images of 8x8 pixels with values 0..16, 10 classes.

1,437 for training (validation among them) and 360 for test, stratified; the source has no split of its own.

References:
    | Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), https://doi.org/10.24432/C50P49
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

from distill_prune.data.source import Loaded, Remembered, Source
from distill_prune.data.split import stratified
from distill_prune.errors import DataError
from distill_prune.rng import stream

TEST = 360
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pixels as uint8, row by row, and the labels as uint8."""


class Settings(Source):
    name: Literal["digits"] = "digits"


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """What stands for the data in keys; a constant, so that planning need not import scikit-learn."""
    return f"sklearn-digits-1797-{SHA256}"


def load(settings: Settings) -> Loaded:
    """All digits.

    Raises:
        DataError: the installed scikit-learn ships other digits than the fingerprint says.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    sha256 = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if sha256 != SHA256:
        raise DataError(
            "the digits of the installed scikit-learn are not the known ones",
            got=sha256,
            expected=SHA256,
            fix="another version of scikit-learn",
        )
    classes = tuple(str(c) for c in range(10))
    y = torch.from_numpy(labels).long()
    test = torch.zeros(len(y), dtype=torch.bool)
    test[stratified(y, TEST, classes, stream(settings.split_seed, "data", "test"), what="digits", leave=True)] = True
    return Loaded(torch.from_numpy(pixels).unsqueeze(1), y, test, classes, 16.0, "digits")


look = load
