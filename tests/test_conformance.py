"""The check of an entry against what its table asks for: good ones pass, and each fault is named."""

from __future__ import annotations

import pytest
from reference_plugins import GOOD, NAME, NET, SCORE, Write, written

from distill_prune.conformance import Nonconforming, check
from distill_prune.errors import ConfigError
from distill_prune.plugins import load

write = pytest.fixture(written)


@pytest.mark.parametrize("table", GOOD)
def test_good_entries_conform(write: Write, table: str) -> None:
    write(NAME[table], GOOD[table])
    load(NAME[table])
    assert check(table, NAME[table]) == ""


BAD = [
    ("models", "width, classes)", "width, 3)", "output"),
    ("models", "nn.ReLU()", "nn.Dropout()", None),  # random in training alone, which is no fault of the model
    ("models", "nn.ReLU()", "Noise()", "its output in evaluation mode: not the same twice"),
    ("models", "nn.Linear(flat, settings.width)", "nn.Linear(3, settings.width)", "fails when it is called"),
    ("models", "classes))", "classes)).requires_grad_(False).apply(zero)", "begins every initialisation at the same weights"),
    ("models", "    return", "    return nn.Flatten()\n    return", "begins every initialisation"),
    ("models", "width: int = 5", "width: int", "settings without a default"),
    ("models", "    width: int", "    model_config = {'frozen': False}\n    width: int", "must be frozen"),
    ("models", 'Literal["net"]', "str", "its settings go by another name"),
    ("criteria", "level.state[n].square()", "level.state[n].abs_()", "changes the weights that it scores"),
    ("criteria", "level.state[n].square()", "level.state[n].flatten()", "one for every prunable weight"),
    ("criteria", "level.state[n].square()", "level.state[n] * __import__('torch').rand(1)", "its scores: not the same twice"),
    (
        "criteria",
        "Criterion\n",
        "Criterion as C\nfrom distill_prune.settings import Entry as Criterion\n",
        "Settings derive from",
    ),
    ("methods", "return", "x = x + torch.rand(1)\n    return", "its set: not the same twice"),
    ("methods", "return", "x, y = x.flip(0), y.flip(0)\n    return", "ipc of each, in order"),
    ("methods", "return", "x, y = x[1:], y[1:]\n    return", "ipc of every class"),
    ("methods", "return", "x = x.double()\n    return", "expected: .*torch.float32"),
    ("methods", "return", "x.requires_grad_()\n    return", "require gradients"),
    ("methods", 'transform, "method"', 'transform, "methods"', "the set's method"),
    ("methods", "NEEDS_EXPERTS = False", "NEEDS_EXPERTS = True", "trains networks, and costs nothing"),
    ("methods", "ipc: int", "images: int", "settings without `ipc`"),
    ("analyses", '"copies"\n', '"study"\n', "expected: copies or tickets or pair or set"),
    ("analyses", "states)", "tests)", "asks for what there is not\n  got:      copies.tests\n  expected: .*test"),
    ("analyses", '("analysis", {', '("other", {', "its measurements' name"),
    ("analyses", "len(copies.states)", "float('nan')", "fails when it is called\n  got:      ValueError"),
    ("data", '"made"\n', '""\n', "fingerprint"),
    ("data", "torch.linspace(0, 1, 1600)", "torch.rand(1600)", "load.*: not the same twice"),
    ("data", "% 2", "% 2.0", "expected: uint8 or float32, int64, bool"),
    (
        "data",
        "(Source):",
        "(Source):\n    OUTSIDE_KEYS: __import__('typing').ClassVar = {'path'}",
        "OUTSIDE_KEYS names no setting",
    ),
    ("formats", '"set"', '"sets"', "KIND"),
    ("formats", "def read", "def raed", "neither be read nor written"),
]
HELP = """
import torch
class Noise(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand(1)
def zero(module):
    for p in module.parameters():
        p.data.zero_()
"""


@pytest.mark.parametrize(("table", "old", "new", "said"), BAD, ids=[f"{b[0]}: {b[2].strip()}" for b in BAD])
def test_entries_that_do_not_conform(write: Write, table: str, old: str, new: str, said: str | None) -> None:
    assert old in GOOD[table]
    write(NAME[table], HELP + GOOD[table].replace(old, new))
    load(NAME[table])
    if said is None:
        assert check(table, NAME[table]) == ""
        return
    with pytest.raises(AssertionError, match=f"(?s){said}") as found:
        check(table, NAME[table])
    assert isinstance(found.value, Nonconforming)


def test_a_check_is_given_what_has_no_default(write: Write) -> None:
    write("net", NET.replace("width: int = 5", "width: int"))
    load("net")
    assert check("models", "net", width=3) == ""
    with pytest.raises(Nonconforming, match="settings refuse what it is to be checked with"):
        check("models", "net", width="wide")
    with pytest.raises(ConfigError, match="unknown model 'gone'"):
        check("models", "gone")


def test_a_network_is_checked_at_the_first_size_that_it_takes(write: Write) -> None:
    least = "def build(settings, shape, classes):\n    if shape[1] < {}:\n        raise ValueError('too small')"
    write("net", NET.replace("def build(settings, shape, classes):", least.format(32)))
    load("net")
    assert check("models", "net") == ""
    write("net", NET.replace("def build(settings, shape, classes):", least.format(1000)))
    with pytest.raises(Nonconforming, match=r"can be built for no input of \(1, 8, 8\), (?s:.)*too small"):
        check("models", "net")


def test_the_command_checks_all_that_a_plugin_brings(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from distill_prune.conformance.__main__ import main

    write("net", NET)
    write("score", SCORE.replace("state[n].square()", "state[n].flatten()"))
    assert main(["net"]) == 0 and capsys.readouterr().out == "models net: conforms\n"
    assert main(["net", "score"]) == 1 and "criteria score: does not conform: " in capsys.readouterr().out
    assert main(["gone"]) == 2 and "error: the plugin 'gone' cannot be imported" in capsys.readouterr().err
    assert main([]) == 2 and "usage: " in capsys.readouterr().err
