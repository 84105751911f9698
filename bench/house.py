"""The house: draw its rooms from their import statements, and count what makes code hard to read.

    python bench/house.py draw                            writes docs/architecture.svg
    python bench/house.py counts [--tree DIR]...          one column for each tree [default: this one]

A room is a folder or a module of `distill_prune/`. It stands on the lowest floor that is above everything that it imports.
An arrow points to what is imported; an arrow that follows from two others is left out.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "architecture.svg"
DOORS = {"__init__", "__main__"}
"""Modules of the package that are no rooms: the public names, imported on use, and `python -m`."""

Arrows = dict[str, set[str]]


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(package: Path) -> Arrows:
    """Every room, and the rooms that its import statements name."""
    paths = sorted(package.rglob("*.py"))
    arrows: Arrows = {room_of(p, package): set() for p in paths}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            parts = [n.split(".") for n in names]
            arrows[room_of(path, package)] |= {p[1] for p in parts if p[0] == package.name and len(p) > 1}
    rooms = arrows.keys() - DOORS
    return {name: arrows[name] & rooms - {name} for name in sorted(rooms)}


def below(arrows: Arrows, name: str) -> set[str]:
    """Every room that `name` reaches."""
    return arrows[name].union(*(below(arrows, n) for n in arrows[name]))


def direct(arrows: Arrows) -> Arrows:
    """The arrows that do not follow from two others."""
    return {name: used - set().union(*(below(arrows, n) for n in used)) for name, used in arrows.items()}


def floors(arrows: Arrows) -> dict[str, int]:
    """0 for rooms that import none, else one above the highest room that is imported."""
    heights: dict[str, int] = {}
    while len(heights) < len(arrows):
        ready = [n for n, used in arrows.items() if n not in heights and used <= heights.keys()]
        if not ready:
            raise SystemExit(f"imports form a circle: {', '.join(sorted(arrows.keys() - heights.keys()))}")
        heights |= {n: max((heights[used] for used in arrows[n]), default=-1) + 1 for n in ready}
    return heights


# the drawing: boxes in layers; an arrow over several floors passes those between at places of its own (Sugiyama et al., 1981)

Place = tuple[str, ...]
"""A room (name,), or where the arrow of two rooms passes a floor (from, to, floor)."""
Rows = list[list[Place]]
"""Places from the ground up, each floor from left to right."""
Steps = list[tuple[Place, Place]]
"""(upper, lower) places of neighbouring floors that one arrow joins."""

CHARACTER, PADDING, HEIGHT, GAP, RISE, MARGIN = 8.0, 24, 28, 18, 66, 16
"""Pixels: a character, what a box adds to its name, a box's height, between boxes, between floors, round the drawing."""
STYLE = (
    "text{font:14px ui-monospace,Menlo,Consolas,monospace;text-anchor:middle;fill:#1b1f24}rect{stroke:#57606a}"
    "path{fill:none;stroke:#8c959f;stroke-width:1.2}.store{fill:#fff1d6}.folder{fill:#ddeeff}.module{fill:#f3f4f6}"
)


def places(arrows: Arrows) -> tuple[Rows, list[list[Place]]]:
    """The rooms and passages of every floor, and the places of every arrow from its top to its bottom."""
    heights = floors(arrows)
    rows: Rows = [[(n,) for n in arrows if heights[n] == h] for h in range(max(heights.values()) + 1)]
    chains: list[list[Place]] = []
    for upper, used in direct(arrows).items():
        for lower in sorted(used):
            passages: list[Place] = [(upper, lower, str(h)) for h in range(heights[upper] - 1, heights[lower], -1)]
            chains.append([(upper,), *passages, (lower,)])
            for place in passages:
                rows[int(place[2])].append(place)
    return rows, chains


def joined(steps: Steps) -> dict[Place, list[Place]]:
    """The places that each place is joined to."""
    neighbours: dict[Place, list[Place]] = {}
    for upper, lower in steps:
        neighbours.setdefault(upper, []).append(lower)
        neighbours.setdefault(lower, []).append(upper)
    return neighbours


def mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def crossings(rows: Rows, steps: Steps) -> int:
    """Pairs of steps between the same floors that cross."""
    at = {place: (h, i) for h, row in enumerate(rows) for i, place in enumerate(row)}
    ends = [(*at[upper], at[lower][1]) for upper, lower in steps]
    return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for i, a in enumerate(ends) for b in ends[:i])


