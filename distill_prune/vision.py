"""The one place that imports torchvision."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch


@functools.cache
def _missing_schemas() -> torch.library.Library:
    # Cached, because the schemas vanish with the object.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library


def mended() -> bool:
    """Whether torchvision could be imported only because the schemas of its missing operators were declared."""
    return _missing_schemas.cache_info().currsize > 0


def torchvision() -> ModuleType:
    """The torchvision package; beside a CPU-only torch its datasets, transforms and models work, its `ops` do not.

    A torchvision built for CUDA fails to import there because its operators are missing; with their schemas declared
    it imports (https://github.com/pytorch/vision/issues/9085).

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: it cannot be imported for another reason.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as problem:
        if "torchvision::" not in str(problem):
            raise
    _missing_schemas()
    return importlib.import_module("torchvision")


@functools.cache
def classifiers() -> tuple[str, ...]:
    """The names of torchvision's classification networks.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: it cannot be imported.
    """
    torchvision()
    models = importlib.import_module("torchvision.models")
    return tuple(models.list_models(module=models))


def classifier(arch: str, classes: int, **more: object) -> torch.nn.Module:
    """A classification network of torchvision with drawn weights, for images of three channels.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: it cannot be imported.
    """
    torchvision()
    models = importlib.import_module("torchvision.models")
    module: torch.nn.Module = models.get_model(arch, weights=None, num_classes=classes, **more)
    return module
