"""Levels of OpenLTH: a folder `level_<l>/main`.

    mask.pth              {name of a weight: int32 tensor of zeros and ones}, prunable layers only
    sparsity_report.json  {"total", "unpruned"}: counts of weights, checked against the mask
    model_ep0_it0.pth     the state that training of the level starts from, pruned weights zero

With late rewinding that file has another step in its name; it, or any other state, can be given as a second path.

References:
    | https://github.com/facebookresearch/open_lth
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from distill_prune.artifacts import Ticket
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.errors import DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import member, publish_folder, torch_bytes
from distill_prune.interop.networks import sparse_network, ticket_of
from distill_prune.limits import Budget
from distill_prune.outside import read_json
from distill_prune.settings import Entry

KIND = "ticket"
_MASK, _REPORT, _MODEL = "mask.pth", "sparsity_report.json", "model_ep0_it0.pth"


class Settings(Entry):
    name: Literal["openlth"] = "openlth"


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> Ticket:
    """The ticket of a level's folder, with the weights of its first step or of the file that the second path names.

    Raises:
        UserError: the first path is no folder, or there are more than two paths.
        DataError: a file is missing, the report counts other weights than the mask, or the masks do not fit.
    """
    if not 1 <= len(paths) <= 2 or not paths[0].is_dir():
        raise UserError(
            "a level of OpenLTH is a folder",
            got=", ".join(map(str, paths)) or "no path",
            expected="level_<l>/main, and optionally a model file",
        )
    folder = paths[0]
    budget = Budget(folder)
    masks = read_tensors(member(folder, _MASK), budget)
    ticket = ticket_of(folder / _MASK, masks, read_tensors(_model(paths), budget), origin.model)
    _check(folder / _REPORT, ticket)
    return ticket


def _model(paths: Sequence[Path]) -> Path:
    if len(paths) == 2:
        return paths[1]
    return member(paths[0], _MODEL, fix="name the state to rewind to as a second path")


def _check(path: Path, ticket: Ticket) -> None:
    try:
        report = read_json(path)
        counts = report["total"], report["unpruned"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        got = (isinstance(problem, OSError) and problem.strerror) or problem
        raise DataError(f"'{path}' cannot be read", got=got, expected='{"total", "unpruned"}') from problem
    if counts != (ticket.mask.total, ticket.mask.remaining):
        raise DataError(
            f"'{path}' belongs to another mask",
            got=f"{counts[1]} of {counts[0]} weights",
            expected=f"{ticket.mask.remaining} of {ticket.mask.total}, as in {_MASK}",
        )


def write(export: Export, path: Path) -> list[Path]:
    """The three files of a level, in a new folder `path`. Of a retrained copy the model file holds the trained weights.

    Raises:
        UserError: it is not a sparse network, or something stands at `path`.
    """
    state, mask = sparse_network(export, "openlth")
    report = {"total": float(mask.total), "unpruned": float(mask.remaining)}
    files = [
        (_MASK, torch_bytes({n: t.int() for n, t in mask.kept.items()})),
        (_REPORT, json.dumps(report, indent=4).encode("ascii")),
        (_MODEL, torch_bytes(state)),
    ]
    return publish_folder(path, files)
