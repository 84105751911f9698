"""CIFAR-10: 50,000 training and 10,000 test images of 32x32 pixels in colour, 10 classes of animals and vehicles.

References:
    | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from typing import Literal

from distill_prune.data.published import Published, PublishedSource


class Settings(PublishedSource):
    name: Literal["cifar10"] = "cifar10"


SET = Published(
    title="CIFAR-10",
    reader="CIFAR10",
    shape=(3, 32, 32),
    sizes=(50_000, 10_000),
    files={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    urls=("https://www.cs.toronto.edu/~kriz/",),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    unpacked={
        "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    },
)

fingerprint, load, look = SET.fingerprint, SET.load, SET.look
