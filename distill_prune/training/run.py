"""The state of one training: the network, its optimizer, the losses so far, and snapshots of all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from distill_prune.artifacts import Mask
from distill_prune.errors import NonFiniteError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.recipe import Recipe
from distill_prune.training.optimizer import load_slots, optimizer_of, slots_of
from distill_prune.tree import State, clone, flatten


@dataclass
class Run:
    """All state of an unfinished training.

    `step` is the next step. `epoch_loss` is the sum of the losses since the step `begun`, where the epoch (or the training)
    began; `losses` are the means of the epochs before. `pruned` holds the parameters that have a mask, each with its mask
    as zeros and ones. `rows` are the parameters at the start and at every epoch's end; None where they are not asked for.
    """

    module: nn.Module
    names: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    pruned: list[tuple[nn.Parameter, Tensor]]
    step: int
    begun: int
    epoch_loss: Tensor
    rows: list[Tensor] | None
    losses: list[float] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        model: Model,
        start: State,
        recipe: Recipe,
        first: int,
        *,
        mask: Mask | None,
        device: str | torch.device,
        keep_epochs: bool,
    ) -> Run:
        """A training that begins from `start` at step `first`, with zero optimizer state."""
        module = model.instance(start if mask is None else mask.apply(start), device).train()
        masks = {} if mask is None else mask.kept
        pruned = [(weight, kept.to(weight)) for weight, kept in ((module.get_parameter(n), m) for n, m in masks.items())]
        optimizer, zero = optimizer_of(recipe, model, module), torch.zeros((), device=device)
        run = cls(module, model.parameters, optimizer, pruned, first, first, zero, [] if keep_epochs else None)
        run._keep_row()
        return run

    # -- steps

    def set_rate(self, lr: float) -> None:
        """The learning rate of the next step, before the factor of each group."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["times"]

    def update(self, loss: Tensor, clip: float | None) -> None:
        """One step down the gradient of `loss`, clipped to the norm `clip`; pruned weights are exactly zero after it."""
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            for weight, kept in self.pruned:  # a pruned weight is no parameter any more
                if weight.grad is not None:
                    weight.grad.mul_(kept)
            torch.nn.utils.clip_grad_norm_([p for p in self.module.parameters() if p.grad is not None], clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for weight, kept in self.pruned:
                weight.mul_(kept)
            self.epoch_loss += loss.detach()
        self.step += 1

    def end_epoch(self, epoch: int, *, whole: bool) -> None:
        """Record the mean loss of the steps since `begun`, and, where the epoch is `whole`, the parameters.

        Raises:
            NonFiniteError: the mean is infinite or NaN.
        """
        mean = float(self.epoch_loss) / (self.step - self.begun)
        if not math.isfinite(mean):
            raise NonFiniteError(
                f"the training loss is not finite in epoch {epoch + 1}",
                got=mean,
                mend="a smaller learning rate, or a warm-up",
            )
        self.losses.append(mean)
        self.epoch_loss, self.begun = torch.zeros_like(self.epoch_loss), self.step
        if whole:
            self._keep_row()

    def _keep_row(self) -> None:
        if self.rows is not None:
            self.rows.append(flatten(self.module.state_dict(), self.names).cpu())  # flatten copies, a view would go on training

    # -- results and snapshots

    def state(self) -> State:
        """Every tensor of the network, copied to the CPU."""
        return {n: t.cpu() for n, t in clone(self.module.state_dict()).items()}

    def checkpoints(self) -> Tensor | None:
        """The kept parameters (T, P)."""
        return None if self.rows is None else torch.stack(self.rows)

    def save(self, progress: Progress) -> None:
        """Keep a snapshot of all that decides the steps to come."""
        tensors = {f"state/{n}": t for n, t in self.module.state_dict().items()} | slots_of(self.optimizer)
        tensors["epoch_loss"] = self.epoch_loss
        if (checkpoints := self.checkpoints()) is not None:
            tensors["checkpoints"] = checkpoints
        progress.save(tensors, {"step": self.step, "begun": self.begun, "losses": self.losses})

    def resume(self, progress: Progress) -> None:
        """Go on from the snapshot that `progress` keeps, where there is one."""
        if (snapshot := progress.load()) is None:
            return
        tensors, numbers = snapshot.tensors, snapshot.numbers
        self.module.load_state_dict({n.removeprefix("state/"): t for n, t in tensors.items() if n.startswith("state/")})
        load_slots(self.optimizer, tensors)
        if self.rows is not None:
            self.rows = list(tensors["checkpoints"])
        self.step, self.begun, self.losses = numbers["step"], numbers["begun"], list(numbers["losses"])
        self.epoch_loss = tensors["epoch_loss"].to(self.epoch_loss.device)
