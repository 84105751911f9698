"""The command: exit codes, one message for every mistake, and what stands on stdout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from reference_report import only
from tiny import Cli, flip

from distill_prune.cli.options import ORDER
from distill_prune.plan.nodes import Graph
from distill_prune.store.store import NUMBERS, TENSORS, Store

ROOT = Path(__file__).resolve().parent.parent


def npz(path: Path, *, shape: tuple[int, ...] = (60, 8, 8), **arrays: Any) -> Path:
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"x": rng.integers(0, 256, shape, np.uint8), "y": np.arange(shape[0]) % 10, **arrays})
    return path


# the user's mistakes: exit code 2, one message, no traceback


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "modl.width=3"], ["error: unknown key 'modl'", "did you mean 'model'"]),
        (["--set", "seeds=["], ["--set seeds: the value is not YAML"]),
        (["--set", "seeds"], ["--set seeds", "--set a.b=value"]),
        (["--set", "data={name: npz, path: /nowhere/x.npz}"], ["there is no data at '/nowhere/x.npz'", "fix:"]),
        (["--set", "distill.subset.ipc=1000"], ["set subset", "1000 examples per class are more", "fix:      a smaller ipc"]),
        (["--device", "cuda:99"], ["there is no device 'cuda:99'", "--device cpu"]),
        (["--device", "tpu"], ["there is no device 'tpu'"]),
        (["--executor", "threads"], ["unknown executor", "threads", "serial, processes or ray"]),
        (["--workers", "0"], ["Invalid value for '--workers'"]),
        (["--wrong"], ["No such option: --wrong"]),
        (["--set", "distill.synthetic={name: stored, ref: nothing}"], ["no artifact in this store matches 'nothing'"]),
    ],
)
def test_mistakes_in_a_run(cli: Cli, file: str, tmp_path: Path, arguments: list[str], said: list[str]) -> None:
    executor = [] if "--executor" in arguments else ["--executor", "serial"]
    done = cli("distill", file, "--store", tmp_path / "store", *executor, *arguments)
    assert done.code == 2 and all(s in done.err for s in said), done.err
    assert "error: " in done.err.lower()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((60, 64), np.uint8)}, "have the wrong shape"),
        ({"y": np.arange(60) % 3, "classes": np.array(["a", "b"])}, "has labels outside its classes"),
        ({"x": np.full((60, 8, 8), np.nan)}, "are not finite"),
        ({"y": np.array([{}] * 60)}, "which can execute"),
    ],
)
def test_mistakes_in_data(cli: Cli, file: str, tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    path = npz(tmp_path / "bad.npz", **arrays)
    done = cli("data", file, "--store", tmp_path / "s", "--executor", "serial", "--set", f"data={{name: npz, path: {path}}}")
    assert done.code == 2 and said in done.err and "bad.npz" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "is not YAML"),
        ("[]", "is not a pipeline"),
        ("extends: none.yaml", "which is not there"),
        (tiny.TINY.replace("seeds: [0]", "seeds: zero"), "'seeds' in bad.yaml"),
        (tiny.TINY + "zeal: 1", "unknown key 'zeal' in bad.yaml"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "report"])
def test_mistakes_in_a_file(cli: Cli, tmp_path: Path, command: str, content: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    done = cli(command, path, "--store", tmp_path / "store")
    assert done.code == 2 and done.err.startswith("error: ") and said in done.err and done.out == ""


def test_a_store_that_is_a_file(cli: Cli, file: str) -> None:
    for command in (
        ["run", file],
        ["plan", file],
        ["report", file],
        ["ls"],
        ["verify"],
        ["show", "abcd"],
        ["evaluate", "abcd"],
    ):
        done = cli(*command, "--store", file)
        assert done.code == 2 and "is a file" in done.err and "another --store" in done.err


def test_a_missing_pipeline(cli: Cli) -> None:
    done = cli("plan", "digts.yaml")
    assert done.code == 2 and "there is no pipeline file 'digts.yaml'" in done.err and "did you mean 'digits.yaml'" in done.err


@pytest.mark.parametrize("command", ["show", "verify", "tag", "evaluate"])
def test_an_unknown_ref(cli: Cli, empty: Store, command: str) -> None:
    done = cli(command, "feedbeef", *(["name"] if command == "tag" else []), "--store", empty.root)
    assert done.code == 2 and "no artifact in this store matches 'feedbeef'" in done.err and "distill-prune ls" in done.err


@pytest.mark.parametrize("command", ["import", "export", "diff", "rm", "gc", "schema"])
def test_commands_that_are_not_there_yet(cli: Cli, command: str) -> None:
    """They say so, and what to do instead; the list shrinks as they come."""
    from distill_prune.cli.application import app

    hidden = {c.name for c in app.registered_commands if c.hidden}
    if command not in hidden:
        assert command in {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
        return
    done = cli(command, *(["x"] if command in ("rm", "import") else []))
    assert done.code == 2 and f"`distill-prune {command}` is not there yet" in done.err and "fix:" in done.err


def test_a_failed_artifact_is_exit_1(cli: Cli, file: str, tmp_path: Path) -> None:
    done = cli("experts", file, "--store", tmp_path / "s", "--executor", "serial", "--set", "experts.recipe.lr=1e30")
    assert done.code == 1
    assert done.err.splitlines()[:4] == [
        "failed: expert 0: the training loss is not finite in epoch 1; the rest goes on",
        "error: expert 0 and 1 more: the training loss is not finite in epoch 1",
        "  got:      nan",
        "  fix:      a smaller learning rate, or a warm-up",
    ]
    assert cli("verify", "--store", tmp_path / "s").code == 0


# plan, run, report


def test_plan(cli: Cli, file: str, store: Store, graph: Graph, tmp_path: Path) -> None:
    done = cli("plan", file, "--store", tmp_path / "none", "--json", "--no-measure")
    found = json.loads(done.out)
    assert done.code == 0 and list(found) == ["artifacts"] and not (tmp_path / "none").exists()
    assert [r["key"] for r in found["artifacts"]] == list(graph.nodes)
    for row in found["artifacts"]:
        node = graph.nodes[row["key"]]
        assert set(row) == {"stage", "key", "status", "label", "inputs", "cost_s"}
        assert (row["stage"], row["label"], row["inputs"]) == (node.stage, node.label, list(node.inputs.values()))
        assert row["status"] == "miss" and row["cost_s"] > 0
    again = json.loads(cli("plan", file, "--store", store.root, "--json").out)["artifacts"]
    assert {r["status"] for r in again} == {"hit"}
    text = cli("plan", file, "--store", store.root, "--set", "seeds=[0,1]", "--all", "--no-measure").out
    assert text.startswith(f"hit  data     {graph.data[:12]}")
    hits, misses = (sum(line.startswith(word) for line in text.splitlines()) for word in ("hit ", "miss"))
    assert f"{hits + misses} artifacts: {hits} hits, {misses} misses" in text and misses > 0


def test_run_and_its_report(
    cli: Cli, file: str, store: Store, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("run", file, "--store", store.root, "--executor", "serial")
    page = store.root / "reports" / "tiny" / "report.html"
    assert done.code == 0 and "nothing to do: all " in done.out and f"report: {page}" in done.out and page.exists()
    only(monkeypatch, ("accuracy",))  # the first has drawn them all
    found = json.loads(cli("compare", file, "--store", store.root, "--json", "-o", tmp_path / "out").out)
    assert found["made"] == 0 and found["report"] == str(tmp_path / "out" / "report.html") and Path(found["report"]).exists()
    assert set(found["artifacts"]) == {k for k, n in graph.nodes.items() if n.stage == "compare"}
    out = cli("distill", file, "--store", store.root, "--executor", "serial").out
    assert f"distill {graph.sets['synthetic'][:12]} set synthetic" in out


def test_the_report_of_a_half_finished_store(cli: Cli, file: str, store: Store, graph: Graph, tmp_path: Path) -> None:
    import shutil

    nodes = [tiny.node_of(graph, label) for label in ("summary", "connectivity of dense seed 0")]
    for node in nodes:
        shutil.rmtree(store.path(node.stage, node.key))
    assert cli("report", file, "--store", store.root, "-o", tmp_path / "half").code == 0
    page = (tmp_path / "half" / "report.html").read_text()
    assert "missing" in page.lower() and all(node.label in page for node in nodes)
    assert cli("report", file, "--store", tmp_path / "none", "-o", tmp_path / "nothing").code == 0
    assert "missing" in (tmp_path / "nothing" / "report.html").read_text().lower()


# the store


def test_ls_show_and_tag(cli: Cli, store: Store, graph: Graph) -> None:
    key = graph.sets["synthetic"]
    assert cli("tag", key[:10], "best", "--store", store.root).out == f"best -> distill {key[:12]}\n"
    rows = json.loads(cli("ls", "distill", "--store", store.root, "--json").out)["artifacts"]
    assert {r["key"]: r["names"] for r in rows} == {key: ["best"], graph.sets["subset"]: []}
    assert re.search(r"set synthetic +\[best\]", cli("ls", "--store", store.root).out)
    shown = json.loads(cli("show", "best", "--json", "--store", store.root).out)
    assert shown["manifest"]["key"] == key and shown["numbers"]["method"] == "trajectory"
    assert shown["path"] == str(store.path("distill", key))
    wrong = cli("ls", "distil", "--store", store.root)
    assert wrong.code == 2 and "unknown stage 'distil'" in wrong.err and "did you mean 'distill'" in wrong.err
    assert cli("tag", key[:10], "a/b", "--store", store.root).code == 2


def test_the_store_of_the_environment(cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILL_PRUNE_STORE", str(store.root))
    assert f"in {store.root}" in cli("ls").out
    monkeypatch.delenv("DISTILL_PRUNE_STORE")
    monkeypatch.chdir(tmp_path)
    assert cli("ls").out == "0 artifacts, 0 B in artifacts\n"


def test_verify(cli: Cli, store: Store, graph: Graph) -> None:
    done = cli("verify", "--store", store.root)
    assert (done.code, done.out) == (0, f"{len(graph.nodes)} checked, 0 damaged\n")
    flip(store.path("data", graph.data) / TENSORS)
    (store.path("compare", graph.summary) / NUMBERS).unlink()
    done = cli("verify", "--store", store.root)
    assert done.code == 1 and done.out.count("damaged: ") == 2
    assert f"damaged: data {graph.data}: tensors.safetensors: wrong sha256" in done.out
    assert cli("verify", graph.sets["subset"][:12], "--store", store.root).code == 0
    found = json.loads(cli("verify", graph.data, "--store", store.root, "--json").out)
    assert found["checked"] == 1 and found["damaged"][0]["key"] == graph.data
    shown = cli("show", graph.data[:12], "--store", store.root)
    assert shown.code == 1 and "damaged artifact data" in shown.err
    assert "DAMAGED" not in cli("ls", "--store", store.root).out.replace(graph.summary[:12], "")


def test_evaluate_is_cached(cli: Cli, store: Store, graph: Graph) -> None:
    short = ["--set", "nets=2", "--set", "length=7it", "--store", store.root, "--json"]
    first = json.loads(cli("evaluate", graph.sets["synthetic"], *short).out)
    again = json.loads(cli("evaluate", graph.sets["synthetic"], *short).out)
    assert (first["made"], again["made"], again["hits"]) == (1, 0, 1)
    assert first["key"] == again["key"] and first["numbers"] == again["numbers"]
    asked = json.loads(cli("evaluate", graph.sets["synthetic"], *short, "--set", "length=6it").out)
    assert asked["made"] == 0 and asked["key"] == graph.evaluations["synthetic"]  # the pipeline made the same one
    text = cli("evaluate", graph.sets["synthetic"], *short[:-1])
    assert "sd over 2 fresh" in text.out and "%" in text.out
    alone = cli("evaluate", graph.sets["synthetic"], "--set", "nets=1", "--set", "length=2it", "--store", store.root).out
    assert "(1 fresh convnet network: " in alone and "±" not in alone and "1 artifact: " in alone
    assert " left" not in alone, "nothing is left after the last artifact"


def test_evaluate_with_other_networks_and_the_label_robust_score(cli: Cli, store: Store, graph: Graph) -> None:
    short = ["--set", "nets=2", "--set", "length=3it", "--set", "real_length=3it", "--set", "rates=[0.1]"]
    more = ["--set", "architectures.flat.name=lenet", "--ranking", "--store", store.root]
    done = json.loads(cli("evaluate", graph.sets["synthetic"], *short, *more, "--json").out)
    made = [(m["analysis"], m["architecture"]) for m in done["measurements"]]
    assert made == [("evaluation", ""), ("evaluation", "flat"), ("ranking", "")] and done["made"] == 3
    scores = done["measurements"][2]["numbers"]
    assert 0 <= scores["lrs"]["mean"] <= 1 and abs(scores["hlr"]["mean"]) <= 1
    text = cli("evaluate", graph.sets["synthetic"], *short, *more).out
    assert "fresh flat networks" in text and "LRS        0." in text and "fractions" in text
    wrong = cli("evaluate", graph.sets["synthetic"], *short, *more, "--set", "net=2")
    assert wrong.code == 2 and "did you mean 'nets'" in wrong.err


def test_evaluate_that_cannot_be(cli: Cli, store: Store, graph: Graph) -> None:
    done = cli("evaluate", graph.sets["subset"], "--store", store.root)
    assert done.code == 2 and "without a network" in done.err and "--set model.name=convnet" in done.err
    done = cli("evaluate", graph.data, "--store", store.root)
    assert done.code == 2 and "is not a synthetic set" in done.err
    done = cli("evaluate", graph.sets["synthetic"], "--store", store.root, "--set", "net=2")
    assert done.code == 2 and "did you mean 'nets'" in done.err
    done = cli("evaluate", graph.sets["synthetic"], "--store", store.root, "--set", "architectures=3")
    assert done.code == 2 and "'architectures' in --set" in done.err and "a mapping of names to networks" in done.err


def test_help(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0 and "distill-prune run digits.yaml" in done.out
    for command in ORDER:
        assert f"  {command}" in done.out
        told = cli(command, "--help")
        assert told.code == 0 and "Example:" in told.out


def test_looking_at_a_store_does_not_import_torch(store: Store, graph: Graph) -> None:
    commands = [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["ls"],
        ["ls", "--json"],
        ["ls", "prune", "--arm", "real", "--since", "1h"],
        ["show", graph.data],
        ["show", graph.summary],
        ["show", graph.data, "--json"],
        ["tag", graph.data, "x"],
        ["verify"],
        ["status"],
        ["watch"],
        ["verify", "x"],
    ]
    code = (
        "import sys, json\nfrom distill_prune.cli import main\nfor arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['distill-prune', *arguments]\n    try:\n        main()\n    except SystemExit as end:\n"
        "        assert not end.code, (arguments, end.code)\n"
        "    heavy = {'torch', 'sklearn', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    with_store = [c if "--help" in c or "--version" in c else [*c, "--store", str(store.root)] for c in commands]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(with_store)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
