"""What `plan` says of a study from an empty store, beside what its run takes: time, memory and disk.

    python bench/plan_spent.py NAME... [--cifar10 DIR] [--fashion DIR] [--glue DIR] [--scratch DIR]

NAME is a study of STUDIES: a shipped pipeline, shrunk so that it ends in minutes on two cores. Writes
docs/performance/plan/NAME.json and, from all that lie there, plan.csv and plan.md. Without NAME it writes these two anew.

Both sides are processor seconds, so that other work on the machine counts for neither: a pilot of one thread is measured so,
and of the run it is that of all its processes. What a kind of work took is the wall time in its manifests, which other work
makes longer; it is scaled to the processor seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from measure import ROOT, machine
from performance import markdown

from distill_prune.plan.alike import work_of
from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.devices import usual_workers
from distill_prune.store.store import Store
from distill_prune.study.costs import prices
from distill_prune.study.outlook import BEGIN_SECONDS, REPORT_SECONDS, outlook

RECORDS = ROOT / "docs" / "performance" / "plan"
FACTOR = 1.5
"""The goal: spent over predicted is between 1 / FACTOR and FACTOR."""


class Study(NamedTuple):
    """A pipeline that ships, the option that names its data, and what makes it short."""

    pipeline: str
    data: str | None
    sets: str


STUDIES = {
    "digits": Study(
        "digits",
        None,
        """seeds=[0] levels=[4,10] experts.count=2 distill.synthetic.iterations=200 compare.evaluation.nets=2""",
    ),
    "digits-instability": Study(
        "digits-instability",
        None,
        """seeds=[0] prune.scan=[0it,50it] prune.levels=3 levels=[3] retrain.copies=2 experts.count=2
        distill.synthetic.iterations=60""",
    ),
    "cifar10-small": Study(
        "cifar10-small",
        "cifar10",
        """seeds=[0] data.rows=1000 data.test_rows=300 experts.count=1 distill.synthetic.iterations=10 prune.levels=2 levels=[2]
        prune.recipe.length=20it prune.real.length=30it retrain.recipe.length=30it retrain.copies=2 compare.evaluation.nets=1
        compare.evaluation.length=60it compare.connectivity.points=9 compare.disagreement=null compare.between=null
        only.between=null compare.spectrum=null only.spectrum=null compare.landscape=null only.landscape=null
        only.diagonal={arms:[real],levels:[2]}""",
    ),
    "lottery-mnist-lenet-small": Study(
        "lottery-mnist-lenet-small", "fashion", "seeds=[0] prune.levels=4 levels=[2,4] retrain.copies=2"
    ),
    "bert-tickets-sst2-small": Study(
        "bert-tickets-sst2-small", "glue", "seeds=[0] data.rows=160 data.test_rows=100 prune.levels=2 levels=[2]"
    ),
}


class StageRecord(TypedDict):
    """Artifacts of one kind, and their processor seconds: predicted and spent."""

    kind: str
    artifacts: int
    predicted: float
    spent: float


class Record(TypedDict):
    """One study. Processor seconds are of all processes, with their start and the report; wall seconds of the whole run."""

    study: str
    command: str
    machine: dict[str, str | float]
    workers: int
    kinds_tried: int
    plan_seconds: float
    predicted_seconds: float
    spent_seconds: float
    predicted_wall: list[float]
    spent_wall: float
    predicted_mb: float | None
    spent_mb: float
    predicted_disk: int
    spent_disk: int
    kinds: list[StageRecord]


def processor_seconds() -> float:
    """Processor time of processes that this one has started, and of theirs, that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def command(words: Sequence[str]) -> tuple[str, float, float]:
    """What `distill-prune` prints, with its wall and processor seconds."""
    began, before = time.perf_counter(), processor_seconds()
    done = subprocess.run([sys.executable, "-m", "distill_prune", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - began, processor_seconds() - before


def measured(name: str, folders: dict[str, Path], scratch: Path) -> Record:
    """Plan a study, run it, and compare."""
    study = STUDIES[name]
    sets = [*study.sets.split(), *([] if study.data is None else [f"data.path={folders[study.data]}"])]
    words = [f"{study.pipeline}.yaml", *(word for value in sets for word in ("--set", value)), "--store", str(scratch / name)]
    os.environ["XDG_CACHE_HOME"] = str(scratch / f"{name}-cache")
    before = machine("cpu")
    rows, plan_seconds, _ = command(["plan", *words, "--json"])
    costs = {row["key"]: float(row["cost_s"]) for row in json.loads(rows)["artifacts"]}
    (scratch / name).mkdir()
    store, (_, pipeline) = Store(scratch / name), load(words[0], sets)
    graph = build(pipeline, store)
    priced, workers = prices(graph, store), usual_workers(pipeline.threads)
    view = outlook(graph, graph.nodes.keys(), priced, workers)
    _, wall, processor = command(["run", *words])
    manifests = {key: store.manifest(node.stage, key) for key, node in graph.nodes.items()}
    around = BEGIN_SECONDS + REPORT_SECONDS
    scale = (processor - around) / sum(m.seconds for m in manifests.values())
    return {
        "study": name,
        "command": "distill-prune run " + " ".join("data.path=..." if w.startswith("data.path=") else w for w in words[:-2]),
        "machine": before,
        "workers": workers,
        "kinds_tried": len({work_of(graph.nodes[k], graph.nodes) for k, price in priced.items() if price.known == "tried"}),
        "plan_seconds": plan_seconds,
        "predicted_seconds": sum(costs.values()) + around,
        "spent_seconds": processor,
        "predicted_wall": [view.low, view.high],
        "spent_wall": wall,
        "predicted_mb": view.mb,
        "spent_mb": max(m.peak_mb for m in manifests.values()),
        "predicted_disk": view.bytes,
        "spent_disk": sum(
            f.stat().st_size for s in {n.stage for n in graph.nodes.values()} for f in store.root.glob(f"{s}/*/*")
        ),
        "kinds": kinds(graph, costs, {key: scale * m.seconds for key, m in manifests.items()}),
    }


def kinds(graph: Graph, predicted: dict[str, float], spent: dict[str, float]) -> list[StageRecord]:
    """By stage and kind of work, in the order of the study."""
    groups: dict[str, list[str]] = {}
    for key, node in graph.nodes.items():
        groups.setdefault(node.kind if node.kind.startswith(node.stage) else f"{node.stage} {node.kind}", []).append(key)
    return [
        {
            "kind": kind,
            "artifacts": len(keys),
            "predicted": round(sum(predicted[k] for k in keys), 2),
            "spent": round(sum(spent[k] for k in keys), 2),
        }
        for kind, keys in groups.items()
    ]


HEAD = """# What `plan` says, and what was spent

Written by `bench/plan_spent.py`; what is measured, and how, stands there. Processor seconds are of all processes of a run,
with their start and the report. "in all" is wall time: other work on the machine makes it longer (see the load). Memory is that
of the largest worker, in MiB; disk is in MB. A ratio in bold is beyond the goal, a factor of 1.5 either way.
"""


def records() -> list[Record]:
    """All that were measured, in the order of STUDIES."""
    there = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RECORDS.glob("*.json")}
    return [there[name] for name in STUDIES if name in there]


def page(studies: Sequence[Record]) -> str:
    """The table of the studies, and that of the kinds of work of each."""
    lines = [
        [
            "study",
            "plan takes",
            "processor s predicted",
            "spent",
            "ratio",
            "in all predicted",
            "spent",
            "MiB",
            "spent",
            "MB",
            "spent",
        ]
    ]
    for r in studies:
        low, high = r["predicted_wall"]
        lines.append(
            [
                r["study"],
                f"{r['plan_seconds']:.0f} s, {r['kinds_tried']} kinds",
                f"{r['predicted_seconds']:.0f}",
                f"{r['spent_seconds']:.0f}",
                ratio(r["spent_seconds"], r["predicted_seconds"]),
                f"{low:.0f} to {high:.0f} s on {r['workers']}",
                f"{r['spent_wall']:.0f} s",
                "not known" if r["predicted_mb"] is None else f"{r['predicted_mb']:.0f}",
                f"{r['spent_mb']:.0f}",
                f"{r['predicted_disk'] / 1e6:.1f}",
                f"{r['spent_disk'] / 1e6:.1f}",
            ]
        )
    parts = [HEAD, markdown(lines)]
    for r in studies:
        m = r["machine"]
        where = f"{m['processor']}, {m['cores']} cores, torch {m['torch']}, {str(m['date'])[:10]}, load {m['load']} before"
        rows = [
            [k["kind"], str(k["artifacts"]), f"{k['predicted']:.1f}", f"{k['spent']:.1f}", ratio(k["spent"], k["predicted"])]
            for k in r["kinds"]
        ]
        head = ["kind of work", "artifacts", "predicted s", "spent s", "ratio"]
        parts += [f"## {r['study']}\n", f"`{r['command']}`\n", f"{where}.\n", markdown([head, *rows])]
    return "\n".join(parts)


def ratio(spent: float, predicted: float) -> str:
    """Spent over predicted, in bold beyond FACTOR; nothing of work that takes no time."""
    if max(spent, predicted) < 1:
        return ""
    value = spent / max(predicted, 1e-3)
    return f"{value:.2f}" if 1 / FACTOR <= value <= FACTOR else f"**{value:.2f}**"


def write() -> None:
    """plan.md and plan.csv from all records."""
    studies = records()
    (RECORDS / "plan.md").write_text(page(studies), encoding="utf-8")
    with (RECORDS / "plan.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["study", "kind", "artifacts", "predicted_s", "spent_s"])
        for r in studies:
            table.writerow(
                [r["study"], "all, with start and report", "", round(r["predicted_seconds"], 1), round(r["spent_seconds"], 1)]
            )
            table.writerows([r["study"], k["kind"], k["artifacts"], k["predicted"], k["spent"]] for k in r["kinds"])
    print(RECORDS / "plan.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*STUDIES, []], metavar="NAME")
    for name in ("cifar10", "fashion", "glue"):
        parser.add_argument(f"--{name}", type=Path, default=ROOT / "data" / name)
    parser.add_argument("--scratch", type=Path, help="where stores are made, and stay; default: a folder that is removed")
    options = parser.parse_args()
    RECORDS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as removed:
        for name in options.names:
            record = measured(name, vars(options), options.scratch or Path(removed))
            (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: {record['predicted_seconds']:.0f} s predicted, {record['spent_seconds']:.0f} s spent", flush=True)
    write()


if __name__ == "__main__":
    main()
