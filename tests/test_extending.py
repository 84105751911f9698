"""What docs/extending.md shows is executed: its modules conform, its study runs with them, and so it does installed."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference_plugins import announce, forget, pristine
from tiny import Cli

from distill_prune import conformance
from distill_prune.conformance import __main__ as conforms
from distill_prune.plugins import TABLES, table_of
from distill_prune.store.store import Store

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
MODULES = ["pooled", "halved", "stripes", "layer_scaled", "average", "distance"]
UNUSED = "halved"
"""It conforms, and the page's study has another network."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def command(name: str) -> list[str]:
    return shlex.split(next(line for line in "".join(blocks("sh")).splitlines() if line.startswith(name)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The modules and the pipeline of the page, as files of the current folder."""
    where = tmp_path / "work"
    where.mkdir()
    for code in (*blocks("python"), *blocks("yaml")):
        name = re.match(r"# (\w+\.(?:py|yaml))\n", code)
        assert name, "a block begins with the name of its file"
        (where / name[1]).write_text(code, encoding="utf-8")
    monkeypatch.chdir(where)
    with pristine(where):
        yield where


def test_the_page_has_short_modules(folder: Path) -> None:
    assert sorted(p.stem for p in folder.glob("*.py")) == sorted(MODULES)
    assert all(len(code.splitlines()) <= 30 for code in blocks("python"))
    assert [line.split()[0] for block in blocks("sh") for line in block.splitlines()] == ["python", "distill-prune"]


def test_the_modules_conform(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python, m, module, *names = command("python")
    assert [python, m, module] == ["python", "-m", conformance.__name__] and names == MODULES
    assert conforms.main(names) == 0
    tables = ["models", "models", "data", "criteria", "methods", "analyses"]
    assert capsys.readouterr().out.splitlines() == [f"{t} {n}: conforms" for t, n in zip(tables, MODULES, strict=True)]


def compares_distances(store: Store, report: Path, printed: str) -> None:
    """The metric of the page's analysis is where built-in ones are: rows, tests, tables, figures, the page and the answer."""
    (summary,) = [n for n in (store.numbers("compare", r.key) for r in store.all() if r.stage == "compare") if "rows" in n]
    names = list(summary["rows"][0])
    assert names.index("distance") == names.index("units_fixed") + 1  # the last of the built-in ones
    assert all(row["distance"]["mean"] > 0 and row["distance"]["n"] == 1 for row in summary["rows"])
    (last,) = [p for p in summary["paired"] if (p["metric"], p["level"]) == ("distance", 2)]
    assert last["arm"] == "averages" and last["versus"] == "real" and last["difference"]["n"] == 1
    closer = "more or less accurate or closer together or farther apart than real (n = 1; below 6"
    assert closer in summary["answer"] and "too few seeds" in printed and "distance" in printed
    html = (report / "report.html").read_text(encoding="utf-8")
    for heading in ("Further measurements", "Distance between copies (L2)", '<a href="#further">'):
        assert heading in html
    for name in ("distance", "paired_distance"):
        assert (report / "figures" / f"{name}.svg").exists() and (report / "figures" / f"{name}.png").exists()
    assert "distance_mean" in (report / "tables" / "levels.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert '"distance"' in (report / "tables" / "runs.json").read_text(encoding="utf-8")


def test_the_study_runs_and_is_found_by_installed_modules(cli: Cli, folder: Path, tmp_path: Path) -> None:
    done = cli(*command("distill-prune")[1:], "--executor", "serial", "--store", "store")
    assert done.code == 0, done.err
    store = Store(folder / "store")
    assert (store.root / "reports" / "stripes" / "report.html").exists()
    used = json.dumps([store.manifest(r.stage, r.key).settings for r in store.all()])
    assert all(f'"name": "{module}"' in used for module in MODULES if module != UNUSED)
    found = [store.numbers("compare", r.key) for r in store.all() if r.stage == "compare"]
    distances = [n["distance"]["mean"] for n in found if n["analysis"] == "distance"]
    assert len(distances) == 5 and all(d > 0 for d in distances)  # dense, and two levels of two arms
    compares_distances(store, folder / "store" / "reports" / "stripes", done.out)

    with pristine(folder):  # as in another process, without --plugin
        forget(folder)
        for table in TABLES:
            table_of(table)._registered = {}
        without = cli("plan", "stripes.yaml", "--store", "store")
        assert without.code == 2 and "unknown data set 'stripes' at 'data.name' in stripes.yaml" in without.err
        points = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
        lines = [x for group, names in points.items() for x in (f"[{group}]", *(f"{n} = {m}" for n, m in names.items()))]
        announce(tmp_path, "stripes", *lines)
        sys.path[:0] = [str(folder), str(tmp_path)]
        again = cli("plan", "stripes.yaml", "--store", "store", "--json")
        assert again.code == 0 and {row["status"] for row in json.loads(again.out)["artifacts"]} == {"hit"}, again.err
