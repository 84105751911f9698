"""What the README says works: its commands, shrunk, and its links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tiny import Cli

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHRINK = [
    "seeds=[0]", "experts={count: 1, recipe: {length: 2ep, lr: 0.1}}", "prune.levels=1", "levels=null",
    "prune.recipe.length=3it",
    "prune.real.length=4it", "retrain.recipe.length=4it", "model.width=4", "arms={real: {}, synthetic: {images: synthetic}}",
    "compare={accuracy: {}, connectivity: {points: 2}}",
]  # fmt: skip
SMALL_SET = ["distill.synthetic={name: trajectory, ipc: 1, iterations: 2, inner_steps: 2, expert_epochs: 1, max_start: 1}"]
FROM_ROOT = "https://github.com/distill-prune/distill-prune/blob/main/"
RAW = "https://raw.githubusercontent.com/distill-prune/distill-prune/main/"


def commands() -> list[str]:
    """The `distill-prune` lines of the README's shell blocks; those on data of one's own are in tutorials/own-data.md."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("#")[0].split("&&")]
    return [c for c in lines if c.startswith("distill-prune") and "mine" not in c]


def test_the_readme_is_short_and_has_its_commands() -> None:
    assert len(TEXT.splitlines()) < 120
    assert [c.split()[1] for c in commands()] == ["run", "plan"]
    assert "pip install -e . && distill-prune run pipelines/digits.yaml" in TEXT
    assert "pip install -e '.[test]' && pytest" in TEXT


def test_links_are_absolute_and_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    paths = [link.removeprefix(FROM_ROOT).removeprefix(RAW).partition("#")[0] for link in links]
    assert len(links) > 10 and [path for path in paths if not (ROOT / path).is_file()] == []


def test_commands_of_the_readme_run(cli: Cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DISTILL_PRUNE_STORE", str(tmp_path / "store"))
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    for command in commands():
        name, pipeline, *options = shlex.split(command)[1:]
        sets = [w for s in SHRINK + SMALL_SET for w in ("--set", s)]
        done = cli(name, pipeline, *sets, *options, *(["--executor", "serial"] if name == "run" else []))
        assert done.code == 0, done.err
    assert (tmp_path / "store" / "reports" / "digits" / "report.html").exists()
