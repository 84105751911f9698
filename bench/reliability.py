"""docs/reliability.md: the counts of the campaign of faults.

    python bench/reliability.py

The record is docs/reliability/faults.json (faults.py). What stands between the markers of the page is written anew; the rest
stays.
"""

from __future__ import annotations

import json
from pathlib import Path

from fault_kinds.kind import CampaignRecord, KindRecord
from performance import markdown, renewed

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, RECORD = DOCS / "reliability.md", DOCS / "reliability" / "faults.json"
HEAD = ["kind", "trials", "broken", "minutes", "core-minutes", "largest", "what was seen"]


def counted(counts: dict[str, int]) -> str:
    """Outcomes by how often they were seen."""
    return "; ".join(f"{words}: {count:,}" for words, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def largest(figures: dict[str, float]) -> str:
    return "; ".join(f"{name}: {value:.3g}" for name, value in sorted(figures.items()))


def cells(name: str, kind: KindRecord) -> list[str]:
    """One line of the table."""
    if kind["not_run"]:
        return [name, "none", "", "", "", "", f"not run: {kind['not_run']}"]
    trials = f"{kind['trials']:,}" + (f" of {kind['asked']:,}" if kind["trials"] < kind["asked"] else "")
    broken, minutes = f"{len(kind['broken']):,}", [f"{kind[time] / 60:.1f}" for time in ("seconds", "core_seconds")]
    return [name, trials, broken, *minutes, largest(kind["figures"]), counted(kind["outcomes"])]


def rows(record: CampaignRecord) -> list[list[str]]:
    return [HEAD, *(cells(name, kind) for name, kind in record["kinds"].items())]


def conditions(record: CampaignRecord) -> str:
    """Where and when the campaign ran, in a sentence."""
    m = record["machine"]
    return (
        f"The {record['form']} form with seed {record['seed']}, on {m['processor']}, {m['cores']} cores, torch {m['torch']}, "
        f"commit {record['commit']}, {str(m['date'])[:10]}."
    )


def section() -> str:
    if not RECORD.exists():
        return "Not yet run: `python bench/faults.py --long --json docs/reliability/faults.json`.\n"
    record: CampaignRecord = json.loads(RECORD.read_text(encoding="utf-8"))
    return f"{conditions(record)}\n\n{markdown(rows(record))}"


def page(text: str) -> str:
    """The page with the text between its markers written anew."""
    return renewed(text, "counts", "reliability.py", section())


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
