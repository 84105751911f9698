"""Two artifacts side by side, against slow twins that count and subtract one by one."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from tiny import Cli

from distill_prune.artifacts import SyntheticSet, Transform
from distill_prune.errors import StoreError, UserError
from distill_prune.plan.nodes import Graph
from distill_prune.run.reader import Reader
from distill_prune.store.store import Store
from distill_prune.study.difference import difference


def tickets(graph: Graph, level: int = 2) -> tuple[str, str]:
    return graph.chains["synthetic", 0][level], graph.chains["real", 0][level]


def survivors(store: Store, key: str) -> dict[str, set[int]]:
    kept = Reader(store, "cpu").ticket(key).mask.kept
    return {n: {i for i, x in enumerate(t.flatten().tolist()) if x} for n, t in kept.items()}


# tickets


def test_masks_against_counting(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    a, b = tickets(graph)
    found = difference(store, a, b)
    mine, theirs = survivors(store, a), survivors(store, b)
    total = {n: t.numel() for n, t in Reader(store, "cpu").ticket(a).mask.kept.items()}
    assert found["kind"] == "tickets" and (found["a"]["key"], found["b"]["key"]) == (a, b)
    for name, layer in found["overlap"]["layers"].items():
        both = mine[name] & theirs[name]
        assert (layer["a"], layer["b"], layer["shared"]) == (len(mine[name]), len(theirs[name]), len(both))
        assert layer["iou"] == len(both) / len(mine[name] | theirs[name]) and layer["total"] == total[name]
    sizes = {side: sum(map(len, s.values())) for side, s in (("a", mine), ("b", theirs))}
    for side in "ab":
        assert found["sparsity"][side] == pytest.approx(1 - sizes[side] / sum(total.values()), abs=1e-15)
    # by chance: weights of two random masks meet in a layer with probability |A| |B| / N
    mean = sum(len(mine[n]) * len(theirs[n]) / total[n] for n in total)
    assert found["overlap"]["chance"]["shared"] == pytest.approx(mean, rel=1e-12)
    assert found["overlap"]["chance"]["iou"] == pytest.approx(mean / (sum(sizes.values()) - mean), rel=1e-12)


def test_rewinding_weights(store: Store, graph: Graph) -> None:
    a, b = tickets(graph)
    assert difference(store, a, b)["rewinding"] == {
        "same_level_0": True,
        "shared": sum(len(s & survivors(store, b)[n]) for n, s in survivors(store, a).items()),
        "max_abs": 0.0,
        "others_max_abs": 0.0,
        "same": True,
    }
    other, _ = tiny.execute(store, "seeds=[7]", "arms={random: {criterion: {name: random}}}", "distill={}", until="prune")
    c = other.chains["random", 7][1]
    found = difference(store, a, c)["rewinding"]
    mine, theirs = (Reader(store, "cpu").ticket(k) for k in (a, c))
    largest, count = 0.0, 0
    for name, kept in mine.mask.kept.items():
        for i in range(kept.numel()):
            if kept.flatten()[i] and theirs.mask.kept[name].flatten()[i]:
                count += 1
                largest = max(largest, abs(float(mine.state[name].flatten()[i]) - float(theirs.state[name].flatten()[i])))
    assert found["shared"] == count and found["max_abs"] == pytest.approx(largest, rel=1e-6) and not found["same"]
    assert found["same_level_0"] is False and found["others_max_abs"] > 0


def test_without_level_0_the_masks_are_still_compared(store: Store, graph: Graph) -> None:
    a, b = tickets(graph)
    whole = difference(store, a, b)
    shutil.rmtree(store.path("prune", graph.chains["real", 0][0]))
    found = difference(store, a, b)
    assert found["rewinding"] is None and found["costs"]["a"]["chain"] is None
    assert found["overlap"] == whole["overlap"] and found["costs"]["a"]["level"] == whole["costs"]["a"]["level"]


def test_costs_are_the_level_s_and_the_chain_s(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    costs = difference(store, *tickets(graph))["costs"]
    for side, arm in (("a", "synthetic"), ("b", "real")):
        levels = [store.numbers("prune", k)["cost"] for k in graph.chains[arm, 0].values()]
        assert costs[side]["level"] == levels[2] and levels[2]["steps"] > 0
        assert costs[side]["chain"] == {k: sum(c[k] for c in levels) for k in ("images", "steps", "flops")}


def test_measurements_of_both(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    measured = difference(store, *tickets(graph))["measured"]
    traces = {"trace_per_weight", "trace_invariant"}
    assert set(measured) == {"accuracy", "accuracy_train", "barrier_test", "barrier_train"} | traces
    for side, arm in (("a", "synthetic"), ("b", "real")):
        unit = next(u for u in graph.units if (u.arm, u.level) == (arm, 2))
        accuracy, barrier = (store.numbers("compare", unit.measured[n]) for n in ("accuracy", "connectivity"))
        assert measured["accuracy"][side] == {"key": unit.measured["accuracy"], **accuracy["accuracy"]["test"]}
        assert measured["barrier_test"][side] == {"key": unit.measured["connectivity"], **barrier["barrier"]["test_error"]}
    assert all(m["alike"] for m in measured.values())


def test_of_several_measurements_those_that_are_alike(store: Store, graph: Graph) -> None:
    """The synthetic arm is measured again after a longer retraining: newer, yet not what the other's is compared with."""
    a, b = tickets(graph)
    longer = ["retrain.recipe.length=9it", "arms={synthetic: {images: synthetic}}", "compare={accuracy: {}}"]
    again, _ = tiny.execute(store, *longer, "prune.real={length: 8it, batch: 32, lr: 0.1}")
    assert again.chains["synthetic", 0][2] == a
    newer = next(u for u in again.units if u.level == 2).measured["accuracy"]
    for key, when in ((newer, "2999-01-01"),):
        path = store.path("compare", key) / "manifest.json"
        path.write_bytes(tiny.resealed({**json.loads(path.read_text()), "created": when}))
    own = next(u for u in graph.units if (u.arm, u.level) == ("synthetic", 2)).measured["accuracy"]
    found = difference(store, a, b)["measured"]["accuracy"]
    assert found["a"]["key"] == own and found["alike"]
    shutil.rmtree(store.path("compare", own))
    found = difference(store, a, b)["measured"]["accuracy"]
    assert found["a"]["key"] == newer and not found["alike"]
    theirs = next(u for u in graph.units if (u.arm, u.level) == ("real", 2)).measured["accuracy"]
    shutil.rmtree(store.path("compare", theirs))
    assert difference(store, a, b)["measured"]["accuracy"]["b"] is None


