"""The one training loop, and evaluation. Experts, dense networks, tickets, controls and retraining all pass through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from distill_prune import objective
from distill_prune.artifacts import Cost, Examples, Mask
from distill_prune.data import cutmix
from distill_prune.data.augment import augment
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress, Snapshot
from distill_prune.recipe import Recipe as Recipe
from distill_prune.rng import Streams
from distill_prune.tree import State, clone, flatten


@dataclass(frozen=True)
class Trained:
    """A trained state, what it cost, the mean training loss of each epoch that was run, and (where asked for) the
    parameters at the start and at every epoch's end as rows of (T, P)."""

    state: State
    cost: Cost
    losses: tuple[float, ...]
    checkpoints: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """Mean loss (cross-entropy, of numbers the squared error) and error on `count` examples, or word pieces asked of them."""

    loss: float
    error: float
    count: int


class CountFlops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of every call inside it by torch's own table.

    torch's FlopCounterMode adds hooks to modules, which do not stand a gradient with respect to leaves.
    """

    total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


_flops: dict[tuple[str, int, torch.Size, torch.dtype], int] = {}


def flops_of_step(model: Model, batch: int, shape: torch.Size, kind: torch.dtype = torch.float32) -> int:
    """Floating-point operations of one forward and backward pass over a batch, counted by torch, zeros not skipped."""
    key = (model.identity, batch, shape, kind)
    if key not in _flops:
        module = model.instance(model.module.state_dict()).to("meta").train()
        with CountFlops() as counter:  # type: ignore[no-untyped-call]
            module(torch.empty(batch, *shape, device="meta", dtype=kind)).sum().backward()
        _flops[key] = counter.total
    return _flops[key]


def flops_of_examples(model: Model, batch: int, examples: Examples) -> int:
    """`flops_of_step` for a batch of examples; sentences count by their mean length, for padding is mostly left out."""
    return flops_of_step(model, batch, *input_of(examples))


def input_of(examples: Examples) -> tuple[torch.Size, torch.dtype]:
    """Shape and type of what a network is given of one example."""
    lengths = examples.lengths
    if lengths is None:
        return examples.shape, torch.float32
    return torch.Size((2, round(float(lengths.float().mean())))), examples.x.dtype


def training_cost(
    model: Model, examples: int, shape: torch.Size, batch: int, first: int, last: int, kind: torch.dtype = torch.float32
) -> Cost:
    """The cost of the steps first..last-1 over a set of so many examples of the given shape."""
    per_epoch = -(-examples // batch)
    short = examples - (per_epoch - 1) * batch
    n_short = sum(1 for e in range(first // per_epoch, -(-last // per_epoch)) if first <= (e + 1) * per_epoch - 1 < last)
    full = (last - first) - n_short
    flops = full * flops_of_step(model, min(batch, examples), shape, kind)
    flops += n_short * flops_of_step(model, short, shape, kind)
    return Cost(full * min(batch, examples) + n_short * short, last - first, flops)


def _optimizer(recipe: Recipe, model: Model, module: torch.nn.Module) -> torch.optim.Optimizer:
    """Over the trained parameters; each group's `times` is its learning rate over the recipe's.

    Raises:
        UserError: the recipe has a rate for a head that the network does not name.
    """
    lr, decay = recipe.lr, recipe.weight_decay
    held = {n: p for n, p in module.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = [{"params": list(held.values()), "times": 1.0}]
    if recipe.head_lr is not None:
        if not model.head:
            raise UserError(
                "head_lr is a learning rate of the task's head, and this network names none",
                got=recipe.head_lr,
                mend="leave head_lr out of the recipe",
            )
        groups = [
            {"params": [p for n, p in held.items() if n not in model.head], "times": 1.0},
            {"params": [p for n, p in held.items() if n in model.head], "times": recipe.head_lr / lr},
        ]
    if recipe.optimizer == "sgd":
        momentum, nesterov = recipe.momentum, recipe.nesterov
        return torch.optim.SGD(groups, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr, weight_decay=decay, fused=True)


TOKENS = 8192
"""Word pieces that are looked at together, at most, where nothing is trained: what holds memory for long sentences."""

POOL = 50
"""Batches whose sentences are sorted by length together."""


def epoch_order(examples: Examples, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """The rows (N,) of one epoch in the order of its batches, on the CPU.

    By length: a random order is cut into pools of POOL batches, each is sorted by length, and the full batches that come
    of it are visited in random order; a short one stays last.

    Raises:
        UserError: batches by length of examples that have one size.
    """
    order = torch.randperm(len(examples), generator=generator)
    if recipe.batches == "shuffled":
        return order
    lengths = examples.lengths
    if lengths is None:
        raise UserError("batches: by_length groups sentences, and these examples are none", mend="leave `batches` out")
    lengths, size = lengths.cpu(), recipe.batch
    pools = [pool[torch.argsort(lengths[pool], stable=True)] for pool in torch.split(order, POOL * size)]
    grouped = torch.split(torch.cat(pools), size)
    full = len(order) // size
    return torch.cat([grouped[i] for i in torch.randperm(full, generator=generator).tolist()] + list(grouped[full:]))


def _pack(state: State, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    packed = {f"state/{n}": t for n, t in state.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        packed |= {f"optimizer/{index}/{slot}": value for slot, value in slots.items() if isinstance(value, Tensor)}
    return packed


def _unpack(snapshot: Snapshot, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    module.load_state_dict({n.removeprefix("state/"): t for n, t in snapshot.tensors.items() if n.startswith("state/")})
    slots: dict[int, dict[str, Any]] = {}
    for name, tensor in snapshot.tensors.items():
        if name.startswith("optimizer/"):
            _, index, slot = name.split("/")
            slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _end(total: int, first: int, last: int | None) -> int:
    """The step to stop before: `last`, or the end of the schedule of `total` steps."""
    last = total if last is None else last
    if not 0 <= first <= last <= total:
        raise UserError(
            "training would leave its schedule",
            got=f"from step {first} to step {last} of {total}",
            expected="a rewinding step k below the length of the recipe",
            mend="a smaller prune.rewind.k",
        )
    return last


def _check(recipe: Recipe, text: bool, heads: bool) -> None:
    """Refuse for sentences what a recipe does with images, or with one head, alone.

    Raises:
        UserError: so it does.
    """
    asked = {"augment": recipe.augment != "none", "cutmix": recipe.cutmix > 0}
    if text and any(asked.values()):
        name = next(n for n, on in asked.items() if on)
        raise UserError(f"{name} is for images, and these examples are text", mend=f"leave {name} out of the recipe")
    if heads and recipe.label_smoothing:
        raise UserError("label_smoothing would reach the classes of other tasks' heads", mend="leave it out of the recipe")


def _loss(module: torch.nn.Module, examples: Examples, rows: Tensor, recipe: Recipe, noise: Streams, step: int) -> Tensor:
    """The loss of one step on `rows`, augmented and mixed: the network in the recipe's precision, the rest in the weights'."""
    x, y = augment(examples.inputs(rows), recipe.augment, noise, step), examples.y[rows]
    cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, noise("cutmix", step=step)) if recipe.cutmix else None
    if cut is not None:
        x = cutmix.apply(x, cut)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = module(x)
    logits = logits.to(next(module.parameters()).dtype)
    own = objective.loss(logits, y, smoothing=recipe.label_smoothing)
    if cut is None:
        return own
    other = objective.loss(logits, y[cut.pairs.to(y.device)], smoothing=recipe.label_smoothing)
    return cut.share * own + (1 - cut.share) * other


def _mean(total: Tensor, steps: int, epoch: int) -> float:
    """The mean loss of an epoch's steps."""
    mean = float(total) / steps
    if not math.isfinite(mean):
        raise NonFiniteError(
            f"the training loss is not finite in epoch {epoch + 1}",
            got=mean,
            mend="a smaller learning rate, or a warm-up",
        )
    return mean


