"""Every artifact of a pipeline and its key, known without running anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import TypeAdapter

from distill_prune.data import fingerprint
from distill_prune.data.source import Source
from distill_prune.distill import METHODS, check_kind, last_epoch, misread, needs_experts, needs_model
from distill_prune.distill.kept import SourceSettings
from distill_prune.errors import ConfigError, StoreError
from distill_prune.fingerprints import Remembered
from distill_prune.models import predicting, resolved
from distill_prune.plan.config import Pipeline
from distill_prune.plan.grid import chain
from distill_prune.plan.jobs import DataJob, DistillJob, ExpertsJob
from distill_prune.plan.measures import betweens, measure_sets
from distill_prune.plan.nodes import Graph, drawn
from distill_prune.plan.places import NOWHERE, Locate, written_at
from distill_prune.plan.roles import numbered
from distill_prune.plan.sections import Stored
from distill_prune.plan.summary import summary
from distill_prune.settings import Entry
from distill_prune.store.disk import replace_json
from distill_prune.store.documents import BadDocument, Hash, read
from distill_prune.store.store import Store

_HASHES = TypeAdapter(dict[str, Hash])


def build(pipeline: Pipeline, store: Store, locate: Locate = NOWHERE) -> Graph:
    """The pipeline's graph. Hashes the data source (remembered in the store); looks up stored sets and experts. `locate` knows
    where settings are written.

    Raises:
        DataError: the data source is missing.
        StoreError: a stored set or expert is not in the store.
    """
    with _remembering(store) as known:
        p = _resolved(pipeline, known, locate)
        g = Graph(p, locate)
        g.data = _data(g, p.data, known, "data", ["data"])
        g.tasks = {name: _data(g, source, known, f"data {name}", ["tasks", name]) for name, source in p.tasks.items()}
    experts = _experts(g, store)
    for name, method in p.distill.items():
        if isinstance(method, Stored):
            g.sets[name] = _stored(method, store, name, g.data)
            g.methods[name] = store.manifest("distill", g.sets[name]).entry("method") or "imported"
            continue
        entry = METHODS[method.name]
        check_kind(method.name, p.data.is_text)
        inputs = {"data": g.data, **_of_experts(g, method, experts)}
        for draw in g.draws:
            seed = p.distill_seed if draw is None else draw
            job = DistillJob(method=method, model=p.teacher if needs_model(entry, method) else None, seed=seed)
            this = drawn(name, draw)
            g.sets[this], g.methods[this] = g.add("distill", job, inputs, f"set {this}", f"distill {name}"), method.name
    for arm in p.placed().values():
        for seed in p.seeds:
            for draw in p.draws(seed) if arm.on_sets else (None,):
                chain(g, arm, seed, draw)
    betweens(g)
    measure_sets(g)
    g.summary = summary(g)
    return g


def _experts(g: Graph, store: Store) -> dict[str, str]:
    """The keys of the experts, where a set needs some: those of the store that the pipeline names, else newly trained ones."""
    p = g.pipeline
    needy = [m for m in p.distill.values() if not isinstance(m, Stored) and needs_experts(METHODS[m.name], m)]
    if not needy:
        return {}
    if p.experts.stored:
        return numbered("expert", (_stored_expert(ref, store, needy) for ref in p.experts.stored))
    keys = []
    for i in range(p.experts.count):
        teacher = ExpertsJob(model=p.teacher, recipe=p.experts.recipe, seed=p.experts.seed, index=i, convex=p.experts.convex)
        keys.append(g.add("experts", teacher, {"data": g.data}, f"expert {i}"))
    return numbered("expert", keys)


def _of_experts(g: Graph, method: Entry, experts: dict[str, str]) -> dict[str, str]:
    """The experts that a set is made with: those of the pipeline. Of a set that is distilled from a part of the real images
    these score the images, and the trajectories to match are those of teachers of that part."""
    p, entry = g.pipeline, METHODS[method.name]
    if not needs_experts(entry, method):
        return {}
    if not isinstance(method, SourceSettings) or method.source is None:
        return experts
    scorers = numbered("scorer", experts.values())
    keys = []
    for i in range(p.experts.count if entry.NEEDS_EXPERTS else 0):
        teacher = ExpertsJob(model=p.teacher, recipe=p.experts.recipe, seed=p.experts.seed, index=i, source=method.source)
        kept = method.source
        label = f"expert {i} of the {kept.share:g} {kept.keep} by {kept.score}"
        keys.append(g.add("experts", teacher, {"data": g.data, **scorers}, label))
    return scorers | numbered("expert", keys)


def _stored_expert(ref: str, store: Store, needy: list[Entry]) -> str:
    expert = store.find(ref)
    if expert.stage != "experts":
        raise StoreError(f"experts.stored: '{ref}' is not an expert's trajectory", got=f"{expert.stage}/{expert.key[:12]}")
    trajectory = store.trajectory(expert.key, sizes_only=True)
    epochs = len(trajectory.checkpoints) - 1
    last = max(last_epoch(method) for method in needy)
    if last > epochs:
        raise ConfigError(f"experts.stored: '{ref}' ends before the epochs that matching uses", got=epochs, expected=last)
    if problem := next(filter(None, (misread(method, trajectory.convex) for method in needy)), ""):
        kind = "a convex expert" if trajectory.convex else "an expert that is not convex"
        raise ConfigError(f"experts.stored: '{ref}' is {kind}: {problem}")
    return expert.key


def _data(g: Graph, source: Source, known: Remembered, label: str, place: list[str]) -> str:
    with written_at(place, g.locate):
        hashed = fingerprint(source, known)
    return g.add("data", DataJob(source=source, fingerprint=hashed), {}, label, "data")


def _resolved(p: Pipeline, known: Remembered, locate: Locate) -> Pipeline:
    """The pipeline, with what stands for pre-trained weights in the settings of its networks.

    Raises:
        UserError: a task asks for word pieces, and the network has no head for these.
    """
    with written_at(["model"], locate):
        if any(source.MASKED for source in (p.data, *p.tasks.values())):
            resolved(predicting(p.model), known)
        model = resolved(p.model, known)
    experts = p.experts if p.experts.model is None else p.experts.model_copy(update={"model": resolved(p.experts.model, known)})
    others = {name: resolved(model, known) for name, model in p.architectures.items()}
    return p.model_copy(update={"model": model, "experts": experts, "architectures": others})


@contextlib.contextmanager
def _remembering(store: Store) -> Iterator[dict[str, str]]:
    """The hashes of files that are known by path, size and time of change; new ones are kept in the store.

    A file that cannot be used is written anew: it only saves time.
    """
    path = store.root / "fingerprints.json"
    try:
        known = read(path, _HASHES)
    except (OSError, BadDocument):
        known = {}
    before = dict(known)
    yield known
    if known != before and store.root.is_dir():
        with contextlib.suppress(OSError):  # remembering only saves time: the store may be somebody else's
            replace_json(path, known)


def _stored(method: Stored, store: Store, name: str, data: str) -> str:
    ref = store.find(method.ref)
    if ref.stage != "distill":
        raise StoreError(f"distill.{name}: '{method.ref}' is not a synthetic set", got=f"{ref.stage}/{ref.key[:12]}")
    made_from = store.manifest("distill", ref.key).inputs.get("data", "")
    if made_from != data and not method.other_data and store.numbers("distill", ref.key).get("transform") != "pixels":
        raise ConfigError(
            f"distill.{name}: the set '{method.ref}' was made from other data than this pipeline's",
            got=f"data {made_from[:12]}" if made_from else "a set that was imported without `dataset`",
            expected=f"data {data[:12]}",
            fix=f"the same data section, or distill.{name}.other_data: true where this is meant",
        )
    return ref.key
