"""Tickets of a small network, of a foreign one and of a BERT, and what the tests of foreign formats do with their files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from reference import convnet
from torch import nn

from distill_prune.artifacts import Mask, Ticket
from distill_prune.interop import FORMATS, Export, Origin
from distill_prune.models import Model

EXPORTS = {
    "torch-prune": "pruned.pt",
    "openlth": "level_1/main",
    "bert-tickets": "mask.pt",
    "state-dict": "weights.pt",
    "safetensors": "weights.safetensors",
}
IMPORTS = [n for n in EXPORTS if n != "bert-tickets"]


def random_ticket(model: Model, seed: int = 0, share: float = 0.4) -> Ticket:
    """Every tensor random, buffers too; no surviving weight is zero."""
    generator = torch.Generator().manual_seed(seed)
    state = model.fresh(seed, "init")
    state = {n: torch.rand(t.shape, generator=generator) + 0.1 if t.is_floating_point() else t for n, t in state.items()}
    mask = Mask({n: torch.rand(state[n].shape, generator=generator) < share for n in model.prunable})
    return Ticket(mask, mask.apply(state), 1)


def network() -> Model:
    return convnet(depth=2, norm="batch", width=3, side=8)


def same(found: Ticket, expected: Ticket) -> None:
    assert list(found.mask.kept) == list(expected.mask.kept) and list(found.state) == list(expected.state)
    assert all(torch.equal(t, expected.mask.kept[n]) for n, t in found.mask.kept.items())
    for name, tensor in found.state.items():
        assert tensor.dtype == expected.state[name].dtype and torch.equal(tensor, expected.state[name]), name
    assert found.level == 0


def write(form: str, held: Export, path: Path) -> list[Path]:
    return FORMATS[form].write(held, path)


def read(form: str, path: Path | list[Path], model: Model | None = None, **options) -> Ticket:
    paths = path if isinstance(path, list) else [path]
    return FORMATS[form].read(FORMATS[form].Settings(**options), paths, Origin(model=model))


def load_plain(path: Path) -> dict:
    return torch.load(path, weights_only=True)


class Foreign(nn.Module):
    """The tensors of `network()` under other names, in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        for conv, norm in ((self.first, self.norm1), (self.second, self.norm2)):
            x = torch.nn.functional.avg_pool2d(norm(conv(x)).relu(), 2)
        return self.head(x.flatten(1))

    def pruned(self) -> list[tuple[nn.Module, str]]:
        return [(self.first, "weight"), (self.second, "weight"), (self.head, "weight")]


def openlth_level(folder: Path, module: nn.Module, masks: dict, step: str = "ep0_it0") -> Path:
    """As OpenLTH's Mask.save and Model.save write a level."""
    folder.mkdir(parents=True)
    torch.save({k: v.cpu().int() for k, v in masks.items()}, folder / "mask.pth")
    counts = sum(v.numel() for v in masks.values()), sum(int(v.sum()) for v in masks.values())
    (folder / "sparsity_report.json").write_text(
        json.dumps({"total": float(counts[0]), "unpruned": float(counts[1])}, indent=4)
    )
    torch.save(module.state_dict(), folder / f"model_{step}.pth")
    return folder


BERT = [
    *(f"bert.encoder.layer.{i}.{part}" for i in (0, 1) for part in ("attention.self.query", "intermediate.dense")),
    "bert.pooler.dense",
]


def bert_state() -> dict:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"{n}.{end}": torch.randn((4, 4)[: 2 if end == "weight" else 1], generator=generator)
        for n in BERT
        for end in ("weight", "bias")
    }
    return {"bert.embeddings.word_embeddings.weight": torch.randn(9, 4, generator=generator)} | state


def bert_ticket() -> Ticket:
    state = bert_state()
    mask = Mask({f"{n}.weight": state[f"{n}.weight"] > 0 for n in BERT})
    return Ticket(mask, mask.apply(state), 2)
