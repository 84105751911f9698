#!/usr/bin/env bash
# The tests with the lowest version that pyproject.toml allows of every direct dependency, the extras but `dev` included.
#     tests/lower_bounds.sh [arguments of pytest]
# A fresh virtual environment of several GB is made below $TMPDIR, and removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export PATH="$folder/venv/bin:$PATH"
unset PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q packaging
python - > "$folder/lowest.txt" <<'END'
"""Print `name==version` for every direct dependency: the version of its `>=`."""
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
lowest = {}
for requirement in map(Requirement, [*project["dependencies"], *extras]):
    if requirement.name != project["name"]:
        versions = [s.version for s in requirement.specifier if s.operator == ">="]
        if len(versions) != 1 or lowest.setdefault(requirement.name, versions[0]) != versions[0]:
            raise SystemExit(f"{requirement}: expected one lower bound, the same wherever it is named")
print(*(f"{name}=={version}" for name, version in lowest.items()), sep="\n")
END
cat "$folder/lowest.txt"
pip install -q -r "$folder/lowest.txt"
pip install -q --no-deps -e .
pip check
pytest "$@"
