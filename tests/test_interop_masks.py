"""Masks and weights as their own tools write them: torch's pruning, OpenLTH, BERT-Tickets and plain state dicts."""

from __future__ import annotations

import pytest
import torch
from reference_interop_tickets import (
    BERT,
    EXPORTS,
    Foreign,
    bert_state,
    bert_ticket,
    load_plain,
    network,
    openlth_level,
    random_ticket,
    read,
    same,
    write,
)
from safetensors.torch import save_file
from torch.nn.utils import prune

from distill_prune.artifacts import Ticket
from distill_prune.errors import DataError, UserError
from distill_prune.interop import Export


@pytest.mark.parametrize("rounds", [1, 3])
def test_masks_of_global_pruning_come_in(rounds, tmp_path):
    model = network()
    module = model.instance(random_ticket(model, seed=3, share=1.1).state)
    layers = [(module.get_submodule(n.removesuffix(".weight")), "weight") for n in model.prunable]
    for _ in range(rounds):
        prune.global_unstructured(layers, prune.L1Unstructured, amount=0.3)
    torch.save(module.state_dict(), tmp_path / "t.pt")
    found = read("torch-prune", tmp_path / "t.pt", model)
    for (layer, _), name in zip(layers, model.prunable, strict=True):
        assert torch.equal(found.mask.kept[name], layer.weight_mask == 1)
        prune.remove(layer, "weight")
    same(found, Ticket(found.mask, {n: module.state_dict()[n] for n in model.module.state_dict()}, 0))


def test_other_names_are_paired_in_order(tmp_path):
    model, x = network(), torch.randn(5, 1, 8, 8)
    module = Foreign().train()
    module(x)
    prune.global_unstructured(module.pruned(), prune.RandomUnstructured, amount=0.5)
    torch.save(module.state_dict(), tmp_path / "t.pt")
    assert list(module.state_dict())[:3] == ["first.bias", "first.weight_orig", "first.weight_mask"]
    found = read("torch-prune", tmp_path / "t.pt", model)
    assert list(found.state) == list(model.module.state_dict()) and tuple(found.mask.kept) == model.prunable
    torch.testing.assert_close(model(found.state, x), module.eval()(x), rtol=0, atol=0)
    bare = read("torch-prune", tmp_path / "t.pt")
    assert list(bare.mask.kept) == ["first.weight", "second.weight", "head.weight"]
    assert torch.equal(bare.state["head.weight"], found.state[model.prunable[-1]])


def test_a_level_of_openlth(tmp_path):
    model, module = network(), Foreign()
    masks = {n: (torch.rand(t.shape) < 0.5).float() for n, t in module.state_dict().items() if t.dim() > 1}
    folder = openlth_level(tmp_path / "level_3" / "main", module, masks)
    found = read("openlth", folder, model)
    for (name, mask), own in zip(masks.items(), model.prunable, strict=True):
        assert torch.equal(found.mask.kept[own], mask == 1)
        assert torch.equal(found.state[own], module.state_dict()[name] * mask)
    other = Foreign()
    torch.save(other.state_dict(), tmp_path / "other.pth")
    again = read("openlth", [folder, tmp_path / "other.pth"])
    assert torch.equal(again.state["head.bias"], other.head.bias.detach())
    (folder / "sparsity_report.json").write_text('{"total": 10.0, "unpruned": 5.0}')
    with pytest.raises(DataError, match=r"(?s)'.*sparsity_report.json' belongs to another mask.*got: +5.0 of 10.0"):
        read("openlth", folder)
    (folder / "sparsity_report.json").unlink()
    with pytest.raises(DataError, match=r"(?s)sparsity_report.json' cannot be read.*No such file"):
        read("openlth", folder)


