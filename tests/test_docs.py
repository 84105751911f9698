"""The documents: tutorials are executed, links lead somewhere, and the reference has every setting, command and public name."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_readme import SHRINK, SMALL_SET
from tiny import Cli

import distill_prune as dp

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "bench"))

import site_reference as reference  # noqa: E402

PAGES = sorted(DOCS.rglob("*.md"))
QUICK = [*SHRINK, "lanes=1", "distill.subset=false", "only={}"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a store of its own."""
    monkeypatch.setenv("DISTILL_PRUNE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shrunk(words: list[str]) -> list[str]:
    """A command of a tutorial with a study of seconds; what the tutorial itself sets is laid on last."""
    if words[0] not in ("run", "distill", "data"):
        return words
    small = SMALL_SET if not any("stored" in w for w in words) else []
    sets = [w for s in QUICK + small for w in ("--set", s)]
    return [*words[:2], *sets, *words[2:], "--executor", "serial"]


def test_own_data(cli: Cli, folder: Path) -> None:
    page = "tutorials/own-data.md"
    exec(compile(blocks(page, "python")[0], page, "exec"), {})
    (folder / "wide.yaml").write_text(blocks(page, "yaml")[0], encoding="utf-8")
    asked = commands(page)
    assert [words[0] for words in asked] == ["new", "plan", "run", "plan", "plan"]
    for words in asked:
        done = cli(*shrunk(words), *(["--no-measure"] if words[0] == "plan" else []))
        assert done.code == 0, done.err
    assert (folder / "store" / "reports" / "shapes" / "report.html").exists()


def test_sets(cli: Cli, folder: Path) -> None:
    (folder / "cifar10").mkdir()
    (folder / "mtt").mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        np.savez(f"cifar10/{part}.npz", x=rng.integers(0, 255, (count, 8, 8, 3), np.uint8), y=np.arange(count) % 10)
    torch.save(torch.randn(20, 3, 8, 8), "mtt/images_best.pt")
    torch.save(torch.arange(20) // 2, "mtt/labels_best.pt")
    asked = commands("tutorials/sets.md")
    assert [w[0] for w in asked] == [
        *("distill", "tag", "run", "data", "import", "evaluate", "run", "export", "pack"),
    ]
    for words in asked:
        few = []
        if "cifar10-small.yaml" in words:
            few = ["--set", "data.rows=null", "--set", "data.test_rows=null", "--set", "data.validation=0"]
        if words[0] == "evaluate":
            few = [w for s in ("nets=1", "length=2it", "model.width=4") for w in ("--set", s)] + ["--executor", "serial"]
        done = cli(*shrunk(words), *few)
        assert done.code == 0, (words, done.err)
    assert (folder / "mtt-10.tar").exists() and (folder / "mtt-10.npz").exists()


def test_six_seeds(cli: Cli, folder: Path) -> None:
    """Three seeds are few, and six find what three have made."""
    asked = commands("tutorials/six-seeds.md")
    assert [words[0] for words in asked] == ["run", "plan", "run"] and asked[1][1:] == asked[2][1:]
    alone = ["--set", "arms={real: {}, random: {criterion: {name: random}}}", "--set", "distill={}"]
    alone += ["--set", "retrain.copies=1", "--set", "compare={accuracy: {}}", "--set", "experts={}"]
    first = cli(*shrunk(asked[0]), *alone)
    assert first.code == 0, first.err
    text = (DOCS / "tutorials" / "six-seeds.md").read_text(encoding="utf-8")
    said = re.search(r"The verdict is \"(.*?)\"", text)
    assert said and said[1] in " ".join(first.out.split()) and "too few seeds" in first.out
    last = cli(*shrunk(asked[2]), *alone)
    assert last.code == 0 and "too few seeds" not in last.out, last.out + last.err


# -- links


def anchors(path: Path) -> set[str]:
    """What a link to a heading of the page may say."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        link = link.removeprefix("https://github.com/distill-prune/distill-prune/blob/main/")
        if link.startswith("https://") or "reference/" in link:
            continue
        name, _, anchor = link.partition("#")
        target = next((t for t in ((path.parent / name) if name else path, ROOT / name) if t.is_file()), None)
        assert target is not None, link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_contents() -> None:
    """And nothing else, but for the pages of reference/, which the build makes."""

    def files(entry: object) -> list[str]:
        parts = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        return [entry] if isinstance(entry, str) else [file for part in parts for file in files(part)]

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    made = {f"reference/{name}.md" for name in reference.PAGES}
    assert sorted(files(site["nav"])) == sorted({str(p.relative_to(DOCS)) for p in PAGES} | made)
    extras = {key: value for key, value in site.items() if key.startswith("extra")}
    local = [(DOCS / file).read_text(encoding="utf-8") for file in extras.pop("extra_css") + extras.pop("extra_javascript")]
    assert site["theme"]["font"] is False and not extras, "nothing from another network"
    assert not any(re.search(r"https?:|//\w+\.", text) for text in local), "nothing from another network"


# -- the reference


def rows(text: str) -> list[list[str]]:
    """The cells of every row of settings."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_reference_has_every_setting_with_its_meaning() -> None:
    from distill_prune.plan.catalog import entries

    text = reference.settings()
    listed = rows(text)
    assert len(listed) > 400 and [row for row in listed if not row[-1]] == []
    headings = set(re.findall(r"^### (\S+)$", text, re.MULTILINE))
    chosen = {line.name for line in entries() if line.kind not in ("recipe preset", "augmentation")} - {"summary"}
    assert chosen <= headings and {line.name for line in entries()} - {"summary"} <= headings | {
        r[0].strip("`") for r in listed
    }
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= sections
    (experts,) = [row for row in listed if row[0] == "`recipe`" and "its length in epochs" in row[-1]]
    assert experts[2].startswith("`{length: 20ep, batch: 256, lr: 0.01"), "defaults as a file has them"
    types = {row[0]: row[1] for row in reversed(listed)}
    assert types["`seeds`"] == "list (at least 1) of integer ≥ 0", "the bound is of the list, not of its items"
    assert types["`rate`"] == "number > 0 and &lt; 1"


def test_the_reference_has_every_command_and_an_example() -> None:
    from distill_prune.cli.options import ORDER

    sections = reference.commands().split("\n## ")[1:]
    assert {section.partition("\n")[0] for section in sections} == {*ORDER}
    assert [s.partition("\n")[0] for s in sections if "Example:" not in s] == []


def test_the_reference_has_every_public_name() -> None:
    assert sorted(name for _, names in reference.groups() for name in names) == sorted(dp.__all__)


# -- words

REFUSED = (r"\d %", r"\bmend", r"\bless (the|that of|its)\b", r"(was|were|not) at hand")


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_words(path: Path) -> None:
    """89.3% without a space, minus and not less, fix and not mend."""
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [m[0] for pattern in REFUSED for m in re.finditer(rf".{{0,30}}{pattern}.{{0,30}}", text)] == []