def test_settings_and_inputs_path_by_path(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    found = {d["path"]: (d["a"], d["b"]) for d in difference(store, *tickets(graph))["differing"]}
    assert found.pop("settings.recipe.length") == ("6it", "8it") and found.pop("settings.recipe.batch") == (10, 32)
    images = found.pop("inputs.images")
    assert images[0] == {"key": graph.sets["synthetic"], "stage": "distill", "label": "set synthetic"}
    assert images[1]["stage"] == "data"
    assert found.pop("inputs.previous")[0]["key"] == graph.chains["synthetic", 0][1] and found == {}
    pair = graph.chains["synthetic", 0][2], graph.chains["subset", 0][2]
    paths = {d["path"]: (d["a"], d["b"]) for d in difference(store, *pair)["differing"]}
    assert paths["inputs.images.settings.method.name"] == ("trajectory", "subset")
    assert paths["inputs.images.inputs.experts"] == (2, 0) and "inputs.previous.settings.recipe.batch" not in paths
    assert difference(store, pair[0], pair[0])["differing"] == []


def test_experts_are_told_once(store: Store, graph: Graph) -> None:
    other, _ = tiny.execute(store, "experts.recipe.lr=0.2", "arms={real: {}}", until="distill")
    found = difference(store, graph.sets["synthetic"], other.sets["synthetic"])["differing"]
    assert [d["path"] for d in found] == ["inputs.expert0", "inputs.expert0.settings.recipe.lr"]
    assert (found[1]["a"], found[1]["b"]) == (0.1, 0.2)


def test_a_copy_stands_for_its_ticket(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    a, b = tickets(graph)
    copy = tiny.node_of(graph, "synthetic seed 0 level 2 copy 1").key
    assert difference(store, copy, b) == difference(store, a, b)


def test_other_networks_are_refused_by_layer(store: Store, graph: Graph) -> None:
    other, _ = tiny.execute(store, "model.width=6", "arms={random: {criterion: {name: random}}}", "distill={}", until="prune")
    with pytest.raises(UserError, match=r"(?s)masks of different architectures.*they differ in 0.weight, 4.weight, 9.weight"):
        difference(store, tickets(graph)[0], other.chains["random", 0][1])


@pytest.mark.parametrize("pair", [("ticket", "set"), ("data", "data"), ("ticket", "summary"), ("expert", "expert")])
def test_what_cannot_be_laid_side_by_side(cli: Cli, finished: tuple[Store, Graph], pair: tuple[str, str]) -> None:
    store, graph = finished
    known = {"ticket": tickets(graph)[0], "set": graph.sets["subset"], "data": graph.data, "summary": graph.summary}
    known["expert"] = tiny.node_of(graph, "expert 0").key
    done = cli("diff", *(known[p] for p in pair), "--store", store.root)
    assert done.code == 2 and "cannot be compared" in done.err
    assert "expected: two tickets (or retrained copies of them), or two synthetic sets" in done.err


def test_a_copy_without_its_ticket(store: Store, graph: Graph) -> None:
    a, b = tickets(graph)
    shutil.rmtree(store.path("prune", a))
    copy = tiny.node_of(graph, "synthetic seed 0 level 2 copy 1").key
    with pytest.raises(StoreError, match=rf"the ticket of '{copy}', prune/{a[:12]}, is not in the store"):
        difference(store, copy, b)


# synthetic sets


def stored(store: Store, number: int, made: SyntheticSet) -> str:
    provenance = tiny.provenance("distill", {"number": number}, label=f"set {number}")
    store.write(provenance, made.parts())
    return provenance.key


def normalized(low: float) -> Transform:
    return Transform("normalize", {"mean": torch.full((2,), low), "std": torch.tensor([0.5, 0.25])})


def test_sets_in_pixels_against_loops(empty: Store) -> None:
    """Two spaces, two numbers of images, one class without images in b."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(6, 2, 3, 3, generator=generator), torch.rand(3, 2, 3, 3, generator=generator)
    labels = [torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1, 0, 1])]
    spaces = [normalized(0.5), normalized(0.1)]
    classes = ("x", "y", "z")
    keys = [
        stored(empty, i, SyntheticSet(space.apply(x), y, classes, space, "m"))
        for i, (x, y, space) in enumerate(zip((one, other), labels, spaces, strict=True))
    ]
    found = difference(empty, *keys)
    means = []
    for x, y in ((one, labels[0]), (other, labels[1])):
        means.append(
            {
                c: [sum(float(x[i].flatten()[p]) for i in range(len(x)) if y[i] == c) / int((y == c).sum()) for p in range(18)]
                for c in range(3)
                if int((y == c).sum())
            }
        )

    def apart(a: list[float], b: list[float]) -> float:
        return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / len(a))

    expected = [apart(means[0][c], means[1][c]) for c in (0, 1)]
    assert [c["distance"] for c in found["classes"]] == [pytest.approx(e, rel=1e-5) for e in expected] + [None]
    assert [(c["class"], c["a"], c["b"]) for c in found["classes"]] == [("x", 2, 1), ("y", 2, 2), ("z", 2, 0)]
    assert found["distance"] == pytest.approx(sum(expected) / 2, rel=1e-5)
    inner = [apart(means[0][a], means[0][b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found["between_classes"]["a"] == pytest.approx(sum(inner) / 3, rel=1e-5)
    assert found["between_classes"]["b"] == pytest.approx(apart(means[1][0], means[1][1]), rel=1e-5)
    assert difference(empty, keys[0], keys[0])["distance"] == 0


def test_patches_and_soft_labels_count_as_training_sees_them(empty: Store) -> None:
    """Four patches of 1 x 1 a stored image: flat images of their colours; labels as logits."""
    x = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]], [[[0.9, 0.9], [0.7, 0.7]]]])
    space, logits = Transform("pixels", {}), torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    patches = SyntheticSet(x, logits, ("x", "y"), space, "m", factor=2, label_kind="logits")
    flat = SyntheticSet(
        torch.tensor([0.25, 0.5]).view(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous(), torch.tensor([0, 1]), ("x", "y"), space, "m"
    )
    found = difference(empty, stored(empty, 0, patches), stored(empty, 1, flat))
    assert [(c["a"], c["b"]) for c in found["classes"]] == [(4, 1), (4, 1)]
    assert [c["distance"] for c in found["classes"]] == [pytest.approx(0.0, abs=1e-7), pytest.approx(0.3, rel=1e-6)]
    assert found["sets"]["a"]["factor"] == 2 and found["costs"]["a"]["distillation"] is None


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [((2, 2, 3, 4), ("x", "y"), "synthetic sets of different images"), ((2, 2, 3, 3), ("x", "w"), "of different classes")],
)
def test_sets_of_different_things(empty: Store, shape: tuple[int, ...], classes: tuple[str, str], said: str) -> None:
    sets = [
        SyntheticSet(torch.zeros(s), torch.tensor([0, 1]), c, normalized(0.5), "m")
        for s, c in (((2, 2, 3, 3), ("x", "y")), (shape, classes))
    ]
    with pytest.raises(UserError, match=f"(?s){said}.*cannot be compared"):
        difference(empty, *(stored(empty, i, s) for i, s in enumerate(sets)))


def test_sets_of_a_study(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    found = difference(store, graph.sets["synthetic"], graph.sets["subset"])
    assert found["kind"] == "sets" and found["sets"]["a"]["method"] == "trajectory" and found["sets"]["b"]["lr"] is None
    evaluation = store.numbers("compare", graph.evaluations["synthetic"])
    assert found["measured"]["accuracy_of_set"]["a"]["mean"] == evaluation["accuracy"]["test"]["mean"]
    assert found["costs"]["a"]["distillation"]["steps"] == 12 and found["distance"] > 0


# the command


def test_the_command(cli: Cli, finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    a, b = tickets(graph)
    done = cli("diff", a[:10], b[:10], "--json", "--store", store.root)
    assert done.code == 0 and json.loads(done.out) == json.loads(json.dumps(difference(store, a, b)))
    out = cli("diff", a[:10], b[:10], "--store", store.root).out
    found = difference(store, a, b)
    overlap = found["overlap"]
    lines = out.splitlines()
    assert lines[1].split() == ["ticket", "prune", a[:12], "prune", b[:12]]
    row = next(line for line in lines if line.startswith("all")).split()
    assert row[1] == f"{100 * found['sparsity']['a']:.2f}%" and row[3:6] == [
        str(overlap["shared"]),
        "of",
        str(overlap["total"]),
    ]
    assert row[6:] == [f"{overlap['iou']:.3f}", f"{overlap['chance']['iou']:.3f}", f"{overlap['z']:.3f}"]
    assert "rewinding weights: equal where they survive in both (one level 0)" in lines
    accuracy = found["measured"]["accuracy"]["a"]
    assert f"accuracy          {100 * accuracy['mean']:.4g}% ± {100 * accuracy['sd']:.3g} sd (n 2)" in out
    at = next(i for i, line in enumerate(lines) if line.startswith("differs"))
    column = lines[at].index(" a") + 1
    assert {line[column - 1] for line in lines[at:]} == {" "} and "inputs.images" in out and "(set synthetic)" in out
    assert not any(line != line.rstrip() for line in lines)


def test_the_command_on_sets_and_on_one_ticket(cli: Cli, finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    out = cli("diff", graph.sets["synthetic"], graph.sets["subset"], "--store", store.root).out
    assert "distance of means" in out and "accuracy_of_set" in out and "settings.method.name" in out
    assert "different classes of one set are " in out
    same = cli("diff", tickets(graph)[0], tickets(graph)[0], "--store", store.root).out
    assert same.endswith("\nno setting differs\n")


def test_an_unknown_ref(cli: Cli, empty: Store) -> None:
    done = cli("diff", "feedbeef", "feedbeef", "--store", empty.root)
    assert done.code == 2 and "no artifact in this store matches 'feedbeef'" in done.err


# stores


def test_tickets_of_two_stores(store: Store, graph: Graph, tmp_path: Path) -> None:
    a, b = tickets(graph)
    theirs = Store(shutil.copytree(store.root, tmp_path / "theirs"))
    mine = difference(store, a, b)
    assert difference(store, a, b, theirs) == mine
    shutil.rmtree(store.path("prune", b))
    assert difference(store, a, b, theirs) == mine
    with pytest.raises(StoreError, match="no artifact in this store matches"):
        difference(store, a, b)
