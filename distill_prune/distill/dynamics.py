"""What experts say of single training examples: their outputs by epoch, and scores of difficulty made of these.

    el2n         s_i = || softmax(z_i) - y_i ||_2                          at one epoch                   (Paul et al., 2021)
    forgetting   s_i = #{t: right at t - 1, wrong at t}, T where never right                              (Toneva et al., 2019)
    margin       s_i = - mean_t (z_i[y_i] - max_{k != y_i} z_i[k])         area under the margin          (Pleiss et al., 2020)

z_i are the logits at the ends of epochs t = 1 .. T of one expert; scores are means over the experts, and larger for harder
examples. The papers look after every step or epoch of training with augmentation; here the checkpoints that matching keeps are
looked at, on examples as they are.

References:
    | Deep Learning on a Data Diet: Finding Important Examples Early in Training, https://arxiv.org/abs/2107.07075
    | An Empirical Study of Example Forgetting during Deep Neural Network Learning, https://arxiv.org/abs/1812.05159
    | Identifying Mislabeled Data using the Area Under the Margin Ranking, https://arxiv.org/abs/2001.10528
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from distill_prune.artifacts import Cost, Examples, Trajectory
from distill_prune.distill import Source
from distill_prune.errors import ConfigError, DataError
from distill_prune.training.costs import forward_cost
from distill_prune.training.evaluation import outputs
from distill_prune.tree import to

Score = Literal["el2n", "forgetting", "margin"]
Statistic = Callable[[Tensor, Tensor], Tensor]
"""Of the logits (T, N, K) of one expert by epoch, and the classes (N,): a score of each example (N,)."""


def logits(source: Source, expert: Trajectory, epoch: int | None, x: Tensor) -> tuple[Tensor, Cost]:
    """An expert's outputs (N, K) for network inputs `x` (N, C, H, W) at the end of an epoch (None: the last), and their cost.

    Raises:
        ConfigError: the network keeps batch statistics, which a trajectory does not have; the expert ends before; or it is
            convex, and the epoch lies between its ends, where there is a point of a line and no network that was trained.
    """
    model, last = source.network, len(expert.checkpoints) - 1
    if model.batch_norms:
        raise ConfigError(
            "experts' outputs are asked for, and their network keeps batch statistics, which trajectories do not have",
            fix="experts.model with another norm, such as instance or group",
        )
    if epoch is not None and epoch > last:
        raise ConfigError("experts end before the epoch that is asked for", got=f"{last} epochs", expected=f"{epoch}")
    if expert.convex and epoch not in (None, 0, last):
        raise ConfigError(
            "outputs at the end of an epoch are asked for, and convex experts keep their first and last checkpoint alone",
            got=f"epoch {epoch}",
            fix="experts.convex: false",
        )
    state = to(expert.state(last if epoch is None else epoch), x.device)
    return outputs(model, state, Examples(x, x.new_zeros(len(x), dtype=torch.long))), forward_cost(model, x)


def el2n(z: Tensor, y: Tensor) -> Tensor:
    """Of the one epoch that is given."""
    length: Tensor = torch.linalg.vector_norm(z[-1].softmax(1) - one_hot(y, z.shape[2]), dim=1)
    return length


def forgetting(z: Tensor, y: Tensor) -> Tensor:
    right = z.argmax(2) == y
    events = (right[:-1] & ~right[1:]).sum(0)
    return torch.where(right.any(0), events, len(z)).to(z.dtype)


def margin(z: Tensor, y: Tensor) -> Tensor:
    of_class = z.gather(2, y.expand(len(z), -1)[..., None]).squeeze(2)
    others = z.scatter(2, y.expand(len(z), -1)[..., None], -torch.inf).amax(2)
    return -(of_class - others).mean(0)


STATISTICS: dict[Score, Statistic] = {"el2n": el2n, "forgetting": forgetting, "margin": margin}


def scores(source: Source, score: Score, epoch: int | None = None) -> tuple[Tensor, Cost]:
    """The mean score (N,) of every training example over the experts, in float64, and the cost of the passes. el2n looks at
    the end of `epoch` (None: the last), the others at the ends of all.

    Raises:
        ConfigError: as for `logits`.
        DataError: labels are no classes.
    """
    train = source.train
    if train.y.dim() != 1 or train.y.is_floating_point():
        raise DataError("examples are scored by how experts learn their classes, and the labels of these data are no classes")
    x, cost, parts = train.inputs(slice(None)), Cost(), list[Tensor]()
    for expert in source.experts:
        epochs: Iterable[int | None] = [epoch] if score == "el2n" else range(1, len(expert.checkpoints))
        passes = [logits(source, expert, t, x) for t in epochs]
        cost = sum((spent for _, spent in passes), cost)
        parts.append(STATISTICS[score](torch.stack([z for z, _ in passes]).double(), train.y))
    return torch.stack(parts).mean(0), cost
