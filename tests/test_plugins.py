"""Entries that are not the package's own: registered, named on the command line or installed, and refused where they clash."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest
from reference_plugins import NET, Write, announce, written
from tiny import Cli

from distill_prune.cli.options import in_front
from distill_prune.errors import ConfigError, UserError
from distill_prune.models import MODELS
from distill_prune.plugins import TABLES, load, table_of
from distill_prune.prune import CRITERIA

write = pytest.fixture(written)


# -- registering


def test_every_table_has_a_name_for_plugins() -> None:
    assert {t.group: (t.kind, *t.required) for t in map(table_of, TABLES)} == {
        "data": ("data set", "Settings", "fingerprint", "load"),
        "models": ("model", "Settings", "build"),
        "methods": ("distillation method", "Settings", "NEEDS_EXPERTS", "distill"),
        "criteria": ("pruning criterion", "Settings", "NEEDS_TRAINING", "scores"),
        "analyses": ("analysis", "Settings", "TAKES", "measure"),
        "formats": ("format", "Settings", "KIND"),
    }
    assert [table_of(name).group for name in TABLES] == list(TABLES)
    with pytest.raises(UserError, match="no table 'model'\n  expected: did you mean 'models'"):
        table_of("model")


def test_a_plugin_is_an_entry_like_any_other(write: Write) -> None:
    write("net", NET)
    assert load("net") == {"models": {"net": "net"}} and load("net")  # twice is once
    assert "net" in MODELS and list(MODELS)[-1] == "net" and len(MODELS) == len(MODELS.own) + 1 and "net" not in MODELS.own
    assert MODELS["net"].Settings().width == 5
    with pytest.raises(ConfigError, match="unknown model 'nett'\n  expected: did you mean 'net'"):
        MODELS["nett"]


def test_a_name_that_is_taken_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"(?s)model 'convnet' of module 'mine'.*'convnet' of module 'distill_prune.models.con"):
        MODELS.register("convnet", "mine")
    MODELS.register("net", "mine")
    with pytest.raises(UserError, match=r"model 'net' of module 'other' has .*\n  got:      'net' of module 'mine'"):
        MODELS.register("net", "other")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", ["does not say what it brings", "mine.py", 'fix:      a line like DISTILL_PRUNE = {"models"']),
        ("DISTILL_PRUNE = ['net']", ["does not say clearly", "got:      DISTILL_PRUNE = ['net']"]),
        ("DISTILL_PRUNE = {}", ["does not say clearly", "DISTILL_PRUNE = {}"]),
        ("DISTILL_PRUNE = {'models': {'net': 3}}", ["does not say clearly", "{'net': 3}"]),
        ("DISTILL_PRUNE = {'model': {'net': 'mine'}}", ["of no table", "did you mean 'models'"]),
        ("DISTILL_PRUNE = {'methods': {'stored': 'mine'}}", ["methods cannot be called 'stored'"]),
        ("DISTILL_PRUNE = {'models': {'convnet': 'mine'}}", ["'convnet' of module 'mine'", "distill_prune.models.convnet"]),
        (
            "a = 1\nb = c",
            ["the plugin 'mine' cannot be imported", "NameError: name 'c'", "mine.py, line 2", "correct the module"],
        ),
        ("import no_such_thing", ["No module named 'no_such_thing'", "correct the module"]),
        ("a = (", ["SyntaxError", "mine.py, line 1"]),
    ],
)
def test_plugins_that_cannot_be_loaded(cli: Cli, write: Write, code: str, said: list[str]) -> None:
    write("mine", code)
    done = cli("ls", "--plugin", "mine")
    assert done.code == 2 and all(s in done.err for s in ["error: ", *said]), done.err


@pytest.mark.parametrize("module", ["nothing", "mine.py"])
def test_a_plugin_that_is_not_there(cli: Cli, write: Write, module: str) -> None:
    write("mine", NET.replace('"net": "net"', '"net": "mine"'))
    done = cli("--plugin", module, "ls")
    assert done.code == 2 and f"the plugin '{module}' cannot be imported" in done.err
    assert "ModuleNotFoundError" in done.err and "without .py" in done.err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (NET.replace("def build", "def built"), "model 'net' of module 'net' lacks build"),
        (NET.replace("class Settings(Entry)", "class Other(Entry)"), "lacks Settings"),
        (NET.replace('name: Literal["net"] = "net"', 'name: Literal["neat"] = "neat"'), "goes by another name"),
        (NET.replace("import Entry", "import Settings as Entry"), "a class derived from distill_prune.settings.Entry"),
        (NET.replace("class Settings", "from distill_prune.models.lenet import Settings\nclass Other"), "from another module"),
        (NET.replace("    width: int", "    code: int"), "have a field 'code'"),
    ],
)
def test_entries_that_cannot_be_used(write: Write, code: str, said: str) -> None:
    write("net", code)
    MODELS.register("net", "net")
    sys.path.insert(0, ".")
    with pytest.raises(UserError, match=said):
        MODELS["net"]


# -- the option


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["run", "p.yaml"], ["run", "p.yaml"]),
        (["run", "p.yaml", "--plugin", "a"], ["--plugin", "a", "run", "p.yaml"]),
        (["run", "--plugin=a.b", "p.yaml", "--plugin", "c"], ["--plugin", "a.b", "--plugin", "c", "run", "p.yaml"]),
        (["--plugin", "a", "ls"], ["--plugin", "a", "ls"]),
        (["data", "--max-size", "4GB", "p.yaml"], ["--max-size", "4GB", "data", "p.yaml"]),
        (["data", "p.yaml", "--plugin=a", "--max-size=1MB"], ["--plugin", "a", "--max-size", "1MB", "data", "p.yaml"]),
        (["tag", "x", "--", "--plugin", "a"], ["tag", "x", "--", "--plugin", "a"]),
        ([], []),
    ],
)
def test_the_option_may_stand_anywhere(given: list[str], taken: list[str]) -> None:
    assert in_front(given) == taken


@pytest.mark.parametrize("given", [["ls", "--plugin"], ["ls", "--plugin", "--json"], ["ls", "--plugin="]])
def test_the_option_needs_a_module(cli: Cli, given: list[str]) -> None:
    done = cli(*given)
    assert done.code == 2 and "--plugin needs a module" in done.err and "expected: --plugin my_module" in done.err


def test_the_help_says_so(cli: Cli) -> None:
    told = " ".join(cli("--help").out.split())
    assert "--plugin MODULE" in told and "after the command too" in told and "Find sparse networks" in told


# -- installed packages


def test_installed_entries_are_found_where_nothing_else_is(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write("net", NET).parent
    write("convnet_of_mine", NET)
    announce(folder, "mine", "[distill_prune.models]", "net = net", "convnet = convnet_of_mine", "part = net:Settings")
    sys.path.insert(0, str(folder))
    asked: list[object] = []
    real = importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **of: asked.append(of) or real(**of))
    assert "convnet" in MODELS and MODELS["convnet"].__name__ == "distill_prune.models.convnet" and not asked
    assert "net" in MODELS and "neat" not in MODELS and "net" in set(MODELS) and "net" not in set(CRITERIA)
    assert MODELS["net"].Settings().width == 5 and len(asked) == 1
    with pytest.raises(ConfigError, match=r"model 'part' is no network\n  got:      <class 'net.Settings'>"):
        MODELS["part"]
    write("other", NET)
    MODELS.register("net", "other")  # the command line goes before what is installed
    assert MODELS["net"].__name__ == "other"


def test_two_packages_with_one_name_are_refused(write: Write) -> None:
    folder = write("net", NET).parent
    sys.path.insert(0, str(folder))
    announce(folder, "one", "[distill_prune.models]", "net = net")
    announce(folder, "two", "[distill_prune.models]", "net = other")
    with pytest.raises(ConfigError, match="two installed packages bring a model 'net'\n  got:      net and other"):
        MODELS["net"]
