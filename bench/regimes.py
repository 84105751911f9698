"""Where the papers' order may hold, by a map of few initialisations, and which of its cells a study with others should confirm.

    python bench/regimes.py PIPELINE --store DIR [--cells 3]     PIPELINE: a finished sweep with the arms `real` and `synthetic`

The papers' order is that synthetic tickets are more stable than the dense network and than real tickets:

    margin of a cell at a level = min(dense, real) - synthetic,   mean test barriers over the cell's initialisations

A cell is a candidate where its largest margin over the levels is positive and its dense networks are unstable (a barrier of 2
points or more), for else there is no instability to lose. The candidates of largest margin are confirmed by other seeds.
Nothing is claimed of the map itself: of many cells the best is best by chance, too.

Writes docs/results/maps/PIPELINE.json and .csv; results.py makes the page docs/results/PIPELINE.md of it. Prints the
candidates, one a line, as `--set`s of a command.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from spent import Spent, spent

from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import Summary, estimate_of
from distill_prune.plan.nodes import Graph
from distill_prune.plan.sweep import Cells, build_cells, load_cells
from distill_prune.run import measured
from distill_prune.store.store import Store

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
UNSTABLE = 0.02
"""The test barrier from which on a network is unstable."""


class CellLevel(TypedDict):
    """One cell at one level: mean test barriers and accuracies, fractions; `n` initialisations. `sets` are the values that make
    the cell, as `--set` takes them."""

    cell: str
    sets: list[str]
    sparsity: float
    n: int
    dense_barrier: float
    real_barrier: float
    synthetic_barrier: float
    dense_accuracy: float
    real_accuracy: float
    synthetic_accuracy: float


def margin(line: CellLevel) -> float:
    """How much more stable synthetic tickets are than the stabler of the others; negative where they are not."""
    return min(line["dense_barrier"], line["real_barrier"]) - line["synthetic_barrier"]


def _mean(row: Mapping[str, object], name: str) -> float:
    estimate = estimate_of(row, name)
    if estimate is None:
        raise SystemExit(f"a row of the map has no {name}")
    return estimate["mean"]


def cell_levels(cells: Cells, graph: Graph, store: Store) -> list[CellLevel]:
    """Every cell of a finished sweep at every compared level."""
    lines = list[CellLevel]()
    for cell in cells.each:
        summary = cast("Summary", measured.numbers(store, "compare", graph.cells[cell.name].summary))
        rows = {(row["arm"], row["level"]): row for row in summary["rows"]}
        for level in sorted({level for _, level in rows} - {0}):
            real, synthetic, dense = rows["real", level], rows["synthetic", level], summary["dense"]
            lines.append(
                {
                    "cell": cell.name,
                    "sets": cell.assignments,
                    "sparsity": real["sparsity"],
                    "n": real["n"],
                    "dense_barrier": _mean(dense, BARRIER),
                    "real_barrier": _mean(real, BARRIER),
                    "synthetic_barrier": _mean(synthetic, BARRIER),
                    "dense_accuracy": _mean(dense, ACCURACY),
                    "real_accuracy": _mean(real, ACCURACY),
                    "synthetic_accuracy": _mean(synthetic, ACCURACY),
                }
            )
    return lines


def candidates(lines: Sequence[CellLevel], most: int) -> list[CellLevel]:
    """The best level of each candidate cell, the largest margin first."""
    best: dict[str, CellLevel] = {}
    for line in lines:
        if line["cell"] not in best or margin(line) > margin(best[line["cell"]]):
            best[line["cell"]] = line
    unstable = [line for line in best.values() if line["dense_barrier"] >= UNSTABLE and margin(line) > 0]
    return sorted(unstable, key=margin, reverse=True)[:most]


def table(lines: Sequence[CellLevel]) -> list[str]:
    """As Markdown, barriers in points."""
    head = "| cell | sparsity % | n | dense | real | synthetic | margin | accuracy %: dense, real, synthetic |"
    return [
        head,
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {x['cell']} | {100 * x['sparsity']:.1f} | {x['n']} | {100 * x['dense_barrier']:.1f} | "
            f"{100 * x['real_barrier']:.1f} | {100 * x['synthetic_barrier']:.1f} | {100 * margin(x):+.1f} | "
            f"{100 * x['dense_accuracy']:.1f}, {100 * x['real_accuracy']:.1f}, {100 * x['synthetic_accuracy']:.1f} |"
            for x in lines
        ),
    ]


PAGE = """# {title}

```sh
distill-prune run {name}.yaml
```

Hardware: {hardware}, {minutes:.0f} core-minutes, peak {peak:.1f} GB a worker.

The papers' order is that synthetic tickets are more stable than the dense network and than real tickets. The margin is the
smaller of the two differences of mean test barriers, in points: positive where the means have that order. Nothing is claimed
of this map: it has few initialisations, and of many cells the best is best by chance, too. It names the cells that a study
with other seeds confirms or does not.

The means have the order at {holds} of {count} cells and sparsities; where the dense network is unstable (a barrier of 2 points
or more), at {of_unstable} of {unstable}.

## The cells to confirm

By a rule that was written before the map was made: the dense network is unstable, and the largest margin over the sparsities is
positive; of these cells those with the {most} largest margins.

{candidates}

## All cells

{all}
"""


class Record(Spent):
    """A map, the candidates in it, and what it took."""

    pipeline: str
    title: str
    lines: list[CellLevel]
    candidates: list[CellLevel]


def page(record: Record) -> str:
    """The map as Markdown."""
    lines = record["lines"]
    unstable = [line for line in lines if line["dense_barrier"] >= UNSTABLE]
    return PAGE.format(
        name=record["pipeline"],
        hardware=", ".join([*record["devices"], f"torch {record['versions']['torch']}"]),
        minutes=record["core_seconds_total"] / 60,
        peak=record["peak_mb"] / 1000,
        title=record["title"],
        most=len(record["candidates"]),
        count=len(lines),
        holds=sum(margin(line) > 0 for line in lines),
        unstable=len(unstable),
        of_unstable=sum(margin(line) > 0 for line in unstable),
        candidates="\n".join(table(record["candidates"])),
        all="\n".join(table(sorted(lines, key=margin, reverse=True))),
    )


def values(line: CellLevel) -> list[str]:
    """What sets a study to a cell; its control has as many images as the distilled set."""
    ipc, of_subset = "distill.synthetic.ipc=", "distill.subset.ipc="
    return [*line["sets"], *(v.replace(ipc, of_subset) for v in line["sets"] if v.startswith(ipc))]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--store", required=True, help="the store of the finished sweep")
    parser.add_argument("--cells", type=int, default=3, help="how many cells are confirmed")
    options = parser.parse_args(words)
    store = Store(options.store)
    name, cells = load_cells(options.pipeline)
    graph = build_cells(cells, store)
    lines = cell_levels(cells, graph, store)
    (FOLDER / "maps").mkdir(parents=True, exist_ok=True)
    chosen = candidates(lines, options.cells)
    costs = spent(store, ((node.stage, key) for key, node in graph.nodes.items()))
    record: Record = {"pipeline": name, "title": cells.title, "lines": lines, "candidates": chosen, **costs}
    (FOLDER / "maps" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (FOLDER / "maps" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in lines[0] if name != "sets"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    for line in chosen:
        print(" ".join(f"--set {value}" for value in values(line)))


if __name__ == "__main__":
    main()
