"""Commands that look at runs from another terminal."""

from __future__ import annotations

import json as json_
import time
from typing import TYPE_CHECKING

from distill_prune.cli.columns import fitted
from distill_prune.cli.options import AsJson, StoreDir, app, open_store
from distill_prune.letters import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from distill_prune.run.status import Seen
    from distill_prune.store.store import Store

EVERY_SECONDS = 1.0
LINE_SECONDS = 10.0
"""Between two lines of `watch` in a pipe."""


@app.command()
def status(folder: StoreDir = None, json: AsJson = False) -> None:
    """Say which runs are at work on the store, how far they are and what they are making; and how the last ones ended.

    Example:  distill-prune status
    """
    from distill_prune.run.status import runs

    store = open_store(folder)
    seen = runs(store)
    if json:
        print(json_.dumps({"runs": [_record(run) for run in seen]}))
        return
    for run in seen:
        print("\n".join(part for line in _lines(run) for part in fitted(line)))
    if not seen:
        print(f"no runs on {store.root}")


@app.command()
def watch(folder: StoreDir = None) -> None:
    """Show the runs that are at work on the store until they end; Ctrl-C leaves, and the runs go on.

    Example:  distill-prune watch --store artifacts
    """
    from distill_prune.interrupts import Interrupted, Left
    from distill_prune.run.status import runs
    from distill_prune.terminal.watchers import is_moving

    store = open_store(folder)
    first = [run for run in runs(store) if run.at_work]
    if not first:
        print(f"no runs at work on {store.root}")
        return
    try:
        (_redraw if is_moving() else _report)(store, {run.id for run in first})
    except Interrupted:
        raise Left from None
    for run in runs(store):
        if run.id in {begun.id for begun in first}:
            print("\n".join(fitted(_headline(run))))


def _redraw(store: Store, ids: set[str]) -> None:
    """Show the runs again and again in their place, until they have ended."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from distill_prune.run.status import runs
    from distill_prune.terminal.bars import rows

    console = Console(stderr=True)  # what moves goes there: an answer on stdout cannot act on the terminal

    def shown() -> Group:
        parts: list[RenderableType] = []
        for run in seen:
            parts.append(Text(_title(run), style="bold", no_wrap=True, overflow="ellipsis"))
            if run.status is not None:
                parts.append(rows(run.status, time.time(), console.width))
        return Group(*parts)

    seen = runs(store)
    with Live(get_renderable=shown, console=console, transient=True, auto_refresh=False) as live:
        while seen := [run for run in runs(store) if run.at_work or run.id in ids]:
            live.refresh()
            if not any(run.at_work for run in seen):
                return
            time.sleep(EVERY_SECONDS)


def _report(store: Store, ids: set[str]) -> None:
    """A line a run now and then, until they have ended."""
    from distill_prune.run.status import runs

    due = 0.0
    while seen := [run for run in runs(store) if run.at_work and run.id in ids]:
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_SECONDS
            for run in seen:
                print(f"{time.strftime('%H:%M:%S')} {_headline(run)}", flush=True)
        time.sleep(EVERY_SECONDS)


def _title(run: Seen) -> str:
    """Which run it is, and whether it is at work."""
    if run.status is None:
        return f"{printable(run.id)}: its state cannot be read ({printable(run.problem)})"
    about = run.status
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about.began))
    since = f"running since {began}" if about.state == "running" else f"{about.state}, begun {began}"
    return f"{printable(about.pipeline) or 'study'}: {since}"


def _headline(run: Seen) -> str:
    from distill_prune.terminal.bars import summary

    if run.status is None:
        return _title(run)
    about = run.status
    return f"{_title(run)}, {printable(about.host)} process {about.pid}: {summary(about, time.time())}"


def _lines(run: Seen) -> list[str]:
    """A run as plain lines."""
    from distill_prune.terminal.bars import count, name

    bars = run.status.at_work if run.status is not None else []
    return [_headline(run), *(f"  {name(bar)}  {count(bar)}  {printable(bar.note)}".rstrip() for bar in bars)]


def _record(run: Seen) -> dict[str, object]:
    if run.status is None:
        return {"id": run.id, "problem": run.problem}
    return {"id": run.id, **run.status.model_dump()}
