"""docs/performance.md: the tables of what was measured, and what shipped studies take.

    python bench/performance.py

The records are docs/performance/*.json (table.py) and docs/results/*.json (results.py). What stands between the markers of
the page is written anew; the rest stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from records import RowRecord, SideRecord, Spread, TableRecord, memory_ratio, plain, ratio, share_of_peak, spread

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, TABLES, RESULTS = DOCS / "performance.md", DOCS / "performance", DOCS / "results"
PIPELINES = DOCS.parent / "pipelines"


class StudyRecord(TypedDict, total=False):
    """What a record of results.py says of the costs of a study."""

    pipeline: str
    devices: list[str]
    versions: dict[str, str]
    core_seconds_total: float
    peak_mb: float
    disk_mb: float


def number(value: float) -> str:
    """About three digits."""
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def with_spread(values: Spread) -> str:
    return f"{number(values.middle)} [{number(values.low)}, {number(values.high)}]"


def cells(row: RowRecord, side: SideRecord) -> list[str]:
    """Seconds, ratio, goal, share of the peak, and memory of one side."""
    times, share, memory = ratio(row, side), share_of_peak(row, side), memory_ratio(row, side)
    goal = "" if side["goal"] is None else number(side["goal"]) + ("" if plain(row) else " s")
    mb = f"{spread(side['mb']).middle:.0f}" if side["mb"] else ""
    if memory is not None:
        mb += f" ({number(memory)}" + (f", goal {number(side['memory_goal'])})" if side["memory_goal"] else ")")
    return [
        side["name"],
        with_spread(spread(side["seconds"])),
        with_spread(times) if times else "1" if side["plain"] else "",
        goal,
        "" if share is None else f"{100 * share:.0f}%",
        mb,
    ]


HEAD = ["work", "side", "seconds", "ratio", "goal", "share of peak", "MiB (ratio)"]


def rows(record: TableRecord) -> list[list[str]]:
    """The table of one run, with its head: a line a side, the work in the first of a row."""
    lines = [HEAD]
    for row in record["rows"].values():
        sides = [cells(row, s) for s in row["sides"]]
        sides += [[side, f"not measured: {why}", "", "", "", ""] for side, why in row["absent"].items()]
        lines += [[row["work"] if index == 0 else "", *side] for index, side in enumerate(sides)]
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body]) + "\n"


def columns(lines: Sequence[Sequence[str]]) -> str:
    """The table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines) + "\n"


def conditions(record: TableRecord) -> str:
    """Where, when and how a table was measured, in two sentences."""
    m, peaks = record["machine"], dict[int, list[float]]()
    for row in record["rows"].values():
        peaks.setdefault(row["threads"], []).append(row["peak_gflops"])
    where = m.get("gpu") or f"{m['processor']}, {m['cores']} cores, {m['instructions']}"
    speeds = [
        f"{min(seen):.0f} to {max(seen):.0f} GFLOP/s with {threads} thread{'s' * (threads > 1)}"
        for threads, seen in sorted(peaks.items())
    ]
    return (
        f"{where}, {m['memory_gib']} GiB, torch {m['torch']}, commit {record['commit']}, {str(m['date'])[:10]}; "
        f"{record['repeats']} rounds, {record['clock']} time, load {m['load']} before. "
        f"Products of float32 matrices: {', '.join(speeds)}."
    )


def side_by_side(records: Sequence[TableRecord]) -> str:
    """The ratios of several runs of the table, a column each."""
    lines = [["work", "side", "goal", *(r["label"] for r in records)]]
    for name in dict.fromkeys(name for r in records for name in r["rows"]):
        measured = [r["rows"].get(name) for r in records]
        there = [row for row in measured if row is not None]
        sides = {s["name"]: (row, s) for row in there for s in row["sides"] if not s["plain"]}
        for index, (side, (row, latest)) in enumerate(sides.items()):
            each = [one(row, side) for row in measured]
            lines.append([there[0]["work"] if index == 0 else "", side, cells(row, latest)[3], *each])
    return markdown(lines)


def one(row: RowRecord | None, name: str) -> str:
    """A side's ratio, or its seconds where the row has no plain side; a dash where it was not measured."""
    side = next((s for s in row["sides"] if s["name"] == name), None) if row else None
    if row is None or side is None:
        return "–"
    times = ratio(row, side)
    return with_spread(times) if times else f"{with_spread(spread(side['seconds']))} s"


def table_section(records: Sequence[TableRecord]) -> str:
    if not records:
        return "Not yet run: `python bench/table.py --json docs/performance/NAME.json`.\n"
    parts = [side_by_side(records)] if len(records) > 1 else []
    for record in records:
        parts += [f"### {record['label']}\n", f"{conditions(record)}\n", markdown(rows(record))]
    return "\n".join(parts)


def studies_section(records: Sequence[StudyRecord]) -> str:
    """What every shipped study took on the hardware that it was run on."""
    lines = [["study", "hardware", "time", "memory of a worker", "disk"]]
    for path in sorted(PIPELINES.glob("*.yaml")):
        runs: dict[str, list[StudyRecord]] = {}
        for record in records:
            if record["pipeline"] == path.stem:
                runs.setdefault(hardware(record), []).append(record)
        lines += [[path.name, where, *cost(some)] for where, some in runs.items()] or [[path.name, "", "not yet run", "", ""]]
    return markdown(lines)


def hardware(record: StudyRecord) -> str:
    return f"{', '.join(record['devices'])}, torch {record['versions']['torch']}"


def cost(runs: Sequence[StudyRecord]) -> list[str]:
    """Time, memory and disk of one run, or of the dearest of several."""
    minutes, disk = max(r["core_seconds_total"] for r in runs) / 60, [r["disk_mb"] for r in runs if "disk_mb" in r]
    unit = "core" if all(d.startswith("cpu") for r in runs for d in r["devices"]) else "worker"
    time = f"{minutes:.0f} {unit}-minutes" if minutes < 120 else f"{minutes / 60:.1f} {unit}-hours"
    return [
        time + (f", the longest of {len(runs)} runs" if len(runs) > 1 else ""),
        f"{max(r['peak_mb'] for r in runs) / 1024:.1f} GiB",
        f"{max(disk):.0f} MiB" if disk else "not recorded",
    ]


def tables() -> list[TableRecord]:
    """The runs of the table, earliest first."""
    read: list[TableRecord] = [json.loads(p.read_text(encoding="utf-8")) for p in TABLES.glob("*.json")]
    return sorted(read, key=lambda record: str(record["machine"]["date"]))


def studies() -> list[StudyRecord]:
    """The finished studies, but for those that were run with settings of their own (gpu.sh)."""
    paths = sorted([*RESULTS.glob("*.json"), *RESULTS.glob("maps/*.json")])
    paths = [p for p in paths if not p.stem.endswith("-part")]
    return [json.loads(p.read_text(encoding="utf-8")) for p in paths]


def renewed(text: str, name: str, program: str, section: str) -> str:
    """A page whose text between the markers of `name`, which the program writes, is the section."""
    begin, end = f"<!-- {name}: bench/{program} -->\n", f"<!-- end of {name} -->"
    text, count = re.subn(f"(?s)({re.escape(begin)}).*?({end})", lambda m: f"{m[1]}\n{section}\n{m[2]}", text)
    if count != 1:
        raise SystemExit(f"the page of bench/{program} has {count} places for the {name}, not one")
    return text


def page(text: str) -> str:
    """The page with the text between its markers written anew."""
    for name, section in (("table", table_section(tables())), ("studies", studies_section(studies()))):
        text = renewed(text, name, "performance.py", section)
    return text


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
