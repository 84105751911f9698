"""What the README says works: its commands, shrunk, and its example of a method."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from reference_plugins import pristine

from distill_prune.conformance import check

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHRINK = [
    "seeds=[0]", "experts={count: 1, recipe: {length: 2ep, lr: 0.1}}", "prune.levels=1", "levels=null",
    "prune.recipe.length=3it",
    "prune.real.length=4it", "retrain.recipe.length=4it", "model.width=4", "arms={real: {}, synthetic: {images: synthetic}}",
    "compare={accuracy: {}, connectivity: {points: 2}}",
]  # fmt: skip
SMALL_SET = ["distill.synthetic={name: trajectory, ipc: 1, iterations: 2, inner_steps: 2, expert_epochs: 1, max_start: 1}"]


def commands() -> list[str]:
    """The `distill-prune` lines of the README's shell blocks that are meant as they stand."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("#")[0].split("&&")]
    return [
        c
        for c in lines
        if c.startswith("distill-prune") and not re.search(r"PIPELINE|REF|COMMAND|KEY|FILE|NAME|new mine|mine\.yaml|\|", c)
    ]


def test_the_readme_has_its_commands():
    assert [c.split()[1] for c in commands()] == ["run", "plan", "distill", "run", "run", "run", "run"]
    assert "pip install -e . && distill-prune run pipelines/digits.yaml" in TEXT
    assert "pip install -e '.[test]' && pytest" in TEXT


def test_every_command_stands_in_the_readme():
    from distill_prune.cli.application import app

    names = {c.name or c.callback.__name__.removesuffix("_") for c in app.registered_commands}
    assert {n for n in names if not re.search(rf"(?<![\w-]){n}(?![\w-])", TEXT)} == set()


def test_every_paper_of_the_table_has_its_file():
    named = re.findall(r"`([\w-]+\.yaml)`", TEXT)
    assert len(named) >= 6 and all((ROOT / "pipelines" / n).exists() for n in named)


@pytest.fixture
def folder(tmp_path):
    """A folder to work in, whose plugins are forgotten afterwards."""
    with pristine(tmp_path):
        yield tmp_path


def test_commands_of_the_readme_run(cli, folder, monkeypatch):
    monkeypatch.setenv("DISTILL_PRUNE_STORE", str(folder / "store"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code = re.search(r"```python\n(# average.py\n.*?)```", TEXT, re.DOTALL)
    assert code and len(code[1].splitlines()) < 30
    (folder / "average.py").write_text(code[1], encoding="utf-8")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(folder)
    for command in commands():
        if "cifar10" in command or "bert" in command:
            continue  # the same pipeline runs, shrunk, on data of its own in test_pipelines.py
        words = shlex.split(command)[1:]
        given = any("stored" in w or "average" in w for w in words)
        sets = [w for s in SHRINK + ([] if given else SMALL_SET) for w in ("--set", s)]
        executor = ["--executor", "serial"] if words[0] != "plan" else []
        done = cli(words[0], words[1], *sets, *words[2:], *executor)
        assert done.code == 0, done.err
        if words[0] == "distill":
            key = re.search(r"distill (\w+) set synthetic", done.out)
            assert key and cli("tag", key[1], "digits-5ipc").code == 0
    assert (folder / "store" / "reports" / "digits" / "report.html").exists()
    assert check("methods", "average") is not None
