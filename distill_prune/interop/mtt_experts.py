"""Expert trajectories of MTT, TESLA, FTD and DATM: `replay_buffer_<n>.pt`, lists of 10 experts.

An expert is a list of checkpoints, at the start and at the end of every epoch; a checkpoint is a list of float32 tensors in
the order of `parameters()`, without names, buffers of norms, or seeds. In: one folder, or files, in the order of their numbers;
`--set model.name=...` says which network they are of. Experts in which nothing moves are refused: they are what MTT's
`buffer.py` saves on a machine without a GPU, where its snapshots are views of the weights that it goes on training, so
that all of them become the last. Out: a folder of files.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), section 3.1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import Trajectory
from distill_prune.checkpoints import load, tensor
from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import packed, publish_folder
from distill_prune.limits import Budget
from distill_prune.settings import Entry
from distill_prune.tree import clone

KIND = "experts"
EACH = 10
"""Experts a file, as MTT saves them."""


class Settings(Entry):
    """`epochs` keeps the checkpoints 0..epochs alone: matching uses those up to its last start plus the epochs it matches."""

    name: Literal["mtt-experts"] = "mtt-experts"
    epochs: int | None = Field(None, ge=1, description="keep the checkpoints up to this epoch alone; default: all")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> list[Trajectory]:
    """The experts of all files, in order.

    Raises:
        ConfigError: the network is not known.
        DataError: a file is missing, hostile or damaged, holds another network's parameters, or nothing moves in it.
    """
    if origin.model is None:
        raise ConfigError("a replay buffer does not name its tensors", fix="--set model.name=..., the network of the experts")
    parameters = dict(origin.model.module.named_parameters())
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    budget = Budget(paths[0])
    return [expert for path in _files(paths) for expert in _experts(path, settings, shapes, budget)]


def _files(paths: Sequence[Path]) -> list[Path]:
    if len(paths) != 1 or not paths[0].is_dir():
        return list(paths)
    buffers = sorted(paths[0].glob("replay_buffer_*.pt"), key=lambda p: (len(p.name), p.name))
    if not buffers:
        raise DataError(f"the folder '{paths[0]}' has no experts", expected="replay_buffer_0.pt, ...")
    return buffers


def _experts(path: Path, settings: Settings, shapes: Mapping[str, torch.Size], budget: Budget) -> Iterator[Trajectory]:
    # A checkpoint may be referred to many times, and then its numbers are there once: rows are paid for one by one.
    experts, row = load(path, budget=budget, copies=1), 4 * sum(shape.numel() for shape in shapes.values())
    if not isinstance(experts, list) or not experts or not all(isinstance(e, list) and len(e) > 1 for e in experts):
        raise DataError(
            f"'{path}' is not a replay buffer",
            got=type(experts).__name__,
            expected="a list of experts of 2 checkpoints or more",
        )
    for number, expert in enumerate(experts):
        epochs = len(expert) - 1
        last = settings.epochs or epochs
        if last > epochs:
            raise DataError(f"expert {number} of '{path}' is too short", got=f"{epochs} epochs", expected=f"{last} epochs")
        budget.take(row * (last + 1), f"{last + 1} checkpoints of expert {number}")
        rows = torch.stack(
            [_row(path, f"expert {number}, checkpoint {t}", c, shapes) for t, c in enumerate(expert[: last + 1])]
        )
        if torch.equal(rows[0], rows[-1]):
            raise DataError(
                f"expert {number} of '{path}' does not move: its first and last checkpoints are equal",
                expected="weights that training changes",
                fix="MTT's buffer.py saves this on a machine without a GPU; train the experts on one, or with `experts` here",
            )
        experts[number] = None  # its tensors are copied: no large buffer is in memory twice for long
        yield Trajectory(rows, dict(shapes))


def _row(path: Path, where: str, checkpoint: object, shapes: Mapping[str, torch.Size]) -> Tensor:
    """One checkpoint as a vector (P,), float32."""
    if not isinstance(checkpoint, list | tuple) or len(checkpoint) != len(shapes):
        raise DataError(
            f"{where} of '{path}' is not of this network",
            got=f"{len(checkpoint)} tensors" if isinstance(checkpoint, list | tuple) else type(checkpoint).__name__,
            expected=f"{len(shapes)}: {', '.join(shapes)}",
            fix="--set model.name=... and the settings of the experts' network",
        )
    tensors = [tensor(path, value, f"'{name}' in {where}") for name, value in zip(shapes, checkpoint, strict=True)]
    for (name, shape), values in zip(shapes.items(), tensors, strict=True):
        if values.shape != shape or not values.is_floating_point():
            raise DataError(
                f"'{name}' in {where} of '{path}' does not fit the network",
                got=f"{values.dtype} {tuple(values.shape)}",
                expected=f"floating-point {tuple(shape)}",
                fix="--set model.name=... and the settings of the experts' network",
            )
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"'{name}' in {where} of '{path}' is not finite", expected="numbers, no NaN or infinity")
    return torch.cat([values.reshape(-1).float() for values in tensors])


def _buffers(experts: Sequence[Trajectory]) -> Iterator[tuple[str, bytes]]:
    for number, first in enumerate(range(0, len(experts), EACH)):
        some = [[list(clone(e.state(t)).values()) for t in range(len(e.checkpoints))] for e in experts[first : first + EACH]]
        yield f"replay_buffer_{number}.pt", packed(some)


def write(export: Export, path: Path) -> list[Path]:
    """A folder of `replay_buffer_<n>.pt`, 10 experts in each.

    Raises:
        UserError: it is something else than experts, an expert is convex, or something stands at `path`.
    """
    experts = export.noun
    if not isinstance(experts, tuple) or not experts:
        raise UserError("format 'mtt-experts' holds experts", got=type(experts).__name__, expected="one trajectory or more")
    if any(expert.convex for expert in experts):
        raise UserError(
            "a replay buffer holds an expert's own checkpoints, and convex experts keep the first and the last alone",
            fix="experts that are trained with experts.convex: false",
        )
    return publish_folder(path, _buffers(experts))
