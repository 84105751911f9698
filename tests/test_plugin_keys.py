"""Entries of plugins are keyed by their code, in this process and in its workers."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
import sys
import types
from typing import Any

import pytest
from reference_plugins import NET, SCORE, Write, written
from tiny import Cli

from distill_prune.errors import ConfigError, UserError
from distill_prune.models import MODELS
from distill_prune.plan.jobs import VERSIONS, ExpertsJob
from distill_prune.plan.nodes import Node
from distill_prune.plugins import TABLES, Registered, load, table_of
from distill_prune.prune import CRITERIA
from distill_prune.run.events import Parcel
from distill_prune.settings import Entry, Settings, canonical, digest
from distill_prune.store.store import Store, identity
from distill_prune.training import Recipe

write = pytest.fixture(written)


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
    for table in TABLES:
        for name in table_of(table).own:
            assert "code" not in canonical(table_of(table)[name].Settings.model_construct(path=".", task="rte", tasks={})), name


def _without_a_file(name: str) -> Any:
    module = types.ModuleType(name)
    exec(compile(NET, name, "exec", dont_inherit=True), module.__dict__)
    return module.Settings()  # type: ignore[attr-defined]


def test_code_without_a_file_is_known_by_its_package_or_refused() -> None:
    assert canonical(_without_a_file("yaml._net"))["code"] == f"PyYAML {importlib.metadata.version('PyYAML')}"
    with pytest.raises(ConfigError, match=r"'nowhere' of a plugin has no source file(?s:.)*fix:      write it in a file"):
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
    settings: list[Any] = [empty.manifest(r.stage, r.key).settings for r in empty.all() if r.stage == "prune"]
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
    assert Parcel("", "", sent).open().key == key
    write("net", NET.replace("ReLU", "Tanh"))
    with pytest.raises(UserError, match="code of a plugin changed while it was being used\n  fix:      run again"):
        Parcel("", "", sent).open()
