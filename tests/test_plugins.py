"""Entries that are not the package's own: registered, installed, keyed by their code, carried into workers, and checked."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny import Cli

from distill_prune.cli.options import in_front
from distill_prune.conformance import Nonconforming, check
from distill_prune.errors import ConfigError, UserError
from distill_prune.models import MODELS
from distill_prune.pipeline.executors import _received
from distill_prune.pipeline.jobs import VERSIONS, ExpertsJob
from distill_prune.pipeline.nodes import Node
from distill_prune.pipeline.store import Store, identity
from distill_prune.plugins import Registered, load, table_of
from distill_prune.prune import CRITERIA
from distill_prune.settings import Entry, Settings, canonical, digest
from distill_prune.table import CONTRACTS, installed
from distill_prune.training import Recipe

NET = """
from typing import Literal
from torch import nn
from distill_prune.settings import Entry
DISTILL_PRUNE = {"models": {"net": "net"}}
class Settings(Entry):
    name: Literal["net"] = "net"
    width: int = 5
def build(settings, shape, classes):
    flat = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(flat, settings.width), nn.ReLU(), nn.Linear(settings.width, classes))
"""
SCORE = """
from typing import Literal
from distill_prune.prune.select import Criterion
DISTILL_PRUNE = {"criteria": {"score": "score"}}
NEEDS_TRAINING = True
class Settings(Criterion):
    name: Literal["score"] = "score"
def scores(state, mask, streams):
    return {n: state[n].square() for n in mask.kept}
"""
METHOD = """
from typing import Literal
import torch
from distill_prune.artifacts import Cost, SyntheticSet
from distill_prune.distill import Distilled
from distill_prune.distill.subset import real_images
from distill_prune.settings import Entry
DISTILL_PRUNE = {"methods": {"method": "method"}}
NEEDS_EXPERTS = False
class Settings(Entry):
    name: Literal["method"] = "method"
    ipc: int = 10
def distill(settings, source, streams, device, progress):
    x, y = real_images(source.train, source.classes, settings.ipc, streams)
    return Distilled(SyntheticSet(x, y, source.classes, source.transform, "method"), Cost())
"""
ANALYSIS = """
from typing import Literal
from distill_prune.artifacts import Measurements
from distill_prune.settings import Entry
DISTILL_PRUNE = {"analyses": {"analysis": "analysis"}}
TAKES = "copies"
class Settings(Entry):
    name: Literal["analysis"] = "analysis"
def measure(settings, model, copies, masks, train, streams, progress):
    return Measurements("analysis", {"copies": len(copies)})
"""
DATA = """
from typing import Literal
import torch
from distill_prune.data.source import Loaded, Source
DISTILL_PRUNE = {"data": {"data": "data"}}
class Settings(Source):
    name: Literal["data"] = "data"
def fingerprint(settings, remembered=None):
    return "made"
def load(settings):
    pixels, labels = torch.linspace(0, 1, 1600).view(100, 1, 4, 4), torch.arange(100) % 2
    return Loaded(pixels, labels, torch.arange(100) >= 80, ("a", "b"), 1.0, "made")
"""
FORMAT = """
from distill_prune.settings import Settings as Base
DISTILL_PRUNE = {"formats": {"format": "format"}}
KIND = "set"
class Settings(Base):
    pass
def read(settings, paths, origin):
    raise NotImplementedError
