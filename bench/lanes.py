"""Trainings in shared steps against one by one: milliseconds of a training's step, both in turn, medians of five.

    python bench/lanes.py

ConvNet-2 of width 16 on 8x8 images, as `digits.yaml` trains it: copies of tickets (batches of 16 of 1,293 images, no
augmentation) and levels on a small set (batches of 50, one of five families of augmentation), with masks, momentum and one
thread.
"""

from __future__ import annotations

import statistics
import time

import torch

from distill_prune.artifacts import Examples, Mask
from distill_prune.models import MODELS, build_model
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams, stream
from distill_prune.run.worker import conditions, keep_pages
from distill_prune.training import Training, train_group

ROUNDS, LANES = 5, (1, 4, 8, 16)
CASES = {
    "copies of tickets": (1293, 200, {"batch": 16, "schedule": "cosine"}),
    "levels on a small set": (50, 100, {"batch": 50, "augment": "color_crop_cutout_scale_rotate"}),
}


def main() -> None:
    keep_pages()
    model = build_model(MODELS["convnet"].Settings(depth=2, width=16, norm="instance"), (1, 8, 8), 10)
    for name, (count, steps, fields) in CASES.items():
        draws = stream(0, "bench")
        images = torch.randn(count, *model.shape, generator=draws)
        examples = Examples(images, torch.randint(10, (count,), generator=draws))
        recipe = Recipe.model_validate({"length": f"{steps}it", "lr": 0.1, "momentum": 0.9, **fields})
        seconds: dict[int, list[float]] = {lanes: [] for lanes in LANES}
        with conditions(1):
            for _ in range(ROUNDS):
                for lanes in LANES:
                    starts = [model.fresh(seed) for seed in range(lanes)]
                    masks = [Mask({n: s[n].abs() > s[n].abs().median() for n in model.prunable}) for s in starts]
                    group = [
                        Training(model, s, examples, recipe, Streams(i), m)
                        for i, (s, m) in enumerate(zip(starts, masks, strict=True))
                    ]
                    begun = time.perf_counter()
                    train_group(group, lanes)
                    seconds[lanes].append((time.perf_counter() - begun) / steps / lanes)
        alone = statistics.median(seconds[1])
        print(f"{name}, ms a step of one training (and of the time of one alone)")
        for lanes, taken in seconds.items():
            middle = statistics.median(taken)
            spread = f"[{1e3 * min(taken):.3f}, {1e3 * max(taken):.3f}]"
            print(f"  {lanes:2} lanes  {1e3 * middle:6.3f}  {spread}  {middle / alone:.2f}")


if __name__ == "__main__":
    main()
