"""Fashion-MNIST: 60,000 training and 10,000 test images of articles of clothing, 28x28 pixels in gray, 10 classes.

The published files are gzipped; files unpacked from them that lie beside are not read, for they have no published checksum.

References:
    | Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017),
      https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

from typing import Literal

from distill_prune.data.published import Published, PublishedSource


class Settings(PublishedSource):
    name: Literal["fashion_mnist"] = "fashion_mnist"


SET = Published(
    title="Fashion-MNIST",
    reader="FashionMNIST",
    shape=(1, 28, 28),
    sizes=(60_000, 10_000),
    files={
        "FashionMNIST/raw/train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    urls=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

fingerprint, load, look = SET.fingerprint, SET.load, SET.look