def test_a_level_that_was_rewound_later(tmp_path):
    module = Foreign()
    masks = {"head.weight": torch.ones(3, 12)}
    folder = openlth_level(tmp_path / "main", module, masks, "ep2_it0")
    with pytest.raises(DataError, match=r"(?s)has no model_ep0_it0.pth.*model_ep2_it0.pth.*as a second path"):
        read("openlth", folder)
    assert read("openlth", [folder, folder / "model_ep2_it0.pth"]).mask.remaining == 36
    with pytest.raises(UserError, match="a level of OpenLTH is a folder"):
        read("openlth", folder / "mask.pth")


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("end", ["pt", "safetensors"])
def test_masks_of_bert(bare, end, tmp_path):
    """As BERT-Tickets writes them: the entries of the state dict whose names contain "mask", on pre-trained weights."""
    ticket, state = bert_ticket(), bert_state()
    torch.save({f"{n}_mask": t.float() for n, t in ticket.mask.kept.items()}, tmp_path / "mask.pt")
    given = {n.removeprefix("bert."): t for n, t in state.items()} if bare else state
    path = tmp_path / f"state.{end}"
    save_file(given, path) if end == "safetensors" else torch.save(given, path)
    found = read("bert-tickets", tmp_path / "mask.pt", state=str(path))
    for name, kept in ticket.mask.kept.items():
        own = name.removeprefix("bert.") if bare else name
        assert torch.equal(found.mask.kept[own], kept) and torch.equal(found.state[own], state[name] * kept)
    assert len(found.state) == len(state) and len(found.mask.kept) == len(BERT)
    write("bert-tickets", Export(found), tmp_path / "out.pt")
    before, after = load_plain(tmp_path / "mask.pt"), load_plain(tmp_path / "out.pt")
    assert list(before) == list(after) and all(torch.equal(t, after[n]) for n, t in before.items())
    assert all(t.dtype == torch.float32 for t in after.values())


def test_masks_of_bert_need_weights(tmp_path):
    torch.save({"bert.pooler.dense.weight_mask": torch.ones(4, 4)}, tmp_path / "mask.pt")
    with pytest.raises(UserError, match=r"(?s)has masks, but no weights.*--set state=PATH"):
        read("bert-tickets", tmp_path / "mask.pt")
    with pytest.raises(DataError, match=r"there is no file '.*nowhere.pt'"):
        read("bert-tickets", tmp_path / "mask.pt", state=str(tmp_path / "nowhere.pt"))
    torch.save({"bert.encoder.layer.0.output.dense.weight": torch.ones(4, 4)}, tmp_path / "state.pt")
    with pytest.raises(DataError, match=r"the mask of 'bert.pooler.dense.weight' in '.*mask.pt' has no weights"):
        read("bert-tickets", tmp_path / "mask.pt", state=str(tmp_path / "state.pt"))
    torch.save({"bert.pooler.dense.weight": torch.ones(4, 4)}, tmp_path / "mask.pt")
    with pytest.raises(DataError, match=r"'bert.pooler.dense.weight' of '.*mask.pt' is not a mask of a weight"):
        read("bert-tickets", tmp_path / "mask.pt", state=str(tmp_path / "state.pt"))
    with pytest.raises(UserError, match=r"'0.weight' has no name in a BERT"):
        write("bert-tickets", Export(random_ticket(network())), tmp_path / "out.pt")


@pytest.mark.parametrize("form", ["state-dict", "safetensors"])
def test_the_mask_of_plain_weights_is_where_they_are_not_zero(form, tmp_path):
    model, path = network(), tmp_path / EXPORTS[form]
    state = random_ticket(model, share=1.1).state
    state[model.prunable[0]].view(-1)[:3] = torch.tensor([0.0, -0.0, 1e-30])
    state["0.bias"].zero_()
    save_file(state, path) if form == "safetensors" else torch.save(state, path)
    found = read(form, path, model)
    assert found.mask.kept[model.prunable[0]].flatten()[:4].tolist() == [False, False, True, True]
    assert found.mask.total - found.mask.remaining == 2
    with pytest.raises(UserError, match=r"(?s)does not say which of its tensors are prunable.*--set model.name="):
        read(form, path)
    empty = {n: torch.zeros_like(t) for n, t in state.items()}
    path.unlink()
    save_file(empty, path) if form == "safetensors" else torch.save(empty, path)
    with pytest.raises(DataError, match="no weight survives"):
        read(form, path, model)


def test_numbers_come_in_torchs_default_type(tmp_path):
    model = network()
    ticket = random_ticket(model)
    half = {n: t.half() if t.is_floating_point() else t for n, t in ticket.state.items()}
    torch.save(half, tmp_path / "half.pt")
    found = read("state-dict", tmp_path / "half.pt", model)
    assert all(torch.equal(found.state[n], t.float() if t.is_floating_point() else t) for n, t in half.items())
    assert {t.dtype for t in found.state.values()} == {torch.float32, torch.int64}
    torch.set_default_dtype(torch.float64)
    try:
        assert read("state-dict", tmp_path / "half.pt", model).state["0.weight"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
