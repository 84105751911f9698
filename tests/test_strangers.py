"""What a stranger packed has the right hashes and any types: it is damage where it is read, and no traceback anywhere."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from reference_strangers import redescribe, renumber, retensor, vouch
from tiny import Cli

from distill_prune.errors import DamagedArtifact, DistillPruneError
from distill_prune.plan.nodes import Graph
from distill_prune.run import measured
from distill_prune.run.reader import Reader
from distill_prune.store.manifest import NUMBERS
from distill_prune.store.store import Ref, Store
from distill_prune.study.study import read

Change = Callable[[Any], object]


def ref_of(graph: Graph, label: str) -> Ref:
    node = tiny.node_of(graph, label)
    return Ref(node.stage, node.key)


def noun(store: Store, ref: Ref) -> object:
    """What the artifact is, as a run reads it."""
    reader = Reader(store, "cpu")
    by_stage: dict[str, Callable[[str], object]] = {
        "data": reader.images,
        "experts": lambda key: reader.trajectory(key).state(1),
        "distill": reader.set,
        "prune": reader.ticket,
        "retrain": reader.state,
    }
    return by_stage[ref.stage](ref.key)


NUMBERED: dict[str, tuple[str, Change, str]] = {
    "no scale": ("data", lambda n: n.pop("scale"), "scale: Field required"),
    "a scale of zero": ("data", lambda n: n.update(scale=0), "scale: Input should be greater than 0"),
    "classes that are one text": ("data", lambda n: n.update(classes="0123456789"), "classes: Input should be a valid list"),
    "an unknown transform": ("data", lambda n: n.update(transform="whiten"), "transform 'whiten'"),
    "a transform of text": ("data", lambda n: n.update(transform="text"), "vocabulary: Field required"),
    "a layout of names": ("expert 0", lambda n: n.update(layout=["a"]), "layout: 0: Input should be a valid tuple"),
    "a layout of other sizes": ("expert 0", lambda n: n["layout"].pop(), "a trajectory of the wrong shape"),
    "negative sizes": ("expert 0", lambda n: n["layout"][0].__setitem__(1, [-1]), "greater than or equal to 0"),
    "a record in words": ("expert 0", lambda n: n.update(record=[{"epoch": "1"}]), "record: 0: epoch: .* valid number"),
    "a method that is a number": ("set subset", lambda n: n.update(method=1), "method: Input should be a valid string"),
    "a rate in words": ("set subset", lambda n: n.update(lr="0.1"), "lr: int: Input should be a valid integer"),
    "an infinite factor": ("set subset", lambda n: n.update(factor=1e9), "factor: Input should be a valid integer"),
    "a factor of millions": ("set subset", lambda n: n.update(factor=10**9), "images hold no patches"),
    "another kind of labels": ("set subset", lambda n: n.update(label_kind="logits"), "tensor 'labels' has 1 dimensions"),
    "no level": ("dense seed 0", lambda n: n.pop("level"), "level: Field required"),
    "an order of numbers": ("dense seed 0", lambda n: n.update(order=[1]), "order: 0: Input should be a valid string"),
    "an order of strangers": ("dense seed 0", lambda n: n.update(order=["a"]), "tensor 'mask/a' is missing"),
    "an empty order": ("dense seed 0", lambda n: n.update(order=[]), "keeps no weight"),
    "frozen strangers": ("retrain", lambda n: n.update(frozen=["stranger"]), "'stranger'"),
    "frozen numbers": ("retrain", lambda n: n.update(frozen=[1]), "frozen: 0: Input should be a valid string"),
}

TENSORED: dict[str, tuple[str, Change, str]] = {
    "no pixels": ("data", lambda t: t.pop("pixels"), "tensor 'pixels' is missing"),
    "flat pixels": ("data", lambda t: t.update(pixels=torch.zeros(3, 64)), "tensor 'pixels' has 2 dimensions"),
    "labels that are floats": ("data", lambda t: t.update(labels=t["labels"].float()), "dimensions of torch.float32"),
    "no examples": ("data", lambda t: t.update({n: t[n][:0] for n in ("pixels", "labels", "split")}), "'pixels' is empty"),
    "a mean of 7 channels": ("data", lambda t: t.update({"transform.mean": torch.zeros(7)}), r"'transform.mean' has the shape"),
    "no checkpoints": ("expert 0", lambda t: t.pop("checkpoints") is t.update(a=torch.zeros(1)), "checkpoints"),
    "checkpoints of truths": ("expert 0", lambda t: t.update(checkpoints=t["checkpoints"] > 0), "is of torch.bool"),
    "a row too short": ("expert 0", lambda t: t.update(checkpoints=t["checkpoints"][:, 1:].clone()), "wrong shape"),
    "images that are not finite": ("set subset", lambda t: t["images"].mul_(float("inf")), "'images' is not finite"),
    "labels of nobody": ("set subset", lambda t: t["labels"].fill_(99), "labels outside its classes"),
    "a mask of floats": ("dense seed 0", lambda t: t.update({n: v.float() for n, v in t.items()}), "is not binary"),
    "no state": ("dense seed 0", lambda t: [t.pop(n) for n in list(t) if n.startswith("state/")], "does not fit the network"),
    "weights that are not finite": ("retrain", lambda t: next(iter(t.values())).fill_(float("nan")), "is not finite"),
}


def of_label(graph: Graph, label: str) -> Ref:
    copy = next(u.copies[0] for u in graph.units if u.level == 2 and u.arm == "real")
    return Ref("retrain", copy) if label == "retrain" else ref_of(graph, label)


@pytest.mark.parametrize("kind", NUMBERED)
def test_numbers_of_other_types_are_damage(store: Store, graph: Graph, kind: str) -> None:
    label, change, reason = NUMBERED[kind]
    ref = of_label(graph, label)
    renumber(store, ref, change)
    assert store.sound(ref.stage, ref.key)
    with pytest.raises(DamagedArtifact, match=f"damaged artifact {ref.stage}/{ref.key[:12]}: content: .*{reason}"):
        noun(store, ref)


@pytest.mark.parametrize("kind", TENSORED)
def test_tensors_of_other_types_are_damage(store: Store, graph: Graph, kind: str) -> None:
    label, change, reason = TENSORED[kind]
    ref = of_label(graph, label)
    retensor(store, ref, change)
    assert store.sound(ref.stage, ref.key)
    with pytest.raises(DamagedArtifact, match=f"damaged artifact {ref.stage}/{ref.key[:12]}: content: .*{reason}"):
        noun(store, ref)


def test_a_level_of_another_network_is_damage(store: Store, graph: Graph) -> None:
    """Its masks do not fit the level 0 that has its weights."""
    ref = ref_of(graph, "real seed 0 level 1")
    retensor(store, ref, lambda t: t.update({n: torch.ones(2, dtype=torch.bool) for n in t if n.startswith("mask/")}))
    with pytest.raises(DamagedArtifact, match=f"damaged artifact prune/{ref.key[:12]}: content: "):
        noun(store, ref)


def test_what_is_read_is_what_was_written(store: Store) -> None:
    """Nothing of ours is taken for a stranger's."""
    for ref in store.all():
        assert measured.numbers(store, ref.stage, ref.key) == store.numbers(ref.stage, ref.key)
        if ref.stage != "compare":
            noun(store, ref)