def train(
    model: Model,
    start: State,
    examples: Examples,
    recipe: Recipe,
    noise: Streams,
    *,
    mask: Mask | None = None,
    first: int = 0,
    last: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = SILENT,
    keep_epochs: bool = False,
) -> Trained:
    """Train from `start` over the steps first..last-1 of the recipe's schedule, with zero optimizer state at `first`.

    Epoch e visits the examples in an order of the stream noise("order", epoch=e), the last batch short where need be;
    step i draws its augmentation from noise("augment", step=i) and its CutMix from noise("cutmix", step=i). Where a mask
    is given, pruned weights are set to exactly zero after every step, so neither momentum nor weight decay brings one
    back. With `keep_epochs` the parameters are copied at the start and at every epoch's end.

    Raises:
        NonFiniteError: the training loss became infinite or NaN.
        UserError: `first` lies beyond the end, or the recipe asks for what network or examples do not have.
    """
    n, batch = len(examples), recipe.batch
    last = _end(recipe.steps(n), first, last)
    _check(recipe, examples.x.dim() == 3, bool(getattr(model.module, "heads", None)))
    per_epoch = -(-n // batch)
    examples = examples.to(device)
    module = model.instance(start if mask is None else mask.apply(start), device).train()
    optimizer = _optimizer(recipe, model, module)
    live, names = module.state_dict(), model.parameters
    pruned = [] if mask is None else [(module.get_parameter(n), kept.to(live[n])) for n, kept in mask.kept.items()]
    losses: list[float] = []
    epoch_loss = torch.zeros((), device=device)
    step, begun, drawn, order = first, first, -1, torch.empty(0, dtype=torch.int64)
    kept_rows = [flatten(live, names).cpu()] if keep_epochs else []  # flatten copies: a view would follow the training
    if (snapshot := progress.load()) is not None:
        _unpack(snapshot, module, optimizer)
        kept_rows = list(snapshot.tensors["checkpoints"]) if keep_epochs else []
        step, begun, losses = snapshot.numbers["step"], snapshot.numbers["begun"], list(snapshot.numbers["losses"])
        epoch_loss = snapshot.tensors["epoch_loss"].to(device)
    while step < last:
        epoch, position = divmod(step, per_epoch)
        if epoch != drawn:
            order, drawn = epoch_order(examples, recipe, noise("order", epoch=epoch)).to(device), epoch
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(step, n) * group["times"]
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(module, examples, order[position * batch : (position + 1) * batch], recipe, noise, step)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip is not None:
            for weight, kept in pruned:  # a pruned weight is no parameter any more
                if weight.grad is not None:
                    weight.grad.mul_(kept)
            torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], recipe.clip)
        optimizer.step()
        with torch.no_grad():
            for weight, kept in pruned:
                weight.mul_(kept)
            epoch_loss += loss.detach()
        step += 1
        if position == per_epoch - 1 or step == last:
            losses.append(_mean(epoch_loss, step - begun, epoch))
            epoch_loss, begun = torch.zeros((), device=device), step
            progress.tick(step - first, last - first, f"loss {losses[-1]:.3f}")
            if keep_epochs and position == per_epoch - 1:
                kept_rows.append(flatten(live, names).cpu())
        if step < last and progress.due():
            rows_so_far = {"checkpoints": torch.stack(kept_rows)} if keep_epochs else {}
            progress.save(
                _pack(live, optimizer) | {"epoch_loss": epoch_loss} | rows_so_far,
                {"step": step, "begun": begun, "losses": losses},
            )
    shape, kind = input_of(examples)
    cost = training_cost(model, n, shape, batch, first, last, kind)
    checkpoints = torch.stack(kept_rows) if keep_epochs else None
    return Trained({k: v.cpu() for k, v in clone(live).items()}, cost, tuple(losses), checkpoints)


