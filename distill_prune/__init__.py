"""distill-prune: sparse networks found with a handful of distilled images.

The names below are the public surface; they are imported on use, so that `import distill_prune` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` would take most of the time of this
if TYPE_CHECKING:
    from typing import Any

_PUBLIC = {
    # nouns
    "Images": "artifacts",
    "Examples": "artifacts",
    "Transform": "artifacts",
    "Trajectory": "artifacts",
    "SyntheticSet": "artifacts",
    "Mask": "artifacts",
    "Weights": "artifacts",
    "Ticket": "artifacts",
    "Measurements": "artifacts",
    # tables: names to modules
    "DATASETS": "data",
    "MODELS": "models",
    "METHODS": "distill",
    "CRITERIA": "prune",
    "ANALYSES": "analyze",
    "FORMATS": "interop",
    # training
    "Recipe": "recipe",
    "PRESETS": "recipe",
    "train": "training",
    "Training": "training",
    "train_group": "training",
    "evaluate": "training",
    "build_model": "models",
    # the methods themselves
    "matching_gradient": "distill.unroll",
    "select": "prune.select",
    "next_level": "prune.imp",
    # pipelines and stores
    "Store": "store.store",
    "Pipeline": "plan.config",
    "load": "plan.config",
    "build": "plan.graph",
    "run": "run.run",
    "read": "study.study",
    "write": "report",
    # errors
    "DistillPruneError": "errors",
    "UserError": "errors",
    "RunError": "errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'distill_prune' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"distill_prune.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
