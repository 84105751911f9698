"""docs/architecture.md shows the house as its import statements make it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import house  # noqa: E402

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "distill_prune"


def test_the_drawing_is_what_the_imports_make() -> None:
    assert house.DRAWING.read_text(encoding="utf-8") == house.drawing(PACKAGE), "run python bench/house.py draw"
    assert f"]({house.DRAWING.name})" in PAGE


def test_the_page_has_a_sentence_for_every_room() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \| .*\. \|$", PAGE, re.MULTILINE)) == list(house.imports(PACKAGE))


def test_files_that_the_page_names_are_there() -> None:
    paths = re.findall(r"`([\w/]+\.py)`", PAGE)
    assert len(paths) > 8
    assert [p for p in paths if not (ROOT / p).exists() and not (PACKAGE / p).exists()] == []


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """Three floors: a imports b and c, b imports c; the arrow from a to c follows from the others."""
    package = tmp_path / "distill_prune"
    (package / "b").mkdir(parents=True)
    (package / "a.py").write_text("from distill_prune.b import x\ndef f():\n    import distill_prune.c\n")
    (package / "b" / "__init__.py").write_text(
        "from distill_prune import c\nfrom distill_prune.b.deep import y\nimport torch\n"
    )
    (package / "c.py").write_text("")
    (package / "__main__.py").write_text("from distill_prune import a\n")
    return package


def test_floors_and_arrows_of_a_tower(tower: Path) -> None:
    arrows = house.imports(tower)
    assert arrows == {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert house.floors(arrows) == {"a": 2, "b": 1, "c": 0}
    assert house.direct(arrows) == {"a": {"b"}, "b": {"c"}, "c": set()}
    svg = house.drawing(tower)
    assert svg.count("marker-end") == 2 and svg.count('class="folder"') == 1 and svg.count('class="module"') == 2
    (tower / "c.py").write_text("import distill_prune.a\n")
    with pytest.raises(SystemExit, match="imports form a circle: a, b, c"):
        house.floors(house.imports(tower))


def test_counts_of_a_tower(tower: Path) -> None:
    (tower / "c.py").write_text(
        'def g(x: dict[str, Any]):\n    assert x\n    held = getattr(x, "barrier_test")[:-2]\n    return held\n'
    )
    counts = house.counts(tower)
    ones = ["`dict[str, Any]`", "`getattr(`", "`assert` statements", "slices `[:-2]`, `[-2:]`", '`"barrier_test"`, modules']
    assert {counts[what] for what in [*ones, "functions with `Any`"]} == {"1"}
    assert counts["the word held"] == "2" and counts["the word own"] == "0" and counts["files"] == "4"
    assert counts["longest function"] == "4 (c.py: g)" and counts["longest file"] == "4 (c.py)"
    assert house.table([tower.parent, tower.parent]).splitlines()[2] == "| lines | 11 | 11 |"
