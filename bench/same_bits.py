"""Make four shrunk studies with two versions of the package, and compare the stores: equal keys, equal bits.

    python bench/same_bits.py make STORE --data FOLDER [--tree CHECKOUT] [--workers N]  by CHECKOUT's code, else this one's
    python bench/same_bits.py compare STORE STORE                                       every tensor and every number
    python bench/same_bits.py hits STORE --data FOLDER [--tree CHECKOUT]                what of STORE this code finds again

FOLDER holds `cifar10/` (train.npz, test.npz) and `glue/` (SST-2). The studies are digits, digits-controls,
mtt-cifar10-ipc10-small and bert-tickets-sst2-small, with fewer steps, levels and seeds: about ten minutes on two cores.
`compare` and `hits` exit with 1 where something differs or is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SHORT = ("retrain.recipe.length=60it", "prune.real.length=60it", "prune.recipe.length=60it")
DIGITS = (
    *SHORT,
    *("seeds=[0,1]", "levels=null", "prune.levels=3", "experts.count=2", "experts.recipe.length=4ep"),
    *("distill.synthetic.iterations=15", "distill.synthetic.inner_steps=6", "distill.synthetic.max_start=2"),
    *("compare.evaluation.nets=2", "compare.evaluation.length=60it", "compare.connectivity.points=9"),
    "compare.curvature.rows=64",
)
STUDIES = {
    "digits.yaml": DIGITS,
    "digits-controls.yaml": (
        *DIGITS,
        *("levels=[2,3]", "arms.continued.begins.level=1", "compare.landscape.points=5"),
        *("compare.layerwise.points=5", "compare.between.points=5", "compare.spectrum.rows=64", "compare.diagonal.rows=64"),
        *("only.layerwise.seeds=[0]", "only.between.seeds=[0]", "only.spectrum.seeds=[0]", "only.diagonal.seeds=[0]"),
    ),
    "mtt-cifar10-ipc10-small.yaml": (
        *("data.path={data}/cifar10", "data.rows=1000", "experts.count=2", "experts.recipe.length=3ep"),
        *("distill.synthetic.iterations=4", "distill.synthetic.inner_steps=3", "distill.synthetic.max_start=2"),
        *("distill.soft.iterations=4", "distill.soft.inner_steps=3", "distill.soft.max_start=2", "distill.soft.init=real"),
        *("retrain.recipe.length=1ep", "compare.evaluation.nets=2", "compare.evaluation.length=20it"),
    ),
    "bert-tickets-sst2-small.yaml": (
        *("data.path={data}/glue", "data.rows=128", "seeds=[0]", "prune.levels=3", "levels=[1,2,3]"),
        *("prune.real.length=4it", "retrain.recipe.length=4it"),
    ),
}


def command(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of the package in the folder `tree`."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    full = [sys.executable, "-m", "distill_prune", *arguments]
    return subprocess.run(full, cwd=tree, env=env, text=True, stdout=subprocess.PIPE, check=True)


def settings(name: str, data: Path, tree: Path) -> list[str]:
    """The options of a study; one network after the other where the tree knows lanes."""
    alone = ("lanes=1",) if (tree / "distill_prune" / "models" / "lanes.py").exists() else ()
    return [part for s in (*STUDIES[name], *alone) for part in ("--set", s.format(data=data))]


def make(store: Path, data: Path, tree: Path, workers: int) -> None:
    for name in STUDIES:
        arguments = [f"pipelines/{name}", *settings(name, data, tree), "--store", str(store), "--workers", str(workers)]
        print(name, command(tree, "run", *arguments).stdout.rpartition("\nreport:")[0].splitlines()[-1][:120], flush=True)


def hits(store: Path, data: Path, tree: Path) -> bool:
    """Print how many artifacts of every study are there; whether all are."""
    complete = True
    for name in STUDIES:
        arguments = [f"pipelines/{name}", *settings(name, data, tree), "--store", str(store), "--json"]
        artifacts = json.loads(command(tree, "plan", *arguments).stdout)["artifacts"]
        count = sum(a["status"] == "hit" for a in artifacts)
        complete &= count == len(artifacts)
        print(f"{name}: {count} hits of {len(artifacts)}")
    return complete


def told(content: bytes) -> bytes:
    """What a manifest says of bits; all of it, where it is no manifest."""
    try:
        manifest = json.loads(content)
        kept = {k: manifest[k] for k in ("key", "stage", "version", "label", "settings", "inputs", "threads", "files")}
        return json.dumps(kept, sort_keys=True).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return content


def files(store: Path) -> dict[str, str]:
    """sha256 of every file of every artifact; of its manifest what decides and records bits."""
    sums = {}
    for path in sorted(p for p in store.glob("[!.]*/*/*") if p.is_file() and p.parent.parent.name != "reports"):
        content = path.read_bytes()
        if path.name == "manifest.json":
            content = told(content)
        sums[str(path.relative_to(store))] = hashlib.sha256(content).hexdigest()
    return sums


def compare(a: Path, b: Path) -> bool:
    """Print what differs between two stores; whether nothing does."""
    left, right = files(a), files(b)
    differing = [n for n in sorted({*left, *right}) if left.get(n) != right.get(n)]
    for name in differing[:20]:
        print(f"differs: {name}" if name in left and name in right else f"only in {a if name in left else b}: {name}")
    print(f"{len(left)} files in {a}, {len(right)} in {b}: {len(differing)} differ")
    return bool(left) and not differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare", "hits"))
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tree", type=Path, default=HERE)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    stores = [s.resolve() for s in asked.stores]
    if len(stores) != (2 if asked.what == "compare" else 1):
        parser.error("compare takes two stores, make and hits take one")
    if asked.what == "compare":
        sys.exit(not compare(*stores))
    if asked.data is None:
        parser.error("--data FOLDER is needed")
    if asked.what == "hits":
        sys.exit(not hits(stores[0], asked.data.resolve(), asked.tree.resolve()))
    make(stores[0], asked.data.resolve(), asked.tree.resolve(), asked.workers)


if __name__ == "__main__":
    main()
