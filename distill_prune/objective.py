"""What networks are trained for, and how they are scored, by the kind of the labels: one loss and one error everywhere.

    labels (N,) integers    classes          cross-entropy of logits (N, K)       error: share of wrong arg max
    labels (N, K) floats    probabilities    cross-entropy of logits (N, K)       error: share of missed likeliest class
    labels (N,) floats      a number         (output - y)^2 of outputs (N, 1)     error: 1 - Pearson's r over the whole set

An error over a set is no mean over its batches where the labels are numbers, so it is taken of all outputs at once. A
constant output has r = 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def is_regression(y: Tensor) -> bool:
    """Whether the labels `y` are numbers."""
    return y.is_floating_point() and y.dim() == 1


def loss(outputs: Tensor, y: Tensor, *, reduction: str = "mean", smoothing: float = 0.0) -> Tensor:
    """The loss of outputs (N, K) for labels `y`, reduced by `mean` or `sum`."""
    if is_regression(y):
        return F.mse_loss(outputs.squeeze(1), y.to(outputs.dtype), reduction=reduction)
    y = y.to(outputs.dtype) if y.is_floating_point() else y
    return F.cross_entropy(outputs, y, reduction=reduction, label_smoothing=smoothing)


def error(outputs: Tensor, y: Tensor) -> float:
    """The error of outputs (N, K) over a whole set with labels `y`."""
    if is_regression(y):
        return 1 - pearson(outputs.squeeze(1), y)
    return int((outputs.argmax(1) != (y.argmax(1) if y.dim() == 2 else y)).sum()) / len(y)


def pearson(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two vectors (N,), 0 where one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > torch.finfo(torch.float64).tiny else 0.0
