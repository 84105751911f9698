"""SVHN: 73,257 training and 26,032 test images of house numbers, 32x32 pixels in colour, 10 classes, the middle digit.

The cropped digits; the additional, easier images ("extra") are left out.

References:
    | Reading Digits in Natural Images with Unsupervised Feature Learning (Netzer et al., 2011),
      http://ufldl.stanford.edu/housenumbers/
"""

from __future__ import annotations

from typing import Literal

from distill_prune.data.published import Published, PublishedSource


class Settings(PublishedSource):
    name: Literal["svhn"] = "svhn"


SET = Published(
    title="SVHN",
    reader="SVHN",
    shape=(3, 32, 32),
    sizes=(73_257, 26_032),
    files={
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    urls=("http://ufldl.stanford.edu/housenumbers/",),
    classes=tuple(str(c) for c in range(10)),
    parts=({"split": "train"}, {"split": "test"}),
    labels="labels",
)

fingerprint, load, look = SET.fingerprint, SET.load, SET.look
