"""Settle a recipe of distillation without the study's own split: validation accuracy of sets on other splits of the data.

python bench/recipe.py PIPELINE --store STORE --splits 1,2 --try distill.synthetic.iterations=500 [--try ...]

Every try is distilled and evaluated on every split; nothing is pruned. The study's own split is looked at once, by the study.
"""

from __future__ import annotations

import argparse
import json
import statistics

from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.run.run import run
from distill_prune.store.store import Store
from distill_prune.terminal.watchers import Lines

BARE = (
    "seeds=[0]",
    "prune.levels=0",
    "levels=null",
    "prune.rewind.k=0it",
    "retrain.copies=1",
    "arms={real: {images: real}}",
    "distill.subset=false",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--store", required=True)
    parser.add_argument("--splits", default="1,2")
    parser.add_argument("--try", dest="tries", action="append", default=[], help="settings, separated by ;")
    a = parser.parse_args()
    store = Store(a.store, create=True)
    for settings in a.tries or [""]:
        accuracies = []
        for split in a.splits.split(","):
            given = [s.strip() for s in settings.split(";") if s.strip()]
            evaluation = json.dumps(load(a.pipeline)[1].compare["evaluation"].model_dump(mode="json", exclude_defaults=True))
            _, pipeline = load(a.pipeline, [*BARE, f"compare={{evaluation: {evaluation}}}", f"data.split_seed={split}", *given])
            graph = build(pipeline, store)
            run(graph, store, "serial", "cpu", 1, "compare", Lines(), lambda _: 1.0)
            numbers = store.numbers("compare", graph.evaluations["synthetic"])
            seconds = store.manifest("distill", graph.sets["synthetic"]).seconds
            accuracies.append(numbers["accuracy"]["validation"]["mean"])
            print(f"split {split}: validation {accuracies[-1]:.4f}; distilled in {seconds:.0f} s", flush=True)
        mean = statistics.mean(accuracies)
        print(f"{settings or 'as it is'}: validation {mean:.4f} (n = {len(accuracies)})", flush=True)


if __name__ == "__main__":
    main()
