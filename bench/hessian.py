"""Trace and leading eigenvalues of the Hessian beside PyHessian's: one network, the same examples, weights and coordinates.

    pip install pyhessian
    python bench/hessian.py [--width 16] [--rows 256] [--rounds 5]

Both sides see the prunable weights alone and alternate, one thread each, with other random vectors in every round. "off" is
the distance from the exact trace, by one product a weight. Residuals |H u - l u| / |l| are taken by this script, of the
eigenvectors that each side returns.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from distill_prune.analyze import curvature, diagonal, spectrum
from distill_prune.analyze.inputs import Copies
from distill_prune.artifacts import Examples, Mask
from distill_prune.data import DATASETS, prepare
from distill_prune.models import MODELS, Model, build_model
from distill_prune.rng import Streams
from distill_prune.training import Recipe, hessian, train
from distill_prune.tree import State

TOP = 5
Measured = Callable[[int], dict[str, Any]]
"""What a round, by its number, finds."""


def trained(width: int, rows: int) -> tuple[Model, State, Mask, Examples]:
    """A ConvNet-2 that has seen the digits ten times, and so many of its training examples."""
    images = prepare(DATASETS["digits"].Settings())
    examples = images.examples("train").ready()
    model = build_model(MODELS["convnet"].Settings(depth=2, width=width), (1, 8, 8), 10)
    recipe = Recipe(length="10ep", batch=64, lr=0.05)
    state = train(model, model.fresh(0, "init"), examples, recipe, Streams(0, ("bench",)), device="cpu").state
    return model, state, Mask.dense(state, model.prunable), examples.take(torch.arange(rows))


def ours(model: Model, state: State, mask: Mask, examples: Examples) -> dict[str, Measured]:
    def trace(**settings: Any) -> Measured:
        chosen = curvature.Settings(rows=len(examples), **settings)

        def run(seed: int) -> dict[str, Any]:
            given = Copies(model, [state], [mask], state, {"train": examples}, Streams(seed, ("bench",)))
            found = curvature.measure(chosen, given)
            (one,) = found.numbers["copies"]
            return {"trace": one["trace"]["mean"], "se": one["trace"]["se"], "products": one.get("products", one["probes"])}

        return run

    def top(seed: int) -> dict[str, Any]:
        products = hessian.Products(model, state, mask, examples)
        first, taken = torch.randn(products.survivors, generator=Streams(seed, ("bench",))("first")).double(), 0

        def times(vectors: torch.Tensor) -> torch.Tensor:
            nonlocal taken
            taken += len(vectors)
            return products.times(vectors)

        values, vectors = spectrum.leading(times, first, TOP, spectrum.Settings().tolerance, "the bench")
        return {"values": values.tolist(), "vectors": vectors, "products": taken}

    return {
        "trace, 100 probes": trace(probes_max=100, relative_error=1e-9),
        "trace, own stop": trace(),
        "trace, hutch++, calibrated": trace(method="hutch++", interval="calibrated"),
        f"{TOP} eigenvalues": top,
    }


def theirs(model: Model, state: State, examples: Examples) -> dict[str, Measured]:
    from pyhessian import hessian as peer

    network = model.instance(state)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in model.prunable)

    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        network.zero_grad()
        return peer(network, nn.CrossEntropyLoss(), data=(examples.x, examples.y), cuda=False)

    def trace(**options: Any) -> Measured:
        def run(seed: int) -> dict[str, Any]:
            found = made(seed).trace(**options)
            return {"trace": statistics.fmean(found), "se": None, "products": len(found)}

        return run

    def top(seed: int) -> dict[str, Any]:
        # The package has given the module's name to its class.
        module: Any = importlib.import_module("pyhessian.hessian")
        plain, taken = module.hessian_vector_product, 0

        def counted(*arguments: Any) -> Any:
            nonlocal taken
            taken += 1
            return plain(*arguments)

        module.hessian_vector_product = counted
        try:
            values, vectors = made(seed).eigenvalues(top_n=TOP)
        finally:
            module.hessian_vector_product = plain
        rows = torch.stack([torch.cat([part.flatten() for part in v]) for v in vectors]).double()
        return {"values": values, "vectors": rows, "products": taken}

    return {"trace, 100 probes": trace(tol=0.0), "trace, own stop": trace(), f"{TOP} eigenvalues": top}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 16), ("rows", 256), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    torch.set_num_threads(1)
    # A graph through .grad, which PyHessian makes, is warned of each time.
    warnings.filterwarnings("ignore", message=".*create_graph=True.*")
    scene = model, state, _, examples = trained(a.width, a.rows)
    sides: dict[str, Mapping[str, Measured]] = {"ours": ours(*scene)}
    try:
        sides["PyHessian"] = theirs(model, state, examples)
    except ImportError as problem:
        print(f"PyHessian is not here ({problem}): pip install pyhessian")
    products = hessian.Products(*scene)
    exact = float(diagonal.exactly(products, lambda *_: None).sum())
    print(f"ConvNet-2 width {a.width}, {products.survivors} weights, {a.rows} digits, medians of {a.rounds}, one thread")
    print(f"exact trace {exact:.4f}")
    for what in sides["ours"]:
        found: dict[str, list[dict[str, Any]]] = {side: [] for side, does in sides.items() if what in does}
        for i in range(a.rounds):
            for side, runs in found.items():
                began = time.perf_counter()
                runs.append(sides[side][what](i))
                runs[-1]["seconds"] = time.perf_counter() - began
        for side, runs in found.items():
            seconds, taken = (statistics.median(r[k] for r in runs) for k in ("seconds", "products"))
            print(f"{what:28} {side:10} {seconds:7.2f} s {taken:6.0f} products  {said(runs, products, exact)}", flush=True)


def said(runs: list[dict[str, Any]], products: hessian.Products, exact: float) -> str:
    """The values of all rounds in a line."""
    if "trace" in runs[0]:
        off = statistics.median(abs(r["trace"] / exact - 1) for r in runs)
        worst = max(abs(r["trace"] / exact - 1) for r in runs)
        error = f", standard error {runs[0]['se']:.3f}" if runs[0]["se"] is not None else ", no error given"
        return f"{statistics.median(r['trace'] for r in runs):.3f}, off by {off:.2%} (at most {worst:.2%}){error}"
    vectors, values = runs[0]["vectors"], torch.tensor(runs[0]["values"], dtype=torch.float64)
    residuals = (products.times(vectors) - values[:, None] * vectors).norm(dim=1) / values.abs()
    return f"{', '.join(f'{v:.3f}' for v in values)}; residuals at most {float(residuals.max()):.1e}"


if __name__ == "__main__":
    main()
