"""The outer optimization of a synthetic set: what is learned, its optimizer, snapshots, and the guard against bad gradients.

A run keeps its last good state, every `KEEP_EVERY` iterations. Where a loss or gradient is not finite it goes back there
with half the step, a bounded number of times, and then fails by the tensor's name. Everything that decides the iterations
to come is in `tensors()` and `numbers()`: an interrupted run goes on bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from distill_prune.errors import NonFiniteError
from distill_prune.progress import Progress
from distill_prune.training.optimizer import SLOTS, load_slots, slots_of

RECORD_EVERY = 10
KEEP_EVERY = 20  # a multiple of RECORD_EVERY, so that a return to a good state starts a new span
TRIES = 6


class Numbers(TypedDict):
    """What of a run's state is no tensor, by the names that it has there."""

    iteration: int
    shrink: float
    tries: int
    record: dict[str, list[float]]
    flops: int
    total: float


@dataclass
class Run:
    """All state of an unfinished distillation.

    `learned` are the leaves by name, in the optimizer's order, and `rates` their step sizes; `averages` the running means
    of some of them, which are the result where they are kept.
    """

    learned: dict[str, Tensor]
    rates: Mapping[str, float]
    optimizer: torch.optim.Optimizer
    iterations: int
    averages: dict[str, Tensor] = field(default_factory=dict)
    iteration: int = 0
    shrink: float = 1.0
    tries: int = 0
    record: dict[str, list[float]] = field(default_factory=dict)
    flops: int = 0
    total: float = 0.0
    good: tuple[int, dict[str, Tensor]] = (0, {})

    @classmethod
    def begin(
        cls,
        learned: dict[str, Tensor],
        rates: Mapping[str, float],
        *,
        optimizer: str,
        momentum: float,
        iterations: int,
        averaged: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
    ) -> Run:
        """A new run over `learned` (made to require gradients), each with its rate; `columns` are recorded beside the loss."""
        groups = [{"params": [t.requires_grad_()], "lr": rates[name]} for name, t in learned.items()]
        outer: torch.optim.Optimizer = (
            torch.optim.SGD(groups, momentum=momentum)
            if optimizer == "sgd"
            else torch.optim.Adam(groups, betas=(momentum, 0.999))
        )
        record: dict[str, list[float]] = {name: [] for name in ("iteration", "loss", *columns)}
        averages = {name: learned[name].detach().clone() for name in averaged}
        return cls(learned, rates, outer, iterations, averages, record=record)

    # -- state

    def tensors(self) -> dict[str, Tensor]:
        out = {name: t.detach().clone() for name, t in self.learned.items()}
        out |= {f"average/{name}": t.clone() for name, t in self.averages.items()}
        return out | {name: t.clone() for name, t in slots_of(self.optimizer).items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, leaf in self.learned.items():
                leaf.copy_(tensors[name])
        self.averages = {name: tensors[f"average/{name}"].to(t.device).clone() for name, t in self.averages.items()}
        load_slots(self.optimizer, {n: t.clone() for n, t in tensors.items() if n.startswith(SLOTS)})

    def numbers(self) -> Numbers:
        return {
            "iteration": self.iteration,
            "shrink": self.shrink,
            "tries": self.tries,
            "record": self.record,
            "flops": self.flops,
            "total": self.total,
        }

    def resume(self, progress: Progress) -> None:
        """Go on from the snapshot that `progress` keeps, where there is one."""
        if (snapshot := progress.load()) is None:
            self.good = (self.iteration, self.tensors())
            return
        self.restore({n: t for n, t in snapshot.tensors.items() if not n.startswith("good/")})
        for name, value in snapshot.numbers.items():
            setattr(self, name, value)
        good = {n.removeprefix("good/"): t for n, t in snapshot.tensors.items() if n.startswith("good/")}
        self.good = (self.iteration // KEEP_EVERY * KEEP_EVERY, good)

    def keep(self) -> None:
        """Remember this state as good, now and then."""
        if self.iteration % KEEP_EVERY == 0:
            self.good = (self.iteration, self.tensors())

    # -- steps

    def checked(self, named: Mapping[str, Tensor], about: str | Callable[[], str], fix: str) -> float:
        """The first of the tensors, the loss, as a number: one read of the device gives it and whether all are finite. NaN
        where one is not; then the run is back in its last good state, with half the step.

        Raises:
            NonFiniteError: that has happened too often; the message names the tensor.
        """
        loss = next(iter(named.values()))
        finite = torch.stack([torch.isfinite(t).all() for t in named.values()])
        value, *flags = torch.cat([loss.reshape(1), finite.to(loss.dtype)]).tolist()
        bad = next((name for name, flag in zip(named, flags, strict=True) if not flag), None)
        if bad is None:
            return float(value)
        if self.tries >= TRIES:
            raise NonFiniteError(
                f"the {bad} is not finite at iteration {self.iteration}, after {TRIES} returns to a good state",
                got=about if isinstance(about, str) else about(),
                fix=fix,
            )
        self.restore(self.good[1])
        self.iteration, self.shrink, self.tries, self.total = self.good[0], self.shrink / 2, self.tries + 1, 0.0
        keep = sum(at <= self.iteration for at in self.record["iteration"])
        self.record = {name: values[:keep] for name, values in self.record.items()}
        return math.nan

    def update(self, gradients: Mapping[str, Tensor], *, decay: str = "none", average: float = 0.0) -> None:
        """One step of the outer optimizer, shrunk by the guard and the schedule; `average` is the running means' momentum."""
        share = self.iteration / self.iterations
        anneal = 0.5 * (1 + math.cos(math.pi * share)) if decay == "cosine" else 1.0
        for group, (name, leaf) in zip(self.optimizer.param_groups, self.learned.items(), strict=True):
            group["lr"] = self.rates[name] * self.shrink * anneal
            leaf.grad = gradients[name]
        self.optimizer.step()
        for name, mean in self.averages.items():
            mean.lerp_(self.learned[name].detach(), 1 - average)

    @property
    def recording(self) -> bool:
        """Whether the iteration of now ends a span of the record."""
        return (self.iteration + 1) % RECORD_EVERY == 0 or self.iteration + 1 == self.iterations

    def advance(self, loss: float, progress: Progress, columns: Mapping[str, float], note: str = "") -> None:
        """Count one iteration, record it in spans of `RECORD_EVERY`, and keep a snapshot where one is due. The columns and the
        note are read where the iteration is `recording`."""
        recording = self.recording
        self.total += loss
        self.iteration += 1
        progress.record(self.iteration, loss)
        if recording:
            mean = self.total / ((self.iteration - 1) % RECORD_EVERY + 1)
            for name, value in {"iteration": self.iteration, "loss": mean, **columns}.items():
                self.record[name].append(value)
            progress.tick(self.iteration, self.iterations, f"loss {mean:.3f}{note}")
            self.total = 0.0
        if self.iteration < self.iterations and progress.due():
            progress.save(self.tensors() | {f"good/{n}": t for n, t in self.good[1].items()}, self.numbers())

    def result(self, name: str) -> Tensor:
        """The learned tensor on the CPU: its running mean where one is kept."""
        return self.averages.get(name, self.learned[name]).detach().cpu().clone()
