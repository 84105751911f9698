"""One epoch on 5,000 images of CIFAR-10's size with crop and flip, beside DataLoader and torchvision with two workers."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, Scene, Side
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from distill_prune.artifacts import Examples, Transform
from distill_prune.models import Model
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training import train, training_cost
from distill_prune.vision import torchvision
from ratios.made_up import network, of_torch
from ratios.optional import ways

BATCH, RATE, MOMENTUM, THREADS = 64, 0.06, 0.9, 2
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """As torchvision's CIFAR10: arrays of bytes, an image of Pillow's and its transform for every example."""

    def __init__(self, pixels: np.ndarray, labels: list[int], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def loader(scene: Scene, pixels: np.ndarray, labels: list[int]) -> DataLoader[tuple[torch.Tensor, int]]:
    torchvision()
    chain = importlib.import_module("torchvision.transforms")
    steps = [chain.RandomCrop(32, padding=4), chain.RandomHorizontalFlip(), chain.ToTensor(), chain.Normalize(MEAN, STD)]
    pictures = Pictures(pixels, labels, chain.Compose(steps))
    workers = scene.size(THREADS, 0)
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, pin_memory=scene.device != "cpu")


def plain(scene: Scene, model: Model, batches: DataLoader[tuple[torch.Tensor, int]]) -> None:
    module = of_torch(model.instance(model.fresh(0), scene.device)).train()
    optimizer = torch.optim.SGD(module.parameters(), RATE, MOMENTUM, fused=True)
    for x, y in batches:
        x, y = x.to(scene.device, non_blocking=True), y.to(scene.device, non_blocking=True)
        loss = F.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def epoch(scene: Scene) -> Row:
    count, width = scene.size((5000, 32), (96, 4))
    draws = np.random.default_rng(0)
    pixels, labels = draws.integers(0, 256, (count, 32, 32, 3), np.uint8), draws.integers(0, 10, count).tolist()
    model = network(3, width, (3, 32, 32))
    transform = Transform("normalize", {"mean": torch.tensor(MEAN), "std": torch.tensor(STD)})
    bytes_of_pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    examples = Examples(bytes_of_pixels, torch.tensor(labels), transform, 255.0).ready().to(scene.device)
    recipe = Recipe.model_validate({"length": "1ep", "batch": BATCH, "lr": RATE, "momentum": MOMENTUM, "augment": "crop+flip"})
    batches = loader(scene, pixels, labels)

    def ours() -> None:
        train(model, model.fresh(0), examples, recipe, Streams(0, ("bench",)), device=scene.device)

    eager, compiled, absent = ways(scene, THREADS, ours)
    return Row(
        f"one epoch, {count:,} images 3x32x32, ConvNet-3 w{width}, crop + flip, batch {BATCH}, 2 threads",
        Side("DataLoader + torchvision, 2 workers", lambda: plain(scene, model, batches)),
        [Side("eager", eager), *(Side("compiled", run, 0.35) for run in compiled)],
        threads=THREADS,
        flops=training_cost(model, count, examples.shape, BATCH, 0, recipe.steps(count)).flops,
        absent=absent,
    )
