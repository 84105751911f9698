"""Foreign masks that do not fit the network, and hostile or damaged files of them: refused by name, and never executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from reference_interop_tickets import EXPORTS, IMPORTS, Foreign, network, openlth_level, random_ticket, read
from torch import nn

from distill_prune.errors import DataError, UserError

# -- what does not fit


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


# -- hostile and damaged files


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
