"""The public names: the same for Python, for type checkers and for editors; importing them costs nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml

import distill_prune as dp
from distill_prune.plan.papers import HOME

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_type_checkers_see_the_names_that_python_gives() -> None:
    tree = ast.parse(Path(dp.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and node.orelse]
    seen = {
        alias.name: f"{node.module}".removeprefix("distill_prune.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("distill_prune.")
        for alias in node.names
    }
    assert seen == dp._PUBLIC and sorted(seen) == sorted(dp.__all__) == dir(dp)
    assert (Path(dp.__file__).parent / "py.typed").exists()


def test_an_import_brings_nothing_along() -> None:
    code = "import sys; before = set(sys.modules); import distill_prune as dp; dp.__version__; dir(dp); dp.UserError\n"
    code += "print([m for m in set(sys.modules) - before if m in ('torch', 'typing', 'pydantic', 'importlib.metadata')])"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert set(ast.literal_eval(done.stdout)) <= {"typing"}  # errors.py imports it


def test_there_is_one_version_and_one_address() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (
        PROJECT["project"]["dynamic"] == ["version"]
        and PROJECT["tool"]["hatch"]["version"]["path"] == "distill_prune/version.py"
    )
    assert citation["version"] == dp.__version__ and re.fullmatch(r"\d+\.\d+\.\d+", dp.__version__)
    urls = PROJECT["project"]["urls"]
    assert urls["Repository"] == citation["repository-code"] == HOME and all(url.startswith(HOME) for url in urls.values())
    assert citation["authors"] == [{"name": author["name"]} for author in PROJECT["project"]["authors"]]


def test_the_files_that_the_metadata_name_are_there() -> None:
    base = f"{HOME}/blob/main/"
    named = [url.removeprefix(base) for url in PROJECT["project"]["urls"].values() if url.startswith(base)]
    assert named and all((ROOT / path).exists() for path in named)
    assert {"CONTRIBUTING.md", "SECURITY.md"} <= {path.name for path in ROOT.iterdir()}


# -- the notebook and the page

NOTEBOOK = json.loads((ROOT / "examples" / "api.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_was_executed() -> None:
    assert [cell["execution_count"] for cell in CODE] == [*range(1, len(CODE) + 1)]
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(cell["outputs"] for cell in CODE if "print(" in "".join(cell["source"]))
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not re.search(r"/(work|home|root|tmp)/", json.dumps(NOTEBOOK))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page's ten lines read: a small CIFAR-10, and a set in MTT's two files."""
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "mtt").mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        x = rng.integers(0, 255, (count, 32, 32, 3), np.uint8)
        np.savez(tmp_path / "cifar10" / f"{part}.npz", x=x, y=np.arange(count) % 10)
    torch.save(torch.randn(20, 3, 32, 32), tmp_path / "mtt" / "images_best.pt")
    torch.save(torch.arange(20) // 2, tmp_path / "mtt" / "labels_best.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shrunk(code: str, **short: str) -> str:
    """Code with texts replaced, every one of which it has."""
    for long, brief in short.items():
        assert long in code
        code = code.replace(long, brief)
    return code


def test_the_page_is_executed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    study, own = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "tiny.yaml").write_text(tiny.TINY, encoding="utf-8")
    quick = '"seeds": [0], "levels": [0], "distill": {}, "arms": {"real": {}}, "retrain.copies": 1, "compare": {"accuracy": {}}'
    values = '"seeds": [0, 1], "prune.levels": 4, "levels": None'
    exec(compile(shrunk(study, **{'"digits"': '"tiny.yaml"', values: quick}), "docs/api.md", "exec"), {"__name__": "page"})
    assert "real 0 0.0 0." in capsys.readouterr().out
    short = {
        "rows=2000, test_rows=1000": "validation=0",
        "zca": "normalize",
        "100it": "2it",
        "4ep": "1ep",
        "levels=5": "levels=1",
    }
    assert len(own.splitlines()) <= 12
    exec(compile(shrunk(own, **short), "docs/api.md", "exec"), {"__name__": "page"})
    assert re.search(r"20\.0% sparse, barrier [-\d.]+ points, trace [-\d]+ ± \d+", capsys.readouterr().out)


BRIEF = {
    "seeds": [0],
    "lanes": 1,
    "model.width": 4,
    "prune.levels": 2,
    "levels": [2],
    "experts": {"count": 1, "recipe": {"length": "2ep", "batch": 256}},
    "distill": {
        "synthetic": {"name": "trajectory", "ipc": 5, "iterations": 1, "inner_steps": 1, "expert_epochs": 1, "max_start": 1}
    },
    "prune.recipe.length": "2it",
    "prune.real.length": "2it",
    "retrain.recipe.length": "2it",
}


def test_the_notebook_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in order, in one namespace, with a shorter study and shorter trainings."""
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path / "store"))
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in CODE:
        exec(compile("".join(cell["source"]), "api.ipynb", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names["SHORT"]["length"] = names["LONG"]["length"] = "5it"
            names["STUDY"] = {n: v for n, v in names["STUDY"].items() if not n.startswith(("experts.", "distill."))} | BRIEF
    assert names["line"].distance > 0 and names["trace"].se > 0 and names["matched"].loss > 0
