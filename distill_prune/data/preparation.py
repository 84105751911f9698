"""From a loaded data set to the artifact: split, checked, with its transform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_prune.artifacts import SPLITS, Images, Sentences
from distill_prune.data.normalize import fit_normalize
from distill_prune.data.source import Loaded, Source
from distill_prune.data.split import stratified
from distill_prune.data.tokens import LoadedText
from distill_prune.data.whiten import fit_zca
from distill_prune.errors import DataError
from distill_prune.rng import stream


@dataclass(frozen=True)
class Survey:
    """What plans need to know of a data set: the `shape` of an example, the names of the classes, how many training examples
    each has, and how many examples each part of SPLITS."""

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    splits: tuple[int, ...]


_FIT = {"normalize": fit_normalize, "zca": fit_zca}


def prepared(settings: Source, loaded: Loaded) -> Images | Sentences:
    """The prepared data set; validation rows are drawn from the training part, stratified, by `split_seed`.

    Raises:
        DataError: there is a single class, or a class has too few training examples.
    """
    split = _split(settings, loaded)
    if isinstance(loaded, LoadedText):
        tensors = (loaded.pixels, loaded.labels, split, loaded.classes)
        return Sentences(*tensors, loaded.vocabulary, loaded.title, loaded.heads, loaded.masked)
    train = (split == SPLITS.index("train")).nonzero().squeeze(1)
    transform = _FIT[settings.transform](loaded.pixels, loaded.scale, train)
    return Images(loaded.pixels, loaded.labels, split, loaded.classes, transform, loaded.scale, loaded.title)


def surveyed(settings: Source, loaded: Loaded) -> Survey:
    """What the prepared data set will hold.

    Raises:
        DataError: as `prepared`.
    """
    split = _split(settings, loaded)
    counts = torch.bincount(loaded.labels[split == SPLITS.index("train")], minlength=len(loaded.classes))
    splits = torch.bincount(split, minlength=len(SPLITS))
    return Survey(tuple(loaded.pixels.shape[1:]), loaded.classes, tuple(counts.tolist()), tuple(splits.tolist()))


def _split(settings: Source, loaded: Loaded) -> Tensor:
    """The part (N,) of every row, uint8. Labels that are no classes have no strata."""
    title, classes, labels = f"data '{loaded.title}'", loaded.classes, loaded.labels
    train = (~loaded.test).nonzero().squeeze(1)
    if labels.is_floating_point() or labels.dim() == 2:
        classes, labels = ("numbers" if labels.dim() == 1 else "passages",), torch.zeros(len(labels), dtype=torch.int64)
    elif len(classes) < 2:
        raise DataError(f"{title} has a single class", got=list(classes), expected="at least 2 classes")
    counts = torch.bincount(labels[train], minlength=len(classes))
    if bool((counts == 0).any()):
        raise DataError(
            f"{title} has no training examples of class '{classes[int(counts.argmin())]}'", expected="at least 1 of every class"
        )
    split = torch.where(loaded.test, SPLITS.index("test"), SPLITS.index("train")).to(torch.uint8)
    if settings.validation > 0:
        validation = stratified(
            labels[train],
            round(settings.validation * len(train)),
            classes,
            stream(settings.split_seed, "data", "validation"),
            what=f"{title}, validation part",
            setting="validation",
            leave=True,
        )
        split[train[validation]] = SPLITS.index("validation")
    return split
