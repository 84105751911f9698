"""Every foreign format of sparse networks: out and in again bit by bit, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from reference_interop_tickets import (
    EXPORTS,
    IMPORTS,
    bert_state,
    bert_ticket,
    load_plain,
    network,
    random_ticket,
    read,
    same,
    write,
)
from safetensors.torch import load_file
from torch.nn.utils import prune

from distill_prune.artifacts import Ticket, Weights
from distill_prune.errors import RunError, UserError
from distill_prune.interop import Export

# -- round trips


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", IMPORTS)
def test_a_ticket_returns_bit_by_bit(form, known, tmp_path):
    model = network()
    ticket, path = random_ticket(model), tmp_path / "new" / EXPORTS[form]
    written = write(form, Export(ticket, model), path)
    assert all(p.is_file() for p in written) and {p for p in tmp_path.rglob("*") if p.is_file()} == set(written)
    if known or form in ("torch-prune", "openlth"):
        same(read(form, path, model if known else None), ticket)


@pytest.mark.parametrize("form", EXPORTS)
def test_equal_tickets_give_equal_bytes(form, tmp_path):
    ticket = bert_ticket() if form == "bert-tickets" else random_ticket(network())
    first, second = (write(form, Export(ticket), tmp_path / part / EXPORTS[form]) for part in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("form", IMPORTS)
def test_retrained_weights_go_out_with_their_tickets_mask(form, tmp_path):
    model = network()
    ticket, trained = random_ticket(model), random_ticket(model, seed=5, share=1.1).state
    write(form, Export(Weights(trained), model, ticket), tmp_path / EXPORTS[form])
    same(read(form, tmp_path / EXPORTS[form], model), Ticket(ticket.mask, ticket.mask.apply(trained), 0))


def test_a_pruned_network_of_torch_loads_strictly(tmp_path):
    model = network()
    ticket, x = random_ticket(model), torch.randn(5, 1, 8, 8)
    write("torch-prune", Export(ticket, model), tmp_path / "t.pt")
    module = model.instance(model.fresh(7, "other"))
    for name in model.prunable:
        layer = module.get_submodule(name.removesuffix(".weight"))
        prune.custom_from_mask(layer, "weight", torch.ones_like(layer.weight))
    held = load_plain(tmp_path / "t.pt")
    assert set(held) == set(module.state_dict())
    assert all(held[n].dtype == t.dtype and held[n].shape == t.shape for n, t in module.state_dict().items())
    module.load_state_dict(held, strict=True)
    assert torch.equal(module.eval()(x), model(ticket.state, x))


@pytest.mark.parametrize("form", ["state-dict", "safetensors"])
def test_plain_weights_load_strictly(form, tmp_path):
    model, x = network(), torch.randn(5, 1, 8, 8)
    ticket, path = random_ticket(model), tmp_path / EXPORTS[form]
    write(form, Export(ticket, model), path)
    module = model.instance(model.fresh(7, "other"))
    module.load_state_dict(load_file(path) if form == "safetensors" else load_plain(path), strict=True)
    assert torch.equal(module.eval()(x), model(ticket.state, x))


# -- what can be written


def test_the_name_says_which_reader(tmp_path):
    with pytest.raises(UserError, match=r"(?s)'.*weights.pt' is not the name of a safetensors file.*\.safetensors"):
        write("safetensors", Export(random_ticket(network())), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="is not the name of a safetensors file"):
        read("safetensors", tmp_path / "weights.pt", network())


@pytest.mark.parametrize("form", [*EXPORTS, "onnx"])
def test_only_sparse_networks_go_out(form, tmp_path):
    with pytest.raises(UserError, match=rf"(?s)'{form}' is a format of sparse networks.*got: +tuple"):
        write(form, Export(()), tmp_path / EXPORTS.get(form, "net.onnx"))
    with pytest.raises(UserError, match=r"(?s)is a format of sparse networks.*got: +Weights.*the retrained copy"):
        write(form, Export(Weights(bert_state())), tmp_path / EXPORTS.get(form, "net.onnx"))
    assert not list(tmp_path.iterdir())


# -- writing


@pytest.mark.parametrize("form", EXPORTS)
def test_nothing_is_overwritten(form, tmp_path):
    path = tmp_path / EXPORTS[form]
    first = write(form, Export(bert_ticket()), path)
    before = {p: p.read_bytes() for p in first}
    with pytest.raises(UserError, match=rf"'{path}' exists already"):
        write(form, Export(bert_ticket()), path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("at", ["write", "flush", "rename"])
def test_a_failing_write_leaves_nothing(form, at, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        full()
        return 0

    with monkeypatch.context() as broken:
        broken.setattr(
            *{"write": (Path, "write_bytes", half), "flush": (os, "fsync", full), "rename": (Path, "rename", full)}[at]
        )
        with pytest.raises(RunError, match=r"(?s)cannot be written.*No space left on device"):
            write(form, Export(bert_ticket()), tmp_path / EXPORTS[form])
    assert not [p for p in tmp_path.rglob("*") if p.is_file() or p.name.startswith(".")]
    write(form, Export(bert_ticket()), tmp_path / EXPORTS[form])
