"""Every entry of every table in a tiny pipeline, as plain values: the cases of `second_device_studies`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from distill_prune.analyze import ANALYSES
from distill_prune.data.augment import FAMILIES
from distill_prune.distill import METHODS
from distill_prune.models import MODELS
from distill_prune.prune import CRITERIA
from distill_prune.prune.controls import Kind
from distill_prune.recipe import Recipe

Raw = dict[str, Any]
Places = Mapping[str, Path]
"""Where the studies' files are, by name."""


@dataclass(frozen=True)
class Scale:
    """How long a study is: all numbers of steps are three times `steps`, those of iterations `iterations`."""

    steps: int = 1
    iterations: int = 2


SCALES = (Scale(), Scale(steps=2), Scale(iterations=4))
"""The last is of interest to distillation alone."""


SIZES: Mapping[str, Raw] = {
    "convnet": {"depth": 2, "width": 4, "norm": "instance"},
    "lenet": {"hidden": [5]},
    "cifar_resnet": {"depth": 8, "width": 4},
    "resnet": {"depth": 10, "width": 4},
    "vgg": {"depth": 11, "width": 4},
}
"""Of networks; those that are not named have their own."""

SHORT: Mapping[str, Callable[[Scale], object]] = {
    **dict.fromkeys(("inner_steps", "net_steps", "points", "steps"), lambda scale: 3 * scale.steps),
    **dict.fromkeys(("length", "real_length"), lambda scale: f"{3 * scale.steps}it"),
    **dict.fromkeys(("probes_min", "probes_max"), lambda scale: 16 * scale.steps),
    **dict.fromkeys(("ipc", "inner_loop", "max_start", "eigenvalues"), lambda scale: 2),
    **dict.fromkeys(("expert_epochs", "batch", "net_batch", "exact_below", "nets", "copies"), lambda scale: 1),
    "probes": lambda scale: 2 * scale.steps,
    **dict.fromkeys(("rows", "train_rows", "test_rows", "batch_real"), lambda scale: 8),
    "iterations": lambda scale: scale.iterations,
    "lr_pixels": lambda scale: 0.1,
    "tokens": lambda scale: 4,
    "rates": lambda scale: [0.01],
    "rounds": lambda scale: 2,
}
"""Values for settings of these names, of whatever entry."""

EXTRA: Mapping[str, Raw] = {
    "diagonal": {"sketch": 2},
    "trajectory": {"batch": None},
    "el2n": {"epoch": 2},
    "spectrum": {"starts": 2},
}
"""Settings of entries that need others."""


def entry(table: Any, name: str, scale: Scale, **more: object) -> Raw:
    """Settings of an entry that take a moment."""
    fields = table[name].Settings.model_fields
    short = {n: value(scale) for n, value in SHORT.items() if n in fields}
    return {"name": name} | short | dict(EXTRA.get(name, {})) | more


