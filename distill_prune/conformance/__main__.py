"""`python -m distill_prune.conformance MODULE...`"""

from __future__ import annotations

import sys

from distill_prune.conformance import check
from distill_prune.errors import DistillPruneError
from distill_prune.plugins import load


def main(modules: list[str]) -> int:
    """Check all that the plugins `modules` bring. Exit codes: 0 all conform, 1 one does not, 2 no plugin."""
    if not modules or modules[0].startswith("-"):
        print("usage: python -m distill_prune.conformance MODULE...", file=sys.stderr)
        return 2
    try:
        brought = [(t, n) for module in modules for t, names in load(module).items() for n in names]
    except DistillPruneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = 0
    for table, name in brought:
        try:
            left_out = check(table, name)
            print(f"{table} {name}: conforms" + (f", but was {left_out}" if left_out else ""))
        except DistillPruneError as error:
            failed += 1
            print(f"{table} {name}: does not conform: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