"""
GOOD = {"models": NET, "criteria": SCORE, "methods": METHOD, "analyses": ANALYSIS, "data": DATA, "formats": FORMAT}
NAME = {"models": "net", "criteria": "score", "methods": "method", "analyses": "analysis", "data": "data", "formats": "format"}

Write = Callable[[str, str], Path]


@contextmanager
def pristine(folder: Path) -> Iterator[None]:
    """What a test registers and imports from `folder` is gone afterwards."""
    tables = [table_of(name) for name in CONTRACTS]
    before = [dict(t._registered) for t in tables], list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # two versions of a file within one second look the same to the cache of bytecode
    installed.cache_clear()
    try:
        yield
    finally:
        for table, registered in zip(tables, before[0], strict=True):
            table._registered = registered
        sys.path[:], sys.dont_write_bytecode = before[1:]
        forget(folder)
        installed.cache_clear()


def forget(folder: Path) -> None:
    """As in a new process: modules of `folder` are not imported."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into the current folder, which is a fresh one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def module(name: str, code: str) -> Path:
        path = folder / f"{name}.py"
        path.write_text(code, encoding="utf-8")
        forget(folder)
        return path

    with pristine(folder):
        yield module


def announce(folder: Path, name: str, *points: str) -> None:
    """An installed package with these lines of entry_points.txt."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    importlib.invalidate_caches()
    installed.cache_clear()


# -- registering


def test_every_table_has_a_name_for_plugins() -> None:
    assert {name: (t.kind, t._group) for name in CONTRACTS for t in [table_of(name)]} == {
        name: (kind, name) for name, (kind, _) in CONTRACTS.items()
    }
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
        ("x = 1", ["does not say what it brings", "mine.py", 'mend:     a line like DISTILL_PRUNE = {"models"']),
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
    with pytest.raises(ConfigError, match="of model 'part'\n  got:      net:Settings\n  expected: a module: net"):
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


# -- keys


def test_another_version_of_a_plugin_has_another_key(write: Write) -> None:
    keys, codes = [], []
    for version in (NET, NET.replace("ReLU", "Tanh"), NET):
        write("net", version)
        load("net")
        settings: Any = MODELS["net"].Settings()
        assert canonical(settings) == {"name": "net", "width": 5, "code": settings.CODE}
        keys.append(digest(settings))
        codes.append(settings.CODE)
    assert keys[0] == keys[2] != keys[1] and codes[0] == codes[2] and len(codes[0]) == 64


def test_the_hash_is_of_the_code_that_was_imported(write: Write) -> None:
    path = write("net", NET)
    load("net")
    before = digest(MODELS["net"].Settings())
    path.write_text(NET.replace("ReLU", "Tanh"))  # edited, and not imported again
    assert digest(MODELS["net"].Settings()) == before


def test_the_package_s_own_settings_have_no_code_in_keys() -> None:
    for table in CONTRACTS:
        for name in table_of(table).own:
            assert "code" not in canonical(table_of(table)[name].Settings.model_construct(path=".")), name


def _without_a_file(name: str) -> Any:
    module = types.ModuleType(name)
    exec(compile(NET, name, "exec", dont_inherit=True), module.__dict__)
    return module.Settings()  # type: ignore[attr-defined]


def test_code_without_a_file_is_known_by_its_package_or_refused() -> None:
    assert canonical(_without_a_file("yaml._net"))["code"] == f"PyYAML {importlib.metadata.version('PyYAML')}"
    with pytest.raises(ConfigError, match=r"'nowhere' of a plugin has no source file(?s:.)*mend:     write it in a file"):
        canonical(_without_a_file("nowhere"))


def test_settings_out_of_a_manifest_are_those_of_the_same_code(write: Write) -> None:
    write("net", NET)
    load("net")
    kind: Any = MODELS["net"].Settings
    shown = canonical(kind(width=7))
    assert kind(**shown) == kind(width=7) == kind(width=7, code=None)
    with pytest.raises(ValueError, match="'code' is of another version of module 'net': bring it back, or write code: null"):
        kind(**{**shown, "code": "0" * 64})
    with pytest.raises(ValueError, match="Extra inputs"):
        MODELS["lenet"].Settings(code=None)


def test_settings_that_are_no_entry_are_left_as_they_are() -> None:
    class Plain(Settings):
        a: int = 1

    class Mine(Entry):
        name: str = "mine"

    assert canonical(Plain()) == {"a": 1} and set(canonical(Mine())) == {"name", "code"}


# -- workers

FEW = [
    "arms={real: {}}", "distill={}", "prune.levels=1", "levels=null", "retrain.copies=1", "compare={accuracy: {}}",
    "model={name: net}", "prune.criterion={name: score}",
]  # fmt: skip


def test_workers_have_the_plugins(cli: Cli, write: Write, file: str, empty: Store) -> None:
    write("net", NET)
    write("score", SCORE)
    options = ["--store", empty.root, *(w for s in FEW for w in ("--set", s)), "--plugin", "net", "--plugin=score"]
    done = cli("retrain", file, *options, "--executor", "processes", "--workers", "2")
    assert done.code == 0 and "retrain " in done.out, done.err
    settings = [empty.manifest(r.stage, r.key)["settings"] for r in empty.all() if r.stage == "prune"]
    assert {s["step"]["criterion"]["code"] for s in settings if "step" in s} == {CRITERIA["score"].Settings.CODE}

    def status() -> dict[str, str]:
        rows = json.loads(cli("plan", file, *options, "--json").out)["artifacts"]
        return {row["label"]: row["status"] for row in rows if row["stage"] in ("data", "prune")}

    assert set(status().values()) == {"hit"}
    write("score", SCORE.replace("square", "abs"))
    assert status() == {"data": "hit", "dense seed 0": "hit", "real seed 0 level 1": "miss"}


def test_what_is_registered_is_restored_elsewhere(write: Write) -> None:
    write("net", NET)
    load("net")
    CRITERIA.register("score", "score")
    here = pickle.loads(pickle.dumps(Registered.here()))
    assert here.entries == {"models": {"net": "net"}, "criteria": {"score": "score"}}
    MODELS._registered, CRITERIA._registered = {}, {}
    sys.path.remove(here.path[0])
    here.restore()
    assert MODELS["net"].Settings().name == "net" and "score" in CRITERIA


def test_a_plugin_that_changes_on_the_way_to_a_worker_is_refused(write: Write) -> None:
    write("net", NET)
    load("net")
    job = ExpertsJob(model=MODELS["net"].Settings(), recipe=Recipe(length="1ep"), seed=0, index=0)
    key = identity("experts", VERSIONS["experts"], job.identity(), {})
    sent = pickle.dumps(Node("experts", key, job, {}, "expert 0", "experts"))
    assert _received(sent).key == key
    write("net", NET.replace("ReLU", "Tanh"))
    with pytest.raises(UserError, match="code of a plugin changed while it was being used\n  mend:     run again"):
        _received(sent)


# -- conformance


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
    ("criteria", "state[n].square()", "state[n].abs_()", "changes the weights that it scores"),
    ("criteria", "state[n].square()", "state[n].flatten()", "one for every prunable weight"),
    ("criteria", "state[n].square()", "state[n] * __import__('torch').rand(1)", "its scores: not the same twice"),
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
    ("analyses", '"copies"\n', '"study"\n', "expected: copies or pair or set"),
    ("analyses", "masks, train", "masks, tests", "asks for what there is not\n  got:      tests\n  expected: .*test"),
    ("analyses", '("analysis", {', '("other", {', "its measurements' name"),
    ("analyses", "len(copies)", "float('nan')", "fails when it is called\n  got:      ValueError"),
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


def test_the_command_checks_all_that_a_plugin_brings(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from distill_prune.conformance import main

    write("net", NET)
    write("score", SCORE.replace("state[n].square()", "state[n].flatten()"))
    assert main(["net"]) == 0 and capsys.readouterr().out == "models net: conforms\n"
    assert main(["net", "score"]) == 1 and "criteria score: does not conform: " in capsys.readouterr().out
    assert main(["gone"]) == 2 and "error: the plugin 'gone' cannot be imported" in capsys.readouterr().err
    assert main([]) == 2 and "usage: " in capsys.readouterr().err
