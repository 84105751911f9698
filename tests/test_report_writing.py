"""The report: how it is written and written again, and what happens when something is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import reference_report as reference
from reference_page import Page
from reference_report import NOTHING, bare, only, small
from reference_report_rich import rich

from distill_prune import report
from distill_prune.errors import RunError, UserError
from distill_prune.report import figures, formats, write
from distill_prune.report.page import page


def test_a_unit_without_its_ticket_is_left_out(tmp_path: Path) -> None:
    study = small(summary=None, curves=[], layers=[], distillation=None)
    for unit in study.units[1:]:
        del unit["sparsity"]
    write(study, tmp_path)
    assert (tmp_path / "figures" / "accuracy.svg").exists()
    assert len(list(csv.DictReader((tmp_path / "tables" / "runs.csv").open()))) == len(study.units)


def test_an_unfinished_study_says_so_and_draws_what_there_is(tmp_path: Path) -> None:
    missing = [{"stage": "compare", "label": f"curvature of seed {i}", "key": f"{i:064d}"} for i in range(2)]
    missing.append({"stage": "retrain", "label": "copy 1", "key": "f" * 64})
    study = small(summary=None, missing=missing, synthetic=None, synthetic_labels=[], evaluations=[], distillation=None)
    path = write(study, tmp_path)
    text = Page(path.read_text()).text
    assert "This study is not finished. 3 artifacts are missing ( 2 compare, 1 retrain )" in text.replace("(2", "( 2").replace(
        "retrain)", "retrain )"
    )
    assert text.index("not finished") < text.index("No answer yet") < text.rindex(" Accuracy against sparsity")
    assert "curvature of seed 1" in text
    assert "Not measured yet, or not asked for" in text
    assert (tmp_path / "figures" / "accuracy.png").exists() and not (tmp_path / "figures" / "costs.png").exists()


def test_an_empty_study_is_a_page_too(tmp_path: Path) -> None:
    page = Page(write(small(**NOTHING), tmp_path).read_text())
    assert "Not measured: accuracy --set compare.accuracy={} ; error barriers between copies" in page.text
    assert page.headings().count(2) == 3 and page.having("figure") == []
    assert not (tmp_path / "figures").exists()


def test_the_same_study_gives_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, ("accuracy", "landscape_copies_test_error"))
    pages = [write(rich(seeds=2, levels=2), tmp_path / side) for side in "ab"]
    written = [p for p in pages[0].parent.rglob("*") if p.is_file()]
    assert len(written) > 40
    for path in written:
        assert path.read_bytes() == (pages[1].parent / path.relative_to(pages[0].parent)).read_bytes(), path.name


def test_writing_again_removes_what_is_stale(tmp_path: Path) -> None:
    write(bare(), tmp_path)
    (tmp_path / "figures" / "mine.txt").write_text("kept")
    assert (tmp_path / "figures" / "distillation.svg").exists()
    write(bare(distillation=None), tmp_path)
    assert not (tmp_path / "figures" / "distillation.svg").exists()
    assert (tmp_path / "figures" / "mine.txt").read_text() == "kept"


def test_a_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(bare(), tmp_path).read_bytes()
    real, calls = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        calls.append(self)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"(?s)the report cannot be written to .*No space left.*make room on the disk"):
        write(bare(title="new"), tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_bytes() == old
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", "figures", "tables"}


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"the report cannot be written to .*out"):
        write(bare(), tmp_path / "out")


def test_a_report_is_made_again_when_a_part_of_the_page_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.copytree(Path(report.__file__).parent, tmp_path / "report", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(report, "__file__", str(room / "__init__.py"))
    first = report.fingerprint("a")
    assert first == report.fingerprint("a") != report.fingerprint("b")
    part = next((room / "parts").iterdir())
    part.write_text(part.read_text() + " ")
    assert report.fingerprint("a") != first


PROBE = """<script>
const table = document.getElementById("ticket-table"), heads = [...table.tHead.rows[0].cells], said = [];
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const at = heads.findIndex((head) => head.textContent === "Largest Hessian eigenvalue (nats)");
const column = () => shown().map((row) => row.cells[at].textContent).join(" ");
const by = (i) => heads[i].querySelector("button").click();
by(at); said.push(column(), heads[at].getAttribute("aria-sort"));
by(at); said.push(column(), heads[at].getAttribute("aria-sort"));
by(0); said.push(shown()[0].cells[0].textContent, heads[at].getAttribute("aria-sort"));
const tools = table.parentElement.previousElementSibling, text = tools.querySelector("input");
text.value = "BETA 10.0"; text.dispatchEvent(new Event("input"));
said.push(shown().length, tools.querySelector("output").textContent);
const box = document.querySelector(".legend input"), part = document.querySelector(`svg .${box.dataset.mark}`);
box.click(); said.push(box.hidden, part.style.display); box.click(); said.push(part.style.display);
const figure = part.closest("svg"), key = (name) => figure.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
key("ArrowRight"); said.push(document.querySelector(".tip").textContent);
key("Escape"); said.push(document.querySelector(".tip").hidden);
document.title = "PROBE" + JSON.stringify(said) + "END";
</script></body>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_tables_sort_and_filter_and_figures_tell_their_values(tmp_path: Path) -> None:
    tops = {("b", 0): 9.0, ("b", 1): 10.0, ("a", 0): None, ("a", 1): -1.5e-5}
    tickets = [
        {"arm": arm, "label": {"a": "alpha", "b": "Beta"}[arm], "seed": seed, "level": 1, "sparsity": 0.5, "key": "k" * 64}
        | {"top_eigenvalue": top, "k": "0it", "remaining": 10}
        for (arm, seed), top in tops.items()
    ]
    study = small(tickets=tickets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_render", reference.vector)
        only(patch, ("accuracy",))
        html = page(study, figures.draw(study))[0]
    (tmp_path / "page.html").write_text(html.replace("</body>", PROBE))
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    )
    done = subprocess.run(
        ["chromium", *flags, "--dump-dom", (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr
    found = re.search("<title>PROBE(.*?)END</title>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    first = study.summary["rows"][0]["accuracy"]
    assert json.loads(found.group(1)) == [
        *("−1.50 × 10⁻⁵ 9.00 10.0 –", "ascending"),
        *("10.0 9.00 −1.50 × 10⁻⁵ –", "descending"),
        *("alpha", "none"),
        *(1, "1 of 4 tickets"),
        *(False, "none", ""),
        f"Real-data IMP, 0% sparsity: {formats.said(first, 'percent')}",
        True,
    ]
