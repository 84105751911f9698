"""Two artifacts of one kind side by side: tickets, or synthetic sets. What they are, how far apart, and why they may be.

Tickets: sparsity by layer, overlap of the masks against chance (analyze/overlap), how far the rewinding weights that survive
in both are apart, and what the store has measured of each. Sets: the distance of the classes' mean images in pixels,

    d_c = sqrt(mean over pixels (mean of a's class c - mean of b's class c)^2)

beside the mean distance of different classes of one set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from distill_prune.analyze import ANALYSES, overlap
from distill_prune.analyze.declared import at, beside
from distill_prune.analyze.inputs import Pair
from distill_prune.analyze.metric import Metric
from distill_prune.artifacts import Cost, Mask, SyntheticSet, decode
from distill_prune.errors import DamagedArtifact, StoreError, UserError
from distill_prune.plan.roles import keys_of, numbered
from distill_prune.run.measured import numbers
from distill_prune.run.reader import Reader
from distill_prune.settings import digest
from distill_prune.store.manifest import Manifest
from distill_prune.store.store import Store
from distill_prune.tree import State

Record = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """One of the two: an artifact, and the store that it lies in."""

    store: Store
    stage: str
    key: str

    def manifest(self) -> Manifest:
        return self.store.manifest(self.stage, self.key)

    def numbers(self) -> Record:
        return numbers(self.store, self.stage, self.key)


Sides = tuple[Side, Side]


def difference(store: Store, a: str, b: str, other: Store | None = None) -> Record:
    """The two artifacts side by side, as plain data; `kind` is `tickets` or `sets`. `b` lies in the store `other`, where it
    is given.

    Raises:
        StoreError: a reference names nothing, or the two are not of one kind.
        UserError: the networks of the tickets, or the classes or shapes of the sets, are different.
    """
    sides = _meant(store, a), _meant(other or store, b)
    stages = {ref.stage for ref in sides}
    if len(stages) > 1 or not stages <= {"prune", "distill"}:
        raise StoreError(
            f"'{a}' and '{b}' cannot be compared",
            got=" and ".join(f"{r.stage}/{r.key[:12]}" for r in sides),
            expected="two tickets (or retrained copies of them), or two synthetic sets",
            fix="`distill-prune ls prune` and `distill-prune ls distill` list them",
        )
    tickets = stages == {"prune"}
    return {
        "kind": "tickets" if tickets else "sets",
        **{name: _about(side) for name, side in zip("ab", sides, strict=True)},
        **(_tickets(sides) if tickets else _sets(sides)),
        "measured": _measured(sides, "ticket" if tickets else "set"),
        "differing": list(_differing_artifacts(sides[0], sides[1], "", set())),
    }


def _meant(store: Store, ref: str) -> Side:
    """The artifact, or the ticket that a retrained copy is of."""
    target = store.find(ref)
    if target.stage != "retrain":
        return Side(store, target.stage, target.key)
    ticket = store.check("retrain", target.key).made_from("ticket")
    if not store.exists("prune", ticket):
        raise StoreError(f"the ticket of '{ref}', prune/{ticket[:12]}, is not in the store '{store.root}'")
    return Side(store, "prune", ticket)


def _about(side: Side) -> Record:
    described = side.manifest().model_dump(include={"label", "created", "device", "versions"})
    return {"stage": side.stage, "key": side.key} | {n: described[n] for n in ("label", "created", "device", "versions")}


# -- tickets


def _tickets(sides: Sides) -> Record:
    (mask_a, state_a), (mask_b, state_b) = (_ticket(s.store, s.key) for s in sides)
    shared = overlap.measure(overlap.Settings(), Pair(mask_a, mask_b)).numbers
    levels_0 = [s.manifest().inputs.get("dense", s.key) for s in sides]
    weights = None if state_a is None or state_b is None else _rewinding(mask_a, mask_b, state_a, state_b)
    return {
        "sparsity": {"a": mask_a.sparsity, "b": mask_b.sparsity},
        "overlap": dict(shared),
        "rewinding": None if weights is None else {"same_level_0": levels_0[0] == levels_0[1], **weights},
        "costs": {name: _costs(s.store, s.key) for name, s in zip("ab", sides, strict=True)},
    }


def _ticket(store: Store, key: str) -> tuple[Mask, State | None]:
    """The mask, and the rewinding weights where the level 0 that holds them is in the store."""
    dense = store.manifest("prune", key).inputs.get("dense")
    if dense is None or store.exists("prune", dense):
        ticket = Reader(store, "cpu").ticket(key)
        return ticket.mask, ticket.state
    return store.noun("prune", key, Mask.of), None


def _rewinding(mask_a: Mask, mask_b: Mask, a: State, b: State) -> Record:
    """How far apart the weights are that survive in both, and all tensors that no mask is of (biases, norms, buffers)."""
    both = {n: kept & mask_b.kept[n] for n, kept in mask_a.kept.items()}
    survivors = [(a[n] - b[n])[kept].abs() for n, kept in both.items()]
    others = [_apart(a[n], b[n]) for n in a.keys() & b.keys() - both.keys() if a[n].shape == b[n].shape]
    count = sum(len(s) for s in survivors)
    return {
        "shared": count,
        "max_abs": max(float(s.max()) for s in survivors if len(s)) if count else None,
        "others_max_abs": max(others, default=0.0),
        "same": bool(count) and not any(bool(s.any()) for s in survivors),
    }


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0


def _costs(store: Store, key: str) -> Record:
    """What the ticket's own level cost, and its whole chain; None where that is not known."""
    level = numbers(store, "prune", key).get("cost")
    total: Cost | None = Cost()
    at: str | None = key
    while at is not None and total is not None:
        cost = numbers(store, "prune", at).get("cost") if store.exists("prune", at) else None
        total = None if cost is None else total + Cost(**cost)
        at = None if total is None else store.manifest("prune", at).inputs.get("previous")
    return {"level": level, "chain": None if total is None else total.json()}


