"""CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels in colour, 100 (fine) classes.

References:
    | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from typing import Literal

from distill_prune.data.published import Published, PublishedSource

_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""


class Settings(PublishedSource):
    name: Literal["cifar100"] = "cifar100"


SET = Published(
    title="CIFAR-100",
    reader="CIFAR100",
    shape=(3, 32, 32),
    sizes=(50_000, 10_000),
    files={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
    urls=("https://www.cs.toronto.edu/~kriz/",),
    classes=tuple(_CLASSES.split()),
    unpacked={
        "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
        "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
)

fingerprint, load, look = SET.fingerprint, SET.load, SET.look
