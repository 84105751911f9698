"""Foreign formats of masks and sparse networks: against files as their own tools write them, and hostile ones."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from reference import convnet
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

from distill_prune.artifacts import Mask, Ticket, Weights
from distill_prune.errors import DataError, RunError, UserError
from distill_prune.interop import FORMATS, Held, Origin
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


def write(form: str, held: Held, path: Path) -> list[Path]:
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


# -- round trips


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", IMPORTS)
def test_a_ticket_returns_bit_by_bit(form, known, tmp_path):
    model = network()
    ticket, path = random_ticket(model), tmp_path / "new" / EXPORTS[form]
    written = write(form, Held(ticket, model), path)
    assert all(p.is_file() for p in written) and {p for p in tmp_path.rglob("*") if p.is_file()} == set(written)
    if known or form in ("torch-prune", "openlth"):
        same(read(form, path, model if known else None), ticket)


@pytest.mark.parametrize("form", EXPORTS)
def test_equal_tickets_give_equal_bytes(form, tmp_path):
    ticket = bert_ticket() if form == "bert-tickets" else random_ticket(network())
    first, second = (write(form, Held(ticket), tmp_path / part / EXPORTS[form]) for part in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("form", IMPORTS)
def test_retrained_weights_go_out_with_their_tickets_mask(form, tmp_path):
    model = network()
    ticket, trained = random_ticket(model), random_ticket(model, seed=5, share=1.1).state
    write(form, Held(Weights(trained), model, ticket), tmp_path / EXPORTS[form])
    same(read(form, tmp_path / EXPORTS[form], model), Ticket(ticket.mask, ticket.mask.apply(trained), 0))


def test_a_pruned_network_of_torch_loads_strictly(tmp_path):
    model = network()
    ticket, x = random_ticket(model), torch.randn(5, 1, 8, 8)
    write("torch-prune", Held(ticket, model), tmp_path / "t.pt")
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
    write(form, Held(ticket, model), path)
    module = model.instance(model.fresh(7, "other"))
    module.load_state_dict(load_file(path) if form == "safetensors" else load_plain(path), strict=True)
    assert torch.equal(module.eval()(x), model(ticket.state, x))


# -- files of others


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
    write("bert-tickets", Held(found), tmp_path / "out.pt")
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
        write("bert-tickets", Held(random_ticket(network())), tmp_path / "out.pt")


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


# -- refusals


def pruned_file() -> dict:
    """The tensors of a pruned `network()`."""
    ticket = random_ticket(network())
    out = {}
    for name, tensor in ticket.state.items():
        kept = ticket.mask.kept.get(name)
        out |= {name: tensor} if kept is None else {f"{name}_orig": tensor, f"{name}_mask": kept.float()}
    return out


CASES = {
    "not binary": ({"4.weight_mask": torch.full((3, 3, 3, 3), 0.5)}, r"the mask of '4.weight' .*is not binary\n.*got: +0.5"),
    "not a number": (
        {"4.weight_mask": torch.full((3, 3, 3, 3), float("nan"))},
        r"the mask of '4.weight' .*is not binary\n.*nan",
    ),
    "negative": ({"4.weight_mask": torch.full((3, 3, 3, 3), -1)}, r"the mask of '4.weight' .*is not binary"),
    "mask's shape": ({"9.weight_mask": torch.ones(3, 1)}, r"(?s)the mask of '9.weight' .*wrong shape.*\(3, 1\).*\(3, 12\)"),
    "no mask": ({"4.weight_mask": None}, r"has '4.weight_orig' without '4.weight_mask'"),
    "no weights": ({"4.weight_orig": None}, r"has '4.weight_mask' without '4.weight_orig'"),
    "unpruned layer": (
        {"4.weight_mask": None, "4.weight_orig": None, "4.weight": torch.ones(3, 3, 3, 3)},
        r"has no mask of layer '4.weight'",
    ),
    "pruned bias": ({"0.bias": None, "0.bias_orig": torch.ones(3), "0.bias_mask": torch.ones(3)}, r"prunes '0.bias'"),
    "pruned norm": (
        {"1.weight": None, "1.weight_orig": torch.ones(3), "1.weight_mask": torch.ones(3)},
        r"prunes '1.weight', which is not prunable",
    ),
    "layer's shape": (
        {"9.weight_mask": torch.ones(3, 13), "9.weight_orig": torch.ones(3, 13)},
        r"(?s)'9.weight' of .* does not fit the network.*\(3, 13\).*\(3, 12\)",
    ),
    "missing": ({"5.running_var": None}, r"no counterpart of the network's '5.running_var'"),
    "one too many": ({"11.weight": torch.ones(3)}, r"'11.weight' of .* has no counterpart in the network"),
    "integers": ({"5.bias": torch.ones(3, dtype=torch.int64)}, r"(?s)'5.bias' .*does not fit.*int64.*float32"),
    "integer weights": (
        {"4.weight_orig": torch.ones(3, 3, 3, 3, dtype=torch.int8)},
        r"weights '4.weight' .*no numbers to train",
    ),
    "infinite": ({"5.bias": torch.tensor([1.0, float("inf"), 2.0])}, r"(?s)'5.bias' .*is not finite.*1 bad value"),
    "not a tensor": ({"5.bias": [1.0, 2.0, 3.0]}, r"(?s)'5.bias'.*list.*a tensor"),
    "sparse": ({"4.weight_orig": torch.ones(3, 3, 3, 3).to_sparse()}, r"(?s)'4.weight_orig'.*sparse_coo.*dense"),
    "inflated": ({"9.bias": torch.ones(1).expand(10**12)}, r"(?s)'9.bias'.*claims more numbers than the file holds"),
    "nothing left": (
        {f"{n}.weight_mask": torch.zeros(s) for n, s in ((0, (3, 1, 3, 3)), (4, (3, 3, 3, 3)), (9, (3, 12)))},
        r"no weight survives",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_by_name(case, tmp_path):
    change, message = CASES[case]
    held = {n: t for n, t in (pruned_file() | change).items() if t is not None}
    torch.save(held, tmp_path / "t.pt")
    with pytest.raises(DataError, match=message):
        read("torch-prune", tmp_path / "t.pt", network())


def test_a_mask_that_is_not_there(tmp_path):
    torch.save(network().module.state_dict(), tmp_path / "plain.pt")
    with pytest.raises(DataError, match="has no pruned layer"):
        read("torch-prune", tmp_path / "plain.pt", network())
    module = Foreign()
    folder = openlth_level(tmp_path / "main", module, {"head.weight": torch.ones(3, 12)})
    with pytest.raises(DataError, match=r"has no mask of layer '0.weight'"):
        read("openlth", folder, network())
    with pytest.raises(UserError, match="a pruned state dict"):
        read("torch-prune", [folder, folder])


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", [*IMPORTS, "bert-tickets"])
@pytest.mark.parametrize("kind", ["archive", "pickle", "module", "half", "text", "empty", "absent", "list"])
def test_hostile_and_damaged_files_are_refused_and_not_executed(form, kind, tmp_path):
    marker, folder = tmp_path / "executed", tmp_path / "main"
    folder.mkdir()
    path = folder / ("mask.pth" if form == "openlth" else EXPORTS[form].replace("level_1/main", ""))
    if kind in ("archive", "half"):
        torch.save({"0.weight": Hostile(marker) if kind == "archive" else torch.ones(1000)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"0.weight": Hostile(marker)}, protocol=2))
    elif kind in ("module", "list"):
        torch.save(nn.Linear(2, 2) if kind == "module" else [torch.ones(2)], path)
    elif kind != "absent":
        path.write_text("not a file of tensors" if kind == "text" else "")
    if kind == "half":
        path.write_bytes(path.read_bytes()[:-400])
    (folder / "model_ep0_it0.pth").write_bytes(path.read_bytes() if path.exists() else b"")
    with pytest.raises(DataError, match=path.name) as refused:
        options = {"state": str(path)} if form == "bert-tickets" else {}
        read(form, folder if form == "openlth" else path, network(), **options)
    assert not marker.exists()
    if kind == "archive" and form != "safetensors":
        assert "refused" in str(refused.value) and "posix.mkdir" in str(refused.value)


def test_the_name_says_which_reader(tmp_path):
    with pytest.raises(UserError, match=r"(?s)'.*weights.pt' is not the name of a safetensors file.*\.safetensors"):
        write("safetensors", Held(random_ticket(network())), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="is not the name of a safetensors file"):
        read("safetensors", tmp_path / "weights.pt", network())


@pytest.mark.parametrize("form", [*EXPORTS, "onnx"])
def test_only_sparse_networks_go_out(form, tmp_path):
    with pytest.raises(UserError, match=rf"(?s)'{form}' is a format of sparse networks.*got: +tuple"):
        write(form, Held(()), tmp_path / EXPORTS.get(form, "net.onnx"))
    with pytest.raises(UserError, match=r"(?s)is a format of sparse networks.*got: +Weights.*the retrained copy"):
        write(form, Held(Weights(bert_state())), tmp_path / EXPORTS.get(form, "net.onnx"))
    assert not list(tmp_path.iterdir())


# -- writing


@pytest.mark.parametrize("form", EXPORTS)
def test_nothing_is_overwritten(form, tmp_path):
    path = tmp_path / EXPORTS[form]
    first = write(form, Held(bert_ticket()), path)
    before = {p: p.read_bytes() for p in first}
    with pytest.raises(UserError, match=rf"'{path}' stands there already"):
        write(form, Held(bert_ticket()), path)
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
            write(form, Held(bert_ticket()), tmp_path / EXPORTS[form])
    assert not [p for p in tmp_path.rglob("*") if p.is_file() or p.name.startswith(".")]
    write(form, Held(bert_ticket()), tmp_path / EXPORTS[form])


# -- ONNX


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_names_its_packages(package, tmp_path, monkeypatch):
    model = network()
    monkeypatch.setitem(sys.modules, "onnx", sys)  # stands in for a package that is there
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^ONNX files need a package that is missing: {package}: pip install 'distill-prune\[onnx\]'$"
    with pytest.raises(UserError, match=message):
        write("onnx", Held(random_ticket(model), model), tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"(?s)the network of this ticket is not known.*--set model.name="):
        write("onnx", Held(random_ticket(model)), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir()) and not hasattr(FORMATS["onnx"], "read")


def test_onnx_gives_the_same_logits(tmp_path):
    import onnx
    from onnx.reference import ReferenceEvaluator

    for norm in ("instance", "batch"):
        model = convnet(depth=2, norm=norm, width=3, side=8)
        ticket, path = random_ticket(model), tmp_path / f"{norm}.onnx"
        assert write("onnx", Held(ticket, model), path) == [path]
        held = onnx.load(path)
        onnx.checker.check_model(held, full_check=True)
        assert b"site-packages" not in path.read_bytes() and str(Path.cwd()).encode() not in path.read_bytes()
        sparse = [torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in held.graph.initializer]
        for name in model.prunable:  # with batch norm folded into it, a weight is scaled, but a zero stays zero
            kept = ticket.mask.kept[name]
            assert any(t.shape == kept.shape and torch.equal(t != 0, kept) for t in sparse), name
        for batch in (1, 2, 5):
            x = torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(batch))
            logits = torch.from_numpy(ReferenceEvaluator(held).run(None, {"input": x.numpy()})[0])
            torch.testing.assert_close(logits, model(ticket.state, x), rtol=0, atol=1e-5)
