"""The trace of the Hessian by 100 probes, beside PyHessian's loop: one gradient with a graph, then a product a probe."""

from __future__ import annotations

import warnings

import hessian
import torch
import torch.nn.functional as F
from measure import Row, Scene, Side

from distill_prune.artifacts import Examples
from distill_prune.training import CountFlops
from distill_prune.tree import to
from ratios.made_up import of_torch
from ratios.optional import ways

PROBES = 100


def peer(network: torch.nn.Module, names: tuple[str, ...], examples: Examples, probes: int) -> float:
    """`pyhessian.hessian(...).trace(maxIter=probes, tol=0)` on one batch, as its version 0.1 computes it."""
    parameters = [network.get_parameter(name) for name in names]
    network.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a graph through .grad
        F.cross_entropy(network(examples.x), examples.y).backward(create_graph=True)
    gradients = [p.grad + 0.0 for p in parameters if p.grad is not None]
    terms = []
    for _ in range(probes):
        vectors = [torch.randint_like(p, high=2) for p in parameters]
        for v in vectors:
            v[v == 0] = -1
        network.zero_grad()
        products = torch.autograd.grad(gradients, parameters, vectors, only_inputs=True, retain_graph=True)
        terms.append(torch.stack([torch.sum(v * hv) for v, hv in zip(vectors, products, strict=True)]).sum().item())
    return sum(terms) / len(terms)


def trace(scene: Scene) -> Row:
    width, rows = scene.size((16, 256), (4, 16))
    model, state, mask, examples = hessian.trained(width, rows)
    state, mask, examples = to(state, scene.device), mask.to(scene.device), examples.to(scene.device)
    network = of_torch(model.instance(state, scene.device))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in model.prunable)
    measured = hessian.ours(model, state, mask, examples)["trace, 100 probes"]

    with CountFlops() as counter:
        peer(network, model.prunable, examples, 1)
    with CountFlops() as more:
        peer(network, model.prunable, examples, 2)
    eager, compiled, absent = ways(scene, 1, lambda: measured(0))
    return Row(
        f"Hessian trace, {PROBES} probes, {rows} digits, ConvNet-2 w{width}",
        Side("PyHessian's loop", lambda: peer(network, model.prunable, examples, PROBES)),
        [Side("eager", eager), *(Side("compiled", run, 0.5) for run in compiled)],
        flops=counter.total + (PROBES - 1) * (more.total - counter.total),
        absent=absent,
    )