def ordered(rows: Rows, steps: Steps) -> Rows:
    """The rows with few crossings: every place near the mean of those it is joined to, then neighbours exchanged."""
    neighbours = joined(steps)
    best = rows
    for sweep in range(24):
        rows, above = [list(row) for row in rows], sweep % 2
        floor = {place: h for h, row in enumerate(rows) for place in row}
        for h in range(len(rows))[:: -1 if above else 1]:
            at = {place: (i + 0.5) / len(row) for row in rows for i, place in enumerate(row)}
            one_side = {p: [at[n] for n in neighbours.get(p, ()) if (floor[n] > h) == above] for p in rows[h]}
            centres = {p: (mean(values, at[p]), p) for p, values in one_side.items()}
            rows[h].sort(key=centres.__getitem__)
        best = min(best, rows, key=lambda r: crossings(r, steps))
    fewest = crossings(best, steps)
    for _ in range(8):
        for row in best:
            for i in range(len(row) - 1):
                row[i], row[i + 1] = row[i + 1], row[i]
                if (count := crossings(best, steps)) < fewest:
                    fewest = count
                else:
                    row[i], row[i + 1] = row[i + 1], row[i]
    return best


def width(place: Place) -> float:
    return len(place[0]) * CHARACTER + PADDING if len(place) == 1 else 0