# -- synthetic sets


def _sets(sides: Sides) -> Record:
    a, b = sets = [s.store.noun("distill", s.key, SyntheticSet.of) for s in sides]
    for what, one, other in (
        ("classes", list(a.classes), list(b.classes)),
        ("images", tuple(a.images.shape[1:]), tuple(b.images.shape[1:])),
    ):
        if one != other:
            raise UserError(f"synthetic sets of different {what} cannot be compared", got=other, expected=one)
    means = [_means(s) for s in sets]
    classes: list[Record] = []
    for i, name in enumerate(a.classes):
        counts = [int((s.hard == i).sum()) * s.factor**2 for s in sets]
        apart = _rms(means[0][i], means[1][i]) if all(counts) else None
        classes.append({"class": name, "a": counts[0], "b": counts[1], "distance": apart})
    known = [c["distance"] for c in classes if c["distance"] is not None]
    return {
        "classes": classes,
        "distance": sum(known) / len(known) if known else None,
        "between_classes": {name: _spread(m) for name, m in zip("ab", means, strict=True)},
        "sets": {
            name: {
                "method": s.method,
                "images": len(s.images),
                "factor": s.factor,
                "labels": s.label_kind,
                "lr": s.lr,
                "augment": s.augment,
                "space": s.transform.kind,
            }
            for name, s in zip("ab", sets, strict=True)
        },
        "costs": {n: {"distillation": s.numbers().get("cost")} for n, s in zip("ab", sides, strict=True)},
    }


def _means(synthetic: SyntheticSet) -> list[Tensor]:
    """The mean image of each class (C, H, W), in pixels and as training sees it; of no images where it has none."""
    x = decode(synthetic.images, synthetic.factor, fill=0.5 if synthetic.transform.kind == "pixels" else 0.0)
    x, hard = synthetic.transform.invert(x).double(), synthetic.hard.repeat(synthetic.factor**2)
    return [x[hard == i].mean(0) for i in range(len(synthetic.classes))]


def _rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def _spread(means: list[Tensor]) -> float | None:
    """The mean distance of two different classes that have images."""
    there = [m for m in means if bool(torch.isfinite(m).all())]
    apart = [_rms(m, n) for m, n in combinations(there, 2)]
    return sum(apart) / len(apart) if apart else None


# -- what the store has measured, and what the artifacts were made from


