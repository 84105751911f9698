"""Distilled text: gradient matching on sequences of word embeddings with learned soft labels.

    X, Y = argmin E_{theta_0} sum_t D( grad_theta CE(theta_t; R), grad_theta CE(theta_t; X, softmax Y) )

X (N, S, D) takes the place of the embeddings of S word pieces; positions, segments and the norm come after, as for any
sentence. Word pieces are discrete and cannot be learned, but embeddings can. theta_0 are the pre-trained weights with a new
head at every iteration. An iteration takes `inner_loop` steps on X and Y. Between them it trains the network by `net_steps`
steps on real sentences, so that gradients are matched all along a fine-tuning. R is a random real batch. D is that of
gradient.py, over the trained matrices: frozen embeddings have no gradient to match.

References:
    | Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929
    | Soft-Label Dataset Distillation and Text Dataset Distillation (Sucholutsky and Schonlau, 2021), for embeddings and soft
      labels, https://arxiv.org/abs/1910.02551
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune import objective
from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Cost, Examples, SyntheticSet
from distill_prune.distill import Distilled, Source
from distill_prune.distill.gradient import Metric, distance, matched_names
from distill_prune.distill.outer import Run
from distill_prune.distill.siamese import counting
from distill_prune.distill.subset import random_rows
from distill_prune.errors import ConfigError, NonFiniteError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.training import Recipe, input_of, train, training_cost
from distill_prune.tree import State, moved, to

NEEDS_EXPERTS = False
NEEDS_MODEL = True
KINDS = ("text",)


class Settings(Base):
    name: Literal["embedding"] = "embedding"
    ipc: int = Field(10, ge=1, description="samples per class")
    tokens: int = Field(16, ge=3, description="word embeddings in a sample, those of [CLS] and [SEP] among them")
    iterations: int = Field(100, ge=1, description="networks, one after the other")
    inner_loop: int = Field(4, ge=1, description="matching steps with each network")
    metric: Metric = Field("cosine", description="distance of gradients")
    batch_real: int = Field(64, ge=1, description="real sentences per matching step")
    lr_embeddings: float = Field(0.01, gt=0, description="learning rate of the word embeddings")
    lr_labels: float = Field(0.05, ge=0, description="of the labels' logits; 0: hard labels")
    certainty: float = Field(0.9, gt=0, lt=1, description="the probability of a sample's own class at the start")
    net_steps: int = Field(10, ge=1, description="steps of the network between two matching steps, on real sentences")
    net_batch: int = Field(32, ge=1, description="examples in a batch of the network's training")
    net_lr: float = Field(1e-4, gt=0, description="learning rate of the network")
    net_head_lr: float = Field(1e-3, gt=0, description="learning rate of the network's head")

    @property
    def soft_labels(self) -> bool:
        """Labels are probabilities, learned or not."""
        return True

    @property
    def recipe(self) -> Recipe:
        """How the network is trained between two matching steps."""
        return Recipe(
            length=f"{self.net_steps}it", batch=self.net_batch, optimizer="adamw", lr=self.net_lr, head_lr=self.net_head_lr
        )


def filled(tokens: Tensor, length: int) -> Tensor:
    """Sentences (N, 2, L) as sentences (N, 2, length) without padding: the word pieces between the first and the last are
    cut, or repeated, to this length."""
    out = torch.empty(len(tokens), 2, length, dtype=tokens.dtype)
    for row, sentence in zip(out, tokens, strict=True):
        size = int((sentence[1] > 0).sum())
        inside = sentence[:, 1 : max(size - 1, 2)]
        body = inside.repeat(1, ceil_div(length - 2, inside.shape[1]))[:, : length - 2]
        row[:, 0], row[:, 1:-1], row[:, -1] = sentence[:, 0], body, sentence[:, size - 1]
    return out


def initial(source: Source, model: Model, settings: Settings, streams: Streams) -> tuple[Tensor, Tensor]:
    """Embeddings (N, S, D) of random real sentences, class-major, and their classes (N,)."""
    rows = random_rows(source.train.y.cpu(), source.classes, settings.ipc, streams.under("init"))
    tokens = filled(source.train.x.cpu()[rows], settings.tokens)
    module: Any = model.instance(model.fresh(0, "init"))
    with torch.no_grad():
        return module.embed(tokens).clone(), source.train.y.cpu()[rows].clone()


def gradients(
    model: Model, state: State, names: Sequence[str], x: Tensor, y: Tensor, *, graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradients of the mean loss on (x, y) with respect to the weights `names`, in evaluation mode."""
    leaves = {n: state[n].detach().requires_grad_() for n in names}
    loss = objective.loss(model({**state, **leaves}, x), y)
    return torch.autograd.grad(loss, list(leaves.values()), create_graph=graph, materialize_grads=True)


