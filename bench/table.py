"""The table of performance: every row's sides in turn in one process, with their ratios, memory and share of the peak.

    python bench/table.py [--rows NAME ...] [--repeats 5] [--json docs/performance/NAME.json]

With `--json` the measurements are written row by row, and docs/performance.md is written anew from all files of its folder.
With `--resume` rows that the file has from the same commit are left as they are. `--tree CHECKOUT` measures another version
of the package, and `--quick` shows in seconds that the rows work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypedDict

import performance
from records import FAILED, RowRecord, TableRecord

HERE = Path(__file__).resolve()
NAMES = (
    *("copies", "levels", "digits_lanes", "epoch", "cifar10_compiled"),
    *("barrier_cifar", "barrier_digits", "gradient", "trace", "commands"),
)


class Asked(argparse.Namespace):
    rows: list[str]
    repeats: int
    device: str
    clock: str
    data: Path | None
    tree: Path
    label: str
    json: Path | None
    resume: bool
    markdown: bool
    quick: bool
    row: str | None
    side: str


class Measured(TypedDict):
    """What the process of one row prints."""

    row: RowRecord
    machine: dict[str, str | float]


def parsed(words: list[str] | None) -> Asked:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others use the machine, too")
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10 as train.npz and test.npz [default: made-up images]")
    parser.add_argument("--tree", type=Path, default=HERE.parents[1], help="the checkout whose package is measured")
    parser.add_argument("--label", default="", help="what the page calls this run [default: the file's name]")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--row", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args(words, Asked())


def measured(a: Asked, name: str) -> Measured:
    """One row, in this process; the memory of each side in one of its own."""
    from measure import Scene, machine, measure
    from ratios import row

    around = machine(a.device)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        ready = row(name, Scene(Path(scratch), a.device, a.quick, a.data))
        done = measure(ready, a.repeats, device=a.device, clock=a.clock, quick=a.quick)
    for side in done["sides"] if ready.memory else ():
        alone = [in_a_process(a, name, side["name"]) for _ in range(a.repeats)]
        side["mb"] = [float(mb) for mb in alone if mb is not None]
    return {"row": done, "machine": around}


def memory(a: Asked, name: str, side: str) -> float:
    """MiB of one side of a row, in this process. A small run goes before it, or a whole one where no small one has the side."""
    from measure import Scene, peak_mb
    from ratios import row

    from distill_prune.run.worker import keep_pages

    keep_pages()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        scenes = [Scene(Path(scratch), a.device, quick, a.data) for quick in (True, a.quick)]
        small, whole = ({s.name: s.run for s in row(name, scene).sides} for scene in scenes)
        small.get(side, whole[side])()
        return peak_mb(whole[side], a.device)


def in_a_process(a: Asked, name: str, side: str = "") -> str | None:
    """What a process of its own prints of a row, or of the memory of its side, with the package of the asked checkout; None
    where it fails, which is shown."""
    words = [str(HERE), "--row", name, "--side", side, "--repeats", str(a.repeats), "--device", a.device, "--clock", a.clock]
    words += ["--tree", str(a.tree.resolve()), *(["--quick"] if a.quick else []), *(["--data", str(a.data)] if a.data else [])]
    environment = {**os.environ, "PYTHONPATH": str(a.tree.resolve())}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.splitlines()[-1] if done.returncode == 0 else None


def commit(tree: Path) -> str:
    """The commit of a checkout, with a plus sign where its code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "-uno", "distill_prune", "pipelines", "bench")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def begun(a: Asked, at: str) -> TableRecord | None:
    """The record that the file has from this commit, where it is to go on."""
    if not (a.resume and a.json and a.json.exists()):
        return None
    record: TableRecord = json.loads(a.json.read_text(encoding="utf-8"))
    return record if record["commit"] == at else None


def measure_rows(a: Asked) -> tuple[TableRecord | None, list[str]]:
    """The rows that are asked for, written to the file as they end, and the names of those that failed."""
    at = commit(a.tree)
    record, failed = begun(a, at), list[str]()
    for name in a.rows:
        if record and name in record["rows"]:
            continue
        print(name, file=sys.stderr, flush=True)
        printed = in_a_process(a, name)
        if printed is None:
            failed.append(name)
            continue
        measurement: Measured = json.loads(printed)
        if record is None:
            record = {
                "label": a.label or (a.json.stem if a.json else at),
                "commit": at,
                "machine": measurement["machine"],
                "device": a.device,
                "clock": a.clock,
                "repeats": a.repeats,
                "rows": {},
            }
        record["rows"][name] = measurement["row"]
        failed += [f"{name} ({side})" for side, why in measurement["row"]["absent"].items() if why.startswith(FAILED)]
        if a.json:
            a.json.parent.mkdir(parents=True, exist_ok=True)
            a.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record, failed


def main(words: list[str] | None = None) -> None:
    a = parsed(words)
    if a.row:
        print(memory(a, a.row, a.side) if a.side else json.dumps(measured(a, a.row)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)  # what one process has compiled, the next one need not
        record, failed = measure_rows(a)
    if record:
        lines = performance.rows(record)
        print(performance.markdown(lines) if a.markdown else performance.columns(lines))
        print(performance.conditions(record))
    if a.json and a.json.resolve().parent == performance.TABLES:
        performance.main()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