def spread(row: list[Place], wanted: Mapping[Place, float]) -> dict[Place, float]:
    """The centres nearest to those wanted, in squares, at which the row's places keep their order and the gap between them."""
    offset, offsets = 0.0, []
    for i, place in enumerate(row):
        offset += (width(row[i - 1]) + width(place)) / 2 + GAP if i else 0
        offsets.append(offset)
    blocks: list[list[float]] = []  # pooled adjacent violators: (sum, count) of wanted less offset
    for place, shift in zip(row, offsets, strict=True):
        blocks.append([wanted[place] - shift, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    starts = [total / count for total, count in blocks for _ in range(int(count))]
    return {place: start + shift for place, start, shift in zip(row, starts, offsets, strict=True)}


def centres(rows: Rows, steps: Steps) -> dict[Place, float]:
    """Where each place stands, in pixels from the left margin: near the mean of those it is joined to."""
    neighbours = joined(steps)
    x = {place: 100.0 * i for row in rows for i, place in enumerate(row)}
    for sweep in range(60):
        for row in rows[:: 1 if sweep % 2 else -1]:
            x |= spread(row, {p: mean([x[n] for n in neighbours.get(p, ())], x[p]) for p in row})
    left = min(at - width(place) / 2 for place, at in x.items())
    return {place: at - left for place, at in x.items()}


def ports(steps: Steps, x: Mapping[Place, float]) -> tuple[dict[tuple[Place, Place], float], ...]:
    """Where each step leaves its upper place and meets its lower one: spread over half of the box."""
    sides: tuple[dict[tuple[Place, Place], float], ...] = ({}, {})
    for end, side in enumerate(sides):
        for place in {step[end] for step in steps}:
            there = sorted((s for s in steps if s[end] == place), key=lambda s: (x[s[1 - end]], s))
            room = width(place) / 2 / len(there)
            side |= {step: x[place] + room * (i - (len(there) - 1) / 2) for i, step in enumerate(there)}
    return sides


def drawing(package: Path) -> str:
    """The house as SVG: a box for each room, on its floor, and an arrow to each room that it imports directly."""
    arrows = imports(package)
    rows, chains = places(arrows)
    steps = [step for chain in chains for step in pairwise(chain)]
    rows = ordered(rows, steps)
    x = centres(rows, steps)
    leaves, meets = ports(steps, x)
    top = {place: (len(rows) - 1 - h) * RISE for h, row in enumerate(rows) for place in row}
    across = round(max(at + width(p) / 2 for p, at in x.items())) + 2 * MARGIN
    down = (len(rows) - 1) * RISE + HEIGHT + 2 * MARGIN
    paper = f'x="{-MARGIN}" y="{-MARGIN}" width="{across}" height="{down}"'
    size = f'viewBox="{-MARGIN} {-MARGIN} {across} {down}" width="{across}" height="{down}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        "<title>The rooms of distill_prune and what they import</title>",
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L6 3L0 6z" style="fill:#8c959f;stroke:none"/></marker>',
        f'<rect {paper} style="fill:#fff;stroke:none"/>',
    ]
    for chain in chains:
        curve = ""
        for upper, lower in pairwise(chain):
            a, b, begin, end = leaves[upper, lower], meets[upper, lower], top[upper] + HEIGHT, top[lower]
            middle = (begin + end) // 2
            curve += f"{'L' if curve else 'M'}{a:.0f} {begin}C{a:.0f} {middle} {b:.0f} {middle} {b:.0f} {end}"
        lines.append(f'<path d="{curve}" marker-end="url(#tip)"/>')
    for name in arrows:
        at, y, box = x[name,], top[name,], f'width="{width((name,)):.0f}" height="{HEIGHT}" rx="4"'
        left = at - width((name,)) / 2
        lines.append(f'<rect class="{kind(package, arrows, name)}" x="{left:.0f}" y="{y}" {box}/>')
        lines.append(f'<text x="{at:.0f}" y="{y + 19}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def kind(package: Path, arrows: Arrows, name: str) -> str:
    """The colour of a room: what reaches the store, other folders, other modules."""
    if name == "store" or "store" in below(arrows, name):
        return "store"
    return "folder" if (package / name).is_dir() else "module"


# counts

WORDS = ("found", "held", "own", "made", "said", "told")
LINES = {
    "`dict[str, Any]`": r"dict\[str, Any\]",
    "`getattr(`": r"getattr\(",
    "`assert` statements": r"^\s*assert ",
    "slices `[:-2]`, `[-2:]`": r"\[:-2\]|\[-2:\]",
}
"""What is counted by lines: a name, and the pattern that a line has."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def takes_any(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether an annotation of a parameter or of the result has `Any` in it."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    annotations = [a for a in (*(p.annotation for p in parameters), function.returns) if a]
    return any(isinstance(n, ast.Name) and n.id == "Any" for a in annotations for n in ast.walk(a))


def counts(package: Path) -> dict[str, str]:
    """What is counted of the package's modules, by its name."""
    texts = {str(p.relative_to(package)): p.read_text(encoding="utf-8") for p in sorted(package.rglob("*.py"))}
    lines = [line for text in texts.values() for line in text.splitlines()]
    defined = [(f, name) for name, text in texts.items() for f in functions(ast.parse(text))]
    longest = max(defined, key=lambda d: (d[0].end_lineno or 0) - d[0].lineno)
    file = max(texts, key=lambda name: len(texts[name].splitlines()))
    numbers = {
        "lines": len(lines),
        "files": len(texts),
        **{what: sum(bool(re.search(pattern, line)) for line in lines) for what, pattern in LINES.items()},
        '`"barrier_test"`, modules': sum('"barrier_test"' in text for text in texts.values()),
        "functions with `Any`": sum(takes_any(f) for f, _ in defined),
        **{f"the word {word}": sum(len(re.findall(rf"\b{word}\b", text)) for text in texts.values()) for word in WORDS},
    }
    return {what: f"{n:,}" for what, n in numbers.items()} | {
        "longest function": f"{(longest[0].end_lineno or 0) - longest[0].lineno + 1} ({longest[1]}: {longest[0].name})",
        "longest file": f"{len(texts[file].splitlines())} ({file})",
    }


def table(trees: list[Path]) -> str:
    """A row for each count, a column for each tree."""
    columns = [counts(tree / "distill_prune") for tree in trees]
    rows = [["", *(tree.name for tree in trees)], ["---", *["---:"] * len(trees)]]
    rows += [[what, *(column[what] for column in columns)] for what in columns[0]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("draw", "counts"))
    parser.add_argument("--tree", type=Path, action="append", help="a folder that holds distill_prune/")
    asked = parser.parse_args()
    trees = [tree.resolve() for tree in asked.tree or [ROOT]]
    if asked.what == "counts":
        print(table(trees))
        return
    DRAWING.write_text(drawing(trees[0] / "distill_prune"), encoding="utf-8")
    print(DRAWING)


if __name__ == "__main__":
    main()
