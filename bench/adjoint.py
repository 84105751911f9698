"""Memory and time of the exact matching gradient: the adjoint at s = 1 against all steps' graphs of autograd.

    python bench/adjoint.py [--steps 10] [--width 64] [--images 100] [--rounds 5]

Each measurement is a process of its own, both sides alternating; peak resident memory is counted above the same process
before the gradient is taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace


def measure(segment: int, steps: int, width: int, images: int) -> dict[str, float]:
    import torch

    from distill_prune.distill.derivatives import derivatives
    from distill_prune.distill.unroll import Batch, Inner, matching_gradient
    from distill_prune.models import MODELS, build_model
    from distill_prune.run.worker import keep_pages, peak_mb, reset_peak
    from distill_prune.tree import flatten, shapes, unflatten

    keep_pages()
    torch.set_num_threads(1)
    model = build_model(MODELS["convnet"].Settings(depth=3, width=width), (3, 32, 32), 10)
    start, target = model.fresh(0, "start"), model.fresh(0, "target")
    layout = shapes(start)
    x = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def forward(theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return model(unflatten(theta, layout), x, train=True)

    network = derivatives(model, layout, forward) if segment < steps else None
    inner = Inner(forward, x, torch.arange(images) % 10, torch.tensor(-3.0), [Batch(None, None)] * steps, 0.0, network)
    matching_gradient(
        replace(inner, pixels=x[:2], labels=inner.labels[:2], batches=inner.batches[:1]),
        flatten(start),
        flatten(target),
        segment=1,
    )
    reset_peak()
    idle, began = peak_mb(), time.perf_counter()
    matching_gradient(inner, flatten(start), flatten(target), segment=segment)
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - idle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 10), ("width", 64), ("images", 100), ("rounds", 5), ("segment", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    if a.segment:
        print(json.dumps(measure(a.segment, a.steps, a.width, a.images)))
        return
    found: dict[int, list[dict[str, float]]] = {a.steps: [], 1: []}
    for _ in range(a.rounds):
        for segment in found:
            out = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--segment",
                    str(segment),
                    "--steps",
                    str(a.steps),
                    "--width",
                    str(a.width),
                    "--images",
                    str(a.images),
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            found[segment].append(json.loads(out.stdout))
    middle = {s: {k: statistics.median(m[k] for m in runs) for k in ("seconds", "mb")} for s, runs in found.items()}
    full, least = middle[a.steps], middle[1]
    print(f"N = {a.steps}, ConvNet-3 width {a.width}, {a.images} images 3x32x32, medians of {a.rounds}, one thread")
    print(f"full unroll  {full['mb']:8.0f} MB {full['seconds']:7.2f} s")
    print(f"adjoint s=1  {least['mb']:8.0f} MB {least['seconds']:7.2f} s")
    print(f"ratio        {least['mb'] / full['mb']:8.3f}    {least['seconds'] / full['seconds']:7.2f}")


if __name__ == "__main__":
    main()