@torch.no_grad()
def evaluate(model: Model, state: State, examples: Examples, *, batch: int = 512) -> Score:
    """Mean loss and error of the network in evaluation mode, on the device that `examples` live on."""
    loss, n = 0.0, objective.count(examples.y)
    if objective.is_asked(examples.y):  # a logit of every word piece for every one that is asked: never of a whole set
        wrong = 0
        for rows in _by_length(examples, batch):
            logits, y = model(state, examples.inputs(rows)), examples.y[rows]
            loss += float(objective.loss(logits, y, reduction="sum"))
            wrong += int((logits.argmax(1) != objective.truth(y)).sum())
        return Score(loss / n, wrong / n, n)
    found = outputs(model, state, examples, batch=batch)
    for logits, y in zip(torch.split(found, batch), torch.split(examples.y, batch), strict=True):
        loss += float(objective.loss(logits, y, reduction="sum"))
    return Score(loss / n, objective.error(found, examples.y), n)


@torch.no_grad()
def outputs(model: Model, state: State, examples: Examples, *, batch: int = 512, arg_max: bool = False) -> Tensor:
    """Outputs (N, K) of the network in evaluation mode, or their arg max (N,), on the device that `examples` live on.

    Of word pieces that are asked they are (A, V), in the examples' order; with `arg_max` only a batch's are ever held.
    """

    def said(rows: Tensor | slice) -> Tensor:
        found = model(state, examples.inputs(rows))
        return found.argmax(1) if arg_max else found

    if not examples.tokens:
        return torch.cat([said(slice(begin, begin + batch)) for begin in range(0, len(examples), batch)])
    rows = _by_length(examples, batch)
    found, order = torch.cat([said(some) for some in rows]), torch.cat(rows)
    return found[torch.argsort(order.repeat_interleave(objective.counts(examples.y)[order]), stable=True)]


def _by_length(examples: Examples, batch: int) -> list[Tensor]:
    """The rows of sentences, batch by batch, in the order of their lengths, so that little of a batch is padding."""
    lengths = examples.lengths
    assert lengths is not None
    return list(torch.split(torch.argsort(lengths, stable=True), max(1, min(batch, TOKENS // int(lengths.max())))))
