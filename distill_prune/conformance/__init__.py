"""Conformance: what every entry of a table keeps to, whether it is built in or a plugin's.

    from distill_prune.conformance import check

    def test_my_net():
        check("models", "my_net")

`python -m distill_prune.conformance my_module` checks all that a plugin brings. An entry is called with small inputs,
twice, under other states of torch's global generator: what is drawn must come from the streams that it is given.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast, get_args

import torch
from torch import Tensor

from distill_prune.analyze import ANALYSES, Analysis
from distill_prune.analyze.declared import declared, readings
from distill_prune.artifacts import Mask
from distill_prune.conformance.inputs import SHRUNK, TINY_ENCODER, convex, digits, record, sentences
from distill_prune.data import DATASETS, DataSet, prepare
from distill_prune.data.source import Loaded
from distill_prune.data.source import Source as DataSource
from distill_prune.distill import METHODS, Distilled, Method, Source, misread, needs_experts, needs_model
from distill_prune.errors import ConfigError, DataError, DistillPruneError, UserError
from distill_prune.interop import FORMATS, Format, Kind
from distill_prune.models import MODELS, Model, Network, build_model
from distill_prune.plugins import table_of
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA, Criterion
from distill_prune.prune.imp import recorded, score
from distill_prune.prune.inputs import LevelWeights
from distill_prune.prune.select import Criterion as CriterionSettings
from distill_prune.prune.select import select
from distill_prune.rng import Streams, seeded, stream
from distill_prune.run.worker import conditions
from distill_prune.settings import Entry, Settings, canonical_json
from distill_prune.table import EntryModule
from distill_prune.tree import clone

SHAPES = ((1, 8, 8), (3, 32, 32), (3, 224, 224))
"""A network has to take inputs of one of these."""
CLASSES = 7
T = TypeVar("T")
S = TypeVar("S", bound=Settings)
_BASES: dict[str, type[Settings]] = {"data": DataSource, "criteria": CriterionSettings, "formats": Settings}


class Nonconforming(UserError, AssertionError):
    """An entry that is not what its table asks for."""


def check(table: str, name: str, **settings: Any) -> str:
    """Look at the entry `name` of `table` (models, data, methods, criteria, analyses or formats) and call it.

    `settings` are values for the entry's own, where a default is missing or takes long. Returns what could not be looked
    at, if anything.

    Raises:
        Nonconforming: the entry is not what its table asks for. This is an AssertionError, too.
        UserError: there is no such table or entry.
    """
    entries = table_of(table)
    what = f"{entries.kind} '{name}'"
    try:
        entry = entries[name]
    except ConfigError as problem:
        _require(name not in entries, problem.what, got=problem.got, expected=problem.expected, fix=problem.fix)
        raise
    _contract(table, name, entry, what)
    with conditions(1), _calling(what):
        match table:
            case "data":
                return _data(DATASETS[name], what, settings)
            case "models":
                return _model(MODELS[name], what, settings)
            case "methods":
                return _method(METHODS[name], what, settings)
            case "criteria":
                return _criterion(CRITERIA[name], what, settings)
            case "analyses":
                return _analysis(ANALYSES[name], what, settings)
        return _format(FORMATS[name], what)


def _require(holds: object, what: str, *, got: object = None, expected: object = None, fix: str | None = None) -> None:
    if not holds:
        raise Nonconforming(what, got=got, expected=expected, fix=fix)


@contextlib.contextmanager
def _calling(what: str) -> Iterator[None]:
    try:
        yield
    except DistillPruneError:
        raise
    except Exception as problem:
        raise Nonconforming(f"{what} fails when it is called", got=f"{type(problem).__name__}: {problem}") from problem


def _contract(table: str, name: str, entry: EntryModule, what: str) -> None:
    """The names that the module must have, and its settings as a class."""
    lacks = [required for required in table_of(table).required if not hasattr(entry, required)]
    _require(not lacks, f"{what} lacks {', '.join(lacks)}", got=entry.__file__)
    base, kind = _BASES.get(table, Entry), entry.Settings
    _require(
        issubclass(kind, base),
        f"{what}: what its Settings derive from",
        got=kind.__mro__[1].__name__,
        expected=f"{base.__name__} of {base.__module__}",
    )
    asked = {"frozen": True, "extra": "forbid", "allow_inf_nan": False}
    _require(
        asked.items() <= dict(kind.model_config).items(),
        f"{what}: Settings must be frozen, refuse unknown keys and hold finite numbers",
        got=kind.model_config,
        fix="leave model_config as it is inherited",
    )
    field = kind.model_fields.get("name")
    _require(
        (field is None and table == "formats") or (field and field.default == name and get_args(field.annotation) == (name,)),
        f"{what}: its settings go by another name",
        got=field,
        expected=f'name: Literal["{name}"] = "{name}"',
    )


def _shrunk(entry: EntryModule, given: Mapping[str, object]) -> dict[str, object]:
    return {n: v for n, v in SHRUNK.items() if n in entry.Settings.model_fields} | dict(given)


def _settings(kind: type[S], what: str, given: Mapping[str, object]) -> S:
    """The entry's settings, as they go through files, keys and workers."""
    lacks = [n for n, f in kind.model_fields.items() if f.is_required() and n not in given]
    _require(not lacks, f"{what}: settings without a default", got=", ".join(lacks), fix="check(..., that=value)")
    try:
        settings = kind.model_validate(given)
    except ValueError as problem:
        raise Nonconforming(f"{what}: its settings refuse what it is to be checked with", got=problem) from problem
    _require(pickle.loads(pickle.dumps(settings)) == settings, f"{what}: its settings change on their way to a worker")
    canonical_json(settings)
    return settings


