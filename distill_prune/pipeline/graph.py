"""Every artifact of a pipeline and its key, known without running anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.data import fingerprint
from distill_prune.data.source import Source as SourceSettings
from distill_prune.distill import METHODS
from distill_prune.errors import ConfigError, StoreError
from distill_prune.pipeline.config import Arm, Pipeline, Stored
from distill_prune.pipeline.jobs import (
    VERSIONS,
    CompareJob,
    DataJob,
    DenseJob,
    DistillJob,
    ExpertsJob,
    Job,
    LevelJob,
    RetrainJob,
)
from distill_prune.pipeline.store import STAGES, Store, identity, replace_json
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Step
from distill_prune.settings import Duration, fixed_steps


@dataclass(frozen=True)
class Node:
    """One artifact: its key, what it is made from, and what to call it."""

    stage: str
    key: str
    job: Job
    inputs: Mapping[str, str]
    label: str
    kind: str


@dataclass(frozen=True)
class Unit:
    """One ticket of the grid: its arm, seed and level, its copies, and its analyses by name."""

    arm: str
    seed: int
    level: int
    ticket: str
    copies: tuple[str, ...] = ()
    measured: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Graph:
    """The artifacts of one study, inputs before what is made from them."""

    pipeline: Pipeline
    nodes: dict[str, Node] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    chains: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    evaluations: dict[str, str] = field(default_factory=dict)
    stored_methods: dict[str, str] = field(default_factory=dict)
    data: str = ""
    summary: str = ""

    def add(self, stage: str, job: Job, inputs: Mapping[str, str], label: str, kind: str = "") -> str:
        key = identity(stage, VERSIONS[stage], job.identity(), inputs)
        self.nodes.setdefault(key, Node(stage, key, job, dict(inputs), label, kind or stage))
        return key

    def goals(self, until: str) -> list[str]:
        """The artifacts that a run up to and including stage `until` is for."""
        last = STAGES.index(until)
        inside = {k: n for k, n in self.nodes.items() if STAGES.index(n.stage) <= last}
        used = {i for n in inside.values() for i in n.inputs.values()}
        return [k for k, n in inside.items() if n.stage == until or k not in used]


def build(pipeline: Pipeline, store: Store) -> Graph:
    """The pipeline's graph. Hashes the data source (remembered in the store); looks up stored sets.

    Raises:
        DataError: the data source is missing.
        StoreError: a stored set is not in the store.
    """
    p, g = pipeline, Graph(pipeline)
    common = {"threads": p.threads}
    assert isinstance(p.data, SourceSettings)
    g.data = g.add("data", DataJob(source=p.data, fingerprint=_fingerprint(p, store), **common), {}, "data")
    needs = [m for m in p.distill.values() if not isinstance(m, Stored) and METHODS[m.name].NEEDS_EXPERTS]
    experts = {}
    for i in range(p.experts.count if needs else 0):
        teacher = ExpertsJob(model=p.teacher, recipe=p.experts.recipe, seed=p.experts.seed, index=i, **common)
        experts[f"expert{i}"] = g.add("experts", teacher, {"data": g.data}, f"expert {i}")
    for name, method in p.distill.items():
        if isinstance(method, Stored):
            key = g.sets[name] = _stored(method, store, name, g.data)
            g.stored_methods[key] = store.manifest("distill", key)["settings"].get("method", {}).get("name", "")
            continue
        trains = METHODS[method.name].NEEDS_EXPERTS
        job = DistillJob(method=method, model=p.teacher if trains else None, seed=p.distill_seed, **common)
        g.sets[name] = g.add("distill", job, {"data": g.data, **(experts if trains else {})}, f"set {name}", f"distill {name}")
    for arm in p.arms:
        for seed in p.seeds:
            _chain(g, arm, seed)
    _compare(g)
    return g


def _fingerprint(p: Pipeline, store: Store) -> str:
    path = store.root / "fingerprints.json"
    try:
        known: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        known = {}
    before = dict(known)
    found = fingerprint(p.data, known)  # type: ignore[arg-type]
    if known != before and store.root.is_dir():
        with contextlib.suppress(OSError):  # remembering only saves time: the store may be somebody else's
            replace_json(path, known)
    return found


def _stored(method: Stored, store: Store, name: str, data: str) -> str:
    ref = store.find(method.ref)
    if ref.stage != "distill":
        raise StoreError(f"distill.{name}: '{method.ref}' is not a synthetic set", got=f"{ref.stage}/{ref.key[:12]}")
    made_from = store.manifest("distill", ref.key)["inputs"].get("data", "")
    if made_from != data and not method.other_data:
        raise ConfigError(
            f"distill.{name}: the set '{method.ref}' was made from other data than this pipeline's",
            got=f"data {made_from[:12]}",
            expected=f"data {data[:12]}",
            mend=f"the same data section, or distill.{name}.other_data: true where this is meant",
        )
    return ref.key


def _control(g: Graph, name: str, key: str) -> bool:
    """Whether a set holds plain real images: a control, not the treatment."""
    method = g.pipeline.distill[name].name
    return (g.stored_methods.get(key, "") if method == "stored" else method) == "subset"


def _first(p: Pipeline) -> Duration:
    """Where the schedule of training from W_k begins."""
    return p.prune.rewind.k if p.prune.rewind.schedule == "continue" else "0it"


def _recipe_name(arm: Arm) -> str:
    return arm.recipe or ("retrain" if arm.images == "real" else "prune")


def _chain(g: Graph, arm_name: str, seed: int) -> None:
    """The tickets of one chain, their copies and the copies' analyses."""
    p, arm = g.pipeline, g.pipeline.arms[arm_name]
    common: dict[str, Any] = {"threads": p.threads, "seed": seed}
    criterion = arm.criterion or p.prune.criterion
    needs = CRITERIA[criterion.name].NEEDS_TRAINING
    k, on_source = p.prune.rewind.k, p.prune.rewind.on == "source" and needs
    whole = _recipe_name(arm) == "retrain"
    recipe, first = (
        ((p.prune.real or p.retrain.recipe) if whole else p.prune.recipe),
        (_first(p) if whole or on_source else "0it"),
    )
    if arm.images == "real" and not whole:
        for name, duration in (("length", recipe.length), ("warmup", recipe.warmup)):
            fixed_steps(
                duration if int(duration[:-2]) else "0it",
                why=f"arms.{arm_name} prunes on real data for as long as the synthetic arm, so "
                f"prune.recipe.{name} must not depend on the size of the set",
            )
    if on_source:
        fixed_steps(k, why="prune.rewind.k counts steps on sets of several sizes with `on: source`")
    images = g.data if arm.images == "real" else g.sets[arm.images]
    start = (recipe, images) if on_source else (p.retrain.recipe, g.data)
    zero = int(k[:-2]) == 0
    dense = g.add(
        "prune",
        DenseJob(model=p.model, k=k, recipe=None if zero else start[0], **common),
        {"data": g.data} | ({} if zero or start[1] == g.data else {"images": start[1]}),
        f"dense seed {seed}",
        "dense",
    )
    ticket = dense
    chain = g.chains[arm_name, seed] = []
    for level in range(p.prune.levels + 1):
        if level:
            step = Step(rate=p.prune.rate, criterion=criterion, rewind=p.prune.rewind.tensors)
            job = LevelJob(
                level=level,
                step=step,
                model=p.model if needs else None,
                recipe=recipe if needs else None,
                first=first if needs else "0it",
                **common,
            )
            inputs = {"previous": ticket, "dense": dense, **({"images": images} if needs else {})}
            ticket = g.add("prune", job, inputs, f"{arm_name} seed {seed} level {level}", f"prune {arm_name}")
        chain.append(ticket)
        if level in p.compared():
            g.units.append(_measured(g, arm_name, seed, level, ticket))