def _step(settings: Settings, source: Source, names: Sequence[str], run: Run, state: State, rows: Tensor) -> float:
    """One matching step with the network at `state`, on the real batch of `rows`: the loss, after the samples have moved; NaN
    where the run went back."""
    model, train_part = source.network, source.train
    with counting(run):
        real = gradients(model, state, names, train_part.inputs(rows), train_part.y[rows])
        leaves = {n: t.detach().requires_grad_() for n, t in run.learned.items()}
        synthetic = gradients(model, state, names, leaves["embeddings"], leaves["labels"].softmax(1), graph=True)
        loss = distance(real, synthetic, settings.metric)
        leaf_gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    named = {"matching loss": loss.detach(), **{f"gradient of {n}": t for n, t in leaf_gradients.items()}}
    value = run.checked(named, f"step {settings.lr_embeddings * run.shrink:.3g}", "a smaller lr_embeddings")
    if math.isnan(value):
        return math.nan
    run.update(leaf_gradients)
    return value


def _iterate(settings: Settings, source: Source, names: Sequence[str], run: Run, streams: Streams, device: str) -> float:
    """One iteration: the mean loss of its matching steps, or NaN where the run went back to a good state."""
    model = source.network
    here = streams.under(iteration=run.iteration)
    state = to(model.fresh(streams.seed, *here.names, "network", **dict(here.parts)), device)
    noises, count, total = [here.under(inner=inner) for inner in range(settings.inner_loop)], len(source.train), 0.0
    batches = moved([torch.randperm(count, generator=noise("real"))[: settings.batch_real] for noise in noises], device)
    for inner, (noise, rows) in enumerate(zip(noises, batches, strict=True)):
        if inner:
            try:
                state = to(train(model, state, source.train, settings.recipe, noise.under("net"), device=device).state, device)
            except NonFiniteError:
                named = {"training loss of the network": torch.tensor(math.nan)}
                return run.checked(named, f"net_lr {settings.net_lr:.3g}", "a smaller net_lr")
        total += _step(settings, source, names, run, state, rows)
        if math.isnan(total):
            return math.nan
    return total / settings.inner_loop


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """Distil `source.train` into `ipc` samples per class.

    Raises:
        ConfigError: the network has no word embeddings.
        DataError: a class has too few examples.
        NonFiniteError: a loss or gradient stayed non-finite after several returns to the last good state.
    """
    model = source.network
    if not hasattr(model.module, "embed"):
        raise ConfigError("method 'embedding' needs a network with word embeddings", got=type(model.module).__name__)
    names = matched_names(model, settings.metric)
    embeddings, classes = initial(source, model, settings, streams)
    k = len(source.classes)
    apart = math.log(settings.certainty * (k - 1) / (1 - settings.certainty))
    labels = apart * torch.nn.functional.one_hot(classes, k).to(embeddings.dtype)
    run = Run.begin(
        {"embeddings": embeddings.to(device), "labels": labels.to(device)},
        {"embeddings": settings.lr_embeddings, "labels": settings.lr_labels},
        optimizer="adam",
        momentum=0.9,
        iterations=settings.iterations,
    )
    run.resume(progress)
    on = Source(source.train.to(device), source.classes, source.transform, model)
    while run.iteration < settings.iterations:
        run.keep()
        loss = _iterate(settings, on, names, run, streams, device)
        if not math.isnan(loss):
            run.advance(loss, progress, {})
    synthetic = SyntheticSet(
        run.result("embeddings"),
        run.result("labels"),
        source.classes,
        source.transform,
        "embedding",
        label_kind="logits",
    )
    cost = _cost(settings, model, on.train, len(labels), run.flops)
    return Distilled(synthetic, cost, {**run.record, "rollbacks": run.tries})


def _cost(settings: Settings, model: Model, real: Examples, count: int, flops: int) -> Cost:
    """Sentences and samples seen; the matching steps' operations as counted at the first."""
    matching = Cost(min(settings.batch_real, len(real)) + count, 1, flops).times(settings.inner_loop)
    shape, kind = input_of(real)
    training = training_cost(model, len(real), shape, settings.net_batch, 0, settings.net_steps, kind)
    return (matching + training.times(settings.inner_loop - 1)).times(settings.iterations)