def images(at: Places, scale: Scale) -> Raw:
    """A study of images, its arms and comparisons left to the case."""
    return {
        "seeds": [0],
        "data": {"name": "npz", "path": str(at["images"])},
        "model": {"name": "convnet", **SIZES["convnet"]},
        "experts": {"count": 1, "recipe": {"length": "3ep", "batch": 18 // scale.steps, "lr": 0.05, "momentum": 0.0}},
        "prune": {"levels": 1, "rate": 0.3, "recipe": {"length": f"{3 * scale.steps}it", "batch": 1, "lr": 0.01}},
        "retrain": {"copies": 1, "recipe": recipe(scale)},
        "arms": {"real": {}},
        "compare": {},
    }


def recipe(scale: Scale, **more: object) -> Raw:
    """Training on real images for less than an epoch."""
    return {"length": f"{3 * scale.steps}it", "batch": 6, "lr": 0.01, **more}


def text(at: Places, scale: Scale) -> Raw:
    """A study of sentences."""
    trained = recipe(scale, batch=5, optimizer="adamw", lr=3e-3, head_lr=3e-2, schedule="linear", batches="by_length")
    return {
        "seeds": [0],
        "data": {"name": "tsv", "path": str(at["data"]), "tokenizer": str(at["words"]), "validation": 0.0},
        "model": {"name": "bert", "path": str(at["model"]), "pooling": "mean"},
        "prune": {"levels": 1, "rate": 0.3, "real": trained, "recipe": {"length": f"{3 * scale.steps}it", "batch": 1}},
        "retrain": {"copies": 1, "recipe": trained},
        "arms": {"real": {}},
        "compare": {},
    }


Case = Callable[[Places, Scale], Raw]


def _network(name: str) -> Case:
    def case(at: Places, scale: Scale) -> Raw:
        fields = MODELS[name].Settings.model_fields
        if "config" in fields:
            return {**text(at, scale), "model": {"name": name, **({"path": str(at["model"])} if "path" in fields else {})}}
        return {**images(at, scale), "model": {"name": name, **SIZES.get(name, {})}}

    return case


def _method(name: str, of_text: bool, **more: object) -> Case:
    def case(at: Places, scale: Scale) -> Raw:
        study = (text if of_text else images)(at, scale)
        return {**study, "distill": {"set": entry(METHODS, name, scale, **more)}, "levels": [0]}

    return case


def _criterion(name: str) -> Case:
    def case(at: Places, scale: Scale) -> Raw:
        return {**images(at, scale), "arms": {"real": {}, "other": {"criterion": entry(CRITERIA, name, scale)}}}

    return case


def _control(kind: str) -> Case:
    def case(at: Places, scale: Scale) -> Raw:
        task = {"task": "other"} if kind == "transferred" else {}
        tasks = {"tasks": {"other": {"name": "npz", "path": str(at["images"]), "split_seed": 1}}} if task else {}
        arms: Raw = {"real": {}, "control": {"control": {"of": "real", "kind": kind}, **task}}
        if kind == "intersection":
            arms = {"real": {}, "set": {"images": "set"}, "control": {"control": {"of": "set", "kind": kind}}}
            tasks = {"distill_seeds": [0, 1], "distill_grid": "crossed"}
            tasks |= {"distill": {"set": entry(METHODS, "subset", scale)}}
        return images(at, scale) | tasks | {"arms": arms}

    return case


def _analysis(name: str, of_text: bool, **more: object) -> Case:
    """An analysis, with the network of the table that has batch norms where it is one of images."""

    def case(at: Places, scale: Scale) -> Raw:
        study = (text if of_text else images)(at, scale)
        study["retrain"]["copies"] = 3 if name == "landscape" else 2
        compare = {} if ANALYSES[name].TAKES == "study" else {name: entry(ANALYSES, name, scale, **more)}
        only = {name: {"arms": ["real"], "levels": [1]}} if ANALYSES[name].TAKES == "copies" else {}
        sets = {"distill": {"set": entry(METHODS, "subset", scale, ipc=3)}, "arms": {"real": {}, "set": {"images": "set"}}}
        return {**study, **sets, "compare": compare, "only": only}

    return case


def _recipe(**more: object) -> Case:
    def case(at: Places, scale: Scale) -> Raw:
        study = images(at, scale)
        study["retrain"]["recipe"] |= more
        return {**study, "levels": [0]}

    return case


def _masked(at: Places, scale: Scale) -> Raw:
    data = {"name": "masked", "path": str(at["passages"]), "tokenizer": str(at["words"]), "validation": 0.0}
    trained = recipe(scale, batch=4, optimizer="adamw", lr=3e-3, clip=1.0)
    study = {**text(at, scale), "data": data, "compare": {"accuracy": {}, "metrics": {}}}
    return {**study, "prune": {"levels": 1, "rate": 0.3, "real": trained}, "retrain": {"copies": 1, "recipe": trained}}


def _union(at: Places, scale: Scale) -> Raw:
    tasks = {n: {"name": "tsv", "path": str(at[n]), "tokenizer": str(at["words"])} for n in ("data", "other")}
    return {**text(at, scale), "data": {"name": "union", "validation": 0.0, "tasks": tasks}, "compare": {"accuracy": {}}}


def _lanes(name: str) -> Case:
    """Everything that trains in lanes: experts, the rewinding weights, levels and copies."""

    def case(at: Places, scale: Scale) -> Raw:
        study = images(at, scale)
        study["prune"] |= {"rewind": {"k": "1it"}, "real": recipe(scale, batch=3)}
        study["retrain"] = {"copies": 3, "recipe": recipe(scale, cutmix=0.7, augment=DSA, clip=0.1)}
        return {**study, "lanes": 4, "model": {"name": name, **SIZES.get(name, {})}}

    return case


def _unready(at: Places, scale: Scale) -> Raw:
    """Data that are too many to be transformed once."""
    return {**images(at, scale), "seeds": [1], "compare": {"accuracy": {}}}


DSA = "_".join(FAMILIES)
RECIPES: Mapping[str, Raw] = {
    **{f"optimizer {name}": {"optimizer": name} for name in get_args(Recipe.model_fields["optimizer"].annotation)},
    **{f"precision {name}": {"precision": name} for name in get_args(Recipe.model_fields["precision"].annotation)},
    **{f"augment {family}": {"augment": family} for family in FAMILIES},
    "augment one of all": {"augment": DSA},
    "augment all": {"augment": "+".join(FAMILIES)},
    "nesterov, clipped, smoothed": {"nesterov": True, "clip": 0.1, "label_smoothing": 0.1},
    "cutmix": {"cutmix": 0.7, "augment": "crop+flip"},
}

UNREADY = "data: transformed batch by batch"
OF_IMAGES = [name for name in METHODS.own if "images" in METHODS[name].KINDS]
OF_TEXT = [name for name in METHODS.own if "text" in METHODS[name].KINDS]
NETWORKS = [name for name in MODELS.own if "config" not in MODELS[name].Settings.model_fields]
CASES: dict[str, Case] = {
    **{f"network: {name}": _network(name) for name in NETWORKS},
    **{f"method: {name}": _method(name, False) for name in OF_IMAGES},
    "method: trajectory, soft labels": _method("trajectory", False, labels="soft", init="correct", average=0.5),
    "method: trajectory, batches": _method("trajectory", False, batch=2, inner_momentum=0.5, factor=2, augment="crop+color"),
    "method: trajectory, adam": _method("trajectory", False, inner="adam"),
    "method: gradient, real": _method("gradient", False, net_on="real", metric="mse", factor=2, clamp=True),
    **{f"criterion: {name}": _criterion(name) for name in CRITERIA.own},
    **{f"control: {kind}": _control(kind) for kind in get_args(Kind)},
    **{f"analysis: {name}": _analysis(name, False) for name in ANALYSES.own},
    "analysis: curvature, hutch++": _analysis("curvature", False, method="hutch++", sketch=2),
    "analysis: curvature, xtrace": _analysis("curvature", False, method="xtrace"),
    **{f"recipe: {name}": _recipe(**more) for name, more in RECIPES.items()},
    **{f"lanes: {name}": _lanes(name) for name in ("convnet", "resnet")},
    UNREADY: _unready,
}
CASES_OF_TEXT: dict[str, Case] = {
    **{f"network: {name}": _network(name) for name in MODELS.own if name not in NETWORKS},
    **{f"method of text: {name}": _method(name, True) for name in OF_TEXT},
    **{f"analysis of text: {name}": _analysis(name, True) for name in ("accuracy", "metrics", "connectivity", "curvature")},
    "task: masked": _masked,
    "task: union": _union,
}