def _twice(what: str, call: Callable[[], T], same: Callable[[T, T], bool]) -> T:
    """What `call` gives, twice the same."""
    with seeded(1):
        first = call()
    with seeded(2):
        again = call()
    _require(same(first, again), f"{what}: not the same twice", fix="draw from the streams alone: `streams('a name')`")
    return first


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def _data(entry: DataSet, what: str, given: Mapping[str, object]) -> str:
    kind = cast(type[DataSource], entry.Settings)
    outside = kind.OUTSIDE_KEYS - set(kind.model_fields)
    _require(not outside, f"{what}: OUTSIDE_KEYS names no setting", got=", ".join(sorted(outside)))
    settings = _settings(kind, what, given)
    try:
        mark = _twice(f"{what}: fingerprint(...)", lambda: entry.fingerprint(settings, {}), lambda a, b: a == b)
        _require(isinstance(mark, str) and mark, f"{what}: fingerprint(...)", got=repr(mark), expected="a string")
        loaded = _twice(f"{what}: load(...)", lambda: entry.load(settings), _same_data)
    except DataError as problem:
        return f"not loaded: {problem.what}"
    kinds = (loaded.pixels.dtype, loaded.labels.dtype, loaded.test.dtype)
    text = settings.is_text
    _require(
        kinds[0] in ((torch.int32,) if text else (torch.uint8, torch.float32))
        and kinds[1] in ((torch.int64, torch.float32) if text else (torch.int64,))
        and kinds[2] == torch.bool,
        f"{what}: pixels, labels and test of the wrong kinds",
        got=kinds,
        expected="int32, int64 or float32, bool" if text else "uint8 or float32, int64, bool",
    )
    prepare(settings)
    return ""


def _same_data(a: Loaded, b: Loaded) -> bool:
    return torch.equal(a.pixels, b.pixels) and torch.equal(a.labels, b.labels) and torch.equal(a.test, b.test)


def _model(entry: Network, what: str, given: Mapping[str, object]) -> str:
    text = "config" in entry.Settings.model_fields
    settings = _settings(entry.Settings, what, {**({"config": TINY_ENCODER} if text else {}), **given})
    model = replace(_built(settings, ((2, 12), *SHAPES) if text else SHAPES, what), pretrained=dict)
    state = _twice(f"{what}: its initialisation", lambda: model.fresh(0, "a"), _equal)
    _require(not _equal(state, model.fresh(0, "b")), f"{what} begins every initialisation at the same weights")
    x, before = torch.randn(3, *model.shape, generator=stream(0, "x")), clone(state)
    if text:
        x = x.argsort(-1).int() + 1
        x[:, 1] = 1  # one sentence
    logits = _twice(f"{what}: its output in evaluation mode", lambda: model(state, x), torch.equal)
    _require(logits.shape == (3, CLASSES), f"{what}: output", got=tuple(logits.shape), expected=f"(N, {CLASSES}) logits")
    _require(_equal(state, before), f"{what} changes its state in evaluation mode")
    prunable = set(model.prunable)
    _require(prunable, f"{what} has nothing to prune", fix="linear layers or convolutions, or `prunable` on the module")
    _require(prunable <= set(model.parameters) <= set(state), f"{what}: prunable names no parameters", got=sorted(prunable))
    flat = [n for n in prunable if state[n].dim() < 2]
    _require(not flat, f"{what}: biases and norms are never pruned", got=", ".join(flat))
    away = [n for n, t in state.items() if t.device.type != "cpu" or not t.is_contiguous()]
    _require(not away, f"{what}: tensors that are not contiguous on the CPU", got=", ".join(away))
    weights = {n: state[n].requires_grad_() for n in model.prunable}
    gradients = torch.autograd.grad(model({**state, **weights}, x).square().sum(), list(weights.values()), allow_unused=True)
    unused = [n for n, g in zip(weights, gradients, strict=True) if g is None]
    _require(not unused, f"{what}: prunable weights that its output does not depend on", got=", ".join(unused))
    return ""


def _built(settings: Entry, shapes: Sequence[tuple[int, ...]], what: str) -> Model:
    """The model for the first of the shapes that it can be built for."""
    refusal: ConfigError | None = None
    for shape in shapes:
        try:
            return build_model(settings, shape, CLASSES)
        except ConfigError as problem:
            refusal = problem
    raise Nonconforming(f"{what} can be built for no input of {', '.join(map(str, shapes))}", got=refusal) from refusal


