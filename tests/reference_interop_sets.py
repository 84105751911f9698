"""A small distilled set as each foreign format holds it, and what its tests do with files: save, read, write, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_prune.artifacts import SyntheticSet, Transform
from distill_prune.interop import FORMATS, Export, Origin
from distill_prune.models import build_model
from distill_prune.models.convnet import Settings as ConvNet

SETS = ("mtt", "datm", "dc", "idc", "ddranking", "png", "npz")
NAMES = ("T-shirt/top", "cat", "50% grey")
NORMALIZE = Transform("normalize", {"mean": torch.tensor([0.5, 0.4, 0.3]), "std": torch.tensor([0.2, 0.3, 0.25])})
ZCA = Transform(
    "zca", {"mean_vector": torch.zeros(1, 48), "transform_matrix": torch.eye(48) * 2, "transform_inv": torch.eye(48) / 2}
)
BESIDE = Origin(NAMES, NORMALIZE, (3, 4, 4))
GENERATOR = torch.Generator().manual_seed(7)
X = torch.randn(6, 3, 4, 4, generator=GENERATOR)
Y = torch.tensor([0, 0, 1, 1, 2, 2])
BYTES = torch.randint(256, (6, 3, 4, 4), generator=GENERATOR, dtype=torch.uint8)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
NAN = X.clone()
NAN[3, 0, 0, 0] = float("nan")
LR = {"lr": 0.01, "space": "normalize"}


def made(**changes: Any) -> SyntheticSet:
    return SyntheticSet(**{"images": X, "labels": Y, "classes": NAMES, "transform": NORMALIZE, "method": "m", **changes})


PIXELS = made(images=BYTES.float() / 255, transform=Transform("pixels", {}))


def read(form: str, *paths: Path, origin: Origin = BESIDE, **options: Any) -> Any:
    entry: Any = FORMATS[form]
    return entry.read(entry.Settings(**options), list(paths), origin)


def write(form: str, noun: Any, path: Path) -> list[Path]:
    entry: Any = FORMATS[form]
    return entry.write(Export(noun), path)  # type: ignore[no-any-return]


def saved(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()


def same(a: SyntheticSet, b: SyntheticSet) -> bool:
    tensors = bits(a.images) == bits(b.images) and bits(a.labels) == bits(b.labels) and a.transform.same_space(b.transform)
    return tensors and (a.classes, a.lr, a.factor, a.label_kind) == (b.classes, b.lr, b.factor, b.label_kind)


def network() -> Any:
    return build_model(ConvNet(depth=1, width=2), (3, 4, 4), 3)
