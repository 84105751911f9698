"""Results of dataset condensation by matching gradients or distributions (DC, DSA, DM): `res_<method>_...ipc.pt`.

    data             [[images float32 (N, C, H, W), labels int64 (N,)], ...], one pair an experiment
    accs_all_exps    accuracies by network: NumPy numbers, which are read over

Images are network input, normalized by mean and standard deviation (`space`). The set was made for no augmentation where the
file is called `res_DC_...`, else for DSA's; `augment` says otherwise. Out: one experiment, without accuracies and transform.

References:
    | Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), https://arxiv.org/abs/2102.08259
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, 2023), https://arxiv.org/abs/2110.04181
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import load
from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, packed, publish
from distill_prune.interop.sets import Content, classes_of, images_of, outgoing
from distill_prune.interop.space import Space, SpaceSettings, transform_of

KIND = "set"
_NAMED = re.compile(r"res_(DC|DSA|DM)_")
_NUMPY = (
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)


class Settings(SpaceSettings):
    """`experiment` picks one of the file's sets; negative numbers count from the last."""

    name: Literal["dc"] = "dc"
    space: Space = Field("normalize", description="what the images are")
    experiment: int = Field(-1, description="which of the file's sets; negative numbers count from the last")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of one experiment.

    Raises:
        ConfigError: there is no such experiment, or an option is missing.
        DataError: the file is missing, hostile or damaged, or something does not fit.
    """
    path = one(paths, "a set of format dc")
    result = load(path, inert=_NUMPY)
    pairs = result.get("data") if isinstance(result, dict) else None
    if not isinstance(pairs, list) or not pairs or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise DataError(
            f"'{path}' is not a result of DC, DSA or DM",
            got=f"{type(result).__name__}" + (f" of {', '.join(map(str, result))[:100]}" if isinstance(result, dict) else ""),
            expected="a dictionary whose 'data' is [[images, labels], ...]",
        )
    if not -len(pairs) <= settings.experiment < len(pairs):
        raise ConfigError(
            f"'{path}' has no experiment {settings.experiment}", got=f"{len(pairs)} of them", expected=f"0..{len(pairs) - 1}"
        )
    images, labels = pairs[settings.experiment]
    images, labels = images_of(path, images), classes_of(path, labels)
    transform = transform_of(path, settings, origin, images)
    named = _NAMED.match(path.name)
    method = named[1].lower() if named else "dc"
    plain = named is not None and method == "dc" and "augment" not in settings.model_fields_set
    return Content(path, method, images, labels, transform, augment="none" if plain else None).checked(settings, origin)


def write(export: Export, path: Path) -> list[Path]:
    """One file with one experiment.

    Raises:
        UserError: it is no set with hard labels and one image in each, or something stands at `path`.
    """
    synthetic = outgoing(export, "dc")
    result = {"data": [[synthetic.images.float().clone(), synthetic.labels.clone()]], "accs_all_exps": {}}
    return publish(path, packed(result))
