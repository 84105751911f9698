"""A text study of seconds: made-up reviews in tab-separated files, a tiny BERT, and a pipeline of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny_bert
import torch
import yaml
from tiny import Watch

from distill_prune.artifacts import Examples
from distill_prune.models import Model, bert, build_model, resolved
from distill_prune.plan.config import Pipeline, parse
from distill_prune.plan.files import override
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.reader import Reader
from distill_prune.run.run import run
from distill_prune.store.store import Store

LONGEST = 9
"""Tokens of the longest sentence, [CLS] and [SEP] among them."""


def reviews(n: int, seed: int, words: Sequence[str] = ("good", "bad")) -> list[tuple[str, int]]:
    """Sentences of 1 to 7 words, one of which says the class: words[class]."""
    draws = random.Random(seed)
    made = []
    for i in range(n):
        text = [draws.choice(("film", "plot", "very", "the")) for _ in range(draws.randrange(7))]
        text.insert(draws.randrange(len(text) + 1), words[i % len(words)])
        made.append((" ".join(text), i % len(words)))
    return made


def write(folder: Path, seed: int = 0, words: Sequence[str] = ("good", "bad"), n: int = 48) -> Path:
    """A folder with train.tsv of `n` reviews, and dev.tsv of 24."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, draw in (("train", n, 2 * seed), ("dev", 24, 2 * seed + 1)):
        lines = [f"{text}\t{label}\n" for text, label in reviews(count, draw, words)]
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8")
    return folder


def places(root: Path) -> dict[str, Path]:
    """Directories of the weights, of the tokenizer and of two data sets below `root`."""
    found = {
        "model": tiny_bert.write(root / "weights"),
        "words": tiny_bert.write(root / "words"),
        "data": write(root / "reviews", 0),
        "other": write(root / "colours", 1, ("a", "not", "b")),
    }
    (found["words"] / "model.safetensors").unlink()
    return found


TEXT = """
title: tiny text
seeds: [0]
data: {name: tsv, path: DATA, tokenizer: WORDS, validation: 0.0}
tasks:
  other: {name: tsv, path: OTHER, tokenizer: WORDS, validation: 0.0}
  both:
    name: union
    validation: 0.0
    tasks: {one: {name: tsv, path: DATA, tokenizer: WORDS}, two: {name: tsv, path: OTHER, tokenizer: WORDS}}
model: {name: bert, path: MODEL, pooling: mean}
distill:
  distilled: {name: embedding, ipc: 2, tokens: 4, iterations: 2, inner_loop: 2, batch_real: 8, net_steps: 1, net_batch: 8}
  sentences: {name: subset, ipc: 2}
prune:
  levels: 2
  rate: 0.2
  share: original
  real: &real {length: 4it, batch: 16, optimizer: adamw, lr: 3e-3, head_lr: 3e-2, schedule: linear, batches: by_length}
  recipe: {length: 4it, batch: 4, optimizer: adamw, lr: 3e-3, head_lr: 3e-2, schedule: linear}
arms:
  real: {}
  distilled: {images: distilled}
  sentences: {images: sentences}
  one_shot: {criterion: {name: initial_magnitude}, one_shot: true}
  long: {criterion: {name: initial_magnitude}, one_shot: true, retrain: chain}
  standard: {rewind: none}
  swapped: {control: {of: real, kind: swapped}}
  reinitialised: {control: {of: real, kind: reinitialised}}
  other: {task: other}
  both: {task: both}
  real_on_other: {control: {of: real, kind: transferred}, task: other}
  both_on_real: {control: {of: both, kind: transferred}}
levels: [2]
retrain:
  copies: 2
  recipe: *real
compare:
  accuracy: {}
  metrics: {}
  connectivity: {points: 3, train_rows: 16}
  disagreement: {train_rows: 16}
  curvature: {rows: 8, probes_min: 16, probes_max: 16}
  overlap: {}
  evaluation: {nets: 1, length: 4it, batch: 4, lr: 3e-3, optimizer: adamw}
only:
  connectivity: {arms: [real, distilled, one_shot]}
  disagreement: {arms: [real]}
  curvature: {arms: [real]}
"""


def raw(at: dict[str, Path]) -> dict[str, Any]:
    """The plain values of the text study in these places."""
    text = TEXT
    for name, path in at.items():
        text = text.replace(name.upper(), str(path))
    values = yaml.safe_load(text)
    assert isinstance(values, dict)
    return values


def model_of(directory: Path, classes: int = 2, shape: tuple[int, ...] = (2, 12), **changes: Any) -> Model:
    """The network at the weights in `directory`."""
    settings = resolved(bert.Settings(path=str(directory), **{"pooling": "mean", **changes}))
    return build_model(settings, shape, classes)


def sentences(*lengths: int, seed: int = 0, classes: int = 2, long: int = 12) -> Examples:
    """Random sentences of these lengths, whose second piece says the class."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.zeros(len(lengths), 2, long, dtype=torch.int32), torch.arange(len(lengths)) % classes
    for row, length, label in zip(x, lengths, y.tolist(), strict=True):
        row[0, :length] = torch.randint(5, 40, (length,), generator=generator)
        row[0, 0], row[1, :length] = 50 + label, 1
    return Examples(x, y)


def many(n: int, seed: int = 0, **more: Any) -> Examples:
    """`n` sentences of lengths 3..12."""
    lengths = torch.randint(3, 13, (n,), generator=torch.Generator().manual_seed(seed + 100))
    return sentences(*lengths.tolist(), seed=seed, **more)


def model(directory: Path) -> Model:
    """Made a fixture by its tests: the network at the weights of their fixture `directory`."""
    return model_of(directory)


# -- the study, run

Study = tuple[Store, Graph, dict[str, Path]]
"""A store, the graph that was made in it, and the places of what it was made from."""


def pipeline(at: dict[str, Path], *assignments: str) -> Pipeline:
    """The text study in these places with `a.b=c` laid on top."""
    values = raw(at)
    override(values, assignments)
    return parse(values, "text.yaml")


def study(root: Path) -> Study:
    """All of the study, made serially below `root`."""
    at, store = places(root / "at"), Store(root / "store", create=True)
    graph = build(pipeline(at), store)
    report = run(graph, store, "serial", "cpu", 1, "compare", Watch(), lambda node: 1.0)
    assert report.made == len(graph.nodes)
    return store, graph, at


def file(study: Study, tmp_path: Path) -> Path:
    """Made a fixture by its tests: the text study of their fixture `study` as a file."""
    path = tmp_path / "text.yaml"
    path.write_text(yaml.safe_dump(raw(study[2]), sort_keys=False), encoding="utf-8")
    return path


def copied(at: dict[str, Path], to: Path) -> dict[str, Path]:
    """The same files elsewhere, under other names of folders."""
    return {name: Path(shutil.copytree(path, to / f"moved {name}")) for name, path in at.items()}


def ticket(study: Study, arm: str, level: int = 2) -> Any:
    """What an arm of the study has at a level."""
    store, graph, _ = study
    return Reader(store, "cpu").ticket(graph.chains[arm, 0][level])


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same bits."""
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())
