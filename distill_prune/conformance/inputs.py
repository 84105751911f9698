"""What entries are called with when they are checked: digits, a small network, experts of it, and short settings."""

from __future__ import annotations

from functools import cache
from typing import Any

from distill_prune.artifacts import SPLITS, Images, Mask, Trajectory
from distill_prune.data import DATASETS, prepare
from distill_prune.distill import METHODS, Source
from distill_prune.distill.experts import train_expert
from distill_prune.models import MODELS, Model, build_model
from distill_prune.progress import SILENT
from distill_prune.rng import Streams
from distill_prune.training import Recipe
from distill_prune.tree import clone

SHRUNK = {
    "ipc": 2, "iterations": 2, "inner_steps": 2, "expert_epochs": 1, "max_start": 2, "lr_pixels": 0.1,
    "inner_loop": 2, "net_steps": 2, "batch_real": 16, "nets": 2, "length": "2it", "real_length": "2it",
    "points": 3, "train_rows": 100, "test_rows": 100, "rows": 32, "probes_min": 16, "probes_max": 16,
}  # fmt: skip
"""What methods and analyses are called with, as far as their settings have such fields and nothing else is given."""


@cache
def digits() -> tuple[Images, Model, list[Trajectory]]:
    """Digits, a small network, and two experts of it."""
    images = prepare(DATASETS["digits"].Settings())
    model = build_model(MODELS["convnet"].Settings(depth=2, width=4), tuple(images.pixels.shape[1:]), len(images.classes))
    recipe, train = Recipe(length="3ep", batch=256, lr=0.1, momentum=0.0), images.examples("train").ready()
    streams = Streams(0, ("conformance",))
    return images, model, [train_expert(model, train, recipe, streams.under(index=i), "cpu", SILENT)[0] for i in range(2)]


def offered(takes: str) -> dict[str, Any]:
    """What `measure` may ask for, by name, of a tuple of this kind."""
    images, model, _ = digits()
    parts, streams = {n: images.examples(n).ready() for n in SPLITS}, Streams(0, ("conformance",))
    copies = [model.fresh(i, "conformance") for i in range(3)]
    masks = [Mask.dense(copies[0], model.prunable)] * 3
    common = {"model": model, "parts": parts, "streams": streams, "progress": SILENT}
    subset = METHODS["subset"]
    source = Source(parts["train"], images.classes, images.transform)
    made = subset.distill(subset.Settings(ipc=2), source, streams, "cpu", SILENT).set
    if takes == "copies":
        learned = made.examples(images.transform)
        return {**common, **parts, "copies": copies, "masks": masks, "start": clone(copies[0]), "distilled": learned}
    if takes == "tickets":
        sides = {"copies_a": copies[:2], "copies_b": copies[1:], "mask_a": masks[0], "mask_b": masks[1]}
        return {"model": model, **sides, "train": parts["train"], "test": parts["test"], "streams": streams, "progress": SILENT}
    if takes == "pair":
        return {"a": masks[0], "b": masks[1]}
    return {**common, "synthetic": made, "transform": images.transform, "device": "cpu", "network": "convnet"}
