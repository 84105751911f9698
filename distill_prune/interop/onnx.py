"""ONNX files of sparse networks, for runtimes outside Python; can be exported, not imported.

The network in evaluation mode, pruned weights exactly zero, with input `input` (batch, C, H, W) of any batch size and output
`logits` (batch, K). Zeros are stored as any number: the file is no smaller, and no runtime is promised to be faster. Batch
norm after a convolution is folded into it, which keeps zeros zero. Needs the packages of the extra `onnx`.

References:
    | https://onnx.ai
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Literal

import torch

from distill_prune.errors import RunError, UserError
from distill_prune.interop import Export
from distill_prune.interop.files import publish
from distill_prune.interop.networks import sparse_network
from distill_prune.models import Model
from distill_prune.settings import Entry
from distill_prune.tree import State

KIND = "weights"


class Settings(Entry):
    name: Literal["onnx"] = "onnx"


def write(export: Export, path: Path) -> list[Path]:
    """One ONNX file.

    Raises:
        UserError: it is not a sparse network of a known kind, packages are missing, or something stands at `path`.
        RunError: the network has an operation that cannot be expressed.
    """
    state, _ = sparse_network(export, "onnx")
    if export.model is None:
        raise UserError("the network of this ticket is not known", fix="import it with --set model.name=...")
    return publish(path, _translate(export.model, state))


def _translate(model: Model, state: State) -> bytes:
    if len(model.shape) != 3:
        raise UserError("networks of text are not written as ONNX", got=f"inputs {model.shape}", fix="--to safetensors")
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ImportError as problem:
        raise UserError(
            f"ONNX files need a package that is missing: {problem.name}: pip install 'distill-prune[onnx]'"
        ) from None
    module = model.instance(state).eval()
    example = torch.zeros(2, *model.shape, dtype=next(module.parameters()).dtype)  # a batch of 1 would be taken as fixed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch"},),
            )
    except torch.onnx.OnnxExporterError as problem:
        raise RunError("the network cannot be written as ONNX", got=str(problem).splitlines()[0]) from problem
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        part.ClearField("metadata_props")  # traces of this machine's source files
    return proto.SerializeToString(deterministic=True)  # type: ignore[no-any-return]
