"""What networks are trained for, and how they are scored, by the kind of the labels: one loss and one error everywhere.

    labels (N,) integers    classes          cross-entropy of logits (N, K)       error: share of wrong arg max
    labels (N, K) floats    probabilities    cross-entropy of logits (N, K)       error: share of missed likeliest class
    labels (N,) floats      a number         (output - y)^2 of outputs (N, 1)     error: 1 - Pearson's r over the whole set
    labels (N, M) integers  words asked      cross-entropy of logits (A, V)       error: share of wrong arg max

In masked language modelling a row of labels holds the word pieces that are asked of an example, in order, then -1; of all
examples they are A, and means are over these. An error over a set is no mean over its batches where the labels are numbers,
so it is taken of all outputs at once. A constant output has r = 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def is_regression(y: Tensor) -> bool:
    """Whether the labels `y` are numbers."""
    return y.is_floating_point() and y.dim() == 1


def is_asked(y: Tensor) -> bool:
    """Whether the labels `y` are word pieces that are asked."""
    return y.dim() == 2 and not y.is_floating_point()


def truth(y: Tensor) -> Tensor:
    """The labels of the outputs, one for each: (A,) of word pieces that are asked, else `y` itself."""
    return y[y >= 0] if is_asked(y) else y


def counts(y: Tensor) -> Tensor:
    """How many outputs each example has (N,)."""
    return (y >= 0).sum(1) if is_asked(y) else torch.ones(len(y), dtype=torch.int64, device=y.device)


def count(y: Tensor) -> int:
    """How many terms a mean over the examples has: A, else N."""
    return int((y >= 0).sum()) if is_asked(y) else len(y)


def loss(outputs: Tensor, y: Tensor, *, reduction: str = "mean", smoothing: float = 0.0) -> Tensor:
    """The loss of outputs (N, K) for labels `y`, reduced by `mean` or `sum`, or not (`none`: (N,))."""
    if is_regression(y):
        return F.mse_loss(outputs.squeeze(1), y.to(outputs.dtype), reduction=reduction)
    y = y.to(outputs.dtype) if y.is_floating_point() else truth(y)
    return F.cross_entropy(outputs, y, reduction=reduction, label_smoothing=smoothing)


def error(outputs: Tensor, y: Tensor) -> float:
    """The error of outputs (N, K) over a whole set with labels `y`."""
    if is_regression(y):
        return 1 - pearson(outputs.squeeze(1), y)
    return int((outputs.argmax(1) != (y.argmax(1) if y.is_floating_point() else truth(y))).sum()) / count(y)


def pearson(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two vectors (N,), 0 where one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > torch.finfo(torch.float64).tiny else 0.0
