"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 pixels in gray, 10 classes.

The published files are gzipped; files unpacked from them that lie beside are not read, for they have no published checksum.

References:
    | Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998), https://doi.org/10.1109/5.726791
"""

from __future__ import annotations

from typing import Literal

from distill_prune.data.published import Published, PublishedSource


class Settings(PublishedSource):
    name: Literal["mnist"] = "mnist"


SET = Published(
    title="MNIST",
    reader="MNIST",
    shape=(1, 28, 28),
    sizes=(60_000, 10_000),
    files={
        "MNIST/raw/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "MNIST/raw/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "MNIST/raw/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "MNIST/raw/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    urls=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    classes=tuple(str(c) for c in range(10)),
)

fingerprint, load, look = SET.fingerprint, SET.load, SET.look
