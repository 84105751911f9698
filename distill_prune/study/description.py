"""One artifact for people: what it is, where it stands, what it is made from, its figures and settings. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict

from distill_prune.errors import UnreadableArtifact
from distill_prune.settings import Settings
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
        settings={n: _value(v) for n, v in manifest.settings.items() if v is not None and n not in ("imported", "roles")},
        text=str(numbers.get("answer", "")) if manifest.entry("analysis") == "summary" else "",
    )


def _what(ref: Ref, manifest: Manifest) -> str:
    kind = KINDS[ref.stage]
    if manifest.format:
        return f"{kind}, imported ({manifest.format})"
    if ref.stage == "prune" and "dense" not in manifest.inputs:
        return "the dense network: a ticket of level 0"
    if control := manifest.settings.get("control"):
        return f"{kind} of a control ({control.get('kind', '') if isinstance(control, dict) else control})"
    entry = manifest.entry({"distill": "method", "compare": "analysis", "data": "source"}.get(ref.stage, ""))
    if entry == "summary":
        return "the summary of a study"
    return f"{kind} ({entry})" if entry else kind


class _Numbers(Settings):
    """What is shown of an artifact's numbers."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Cost(_Numbers):
    images: int
    steps: int


class _Data(_Numbers):
    counts: dict[str, int]
    classes: list[str]
    shape: list[int]
    transform: str


class _Set(_Numbers):
    classes: list[str]
    lr: float | None = None
    label_kind: str
    transform: str
    augment: str
    factor: int


class _Layer(_Numbers):
    remaining: int
    total: int


class _Ticket(_Layer):
    sparsity: float
    layers: dict[str, _Layer]


class _Estimate(_Numbers):
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


def _figures(store: Store, ref: Ref, manifest: Manifest, numbers: Mapping[str, object]) -> Iterator[Figure]:
    """The figures of an artifact, by its stage.

    Raises:
        DamagedArtifact: the numbers are not those of its stage.
    """
    with as_damage(ref.stage, ref.key, "content"):
        if ref.stage == "data":
            data = _Data.model_validate(numbers)
            yield from (Figure(f"{name} examples", count) for name, count in data.counts.items())
            yield Figure("classes", len(data.classes))
            yield Figure("size of an example", " x ".join(map(str, data.shape)))
            yield Figure("transform", data.transform)
        elif ref.stage == "distill":
            examples, *size = shapes(store.path(ref.stage, ref.key) / TENSORS)["images"]
            yield Figure("examples", f"{examples:,} of {' x '.join(map(str, size))}")
            synthetic = _Set.model_validate(numbers)
            yield Figure("classes", len(synthetic.classes))
            yield from () if synthetic.lr is None else (Figure("inner lr", synthetic.lr),)
            for name in ("label_kind", "transform", "augment", "factor"):
                yield Figure({"label_kind": "labels"}.get(name, name), getattr(synthetic, name))
            yield from _last(numbers.get("record"), "loss", "matching loss at the end")
        elif ref.stage == "prune":
            ticket = _Ticket.model_validate(numbers)
            yield Figure("sparsity", 100 * ticket.sparsity, "%")
            yield Figure("remaining weights", f"{ticket.remaining:,} of {ticket.total:,}")
            for name, layer in ticket.layers.items():
                yield Figure(f"  {name}", f"{layer.remaining:,} of {layer.total:,}")
        elif ref.stage == "compare" and manifest.entry("analysis") != "summary":
            yield from _measured(numbers, manifest.entry("analysis"))
        if ref.stage in ("experts", "prune", "retrain"):
            record = numbers.get("record")
            yield from _last(
                record[-1] if isinstance(record, list) and record else numbers, "train_loss", "train loss at the end"
            )
        if numbers.get("cost") is not None:
            cost = _Cost.model_validate(numbers["cost"])
            yield from (Figure("images seen for it", cost.images), Figure("steps for it", cost.steps))


def _last(numbers: object, name: str, title: str) -> Iterator[Figure]:
    """The last of a record's values, where there are some."""
    values = numbers.get(name) if isinstance(numbers, Mapping) else None
    last = values[-1] if isinstance(values, list) and values else values
    if isinstance(last, int | float):
        yield Figure(title, last)


def _measured(numbers: Mapping[str, object], analysis: str, above: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Numbers and estimates of a measurement; what it has of single copies, layers and points is left to --json."""
    for name, value in numbers.items():
        at = (*above, name)
        if name in _UNSHOWN or isinstance(value, bool) or not isinstance(value, int | float | Mapping):
            continue
        if isinstance(value, Mapping) and "mean" not in value:
            yield from _measured(value, analysis, at) if len(at) < 3 else ()
            continue
        share = bool(_SHARES & set(at)) or (analysis == "disagreement" and name in ("test", "train", "expected_test"))
        unit = ("points" if at[0] in ("barrier", "excess") else "%") if share else ""
        title = " ".join(at).replace("_", " ")
        if isinstance(value, Mapping):
            yield _of_estimate(title, _Estimate.model_validate(value), unit)
        else:
            yield Figure(title, 100 * value if share else value, unit)


def _of_estimate(title: str, e: _Estimate, unit: str) -> Figure:
    """An estimate as a figure. The interval of a share does not leave 0% to 100%."""
    scale = 100 if unit else 1
    interval = None if e.low is None or e.high is None else (scale * e.low, scale * e.high)
    if interval and unit == "%":
        interval = max(interval[0], 0.0), min(interval[1], 100.0)
    return Figure(title, scale * e.mean, unit, None if e.sd is None else scale * e.sd, interval, e.n)


def _value(value: object, inside: bool = False) -> str:
    """A setting on one line, what is not set left out; an entry of a table begins with its name."""
    if isinstance(value, dict):
        given = {name: _value(v, True) for name, v in value.items() if v not in (None, "", [], {})}
        text = ", ".join(v if name == "name" else f"{name} {v}" for name, v in given.items())
        return f"({text})" if inside and len(given) > 1 else text
    if isinstance(value, list):
        return f"[{', '.join(_value(each, True) for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
