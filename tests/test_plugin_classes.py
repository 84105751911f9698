"""A class of layers as a plugin: its parameters are the settings, in keys, files and workers."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from reference_plugins import Write, announce, forget, written
from tiny import Cli

from distill_prune.conformance import check
from distill_prune.errors import ConfigError, UserError
from distill_prune.models import MODELS, build_model
from distill_prune.plugins import Registered, load
from distill_prune.settings import canonical
from distill_prune.store.store import Store

NET = '''
"""A net of one's own."""
from torch import nn
class Net(nn.Module):
    def __init__(self, channels, classes, width=5, slope: float = 0.1):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(channels, width, 3), nn.LeakyReLU(slope), nn.Linear(width, classes)
    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))
DISTILL_PRUNE = {"models": {"net": Net}}
'''
write = pytest.fixture(written)


def test_a_class_is_an_entry_like_any_other(write: Write) -> None:
    write("mine", NET)
    assert load("mine") == {"models": {"net": "mine:Net"}} and load("mine")  # twice is once
    entry: Any = MODELS["net"]
    assert entry.__doc__ == "A net of one's own." and MODELS["net"] is entry
    settings = entry.Settings(width=7)
    assert canonical(settings) == {"name": "net", "width": 7, "slope": 0.1, "code": entry.Settings.CODE}
    assert len(entry.Settings.CODE) == 64
    model = build_model(settings, (2, 8, 8), 3)
    assert model.prunable == ("conv.weight", "fc.weight") and model.module.conv.in_channels == 2
    assert check("models", "net") == "" and check("models", "net", width=2, slope=0) == ""
    with pytest.raises(ValidationError, match="valid integer"):
        entry.Settings(width="wide")
    with pytest.raises(ValidationError, match="Extra inputs"):
        entry.Settings(depth=3)


def test_another_version_of_a_class_has_another_key(write: Write) -> None:
    codes = []
    for version in (NET, NET.replace("LeakyReLU(slope)", "ReLU()"), NET):
        write("mine", version)
        load("mine")
        codes.append(MODELS["net"].Settings.CODE)  # type: ignore[attr-defined]
    assert codes[0] == codes[2] != codes[1]


def test_settings_of_a_class_reach_a_new_process(write: Write) -> None:
    write("mine", NET.replace("width=5", "width: int | None = None, sizes: tuple[int, ...] = (2, 3)"))
    load("mine")
    settings = MODELS["net"].Settings(sizes=[4])  # type: ignore[call-arg]
    sent, here = pickle.dumps(settings), pickle.loads(pickle.dumps(Registered.here()))
    MODELS._registered = {}
    sys.path.remove(here.path[0])
    forget(write("other", "").parent)
    here.restore()
    again: Any = pickle.loads(sent)
    assert again == MODELS["net"].Settings(sizes=[4]) and again.sizes == (4,) and again.width is None  # type: ignore[call-arg]
    assert canonical(again) == canonical(settings)


FEW = [
    "arms={real: {}}", "distill={}", "prune.levels=1", "levels=null", "retrain.copies=1", "compare={accuracy: {}}",
    "model={name: net, width: 3}",
]  # fmt: skip


def test_a_class_runs_in_workers(cli: Cli, write: Write, file: str, empty: Store) -> None:
    write("mine", NET)
    options = ["--store", empty.root, *(w for s in FEW for w in ("--set", s)), "--plugin", "mine"]
    done = cli("retrain", file, *options, "--executor", "processes", "--workers", "2")
    assert done.code == 0 and "retrain " in done.out, done.err
    rows = json.loads(cli("plan", file, *options, "--json").out)["artifacts"]
    assert {r["status"] for r in rows if r["stage"] == "retrain"} == {"hit"}
    wrong = cli("plan", file, *options, "--set", "model={name: net, widht: 3}")
    assert wrong.code == 2 and "widht" in wrong.err and "did you mean 'width'" in wrong.err, wrong.err


def test_a_package_announces_a_class(write: Write) -> None:
    folder = write("mine", NET.replace("DISTILL_PRUNE", "NOTHING")).parent
    announce(folder, "mine", "[distill_prune.models]", "net = mine:Net", "gone = mine:Gone")
    sys.path.insert(0, str(folder))
    assert MODELS["net"].Settings().name == "net"
    with pytest.raises(ConfigError, match="the model 'gone' of module 'mine' is not there\n  got:      no 'Gone' in"):
        MODELS["gone"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("classes, width", "labels: int, width", r"takes no number of classes(?s:.)*def __init__\(self, shape, classes"),
        ("width=5", "*width", r"a parameter cannot be a setting\n  got:      \*width"),
        ("width=5", "width=None", "has no type\n  got:      width=None\n  expected: an annotation, as in width: int"),
        ("channels, classes, width=5", "channels, width, classes", "a parameter has no type\n  got:      width"),
        ("width=5", "act=nn.ReLU", "a parameter cannot be a setting\n  got:      type"),
        ("width=5", 'width: "Wide" = 5', "got:      name 'Wide' is not defined"),
        ("width=5", "width: nn.Module = 5", "a parameter cannot be a setting"),
        ("width=5", "code=5", "a parameter has a name that settings have already\n  got:      code"),
        ("width=5", "copy=5", "a parameter has a name that settings have already\n  got:      copy"),
        ("(nn.Module)", "", "is no network"),
        ('{"models": {"net": Net}}', '{"criteria": {"net": Net}}', "'net' of criteria cannot be this class"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_used(write: Write, old: str, new: str, said: str) -> None:
    assert old in NET
    write("mine", NET.replace(old, new))
    with pytest.raises(UserError, match=said):
        load("mine")