def places(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a document lies."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inside:
        yield (*at, name)
        yield from places(below, (*at, name))


@pytest.mark.parametrize("seed", range(4))
def test_any_other_value_is_damage_or_nobody_reads_it(store: Store, graph: Graph, seed: int) -> None:
    """One value of each artifact is another: the numbers are refused, or the study is read in spite of it."""
    draw, refused = random.Random(seed), 0
    for ref in [r for r in store.all() if r.stage != "retrain"]:
        path = store.path(ref.stage, ref.key) / NUMBERS
        numbers = json.loads(path.read_text())
        *above, last = draw.choice(list(places(numbers)))
        changed = copy.deepcopy(numbers)
        inside: Any = changed
        for name in above:
            inside = inside[name]
        inside[last] = draw.choice(["x", [], {}, None, {"mean": "x"}, [[1]], True])
        path.write_text(json.dumps(changed))
        vouch(store, ref)
        try:
            measured.numbers(store, ref.stage, ref.key)
        except DamagedArtifact:
            refused += 1
    try:
        study = read("tiny", graph, store)
    except DistillPruneError:
        return
    assert refused and len(study.missing) == refused


def test_no_command_ends_in_a_traceback(cli: Cli, store: Store, graph: Graph, file: str, tmp_path: Path) -> None:
    """The fixture fails on one. A study is shown without what is damaged."""
    where = ("--store", store.root)
    for label, change in (
        ("set synthetic", lambda n: n.update(cost=[1], record=3)),
        ("real seed 0 level 2", lambda n: n.update(layers=7)),
        ("evaluation of set synthetic", lambda n: n.update(nets=[{"test": 1}])),
        ("summary", lambda n: n.update(rows=[{"arm": 1}])),
    ):
        renumber(store, ref_of(graph, label), change)
    synthetic, ticket = graph.sets["synthetic"], ref_of(graph, "real seed 0 level 2").key
    for command in (
        ("export", synthetic, "--to", "mtt", tmp_path / "a"),
        ("export", ticket, "--to", "torch-prune", tmp_path / "b"),
        ("diff", synthetic, graph.sets["subset"]),
        ("diff", ticket, ref_of(graph, "synthetic seed 0 level 2").key),
    ):
        done = cli(*command, *where)
        assert done.code == 1 and "damaged artifact" in done.err, (command, done)
    assert cli("show", ticket, *where).code == 1 and cli("show", ticket, "--json", *where).code == 0
    assert cli("ls", *where).code == 0 and cli("plan", file, *where).code == 0
    shown = cli("report", file, "-o", tmp_path / "report", *where)
    assert shown.code in (0, 1) and ("report: " in shown.out or "damaged artifact" in shown.err)


def test_a_run_makes_it_again(store: Store, graph: Graph) -> None:
    whole = tiny.contents(store)
    ref = ref_of(graph, "accuracy of real seed 0 level 2")
    renumber(store, ref, lambda n: n.clear())
    summary = store.path("compare", graph.summary)
    for path in summary.iterdir():
        path.unlink()
    summary.rmdir()
    watch = tiny.Watch()
    tiny.execute(store, watch=watch)
    assert tiny.contents(store) == whole and any(ref.key[:12] in w and ".damaged" in w for w in watch.warnings)


@pytest.mark.parametrize(
    "model",
    [
        {"name": ["convnet"]},
        {"depth": 3},
        {"name": "convnet", "width": "wide"},
        {"name": "convnet", "depth": 99},
        {"name": "bert", "config": {"vocab_size": "many"}},
        {"name": "bert", "config": [1]},
        {"name": "convnet", "depth": 2, "width": 5},
    ],
    ids=lambda model: json.dumps(model)[:40],
)
def test_a_network_that_a_manifest_names_is_checked(
    cli: Cli, store: Store, graph: Graph, tmp_path: Path, model: dict[str, Any]
) -> None:
    """The network of an imported ticket stands in its manifest, outside the key."""
    where, ticket = ("--store", store.root), ref_of(graph, "dense seed 0").key
    known = ("--set", f"dataset={graph.data}", "--set", "model={name: convnet, depth: 2, width: 4, norm: instance}")
    assert cli("export", ticket, "--to", "torch-prune", tmp_path / "a.pt", *where).code == 0
    brought = cli("import", "torch-prune", tmp_path / "a.pt", *known, "--tag", "theirs", *where)
    assert brought.code == 0, brought
    redescribe(store, store.find("theirs"), model=model)
    done = cli("export", "theirs", "--to", "safetensors", tmp_path / "b.safetensors", *where)
    assert done.code in (1, 2) and done.err.startswith("error: ") and not (tmp_path / "b.safetensors").exists(), done
