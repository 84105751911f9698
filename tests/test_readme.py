"""What the README says works: its commands, shrunk, and its example of a method."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from distill_prune.artifacts import Examples, Transform
from distill_prune.distill import METHODS, Source
from distill_prune.progress import SILENT
from distill_prune.rng import Streams

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHRINK = [
    "seeds=[0]", "experts={count: 1, recipe: {length: 2ep, lr: 0.1}}", "prune.levels=1", "prune.recipe.length=3it",
    "prune.real.length=4it", "retrain.recipe.length=4it", "model.width=4", "arms={real: {}, synthetic: {images: synthetic}}",
    "compare={accuracy: {}, connectivity: {points: 2}}",
]  # fmt: skip
SMALL_SET = ["distill.synthetic={name: trajectory, ipc: 1, iterations: 2, inner_steps: 2, expert_epochs: 1, max_start: 1}"]


def commands() -> list[str]:
    """The `distill-prune` lines of the README's shell blocks that are meant as they stand."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("#")[0].split("&&")]
    return [c for c in lines if c.startswith("distill-prune") and not re.search(r"PIPELINE|REF|COMMAND|KEY|\|", c)]


def test_the_readme_has_its_commands():
    assert [c.split()[1] for c in commands()] == ["run", "plan", "distill", "run", "run"]
    assert "pip install -e . && distill-prune run pipelines/digits.yaml" in TEXT
    assert "pip install -e '.[test]' && pytest" in TEXT


def test_commands_of_the_readme_run(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_PRUNE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(ROOT)
    for command in commands():
        if "cifar10" in command:
            continue  # the same pipeline runs, shrunk, on data of its own in test_cli.py
        words = shlex.split(command)[1:]
        stored = any("stored" in w for w in words)
        sets = [w for s in SHRINK + ([] if stored else SMALL_SET) for w in ("--set", s)]
        executor = ["--executor", "serial"] if words[0] != "plan" else []
        done = cli(words[0], words[1], *sets, *words[2:], *executor)
        assert done.code == 0, done.err
        if words[0] == "distill":
            key = re.search(r"distill (\w+) set synthetic", done.out)
            assert key and cli("tag", key[1], "digits-5ipc").code == 0
    assert (tmp_path / "store" / "reports" / "digits" / "report.html").exists()


def test_the_method_of_the_readme_works(tmp_path, monkeypatch):
    code = re.search(r"```python\n# distill_prune/distill/average.py\n(.*?)```", TEXT, re.DOTALL)
    assert code and len(code[1].splitlines()) < 30
    path = tmp_path / "average_of_readme.py"
    path.write_text("from __future__ import annotations\n" + code[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("average_of_readme", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "average_of_readme", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(METHODS._entries, "average", "average_of_readme")

    x, y = torch.rand(40, 1, 4, 4), torch.arange(40) % 2
    source = Source(Examples(x, y), ("a", "b"), Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)}))
    entry = METHODS["average"]
    made = entry.distill(entry.Settings(ipc=3, group=5), source, Streams(0), "cpu", SILENT)
    assert made.set.labels.tolist() == [0] * 3 + [1] * 3
    assert made.set.images.std() == pytest.approx(x.std().item() / 5**0.5, rel=0.3)
