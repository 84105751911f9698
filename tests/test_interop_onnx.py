"""ONNX files: the packages that they need, and the logits of a ticket that went out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from reference import convnet
from reference_interop_tickets import network, random_ticket, write

from distill_prune.errors import UserError
from distill_prune.interop import FORMATS, Export


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_names_its_packages(package, tmp_path, monkeypatch):
    model = network()
    monkeypatch.setitem(sys.modules, "onnx", sys)  # stands in for a package that is there
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"^ONNX files need a package that is missing: {package}: pip install 'distill-prune\[onnx\]'$"
    with pytest.raises(UserError, match=message):
        write("onnx", Export(random_ticket(model), model), tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"(?s)the network of this ticket is not known.*--set model.name="):
        write("onnx", Export(random_ticket(model)), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir()) and FORMATS["onnx"].read is None


def test_onnx_gives_the_same_logits(tmp_path):
    import onnx
    from onnx.reference import ReferenceEvaluator

    for norm in ("instance", "batch"):
        model = convnet(depth=2, norm=norm, width=3, side=8)
        ticket, path = random_ticket(model), tmp_path / f"{norm}.onnx"
        assert write("onnx", Export(ticket, model), path) == [path]
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
