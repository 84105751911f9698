"""What entries are called with when they are checked: digits, a small network, experts of it, and short settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch

from distill_prune.analyze import Takes
from distill_prune.analyze.inputs import Copies, Input, Pair, Retrained, SetInput, Study, Tickets
from distill_prune.artifacts import SPLITS, Images, Mask, Sentences, Trajectory
from distill_prune.artifacts.convex import convexified
from distill_prune.data import prepare
from distill_prune.data.digits import Settings as Digits
from distill_prune.distill import Source, subset
from distill_prune.distill.experts import train_expert
from distill_prune.models import MODELS, Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.progress import SILENT
from distill_prune.rng import Streams, stream
from distill_prune.training import Recipe
from distill_prune.tree import clone

SHRUNK = {
    "ipc": 2, "iterations": 2, "inner_steps": 2, "expert_epochs": 1, "max_start": 2, "lr_pixels": 0.1,
    "inner_loop": 2, "epoch": 1, "net_steps": 2, "batch_real": 16, "nets": 2, "length": "2it", "real_length": "2it",
    "points": 3, "train_rows": 100, "test_rows": 100, "rows": 32, "probes_min": 16, "probes_max": 16, "probes": 8,
}  # fmt: skip
"""What methods and analyses are called with, as far as their settings have such fields and nothing else is given."""

TINY_ENCODER = {
    "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 16,
}  # fmt: skip
"""Sizes of a pre-trained encoder, which is checked with drawn weights, for nobody has its own at hand."""


@cache
def sentences() -> tuple[Sentences, Model]:
    """Tokens of no language, whose first piece says the class, and a small network for them."""
    tokens = torch.randint(5, 64, (60, 2, 12), generator=stream(0, "conformance", "tokens"), dtype=torch.int32)
    labels = torch.arange(60) % 2
    tokens[:, 0, 0], tokens[:, 1] = 2 + labels.int(), 1
    tokens[::3, :, 8:] = 0
    data = Sentences(tokens, labels, torch.arange(60) // 20, ("a", "b"), 64)
    model = build_model(MODELS["bert"].Settings.model_validate({"pooling": "mean", "config": TINY_ENCODER}), data.shape, 2)
    return data, replace(model, pretrained=dict)


@cache
def digits() -> tuple[Images, Model, list[Trajectory]]:
    """Digits, a small network, and two experts of it."""
    images = prepare(Digits())
    assert isinstance(images, Images)
    model = build_model(ConvNet(depth=2, width=4), tuple(images.pixels.shape[1:]), len(images.classes))
    recipe, train = Recipe(length="3ep", batch=256, lr=0.1, momentum=0.0), images.examples("train").ready()
    streams = Streams(0, ("conformance",))
    return images, model, [train_expert(model, train, recipe, streams.under(index=i), "cpu", SILENT)[0] for i in range(2)]


def convex(experts: Sequence[Trajectory]) -> list[Trajectory]:
    """The experts with their ends alone."""
    return [replace(e, checkpoints=convexified(e.parts().tensors["checkpoints"], e.shapes)) for e in experts]


def record(takes: Takes) -> Input:
    """What `measure` is given of this kind."""
    images, model, _ = digits()
    parts, streams = {n: images.examples(n).ready() for n in SPLITS}, Streams(0, ("conformance",))
    states = [model.fresh(i, "conformance") for i in range(3)]
    mask = Mask.dense(states[0], model.prunable)
    source = Source(parts["train"], images.classes, images.transform)
    synthetic = subset.distill(subset.Settings(ipc=2), source, streams, "cpu", SILENT).set
    match takes:
        case "copies":
            learned = synthetic.examples(images.transform)
            return Copies(model, states, [mask] * 3, clone(states[0]), parts, streams, learned)
        case "tickets":
            sides = Retrained(states[:2], mask), Retrained(states[1:], mask)
            return Tickets(model, *sides, parts["train"], parts["test"], streams)
        case "pair":
            return Pair(mask, mask)
        case "set":
            return SetInput(model, synthetic, parts, images.transform, streams, network="convnet")
        case "study":
            return Study([], [], [], {})
