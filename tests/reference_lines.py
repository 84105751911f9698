"""Networks whose loss is a formula, and slow twins of what is measured on lines and planes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from reference_analyze import error_on_line
from reference_inputs import copies_of
from torch import nn

from distill_prune.analyze import between, connectivity, disagreement, landscape, layerwise, rebasin
from distill_prune.analyze.inputs import Retrained, Tickets
from distill_prune.artifacts import Examples, Mask
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.rng import Streams

STREAMS = Streams(0, ("compare",))


def written(loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> Model:
    """A network whose cross-entropy on examples of class 0 is loss(w) + 1 at weights w (1, size), for any input.

    The logits (0, log(exp(q) - 1)) have the cross-entropy log(1 + exp(q) - 1) = q.
    """

    class Net(nn.Module):
        prunable = ("weight",)

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, size))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            odds = torch.log(torch.expm1(loss(self.weight[0]) + 1))
            return torch.stack([torch.zeros_like(odds), odds]).expand(len(x), 2)

    return Model(Net, (1, 1, 1), 2, "written")


def weights(*values: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor([values], dtype=torch.float64)}


def of_class_0(n: int = 3) -> Examples:
    return Examples(torch.zeros(n, 1, 1, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.int64))


def bowl(size: int, seed: int = 0) -> Callable[[torch.Tensor], torch.Tensor]:
    """A convex quadratic w' A w / 2 + b' w + c, positive."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    a, b = root @ root.T + torch.eye(size), torch.randn(size, generator=generator, dtype=torch.float64)
    c = b @ torch.linalg.solve(a, b) / 2

    def loss(w: torch.Tensor) -> torch.Tensor:
        return w @ a.to(w.dtype) @ w / 2 + b.to(w.dtype) @ w + c.to(w.dtype)

    return loss


def wells(w: torch.Tensor) -> torch.Tensor:
    """Minima of height 0 at w_0 = -1 and 1, a maximum of height 1 between them; a bowl in the other weights."""
    return (w[0] ** 2 - 1) ** 2 + (w[1:] ** 2).sum()


def at(model, state, examples, batches=None):
    """(error, loss) of a state by a module of its own."""
    return error_on_line(model, state, state, 0, examples, batches)


def norm_batches(train, rows, batch):
    """The batches that statistics are measured on, drawn as the analyses say they do."""
    order = torch.randperm(len(train), generator=STREAMS("connectivity", "norm"))[:rows]
    return list(train.x[order].split(batch))


def measured(name, model, copies, train, test, *, masks=None, start=None, distilled=None, progress=None, **settings):
    """The numbers of one of the analyses of copies; `between` takes the first copy against the others."""
    masks = masks or [Mask.dense(copies[0], model.prunable)] * len(copies)
    more = {"progress": progress or SILENT}
    if name == "between":
        sides = Retrained(copies[:1], masks[0]), Retrained(copies[1:], masks[-1])
        return between.measure(between.Settings(**settings), Tickets(model, *sides, train, test, STREAMS, **more)).numbers
    entry = {m.__name__.rpartition(".")[2]: m for m in (connectivity, layerwise, disagreement, landscape, rebasin)}[name]
    given = copies_of(model, copies, masks, train, STREAMS, test=test, start=start, distilled=distilled, **more)
    return entry.measure(entry.Settings(**settings), given).numbers
