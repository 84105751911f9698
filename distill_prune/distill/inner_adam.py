"""The matching gradient where the inner optimizer is Adam: a full unroll by the library `higher`.

    theta_{i+1} = theta_i - eta sqrt(1 - b2^i) / (1 - b1^i) m_i / (sqrt(v_i) + eps),   L as in unroll.py

with m and v the running means of the gradient and of its square: the form at the end of section 2 of Adam (Kingma and
Ba, 2015), whose eps is added before the correction for bias. Where v is zero, the derivative of its root counts as zero.

An adjoint as in unroll.py would have to carry Adam's state. The library differentiates through it, and keeps N graphs.
"""

from __future__ import annotations

import higher
import torch
from torch import Tensor

from distill_prune.distill.unroll import Inner, Matched
from distill_prune.models import Model
from distill_prune.tree import flatten, shapes, unflatten


def unrolled_gradient(model: Model, inner: Inner, start: Tensor, target: Tensor, *, adam: bool = True) -> Matched:
    """The matching loss and its gradient by `higher`, with Adam inside (or, for comparison, SGD with inner.momentum)."""
    inner = inner.learned()
    layout = shapes({n: model.module.get_parameter(n) for n in model.parameters})
    module = model.instance({**model.module.state_dict(), **unflatten(start.detach(), layout)}, start.device).train()
    parameters = list(module.parameters())
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(parameters, lr=1.0) if adam else torch.optim.SGD(parameters, lr=1.0, momentum=inner.momentum)
    )
    override = {"lr": [inner.log_lr.exp()]}
    with higher.innerloop_ctx(module, optimizer, override=override, copy_initial_weights=True) as (net, steps):
        for batch in inner.batches:
            steps.step(inner.loss(net(inner.inputs(batch)), batch))
        end = flatten(dict(zip(layout, net.parameters(), strict=True)))
        loss = (end - target).square().sum() / (start - target).square().sum()
        return Matched(loss.detach(), *torch.autograd.grad(loss, inner.leaves))
