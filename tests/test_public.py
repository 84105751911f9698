"""The public names: the same for Python, for type checkers and for editors; importing them costs nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

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
        and PROJECT["tool"]["hatch"]["version"]["path"] == "distill_prune/__init__.py"
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
