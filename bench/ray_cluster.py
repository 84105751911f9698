"""A study on a Ray cluster of three nodes, one of which is killed while it distils, beside the same study made serially.

python bench/ray_cluster.py [FOLDER]
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SHRUNK = (
    *("seeds=[0]", "experts.count=2", "experts.recipe.length=6ep", "experts.model.width=16", "distill.synthetic.max_start=4"),
    *(
        "distill.synthetic.iterations=200",
        "prune.levels=1",
        "levels=null",
        "prune.recipe.length=40it",
        "prune.real.length=40it",
    ),
    *("retrain.recipe.length=40it", "compare.connectivity.points=3", "compare.evaluation={nets: 1, length: 60it}"),
    "compare.curvature={rows: 64, probes_max: 16}",
)
PIPELINE = ["digits.yaml", *(word for value in SHRUNK for word in ("--set", value))]


def command(name: str, store: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "distill_prune", name, *PIPELINE, "--store", str(store), *more]


def contents(store: Path) -> dict[str, Any]:
    """Of every artifact the sha256 of tensors and numbers, and all of the manifest that does not speak of time or memory."""
    found: dict[str, Any] = {}
    for path in sorted(store.glob("*/*/*")):
        if path.parts[-3].startswith(".") or path.parts[-3] == "reports":
            continue
        name = str(path.relative_to(store))
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            found[name] = {k: v for k, v in manifest.items() if k not in ("seconds", "peak_mb", "created", "seal")}
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def holder(lock: Path) -> int | None:
    """The worker that has a lock open, as its raylet's child."""
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if handle.readlink() == lock:
                return int(handle.parts[2])
        except OSError:
            continue
    return None


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    serial, shared = folder / "serial", folder / "ray"
    began = time.perf_counter()
    subprocess.run(command("run", serial, "--executor", "serial"), check=True, stdout=subprocess.DEVNULL)
    print(f"serial: {time.perf_counter() - began:.0f} s", flush=True)

    from ray.cluster_utils import Cluster

    cluster = Cluster()
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0, include_dashboard=False) for _ in range(3)]
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
    print(f"cluster at {cluster.address}, raylets {sorted(raylets)}", flush=True)
    planned = json.loads(subprocess.run(command("plan", shared, "--json"), check=True, capture_output=True).stdout)
    key = next(a["key"] for a in planned["artifacts"] if a["label"] == "set synthetic")
    snapshot, lock = shared / ".work" / key / "snapshot.safetensors", shared / ".locks" / key
    began = time.perf_counter()
    run = subprocess.Popen(
        command("run", shared, "--executor", "ray"),
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killed: list[int] = []

    def kill() -> None:
        """As soon as the distillation has a snapshot to go on from, or has taken half a minute."""
        while holder(lock) is None and run.poll() is None:
            time.sleep(0.1)
        end = time.monotonic() + 32
        while not snapshot.exists() and time.monotonic() < end:
            time.sleep(0.1)
        worker = holder(lock)
        assert worker is not None, "nobody distils: the study is too short"
        saved = f"saved {snapshot.name}" if snapshot.exists() else "saved nothing yet"
        print(f"--- killing the raylet {parent(worker)} of worker {worker}, which has {saved}", flush=True)
        killed.append(worker)
        cluster.remove_node(raylets[parent(worker)], allow_graceful=False)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert run.stdout is not None
    for line in run.stdout:
        if not line.startswith("[") or "synthetic: " in line or "summary: " in line:
            print(line, end="", flush=True)
    code = run.wait()
    thread.join()
    cluster.shutdown()
    print(f"ray: exit code {code}, {time.perf_counter() - began:.0f} s, killed {killed}")
    one, other = contents(serial), contents(shared)
    equal = sum(one[name] == other.get(name) for name in one)
    print(f"{len(one)} files of the serial store, {len(other)} of the cluster's, {equal} equal")
    sys.exit(code or one != other)


if __name__ == "__main__":
    main()
