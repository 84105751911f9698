"""The campaign of faults: kills, drivers at once, `gc` beside runs, damage, hostile files, full disks, other users.

    python bench/faults.py [--short | --long] [--only NAME ...] [--seed 0] [--minutes M] [--json FILE] [--resume]
    python bench/faults.py --only NAME --trial N [--seed 0]         one trial again, with its folder kept

It drives the command on a study of a few seconds, in scratch folders. The short form takes about two minutes on two cores,
the long one less than an hour. All that a trial does follows from the seed, the kind and the trial's number, but for the time
that the machine takes. It exits with 1 where a promise is broken; the folder of each broken trial is kept, and named.

With `--json` the counts are written kind by kind; docs/reliability.md is written anew from docs/reliability/faults.json. With
`--resume` kinds that the file has, from the same commit, form and seed, are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import reliability
from fault_kinds import KINDS, kind
from fault_kinds.kind import Broken, BrokenRecord, CampaignRecord, Kind, KindRecord, Outcome, Scene, Trial
from fault_kinds.studies import Study
from measure import machine
from performance import columns
from table import commit

HERE = Path(__file__).resolve()


class Asked(argparse.Namespace):
    form: str
    only: list[str]
    seed: int
    minutes: float
    json: Path | None
    resume: bool
    trial: int | None
    jobs: int
    scratch: Path | None


def parsed(words: list[str] | None) -> Asked:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", dest="form", action="store_const", const="short", default="short", help="the default")
    form.add_argument("--long", dest="form", action="store_const", const="long")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no trial begins later")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="with --json: go on where the file ends")
    parser.add_argument("--trial", type=int, metavar="N", help="with one --only: this trial alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials side by side [default: one a core]")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where the folders of trials are made [default: a new one]")
    asked = parser.parse_args(words, Asked())
    if asked.trial is not None and len(asked.only) != 1:
        parser.error("--trial goes with one kind: --only NAME")
    if asked.resume and not asked.json:
        parser.error("--resume goes with --json FILE")
    return asked


def seen(reason: str, folder: Path) -> str:
    """Why a trial is broken, for the record: the first and the last line, without the places of this machine."""
    first, *more = reason.strip().splitlines() or [""]
    text = " ... ".join([first, *more[-1:]])
    for place in (folder, folder.parents[1], HERE.parents[1], Path(sys.prefix)):
        text = text.replace(f"{place}{os.sep}", "")
    return text


def core_seconds() -> float:
    """Processor time of this process, and of those below it that have ended."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


class Campaign:
    """One campaign on its way, in a scratch folder."""

    def __init__(self, asked: Asked, scratch: Path) -> None:
        self.asked, self.scratch = asked, scratch
        shutil.rmtree(scratch / "study", ignore_errors=True)  # of a campaign before, perhaps of other code
        self.study = Study.written(scratch / "study")
        self._last = time.monotonic() + 60 * asked.minutes
        self._lock = threading.Lock()

    def made(self, name: str) -> KindRecord:
        """All trials of a kind, and their counts."""
        one, began, used = kind(name), time.monotonic(), core_seconds()
        asked = 1 if self.asked.trial is not None else one.long if self.asked.form == "long" else one.short
        record: KindRecord = {
            "promise": one.promise,
            "asked": asked,
            "trials": 0,
            "outcomes": {},
            "figures": {},
            "broken": [],
            "seconds": 0.0,
            "core_seconds": 0.0,
            "not_run": one.cannot() or ("" if asked else "the long form has it"),
        }
        if not record["not_run"]:
            self._tried(name, one, record)
            record["seconds"] = round(time.monotonic() - began, 1)
            record["core_seconds"] = round(core_seconds() - used, 1)
        return record

    def _tried(self, name: str, one: Kind, record: KindRecord) -> None:
        numbers = range(record["asked"]) if self.asked.trial is None else [self.asked.trial]
        folder, outcomes = self.scratch / name, Counter[str]()
        shutil.rmtree(folder / "shared", ignore_errors=True)
        (folder / "shared").mkdir(parents=True)
        scene = Scene(self.study, folder / "shared", self.asked.jobs)
        with one.begin(scene) as trial, ThreadPoolExecutor(self.asked.jobs) as pool:
            for outcome in pool.map(partial(self._trial, name, trial), numbers):
                if outcome is None:
                    continue  # the time was over
                record["trials"] += 1
                if isinstance(outcome, Outcome):
                    outcomes[outcome.words] += 1
                    figures = record["figures"]
                    figures |= {n: max(v, figures.get(n, v)) for n, v in outcome.figures.items()}
                else:
                    record["broken"].append(outcome)
        record["outcomes"] = dict(outcomes.most_common())

    def _trial(self, name: str, trial: Trial, number: int) -> Outcome | BrokenRecord | None:
        if time.monotonic() > self._last:
            return None
        folder = self.scratch / name / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            outcome = trial(folder, random.Random(f"{self.asked.seed}/{name}/{number}"))
        except Exception as problem:  # a trial that cannot be made has shown nothing
            reason = str(problem) if isinstance(problem, Broken) else f"the trial itself failed: {problem!r}"
            with self._lock:
                print(
                    f"{name} {number}: {reason}\n  kept: {folder}\n  again: {self.again(name, number)}",
                    file=sys.stderr,
                    flush=True,
                )
            return {"trial": number, "reason": seen(reason, folder)}
        if self.asked.trial is None:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def again(self, name: str, number: int) -> str:
        return f"python bench/faults.py --only {name} --trial {number} --seed {self.asked.seed}"


def begun(asked: Asked, at: str) -> CampaignRecord | None:
    """The record of the file, where it is to go on."""
    if not (asked.resume and asked.json and asked.json.exists()):
        return None
    record: CampaignRecord = json.loads(asked.json.read_text(encoding="utf-8"))
    return record if (record["commit"], record["form"], record["seed"]) == (at, asked.form, asked.seed) else None


def run(asked: Asked, scratch: Path) -> CampaignRecord:
    """Every kind that is asked for; the file is written as each ends."""
    at = commit(HERE.parents[1])
    record = begun(asked, at) or {"commit": at, "form": asked.form, "seed": asked.seed, "machine": machine("cpu"), "kinds": {}}
    campaign = Campaign(asked, scratch)
    for name in asked.only:
        known = record["kinds"].get(name)
        if known and (known["not_run"] or known["trials"] == known["asked"]):
            continue
        print(name, file=sys.stderr, flush=True)
        record["kinds"][name] = campaign.made(name)
        record["kinds"] = {n: record["kinds"][n] for n in KINDS if n in record["kinds"]}
        if asked.json:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def main(words: list[str] | None = None) -> None:
    asked = parsed(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it, and all below does
    scratch = Path(asked.scratch or tempfile.mkdtemp(prefix="faults-")).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o755)  # other users of this machine run the command in it
    record = run(asked, scratch)
    print(columns(reliability.rows(record)))
    if asked.json and asked.json.resolve() == reliability.RECORD:
        reliability.main()
    broken = {name: len(found["broken"]) for name, found in record["kinds"].items() if found["broken"]}
    if asked.trial is not None:
        print(f"kept: {scratch}")
    elif not broken and asked.scratch is None:
        shutil.rmtree(scratch, ignore_errors=True)
    if broken:
        sys.exit(f"broken: {', '.join(f'{name} {count}' for name, count in broken.items())}; kept in {scratch}")


if __name__ == "__main__":
    main()
