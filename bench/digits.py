"""Wall time of the main job: from an empty store, again with all hits, `plan`, and `--help`.

python bench/digits.py [PIPELINE] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time


def timed(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "distill_prune", *command], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", nargs="?", default="digits.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"run, empty store   {timed('run', a.pipeline, '--store', folder):8.1f} s (once)", flush=True)
        for name, command in (
            ("run, all hits", ("run", a.pipeline, "--store", folder)),
            ("plan", ("plan", a.pipeline, "--store", folder)),
            ("--help", ("--help",)),
        ):
            print(
                f"{name:18} {statistics.median(timed(*command) for _ in range(a.rounds)):8.2f} s (median of {a.rounds})",
                flush=True,
            )


if __name__ == "__main__":
    main()
