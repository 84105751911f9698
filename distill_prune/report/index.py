"""The page that lists the reports of a store, newest first: `<store>/reports/index.html`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from distill_prune.errors import system_error
from distill_prune.letters import printable
from distill_prune.plan.files import SHIPPED
from distill_prune.store.disk import no_links, replace_file
from distill_prune.store.studies import REPORTS, mark

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reports</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8886; }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>Reports of this store</h1>
<table>
<thead>
<tr><th scope="col">Study</th><th scope="col">Title</th><th scope="col">Pipeline</th><th scope="col">Written</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</body>
</html>
"""


def write_index(root: Path) -> Path:
    """Write the page anew; its path.

    Raises:
        UserError: it cannot be written.
        RunError: the disk is full or broken.
    """
    path = root / REPORTS / "index.html"
    no_links(root, path.parent)
    try:
        replace_file(path, _PAGE.format(rows="\n".join(_rows(path.parent))).encode())
    except OSError as problem:
        raise system_error(f"'{path}' cannot be written", problem, "another --store, or -o") from problem
    return path


def _rows(folder: Path) -> Iterator[str]:
    written = {page: page.stat().st_mtime for page in folder.glob("*/report.html") if page.is_file()}
    for page in sorted(written, key=lambda p: (-written[p], p)):
        known, name = mark(page.parent), page.parent.name
        file = known.get("file", "")
        file = f"{known.get('pipeline', name)}.yaml" if file == SHIPPED else file
        given = " ".join((file, *(f"--set {text}" for text in known.get("sets", []))))
        when = datetime.fromtimestamp(written[page]).astimezone()
        yield (
            f'<tr><td><a href="{quote(name.encode(errors="surrogateescape"))}/report.html">{_text(name)}</a></td>'
            f"<td>{_text(known.get('title', ''))}</td><td><code>{_text(given)}</code></td>"
            f'<td><time datetime="{when.isoformat(timespec="seconds")}">{when:%Y-%m-%d %H:%M}</time></td></tr>'
        )


def _text(text: str) -> str:
    return escape(printable(text))
