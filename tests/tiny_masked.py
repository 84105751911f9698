"""What masked language modelling needs beside `tiny_bert` and `tiny_text`: a head on the weights, plain text, and examples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import tiny_bert
import torch
from safetensors.torch import load_file, save_file

from distill_prune.artifacts import Examples
from distill_prune.data.masked import ask
from distill_prune.models import Model, bert, build_model, predicting, resolved
from distill_prune.models.bert import head_shapes
from distill_prune.models.transformer import Configuration


def write(directory: Path, seed: int = 0, **changes: Any) -> Path:
    """`tiny_bert.write` with the head of masked language modelling besides."""
    tiny_bert.write(directory, seed=seed, **changes)
    generator = torch.Generator().manual_seed(seed + 1)
    tensors = load_file(directory / "model.safetensors")
    for name, shape in head_shapes(Configuration(**tiny_bert.CONFIG)).items():
        noise = 0.3 * torch.randn(shape, generator=generator)
        tensors[f"cls.{name}"] = noise + 1 if name.endswith("LayerNorm.weight") else noise
    save_file(tensors, directory / "model.safetensors")
    return directory


def text(folder: Path, n: int = 24) -> Path:
    """A folder with train.txt of `n` passages, and dev.txt of 12."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = random.Random(0)
    for name, count in (("train", n), ("dev", 12)):
        made = [
            " ".join(draws.choices(("film", "plot", "very", "the", "good"), k=draws.randrange(3, 12))) for _ in range(count)
        ]
        (folder / f"{name}.txt").write_text("\n\n".join(made) + "\n", encoding="utf-8")
    return folder


def model_of(directory: Path, **changes: Any) -> Model:
    """The network that says what is asked, at the weights in `directory`."""
    settings = predicting(resolved(bert.Settings(path=str(directory), **{"pooling": "mean", **changes})))
    return build_model(settings, (2, 12), 64)


def examples(n: int, seed: int = 0, share: float = 0.4) -> Examples:
    """`n` examples of lengths 3..12, most with several word pieces that are asked."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, 2, 12, dtype=torch.int32)
    for i, (row, length) in enumerate(zip(x, torch.randint(3, 13, (n,), generator=generator).tolist(), strict=True)):
        row[0, :length] = torch.randint(5, 64, (length,), generator=generator)
        row[0, 0], row[0, length - 1], row[1, :length] = 2, 3, 1
        row[1, length // 2 : length] += i % 2
    return Examples(*ask(x, share, 4, torch.tensor([0, 2, 3, 4], dtype=torch.int32), 64, generator))


def pairs(held: Examples, row: int) -> list[tuple[int, int]]:
    """The places that are asked in an example, each with its label."""
    places = [i for i, segment in enumerate(held.x[row, 1].tolist()) if segment > 2]
    return list(zip(places, [y for y in held.y[row].tolist() if y >= 0], strict=True))
