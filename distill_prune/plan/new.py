"""A pipeline for a person's own data: what is there is looked at, and a commented file is written that fits it.

Sizes follow from the data: depth of the network from the pixels, images of a set from the smallest class, batches from the
number of examples. The work is bounded, so that a study of small images ends in minutes on two cores.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from distill_prune.data import DATASETS, survey
from distill_prune.data.image_file import SUFFIXES, size_of
from distill_prune.data.preparation import Survey
from distill_prune.data.source import Source
from distill_prune.errors import DataError
from distill_prune.limits import Budget

ROWS, TEST_ROWS = 10_000, 2_000
"""Examples of larger data that are used."""
SIDE = 32
"""Pixels that images of a folder are scaled down to at most."""


@dataclass(frozen=True)
class Written:
    """A new pipeline file and what it is for."""

    text: str
    source: Source
    survey: Survey | None


def new_pipeline(name: str, data: Path, tokenizer: str | None = None) -> Written:
    """The text of a pipeline for the data at a path: arrays (.npz), a folder of images, or tab-separated text.

    Raises:
        DataError: there is nothing that can be read, or it does not hold what it should.
    """
    source = _source(data.expanduser(), tokenizer)
    if source.is_text:
        return Written(_text_study(name, source), source, None)
    seen = survey(source)
    if seen is None:
        raise DataError(f"'{data}' cannot be looked at", fix="npz, a folder of images, or a TSV file")
    there = {"rows": sum(seen.splits[:2]), "test_rows": seen.splits[2]}
    more = {name: most for name, most in (("rows", ROWS), ("test_rows", TEST_ROWS)) if there[name] > most}
    if more:
        source = source.model_copy(update=more)
        seen = survey(source) or seen
    return Written(_image_study(name, source, seen), source, seen)


def _source(path: Path, tokenizer: str | None) -> Source:
    """The data set that a path holds, by its files."""
    if not path.exists():
        raise DataError(f"there is no data at '{path}'", expected="a .npz file, a folder of images, or a .tsv file")
    names = {path.name} if path.is_file() else {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    values: dict[str, object] = {"path": str(path)}
    if any(name.endswith(".npz") for name in names):
        kind = "npz"
    elif any(name.endswith((".tsv", ".tsv.gz")) for name in names):
        kind, values = "tsv", values | ({"tokenizer": tokenizer} if tokenizer else {})
    elif path.is_dir():
        kind, values = "folder", values | _images(path)
    else:
        raise DataError(f"'{path}' is of no kind that is known", expected="a .npz file, a folder of images, or a .tsv file")
    return DATASETS[kind].Settings.model_validate(values)  # type: ignore[return-value]


def _images(folder: Path) -> dict[str, object]:
    """How a folder's images are read: gray or in colour, and to which size they are scaled where they differ or are large."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"'{folder}' holds no images", expected=f"CLASS/* with names that end in {', '.join(SUFFIXES)}")
    some = files[:: max(1, len(files) // 200)]
    sizes = Counter(size_of(file, Budget(folder)) for file in some)
    shorter = min(min(width, height) for width, height, _ in sizes)
    channels = 1 if all(gray for *_, gray in sizes) else 3
    uniform = len({(width, height) for width, height, _ in sizes}) == 1
    read: dict[str, object] = {"channels": channels}
    return read if uniform and shorter <= SIDE else {**read, "size": min(shorter, SIDE)}


@dataclass(frozen=True)
class _Sizes:
    """What of a study follows from the data."""

    depth: int
    batch: int
    steps: int
    ipc: int
    iterations: int
    lanes: int


SECONDS, FLOPS = 600.0, 15e9
"""What the trainings of a new study may take of two cores, at so many floating-point operations a second of each."""
TRAININGS = 220
"""Trainings of the study that is written, about."""
WIDTH = 16


def _sizes(data: Survey) -> _Sizes:
    side = min(data.shape[1:])
    depth = max(1, min(3, side.bit_length() - 2))
    batch = max(8, min(64, data.splits[0] // 20))
    inner, pixels = WIDTH, float(data.shape[1] * data.shape[2])
    one = sum(pixels / 4**i * 9 * inner * (data.shape[0] if i == 0 else inner) for i in range(depth))
    step = 6 * one * batch
    steps = int(max(100, min(400, 2 * SECONDS * FLOPS / (TRAININGS * step)))) // 50 * 50
    ipc = max(1, min(5, min(data.counts) // 4))
    iteration = 10 * 3.5 * 6 * one * ipc * len(data.classes)
    return _Sizes(depth, batch, steps, ipc, int(max(100, min(400, 200 * FLOPS / iteration))), 8 if pixels <= 256 else 1)


def _image_study(name: str, source: Source, data: Survey) -> str:
    s, classes = _sizes(data), len(data.classes)
    channels, height, width = data.shape
    shape = f"{height}x{width} pixels, {channels} channel{'s' * (channels > 1)}"
    fewest, most = min(data.counts), max(data.counts)
    per_class = f"{s.ipc} distilled image{'s' * (s.ipc > 1)} per class"
    lanes = "# Small networks that train alike share their steps, which takes less time.\nlanes: 8\n" if s.lanes > 1 else ""
    small = f"batch: {min(64, s.ipc * classes)}, lr: 0.1, weight_decay: 5e-4, schedule: step, milestones: [0.5]"
    augment = "color_crop_cutout_scale_rotate"
    return f"""# {name}: {sum(data.splits):,} images of {shape}, {classes} classes
# ({data.splits[0]:,} for training, {fewest} to {most} of a class; {data.splits[1]:,} held out; {data.splits[2]:,} for test).
#   distill-prune plan {name}.yaml     what it makes, and how long that takes here
#   distill-prune run {name}.yaml      make it
title: {name}
question: >-
  Are tickets found on {per_class} as accurate, as stable to SGD noise and as flat as those of real data?
# Six initialisations are the fewest with which a difference can be claimed.
seeds: [0, 1, 2, 3, 4, 5]
{lanes}
data: {_flow(source)}
# depth: as often as the images can be halved; a wider network is more accurate and takes longer
model: {{name: convnet, depth: {s.depth}, width: {WIDTH}, norm: instance}}

# Teachers on real data, whose trajectories the images are distilled from.
experts:
  count: 3
  recipe: {{length: 12ep, batch: {s.batch}, lr: 0.1, momentum: 0.0, augment: {augment}}}

distill:
  # more iterations make a better set: look at its accuracy in the report
  synthetic: {{name: trajectory, ipc: {s.ipc}, iterations: {s.iterations}, inner_steps: 10, max_start: 11, inner_lr: 0.05,
              optimizer: adam, lr_pixels: 0.02, lr_log_lr: 0.01, decay: cosine, augment: {augment}}}
  # the control: as many random real images
  subset: {{name: subset, ipc: {s.ipc}, augment: {augment}}}

prune:
  levels: 6
  rate: 0.2
  # Rewind to initialisation. Where dense networks are unstable (see the barrier in the report) and tickets do not match them,
  # try the weights after some steps: rewind: {{k: 20it}}. A smaller lr makes networks more stable.
  rewind: {{k: 0it}}
  real: &real {{length: {s.steps}it, batch: {s.batch}, lr: 0.2, momentum: 0.9, schedule: cosine}}
  recipe: {{length: {s.steps}it, {small},
           augment: {augment}}}

arms:
  real: {{images: real}}
  synthetic: {{images: synthetic}}
  subset: {{images: subset}}
  random: {{criterion: {{name: random}}}}

# The dense network and these levels are retrained and compared: 49% and 74% sparsity.
levels: [3, 6]

retrain:
  copies: 2
  recipe: *real

compare:
  accuracy: {{}}
  connectivity: {{points: 15, train_rows: 1000}}
  curvature: {{rows: {min(256, data.splits[0])}, relative_error: 0.1}}
  overlap: {{}}
  evaluation: {{nets: 3, length: 500it}}
"""


def _text_study(name: str, source: Source) -> str:
    return f"""# {name}: tickets of a pre-trained transformer on labelled sentences, beside one-shot pruning and a random mask.
#   distill-prune plan {name}.yaml     what it makes, and how long that takes here
#   distill-prune run {name}.yaml      make it; needs the extra [text]
extends: bert-tickets-sst2-small.yaml
title: {name}
# Columns by name, or by position where the file has no header: sentence, label, and second for pairs.
data: {_flow(source)}
"""


def _flow(source: Source) -> str:
    """A data set as a mapping on one line: what was found, and what is not as usual."""
    from distill_prune.plan.catalog import plain

    written = {"name": source.name, **{n: v for n, v in source if n in source.model_fields_set and n != "name"}}
    return f"{{{', '.join(f'{n}: {plain(v)}' for n, v in written.items())}}}"
