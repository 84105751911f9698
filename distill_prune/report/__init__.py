"""Tables, figures and one page: lays out what a study holds, computes nothing."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.errors import system_error
from distill_prune.settings import digest

if TYPE_CHECKING:
    from distill_prune.study.study import Study

__all__ = ["fingerprint", "write"]

TABLES = (
    "arms",
    "dense",
    "levels",
    "reach",
    "shares",
    "against",
    "scan",
    "onset",
    "paired",
    "transfer",
    "costs",
    "runs",
    "tickets",
    "training",
    "distillation",
    "interpolation",
    "layerwise",
    "between",
    "layers",
    "layer_traces",
    "landscape",
    "density",
    "eigenvalues",
    "diagonal",
    "evaluation",
    "ranking",
    "provenance",
    "missing",
)


def fingerprint(*made_of: object) -> str:
    """What a report is made of: the given values, and the code that lays it out and words it."""
    package = Path(__file__).parent.parent
    files = (p for room in ("analyze", "report", "study") for p in sorted((package / room).rglob("*")))
    sources = [p for p in files if p.is_file() and p.suffix != ".pyc"]
    code = [(str(p.relative_to(package)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in sources]
    return digest([list(made_of), code])


def write(study: Study, out: Path, pdf: bool = False) -> Path:
    """Write `out`/report.html, `out`/figures/ (PNG and SVG, and PDF where asked for) and `out`/tables/ (CSV and JSON);
    returns the page's path.

    Every file is written aside and renamed, the page last. Figures and tables of an earlier report that this study
    does not have are removed; other files in `out` are left alone.

    Raises:
        UserError: `out` cannot be written.
        RunError: the disk is full or broken.
    """
    from distill_prune.report.figures import LEADS, draw, figures_of
    from distill_prune.report.page import page
    from distill_prune.report.tables import tables, to_csv, to_json

    drawings, records = draw(study, pdf), tables(study)
    files: dict[str, bytes] = {}
    for name, drawing in drawings.items():
        files[f"figures/{name}.png"], files[f"figures/{name}.svg"] = drawing.png, _utf8(drawing.svg)
        if drawing.pdf:
            files[f"figures/{name}.pdf"] = drawing.pdf
    for name, table in records.items():
        files[f"tables/{name}.csv"], files[f"tables/{name}.json"] = _utf8(to_csv(table)), _utf8(to_json(table))
    html, pictures = page(study, drawings, records)
    files |= {f"figures/{name}.png": png for name, png in pictures.items()}
    files["report.html"] = _utf8(html)
    known = {f"figures/{n}.{e}" for n in (*figures_of(study), "synthetic") for e in ("png", "svg", "pdf")}
    known |= {f"figures/against_{n}.{e}" for n in LEADS for e in ("png", "svg", "pdf")}
    known |= {f"figures/{path.name}" for path in (out / "figures").glob("set_*.png")}
    known |= {f"tables/{n}.{e}" for n in TABLES for e in ("csv", "json")}
    try:
        _replace(files, known, out)
    except OSError as error:
        raise system_error(f"the report cannot be written to '{out}'", error, "another folder with -o") from error
    return out / "report.html"


def _utf8(text: str) -> bytes:
    """The bytes of a text. Names of files that are no UTF-8 stand in it as escapes."""
    return text.encode(errors="backslashreplace")


def _replace(files: dict[str, bytes], known: set[str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".report-") as aside:
        for name, content in files.items():
            path = Path(aside, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        # Nothing of the old report is touched before everything new lies on the disk.
        for name in files:
            (out / name).parent.mkdir(exist_ok=True)
            Path(aside, name).replace(out / name)
    for name in known - files.keys():
        (out / name).unlink(missing_ok=True)
