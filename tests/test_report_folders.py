"""Where reports go: the folder of the pipeline's name, unless it is another file's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny
from tiny import Cli

from distill_prune import report
from distill_prune.store.store import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that says what it is of, and nothing else."""

    def write(study: object, out: Path, pdf: bool) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(vars(study)["title"])
        return out / "report.html"

    monkeypatch.setattr(report, "write", write)


def pipeline(folder: Path, name: str = "study.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(tiny.TINY.replace("title: tiny", f"title: of {folder.name}"))
    return folder / name


def place(cli: Cli, *words: object) -> Path:
    done = cli("report", *words)
    assert done.code == 0, done.err
    return Path(done.out.removeprefix("report: ").strip()).parent


def test_two_files_of_one_name_keep_their_reports(cli: Cli, empty: Store, tmp_path: Path) -> None:
    a, b, store = pipeline(tmp_path / "a"), pipeline(tmp_path / "b"), ["--store", empty.root]
    first, second = place(cli, a, *store), place(cli, b, *store)
    assert first == empty.root / "reports" / "study" and second.parent == first.parent
    assert second.name.startswith("study-") and len(second.name) == len("study-") + 6
    assert [(p / "report.html").read_text() for p in (first, second)] == ["of a", "of b"]
    assert (place(cli, a, *store), place(cli, b, *store)) == (first, second)
    assert place(cli, b, *store, "-o", tmp_path / "out") == tmp_path / "out"


def test_what_is_set_has_a_report_of_its_own(cli: Cli, empty: Store, tmp_path: Path) -> None:
    """The first has the plain name, whatever it was given; the page of reports lists all, the newest first."""
    file, store = pipeline(tmp_path / "a"), ["--store", empty.root]
    sets = [("--set", "seeds=[0,1]", "--set", "title=two <seeds>"), (), ("--set", "seeds=[0]")]
    folders = [place(cli, file, *store, *given) for given in sets]
    assert folders[0].name == "study" and len(set(folders)) == 3 and all(f.name.startswith("study-") for f in folders[1:])
    assert [(f / "report.html").read_text() for f in folders] == ["two <seeds>", "of a", "of a"]
    for i, folder in enumerate(folders):
        os.utime(folder / "report.html", (1000 * i, 1000 * i))
    (folders[1] / "report.html").unlink()
    assert [place(cli, file, *store, *given) for given in sets] == folders
    page = (empty.root / "reports" / "index.html").read_text()
    links = [page.index(f'href="{folders[i].name}/report.html"') for i in (1, 2, 0)]
    assert links == sorted(links) and "two &lt;seeds&gt;" in page and "--set seeds=[0,1]" in page and "../a/study.yaml" in page


def test_paths_and_reports_have_one_name(cli: Cli, empty: Store, tmp_path: Path) -> None:
    file, store = pipeline(tmp_path / "a"), ["--store", empty.root]
    for given in ((), ("--set", "seeds=[1]")):
        place(cli, file, *store, *given)
    reports = {p.name for p in (empty.root / "reports").iterdir() if p.is_dir()}
    assert {p.stem for p in (empty.root / ".studies").iterdir()} == reports and len(reports) == 2


def test_a_file_is_known_by_whatever_path(cli: Cli, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = pipeline(tmp_path / "a")
    monkeypatch.chdir(a.parent)
    (tmp_path / "link").symlink_to(a.parent)
    stores = (empty.root, Path("../empty"))
    files = (a, Path("study.yaml"), tmp_path / "link" / "study.yaml")
    assert {place(cli, f, "--store", s).resolve().name for f in files for s in stores} == {"study"}


def test_a_study_that_is_moved_with_its_store_keeps_its_folder(cli: Cli, tmp_path: Path) -> None:
    a = pipeline(tmp_path / "project")
    Store(tmp_path / "project" / "artifacts", create=True)
    assert place(cli, a, "--store", a.parent / "artifacts").name == "study"
    moved = a.parent.rename(tmp_path / "moved")
    assert place(cli, moved / a.name, "--store", moved / "artifacts").name == "study"


def test_a_report_of_a_version_that_did_not_say_its_file_is_taken_over(cli: Cli, empty: Store, tmp_path: Path) -> None:
    a = pipeline(tmp_path / "a")
    mark = place(cli, a, "--store", empty.root) / ".made-of.json"
    known = json.loads(mark.read_text())
    del known["file"]
    mark.write_text(json.dumps(known))
    assert place(cli, pipeline(tmp_path / "b"), "--store", empty.root) == mark.parent
    assert (mark.parent / "report.html").read_text() == "of b"


def test_a_file_beside_a_shipped_one_of_its_name(cli: Cli, empty: Store, tmp_path: Path) -> None:
    shipped = place(cli, "digits.yaml", "--store", empty.root)
    assert shipped.name == "digits" and json.loads((shipped / ".made-of.json").read_text())["file"] == "shipped"
    assert place(cli, pipeline(tmp_path / "a", "digits.yaml"), "--store", empty.root).name.startswith("digits-")