def _measured(sides: Sides, role: str) -> Record:
    """The estimates of both sides by name.

    Of several measurements of one quantity, this takes the newest that was made in the same way for both sides. Where there
    is none, `alike` is false: the two estimates cannot be compared.
    """
    newest = [_ways(side, role) for side in sides]
    out: Record = {}
    plugins = [n for n in {**newest[0], **newest[1]} if n in ANALYSES and n not in ANALYSES.own]
    for name, (analysis, metric) in beside(plugins).items():
        ways_a, ways_b = (ways.get(analysis, {}) for ways in newest)
        alike = sorted(ways_a.keys() & ways_b.keys(), key=lambda w: ways_a[w].created)
        chosen = [w[alike[-1]] if alike else max(w.values(), key=_CREATED, default=None) for w in (ways_a, ways_b)]
        if any(chosen):
            a, b = (None if m is None else _estimate(s.store, m.key, metric) for s, m in zip(sides, chosen, strict=True))
            out[name] = {"a": a, "b": b, "alike": bool(alike)}
    return out


def _ways(side: Side, role: str) -> dict[str, dict[str, Manifest]]:
    """The newest manifest of each analysis of the artifact and each way in which it was made."""
    newest: dict[str, dict[str, Manifest]] = {}
    for key in side.store.keys("compare"):
        try:
            manifest = side.store.manifest("compare", key)
        except DamagedArtifact:
            continue
        if manifest.inputs.get(role) == side.key:
            ways, way = newest.setdefault(manifest.entry("analysis"), {}), _way(side.store, manifest)
            ways[way] = max(manifest, ways.get(way, manifest), key=_CREATED)
    return newest


_CREATED = attrgetter("created")


def _way(store: Store, manifest: Manifest) -> str:
    """How something was measured, the seed apart: the analysis, the data, and how the copies were trained."""
    copies = []
    for key in keys_of("copy", manifest.inputs):
        about = store.manifest("retrain", key).settings if store.has("retrain", key) else {}
        copies.append({n: v for n, v in about.items() if n not in ("seed", "copy_index")})
    settings = {n: v for n, v in manifest.settings.items() if n != "seed"}
    return digest([settings, manifest.inputs.get("data"), copies])


def _estimate(store: Store, key: str, metric: Metric) -> Record | None:
    value = at(numbers(store, "compare", key), metric)
    if isinstance(value, dict) and metric.part != "mean":
        value = value.get(metric.part)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = {"mean": value}
    return {"key": key, **value} if isinstance(value, dict) else None


def _differing_artifacts(a: Side, b: Side, path: str, seen: set[tuple[str, str]]) -> Iterator[Record]:
    """Every setting and every input in which the two artifacts differ.

    The differences of an input's own settings and inputs follow it, the first time that the input is met. Of the levels
    before a ticket only keys are compared, for a chain's levels have the same settings; of several experts, the first that
    differs.
    """
    one, other = a.manifest(), b.manifest()
    yield from _differing(one.settings, other.settings, f"{path}settings")
    inputs = [m.inputs for m in (one, other)]
    experts = [numbered("expert", keys_of("expert", i)) for i in inputs]
    if len(experts[0]) != len(experts[1]):
        yield {"path": f"{path}inputs.experts", "a": len(experts[0]), "b": len(experts[1])}
    expert_named = False
    for name in [*inputs[0], *(n for n in inputs[1] if n not in inputs[0])]:
        x, y = (i.get(name) for i in inputs)
        expert = any(name in names for names in experts)
        if x == y or (expert and (expert_named or None in (x, y))):
            continue
        expert_named |= expert
        places = _where(a.store, x), _where(b.store, y)
        yield {"path": f"{path}inputs.{name}", "a": _told(x, places[0]), "b": _told(y, places[1])}
        if name != "previous" and places[0] and places[1] and places[0].stage == places[1].stage and (x, y) not in seen:
            seen.add((places[0].key, places[1].key))
            yield from _differing_artifacts(places[0], places[1], f"{path}inputs.{name}.", seen)


def _differing(a: object, b: object, path: str) -> Iterator[Record]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(n for n in b if n not in a)]:
            yield from _differing(a.get(name), b.get(name), f"{path}.{name}")
    elif a != b:
        yield {"path": path, "a": a, "b": b}


def _where(store: Store, key: str | None) -> Side | None:
    return next((Side(store, r.stage, r.key) for r in store.all() if r.key == key and store.has(r.stage, r.key)), None)


def _told(key: str | None, side: Side | None) -> Record | None:
    if key is None:
        return None
    return {"key": key} if side is None else {"key": key, "stage": side.stage, "label": side.manifest().label}