def _measured(g: Graph, arm: str, seed: int, level: int, ticket: str) -> Unit:
    """The ticket's copies and the analyses of them."""
    p = g.pipeline
    common: dict[str, Any] = {"threads": p.threads, "seed": seed, "model": p.model}
    label = f"{arm} seed {seed} level {level}" if level else f"dense seed {seed}"
    copies = tuple(
        g.add(
            "retrain",
            RetrainJob(copy_index=c, recipe=p.retrain.recipe, first=_first(p), **common),
            {"ticket": ticket, "data": g.data},
            f"{label} copy {c}",
        )
        for c in range(p.retrain.copies)
    )
    inputs = {"data": g.data, "ticket": ticket, **{f"copy{c}": key for c, key in enumerate(copies)}}
    measured = {
        name: g.add("compare", CompareJob(analysis=settings, **common), inputs, f"{name} of {label}", f"compare {name}")
        for name, settings in p.compare.items()
        if ANALYSES[name].TAKES == "copies"
    }
    return Unit(arm, seed, level, ticket, copies, measured)


def _compare(g: Graph) -> None:
    """Overlaps with the control, evaluations of the sets, and the summary of everything."""
    p = g.pipeline
    by_place = {(u.arm, u.seed, u.level): u for u in g.units}
    roles: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}

    def role(name: str, key: str, **what: Any) -> None:
        inputs[name], roles[name] = key, what

    for u in g.units:
        place = {"arm": u.arm, "seed": u.seed, "level": u.level}
        where = f"{u.arm}/{u.seed}/{u.level}"
        for name, key in u.measured.items():
            role(f"{name}/{where}", key, kind=name, **place)
        other = by_place.get((p.versus, u.seed, u.level))
        if "overlap" in p.compare and other and u.level and u.arm != p.versus:
            job = CompareJob(analysis=p.compare["overlap"], threads=p.threads)
            key = g.add(
                "compare",
                job,
                {"a": u.ticket, "b": other.ticket},
                f"overlap of {u.arm} and {p.versus} seed {u.seed} level {u.level}",
                "compare overlap",
            )
            role(f"overlap/{where}", key, kind="overlap", versus=p.versus, **place)
    for (arm, seed), chain in g.chains.items():  # costs and sparsities of every level, compared or not
        for level, key in enumerate(chain):
            role(f"ticket/{arm}/{seed}/{level}", key, kind="ticket", arm=arm, seed=seed, level=level)
    control = {name: _control(g, name, key) for name, key in g.sets.items()}
    rate_of = next((key for name, key in g.sets.items() if not control[name]), None)
    for name, key in g.sets.items():
        made = g.nodes.get(key)
        by_experts = None if made is None else "expert0" in made.inputs
        role(f"set/{name}", key, kind="set", set=name, experts=by_experts)
        mixed = getattr(p.distill[name], "other_data", False)
        if "evaluation" in p.compare and not mixed:  # a set of another space says nothing when tested in this one
            job = CompareJob(analysis=p.compare["evaluation"], model=p.teacher, threads=p.threads)
            rate = {"rate_of": rate_of} if control[name] and rate_of else {}
            g.evaluations[name] = g.add(
                "compare", job, {"data": g.data, "set": key, **rate}, f"evaluation of set {name}", "compare evaluation"
            )
    for key, node in g.nodes.items():
        if node.stage == "experts":
            role(f"expert/{len([r for r in roles.values() if r['kind'] == 'expert'])}", key, kind="expert")
    arms = [
        {
            "name": n,
            "label": a.label,
            "images": a.images,
            "learned": a.images in control and not control[a.images],
            "other_data": getattr(p.distill.get(a.images), "other_data", False),
            "recipe": _recipe_name(a),
            "criterion": (a.criterion or p.prune.criterion).name,
        }
        for n, a in p.arms.items()
    ]
    summary = CompareJob(
        analysis=ANALYSES["summary"].Settings(versus=p.versus, margin=p.margin),
        threads=p.threads,
        roles={"arms": arms, "inputs": roles},
    )
    g.summary = g.add("compare", summary, inputs, "summary", "compare summary")
