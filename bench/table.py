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
from records import RowRecord, TableRecord

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


class Measured(TypedDict):
    """What the process of one row prints."""

    row: RowRecord
    machine: dict[str, str | int | float]
    commit: str


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
    return parser.parse_args(words, Asked())


def measured(a: Asked, name: str) -> Measured:
    """One row, in this process."""
    from measure import Scene, commit, machine, measure
    from ratios import row

    around = machine(a.device)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        ready = row(name, Scene(Path(scratch), a.device, a.quick, a.data))
        done = measure(ready, a.repeats, device=a.device, clock=a.clock, quick=a.quick)
    return {"row": done, "machine": around, "commit": commit(a.tree)}


def in_a_process(a: Asked, name: str) -> Measured | None:
    """One row in a process of its own, with the package of the asked checkout; None where it fails, which is shown."""
    words = [str(HERE), "--row", name, "--repeats", str(a.repeats), "--device", a.device, "--clock", a.clock]
    words += ["--tree", str(a.tree.resolve()), *(["--quick"] if a.quick else []), *(["--data", str(a.data)] if a.data else [])]
    environment = {**os.environ, "PYTHONPATH": str(a.tree.resolve())}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def begun(a: Asked) -> TableRecord | None:
    """The record that the file has, where it is to go on."""
    if not (a.resume and a.json and a.json.exists()):
        return None
    record: TableRecord = json.loads(a.json.read_text(encoding="utf-8"))
    return record


def main(words: list[str] | None = None) -> None:
    a = parsed(words)
    if a.row:
        print(json.dumps(measured(a, a.row)))
        return
    record, failed = begun(a), list[str]()
    for name in a.rows:
        if record and name in record["rows"]:
            continue
        print(name, file=sys.stderr, flush=True)
        found = in_a_process(a, name)
        if found is None:
            failed.append(name)
            continue
        if record is None or record["commit"] != found["commit"]:
            label = a.label or (a.json.stem if a.json else found["commit"])
            record = {
                "label": label,
                "commit": found["commit"],
                "machine": found["machine"],
                "device": a.device,
                "clock": a.clock,
                "repeats": a.repeats,
                "rows": {},
            }
        record["rows"][name] = found["row"]
        if a.json:
            a.json.parent.mkdir(parents=True, exist_ok=True)
            a.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
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
