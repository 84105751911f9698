"""The state of a training, or of several that share their steps: network, optimizer, losses so far, and snapshots of it all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from distill_prune.artifacts import Mask
from distill_prune.errors import NonFiniteError
from distill_prune.models import Model, lanes
from distill_prune.progress import Progress, Snapshot
from distill_prune.recipe import Recipe
from distill_prune.training import flat
from distill_prune.training.flat import Flat
from distill_prune.training.optimizer import SLOTS, groups_of, lane_norms, load_slots, optimizer_of, slots_of
from distill_prune.tree import State


@dataclass
class Run:
    """All state of unfinished trainings that share their steps.

    With `lanes` None there is one training, and tensors have the shapes of its network. Else every tensor has a first dimension
    of `lanes`, a training each. `step` is the next step. `epoch_loss` holds the sums of the losses since the step `begun`,
    where the epoch (or the training) began; `losses` are the means of the epochs before, by training. `pruned` holds the
    parameters that have masks, each with its masks as zeros and ones. `rows` are the parameters (lanes, P) at the start and at
    every epoch's end; None where they are not asked for. With lanes `flats` hold the parameters, a vector each group of the
    optimizer. `failures` are the trainings whose loss became infinite or NaN.
    """

    module: nn.Module
    lanes: int | None
    names: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    flats: list[Flat]
    pruned: list[tuple[nn.Parameter, Tensor]]
    step: int
    begun: int
    epoch_loss: Tensor
    rows: list[Tensor] | None
    losses: list[list[float]]
    failures: dict[int, NonFiniteError] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        model: Model,
        starts: Sequence[State],
        recipe: Recipe,
        first: int,
        *,
        masks: Sequence[Mask | None],
        abreast: bool,
        device: str | torch.device,
        keep_epochs: bool,
    ) -> Run:
        """Trainings from `starts` at step `first`, with zero optimizer state: in lanes (`abreast`), or one alone."""
        count = len(starts)
        begins = [s if m is None else m.apply(s) for s, m in zip(starts, masks, strict=True)]
        module = (lanes.network(model, begins, device) if abreast else model.instance(begins[0], device)).train()
        groups = groups_of(recipe, model, module)
        flats = [Flat.of(parameters) for _, parameters in groups] if abreast else []
        if abreast:
            groups = [(times, [vector.values]) for (times, _), vector in zip(groups, flats, strict=True)]
        pruned = []
        for name in () if masks[0] is None else masks[0].kept:
            weight = module.get_parameter(name)
            kept = [m.kept[name].to(weight) for m in masks if m is not None]
            pruned.append((weight, torch.stack(kept) if abreast else kept[0]))
        run = cls(
            module,
            count if abreast else None,
            model.parameters,
            optimizer_of(recipe, groups),
            flats,
            pruned,
            first,
            first,
            torch.zeros(count if abreast else (), device=device),
            [] if keep_epochs else None,
            [[] for _ in begins],
        )
        run._keep_row()
        return run

    # -- steps

    def set_rate(self, lr: float) -> None:
        """The learning rate of the next step, before the factor of each group."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["times"]

    def update(self, losses: Tensor, clip: float | None) -> None:
        """One step down the gradients, clipped to the norm `clip`, after the `losses` of a batch; pruned weights are exactly
        zero after it."""
        if clip is not None:
            for weight, kept in self.pruned:  # a pruned weight is no parameter any more
                if weight.grad is not None:
                    weight.grad.mul_(kept)
            self._clip(clip)
        self.optimizer.step()
        self.forget_gradients()
        with torch.no_grad():
            for weight, kept in self.pruned:
                weight.mul_(kept)
            self.epoch_loss += losses
        self.step += 1

    def forget_gradients(self) -> None:
        """Take the gradients away."""
        self.optimizer.zero_grad(set_to_none=self.lanes is None)  # with lanes, they are views of one vector

    def _clip(self, largest: float) -> None:
        """Scale each training's gradient down to the norm `largest`, where it is longer."""
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        if self.lanes is None:
            torch.nn.utils.clip_grad_norm_(parameters, largest)
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        scale = (largest / (lane_norms(gradients) + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ has it
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))

    def end_epoch(self, epoch: int, *, whole: bool) -> None:
        """Record the mean losses of the steps since `begun`, and, where the epoch is `whole`, the parameters. A training whose
        mean is infinite or NaN has failed; its neighbours go on."""
        for index, total in enumerate(self.epoch_loss.reshape(-1).tolist()):
            mean = total / (self.step - self.begun)
            self.losses[index].append(mean)
            if not math.isfinite(mean) and index not in self.failures:
                self.failures[index] = NonFiniteError(
                    f"the training loss is not finite in epoch {epoch + 1}",
                    got=mean,
                    fix="a smaller learning rate, or a warm-up",
                )
        self.epoch_loss, self.begun = torch.zeros_like(self.epoch_loss), self.step
        if whole:
            self._keep_row()

    def _keep_row(self) -> None:
        if self.rows is not None:
            state = self.module.state_dict()
            tensors = [state[n].detach().reshape(self.lanes or 1, -1) for n in self.names]
            self.rows.append(torch.cat(tensors, 1).cpu())  # cat copies, a view would go on training

    # -- results and snapshots

    def _own(self, tensor: Tensor, index: int) -> Tensor:
        """The part of a tensor that is of one training. A counter without lanes is everybody's."""
        return tensor if self.lanes is None or tensor.dim() == 0 else tensor[index]

    def state(self, index: int) -> State:
        """Every tensor of a training's network, copied to the CPU."""
        return {n: self._own(t, index).detach().clone().cpu() for n, t in self.module.state_dict().items()}

    def checkpoints(self, index: int) -> Tensor | None:
        """The kept parameters (T, P) of a training."""
        return None if self.rows is None else torch.stack([row[index] for row in self.rows])

    def save(self, progress: Progress, index: int) -> None:
        """Keep a snapshot of all that decides a training's steps to come. It does not say which lane it was in."""
        tensors = {f"state/{n}": self._own(t, index) for n, t in self.module.state_dict().items()}
        tensors |= flat.slots_of(self.optimizer, self.flats, index, SLOTS) if self.lanes else slots_of(self.optimizer)
        tensors["epoch_loss"] = self._own(self.epoch_loss, index)
        if (checkpoints := self.checkpoints(index)) is not None:
            tensors["checkpoints"] = checkpoints
        progress.save(tensors, {"step": self.step, "begun": self.begun, "losses": self.losses[index]})

    def resume(self, snapshots: Sequence[Snapshot]) -> None:
        """Go on from snapshots of one step, one of each training."""
        each = [s.tensors for s in snapshots]
        if self.rows is not None:
            self.rows = [torch.stack(rows) for rows in zip(*(tensors["checkpoints"] for tensors in each), strict=True)]
        names = [n for n in each[0] if n.startswith("state/") or n == "epoch_loss"]
        joined = {n: torch.stack([tensors[n] for tensors in each]) if self.lanes else each[0][n] for n in names}
        self.module.load_state_dict({n.removeprefix("state/"): t for n, t in joined.items() if n.startswith("state/")})
        if self.lanes:
            flat.load_slots(self.optimizer, self.flats, each, SLOTS)
        else:
            load_slots(self.optimizer, each[0])
        numbers = snapshots[0].numbers
        self.step, self.begun, self.losses = numbers["step"], numbers["begun"], [list(s.numbers["losses"]) for s in snapshots]
        self.epoch_loss = joined["epoch_loss"].to(self.epoch_loss.device)
