"""One artifact for people: what it is, where it stands, what it is made from, its figures and settings. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distill_prune.errors import UnreadableArtifact
from distill_prune.store.damage import as_damage
from distill_prune.store.documents import shapes
from distill_prune.store.housekeeping import Lineage
from distill_prune.store.manifest import TENSORS, Manifest
from distill_prune.store.store import STAGES, Ref, Store
from distill_prune.store.studies import paths_by_key

KINDS = {
    "data": "prepared data",
    "experts": "a teacher's trajectory",
    "distill": "a synthetic set",
    "prune": "a ticket",
    "retrain": "a retrained copy of a ticket",
    "compare": "a measurement",
}
_SHARES = frozenset({"accuracy", "test_error", "train_error", "disagreement"})
"""Measured shares, which are shown in percent; barriers and excesses of errors are in points."""
_UNSHOWN = frozenset({"analysis", "copies", "pairs", "nets", "rows", "layers", "curves", "recipe", "cost", "planes", "chance"})


@dataclass(frozen=True)
class Figure:
    """One figure: a value in its unit, and its uncertainty where it is an estimate: the standard deviation of `n` values and
    the 95% interval of their mean."""

    name: str
    value: float | int | str
    unit: str = ""
    sd: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None


@dataclass(frozen=True)
class Input:
    """One input by its role: its key, and its paths; `stage` is empty where the store does not have it."""

    role: str
    key: str
    stage: str
    label: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What is said of an artifact. `users` are counts by stage of what was made from it itself, `after` of all that was made
    from these, too; None where an artifact of the store cannot be read."""

    what: str
    ref: Ref
    manifest: Manifest
    bytes: int
    names: tuple[str, ...]
    paths: tuple[str, ...]
    inputs: tuple[Input, ...]
    users: Mapping[str, int] | None
    after: int
    figures: tuple[Figure, ...]
    settings: Mapping[str, str]
    text: str = ""


def describe(store: Store, ref: Ref) -> Description:
    """What is said of an artifact.

    Raises:
        DamagedArtifact: its files are not what was written.
        UnreadableArtifact: it is another user's, who has not shared it.
    """
    manifest = store.check(ref.stage, ref.key)
    numbers = store.numbers(ref.stage, ref.key)
    paths, _ = paths_by_key(store.root)
    refs = {r.key: r for r in store.all()}
    try:
        lineage = Lineage(store)
        users = Counter(refs[key].stage for key in lineage.used_by(ref.key) if key in refs)
        after = len(lineage.after([ref.key])) - 1
    except UnreadableArtifact:
        users, after = None, 0
    inputs = tuple(
        Input(role, key, refs[key].stage if key in refs else "", "", tuple(paths.get(key, ())))
        for role, key in manifest.inputs.items()
    )
    return Description(
        what=_what(ref, manifest),
        ref=ref,
        manifest=manifest,
        bytes=sum(file.size for file in manifest.files.values()),
        names=tuple(sorted(name for name, key in store.tags().items() if key == ref.key)),
        paths=tuple(paths.get(ref.key, ())),
        inputs=inputs,
        users=None if users is None else {stage: users[stage] for stage in STAGES if users[stage]},
        after=after,
        figures=tuple(_figures(store, ref, manifest, numbers)),
        settings={name: _value(value) for name, value in manifest.settings.items() if name not in ("imported", "roles")},
        text=str(numbers.get("answer", "")) if manifest.entry("analysis") == "summary" else "",
    )


def _what(ref: Ref, manifest: Manifest) -> str:
    kind = KINDS[ref.stage]
    if manifest.format:
        return f"{kind}, imported ({manifest.format})"
    if ref.stage == "prune" and "previous" not in manifest.inputs and "of" not in manifest.inputs:
        return "the dense network: a ticket of level 0"
    if control := manifest.settings.get("control"):
        return f"{kind} of a control ({control.get('kind', '') if isinstance(control, dict) else control})"
    entry = manifest.entry({"distill": "method", "compare": "analysis", "data": "source"}.get(ref.stage, ""))
    if entry == "summary":
        return "the summary of a study"
    return f"{kind} ({entry})" if entry else kind


def _figures(store: Store, ref: Ref, manifest: Manifest, numbers: Mapping[str, Any]) -> Iterator[Figure]:
    """The figures of an artifact, by its stage."""
    with as_damage(ref.stage, ref.key, "content"):
        if ref.stage == "data":
            yield from (Figure(f"{name} examples", count) for name, count in numbers["counts"].items())
            yield Figure("classes", len(numbers["classes"]))
            yield Figure("size of an example", " x ".join(map(str, numbers["shape"])))
            yield Figure("transform", numbers["transform"])
        elif ref.stage == "distill":
            images = shapes(store.path(ref.stage, ref.key) / TENSORS)["images"]
            yield Figure("examples", f"{images[0]:,} of {' x '.join(map(str, images[1:]))}")
            yield Figure("classes", len(numbers["classes"]))
            if numbers.get("lr") is not None:
                yield Figure("inner lr", numbers["lr"])
            yield from (Figure(name, numbers[name]) for name in ("label_kind", "transform", "augment", "factor"))
            yield from _last(numbers.get("record"), "loss", "matching loss")
        elif ref.stage == "prune":
            yield Figure("sparsity", 100 * numbers["sparsity"], "%")
            yield Figure("remaining weights", f"{numbers['remaining']:,} of {numbers['total']:,}")
            for name, layer in numbers["layers"].items():
                yield Figure(f"  {name}", f"{layer['remaining']:,} of {layer['total']:,}")
        elif ref.stage == "compare" and manifest.entry("analysis") != "summary":
            yield from _measured(numbers, manifest.entry("analysis"))
        if ref.stage in ("experts", "prune", "retrain"):
            yield from _last(numbers, "train_loss", "train loss at the end")
            rows = numbers.get("record")
            yield from _last(rows[-1] if isinstance(rows, list) and rows else None, "train_loss", "train loss at the end")
        if cost := numbers.get("cost"):
            yield from (Figure(f"{name} it cost", cost[name]) for name in ("images", "steps"))


def _last(numbers: object, name: str, title: str) -> Iterator[Figure]:
    """The last of a record's values, where there are some."""
    values = numbers.get(name) if isinstance(numbers, Mapping) else None
    last = values[-1] if isinstance(values, list) and values else values
    if isinstance(last, int | float):
        yield Figure(title, last)


def _measured(numbers: Mapping[str, Any], analysis: str, above: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Numbers and estimates of a measurement; what it has of single copies, layers and points is left to --json."""
    for name, value in numbers.items():
        at = (*above, name)
        if name in _UNSHOWN or isinstance(value, bool | str | list) or value is None:
            continue
        share = bool(_SHARES & set(at)) or (analysis == "disagreement" and name in ("test", "train", "expected_test"))
        unit = ("points" if at[0] in ("barrier", "excess") else "%") if share else ""
        scale, title = 100 if share else 1, " ".join(at).replace("_", " ")
        if isinstance(value, Mapping) and "mean" not in value:
            yield from _measured(value, analysis, at) if len(at) < 3 else ()
        elif isinstance(value, Mapping):
            sd, low, high = (None if value.get(n) is None else scale * value[n] for n in ("sd", "low", "high"))
            interval = None if low is None or high is None else (low, high)
            yield Figure(title, scale * value["mean"], unit, sd, interval, value.get("n"))
        else:
            yield Figure(title, scale * value if share else value, unit)


def _value(value: object) -> str:
    """A setting on one line, what is not set left out."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(v)}" for name, v in value.items() if v not in (None, "", [], {}))
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
