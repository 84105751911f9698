"""Write a study's tables out of a store to docs/results/: what lasts of a study whose store does not.

    python bench/results.py PIPELINE --store DIR [--set A.B=C]...

Writes docs/results/<name>.json (summary, evaluations, versions, seconds) and <name>.csv (one row an arm and level).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from distill_prune.pipeline.config import load
from distill_prune.pipeline.graph import build
from distill_prune.pipeline.store import Store
from distill_prune.pipeline.study import read
from distill_prune.report.tables import tables, to_csv

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--store", required=True)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--name", help="name of the files [default: the pipeline's]")
    a = parser.parse_args()
    name, pipeline = load(a.pipeline, a.sets)
    store = Store(a.store)
    study = read(name, build(pipeline, store), store)
    if study.summary is None:
        raise SystemExit(f"the study is not finished: {len(study.missing)} artifacts are missing")
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / (a.name or name)
    spent = {s: round(sum(p["seconds"] for p in study.provenance if p["stage"] == s), 1)
             for s in ("data", "experts", "distill", "prune", "retrain", "compare")}
    record = {"pipeline": name, "data": study.data, "summary": study.summary, "evaluations": study.evaluations,
              "units": study.units, "versions": study.versions, "core_seconds": spent,
              "peak_mb": max(p["peak_mb"] for p in study.provenance), "devices": sorted({p["device"] for p in study.provenance})}
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    target.with_suffix(".csv").write_text(to_csv(tables(study)["levels"]), encoding="utf-8")
    print(f"{target}.json and .csv")


if __name__ == "__main__":
    main()