def _method(entry: Method, what: str, given: Mapping[str, object]) -> str:
    _require("ipc" in entry.Settings.model_fields, f"{what}: settings without `ipc`, the images per class")
    settings = _settings(entry.Settings, what, _shrunk(entry, given))
    ipc: int = settings.model_dump()["ipc"]
    text = "images" not in entry.KINDS
    images, model, experts = (*sentences(), []) if text else digits()
    trains = needs_model(entry, settings)
    of_kinds = [of for kind, of in ((False, experts), (True, convex(experts))) if not misread(settings, kind)]
    source = Source(
        images.examples("train").ready(),
        images.classes,
        images.transform,
        model if trains else None,
        of_kinds[0] if needs_experts(entry, settings) else [],
    )
    streams = Streams(0, ("conformance",))
    distilled = _twice(f"{what}: its set", lambda: entry.distill(settings, source, streams, "cpu", SILENT), _same_set)
    synthetic, count = distilled.set, ipc * len(images.classes)
    _require(
        len(synthetic.images) == count
        and (text or tuple(synthetic.images.shape[1:]) == images.shape)
        and (text or synthetic.images.dtype == torch.float32),
        f"{what}: images",
        got=f"{tuple(synthetic.images.shape)} {synthetic.images.dtype}",
        expected=f"{(count, *images.shape)} {torch.float32}: ipc of every class",
    )
    if synthetic.label_kind == "classes":
        ordered = [c for c in range(len(images.classes)) for _ in range(ipc)]
        _require(
            synthetic.labels.tolist() == ordered,
            f"{what}: labels",
            got=synthetic.labels.tolist(),
            expected="ipc of each, in order",
        )
    loose = [t for t in (synthetic.images, synthetic.labels) if t.requires_grad or t.device.type != "cpu"]
    _require(not loose, f"{what}: tensors of a finished set require gradients, or are not on the CPU", fix=".detach().cpu()")
    _require(synthetic.method == settings.name, f"{what}: the set's method", got=synthetic.method, expected=settings.name)
    _require(synthetic.classes == images.classes, f"{what}: the set's classes", got=synthetic.classes, expected=images.classes)
    _require(distilled.cost.images > 0 or not trains, f"{what} trains networks, and costs nothing", got=distilled.cost)
    canonical_json(distilled.record)
    for others in of_kinds[1:] if source.experts else []:
        beside = replace(source, experts=others)
        _twice(
            f"{what}: its set of convex experts", partial(entry.distill, settings, beside, streams, "cpu", SILENT), _same_set
        )
    return ""


def _same_set(a: Distilled, b: Distilled) -> bool:
    equal = torch.equal(a.set.images, b.set.images) and torch.equal(a.set.labels, b.set.labels)
    return equal and a.set.lr == b.set.lr and a.cost == b.cost


def _criterion(entry: Criterion, what: str, given: Mapping[str, object]) -> str:
    settings = _settings(cast(type[CriterionSettings], entry.Settings), what, _shrunk(entry, given))
    images, model, _ = digits()
    state, examples = model.fresh(0, "criterion"), images.examples("train").ready().take(torch.arange(32))
    mask = Mask.dense(state, model.prunable)
    for level in range(3):
        weights = LevelWeights(mask.apply(state), mask, Streams(0, ("conformance",)).under(level=level))
        given_it, before = recorded(settings, weights, model, examples), clone(weights.state)
        scores = _twice(f"{what}: its scores", partial(score, settings, given_it), _equal)
        shapes = {n: tuple(t.shape) for n, t in mask.kept.items()}
        got = {n: tuple(t.shape) for n, t in scores.items()}
        _require(got == shapes, f"{what}: scores", got=got, expected=f"one for every prunable weight: {shapes}")
        _require(_equal(weights.state, before), f"{what} changes the weights that it scores")
        smaller = select(scores, mask, 0.3, settings.scope)
        _require(smaller.inside(mask) and smaller.remaining < mask.remaining, f"{what}: a level removes nothing")
        mask = smaller
    return ""


def _analysis(entry: Analysis, what: str, given: Mapping[str, object]) -> str:
    if entry.TAKES == "study":  # that of the package's own summary; a plugin's is refused
        return ""
    settings, given_it = _settings(entry.Settings, what, _shrunk(entry, given)), record(entry.TAKES)
    measurements = _twice(
        f"{what}: its numbers",
        lambda: entry.measure(settings, given_it),
        lambda a, b: canonical_json(a.parts().numbers) == canonical_json(b.parts().numbers),
    )
    name = measurements.analysis
    _require(name == settings.name, f"{what}: its measurements' name", got=name, expected=settings.name)
    there = readings(settings.name, measurements.numbers)
    lacks = [" / ".join(m.place) for m in declared(settings.name) if m.name not in there and not m.some_tasks]
    _require(not lacks, f"{what}: its numbers lack what its METRICS name", got=", ".join(lacks))
    return ""


def _format(entry: Format, what: str) -> str:
    _require(entry.KIND in get_args(Kind), f"{what}: KIND", got=entry.KIND, expected=", ".join(get_args(Kind)))
    ways = callable(entry.read) or callable(entry.write)
    _require(ways, f"{what} can neither be read nor written", fix="a function `read` or `write`")
    return ""
