"""Damage in every kind of file of a store: it is seen before it is used, or changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fault_kinds.kills import distilling
from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.served import Servers, servers
from fault_kinds.studies import LONGEST, Contents, Done, Study, command, differing, end, verified

STAGES = ("data", "experts", "distill", "prune", "retrain", "compare")
KINDS = (
    *("tensors.safetensors", "numbers.json", "manifest.json", "manifest.json"),
    *("snapshot.safetensors", "tags.json", "fingerprints.json", "lease", ".made-of.json"),
)
ODD = (
    *(
        b"null",
        b"{}",
        b"[]",
        b"0",
        b'"x"',
        b"true",
        b'{"files": {}}',
        b'{"files": null}',
        b"[[1]]",
        b'{"": ""}',
        b"",
        b"\xff\xfe",
        b"\0",
    ),
    *(
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"1" * 5000,
        b"NaN",
        b'{"key": 1e999}',
        b'{"\\ud800": "\\ud800"}',
    ),
)
"""JSON that is none, or none that a store has."""


@dataclass(frozen=True)
class Stores:
    """What trials begin from: a whole store with a name and a dead run's lease, and one that was killed as it had a snapshot of
    a distillation; what the study makes; and the inputs of each artifact."""

    study: Study
    servers: Servers
    whole: Path
    half: Path
    expected: Contents
    inputs: Mapping[str, frozenset[str]]

    def behind(self, key: str) -> set[str]:
        """The artifacts that were made from this one, directly or not."""
        dependents, stack = set[str](), [key]
        while stack:
            used = stack.pop()
            fresh = {k for k, inputs in self.inputs.items() if used in inputs} - dependents
            dependents |= fresh
            stack += fresh
        return dependents


def damaged(content: bytes, way: str, draws: random.Random) -> bytes:
    """The content of a file after damage."""
    if way == "bit" and content:
        place = draws.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :]
    if way == "cut":
        return content[: draws.randrange(len(content) or 1)]
    if way == "zeros":
        begin = draws.randrange(len(content) or 1)
        length = min(draws.choice((1, 16, 512, 10**9)), len(content) - begin)
        return content[:begin] + bytes(length) + content[begin + length :]
    return draws.choice(ODD)


def _chosen(store: Path, kind: str, draws: random.Random) -> Path:
    """A file of this kind; of artifacts every stage has the same chance."""
    if kind == "snapshot.safetensors":
        paths = sorted((store / ".work").glob(f"*/{kind}"))
    elif kind == "lease":
        paths = sorted((store / ".runs").iterdir())
    elif kind == ".made-of.json":
        paths = sorted((store / "reports").glob(f"*/{kind}"))
    elif kind in ("tags.json", "fingerprints.json"):
        paths = [store / kind]
    else:
        while not (paths := sorted((store / draws.choice(STAGES)).glob(f"*/{kind}"))):
            continue
    return draws.choice(paths)


def _same(a: bytes, b: bytes) -> bool:
    """Whether two files say the same: equal bytes, or equal values as JSON."""
    try:
        return a == b or bool(json.loads(a) == json.loads(b))
    except (ValueError, RecursionError):
        return False


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _trial(stores: Stores, folder: Path, draws: random.Random) -> Outcome:
    kind, store = draws.choice(KINDS), folder / "store"
    shutil.copytree(stores.half if kind == "snapshot.safetensors" else stores.whole, store)
    path = _chosen(store, kind, draws)
    way = draws.choice(("bit", "bit", "bit", "cut", "zeros", "gone", *(("odd",) if path.suffix != ".safetensors" else ())))
    good = path.read_bytes()
    bad = None if way == "gone" else damaged(good, way, draws)
    path.unlink()
    if bad is not None:
        path.write_bytes(bad)
    what = f"{way} in {path.relative_to(store)}"
    artifact = path.parent if path.parent.parent.name in STAGES else None
    share = draws.choice((0.0, 0.5, 1.0))
    pool = stores.behind(artifact.name) if artifact else set(stores.inputs)
    for key in sorted(pool):
        if draws.random() < share and (artifact_folder := next(store.glob(f"[!.]*/{key}"), None)):
            shutil.rmtree(artifact_folder)
    done = _run(stores, store, folder)
    if done.code not in (0, 1, 2) or "Traceback" in done.err + done.out or (done.code and not done.one_message):
        raise Broken(f"{what}: {done.said}")
    checked, listed = verified(store)
    if "Traceback" in checked.err or checked.code not in (0, 1, 2):
        raise Broken(f"{what}: verify: {checked.said}")
    wrong = {name.split("/")[1] for name in differing(store, stores.expected) if kind != "fingerprints.json"}
    if kind == "fingerprints.json":  # another hash of the data is other data: the study then has other keys
        wrong = {name.split("/")[1] for name in differing(store, stores.expected) if name in stores.expected}
    stays = artifact is not None and artifact.exists() and _content(path) == bad and (bad is None or not _same(bad, good))
    if artifact is not None and stays:
        wrong.add(artifact.name)
    if unseen := wrong - listed:
        raise Broken(f"{what}: {len(unseen)} artifacts are wrong, and verify does not list them; run: {done.said}")
    seen = "said" if done.code else "left, and listed by verify" if wrong else "made again, or not needed"
    return Outcome(f"{kind}: {seen}")


def _run(stores: Stores, store: Path, folder: Path) -> Done:
    """A serial run of the study, as a child of a process that has imported what takes long."""
    words = stores.study.words("run", store, "--json", "--executor", "serial")[len(command()) :]
    told = stores.servers.ask(words, folder, LONGEST)
    out, err = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
    return Done(told["code"], out, err)


def _lineage(store: Path) -> dict[str, frozenset[str]]:
    manifests = [json.loads(path.read_bytes()) for path in store.glob("[!.]*/*/manifest.json")]
    return {m["key"]: frozenset(m["inputs"].values()) for m in manifests}


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    study, whole, half = scene.study, scene.folder / "whole", scene.folder / "half"
    shutil.copytree(study.undisturbed(), whole)
    inputs = _lineage(whole)
    (whole / "tags.json").write_text(json.dumps({"summary": max(inputs), "set": min(inputs)}, indent=1))
    (whole / ".runs").mkdir(exist_ok=True)
    (whole / ".runs" / "run-0123456789abcdef").write_text(json.dumps(sorted(inputs), indent=1))
    process = distilling(study, half)
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    if not any((half / ".work").glob("*/snapshot.safetensors")):
        raise SystemExit(f"no snapshot of the tiny study's distillation is left in {half}")
    with servers(scene.jobs) as running:
        yield partial(_trial, Stores(study, running, whole, half, study.contents(), inputs))


DAMAGE = Kind(
    "A flipped bit, a cut, zeros, odd JSON or a missing file, in any kind of file of a store: no result differs from the "
    "undisturbed store's, and what stays damaged is listed by `verify`.",
    long=300,
    short=10,
    begin=_begin,
)
