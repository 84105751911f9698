"""Criteria that need no training, how criteria are called, and selection in parts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference import convnet, cross_entropy, examples_of, logits, survivors, uneven
from reference_plugins import SCORE, Write, written
from torch import Tensor, nn

from distill_prune.artifacts import Examples, Mask, Ticket
from distill_prune.errors import NonFiniteError, RunError
from distill_prune.models import Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.plugins import load
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.imp import Step, next_level, score
from distill_prune.prune.select import Iterative, remaining, schedule
from distill_prune.rng import Streams
from distill_prune.training import Recipe, flops_of_step

write = pytest.fixture(written)
STREAMS = Streams(0, ("prune",), (("level", 1),))
INITIAL, SNIP, SYNFLOW = (CRITERIA[n].Settings for n in ("initial_magnitude", "snip", "synflow"))


def dense(model: Model, dtype: torch.dtype = torch.float64) -> Ticket:
    state = uneven(model, dtype=dtype)
    return Ticket(Mask.dense(state, model.prunable), state, 0)


def half(model: Model, state: Mapping[str, Tensor]) -> Mask:
    """A mask that keeps two weights of three, here and there."""
    return Mask({n: (torch.arange(state[n].numel()) % 3 > 0).view(state[n].shape) for n in model.prunable})


def level(model, start, examples, criterion, recipe=None, streams=STREAMS, rate=0.3, **more):
    common = {"examples": examples, "recipe": recipe, "first": 0, "device": "cpu", "progress": SILENT}
    at = {"level": more.pop("level")} if "level" in more else {}
    return next_level(model, start, start, Step(rate=rate, criterion=criterion, **more), streams, **common, **at)


# -- initial magnitude


def test_initial_magnitude_ranks_the_rewinding_weights_and_trains_nothing():
    start = dense(convnet())
    scores = {n: t.abs() for n, t in start.state.items() if n in start.mask.kept}
    found = level(None, start, None, INITIAL())
    assert {n: t.flatten().tolist() for n, t in found.mask.kept.items()} == survivors(scores, start.mask.kept, 0.3, "global")
    assert found.numbers == {"cost": {"images": 0, "steps": 0, "flops": 0}, "train_loss": None}
    shot = level(None, start, None, INITIAL(), rounds=2)
    second = next_level(
        None,
        found,
        start,
        Step(rate=0.3, criterion=INITIAL()),
        STREAMS,
        examples=None,
        recipe=None,
        first=0,
        device="cpu",
        progress=SILENT,
    )
    assert all(torch.equal(t, second.mask.kept[n]) for n, t in shot.mask.kept.items())  # one-shot and chain are one


# -- SNIP


@pytest.mark.parametrize("soft", [False, True])
def test_snip_is_the_slope_of_the_loss_along_each_connection(soft):
    """By central differences of a factor on each weight, one weight at a time, on the network written out."""
    model = convnet(depth=1, width=3)
    state, examples = uneven(model), examples_of(model, 5)
    if soft:
        generator = torch.Generator().manual_seed(1)
        labels = torch.rand(5, 3, dtype=torch.float64, generator=generator).softmax(1)
        examples = Examples(examples.x, labels)
    mask = half(model, state)
    found = score(SNIP(rows=99), state, mask, STREAMS, model, examples)
    masked, eps = mask.apply(state), 1e-6
    for n in model.prunable:
        for i in range(state[n].numel()):
            losses = []
            for c in (1 + eps, 1 - eps):
                moved = masked[n].clone()
                moved.view(-1)[i] *= c
                losses.append(float(cross_entropy(logits({**masked, n: moved}, examples.x), examples.y)))
            slope = abs(losses[0] - losses[1]) / (2 * eps)
            assert float(found[n].view(-1)[i]) == pytest.approx(slope, rel=1e-5, abs=2e-9)
        assert bool((found[n][mask.kept[n]] > 0).any()) and not found[n][~mask.kept[n]].any()


def test_snip_looks_at_rows_that_its_streams_draw():
    model = convnet()
    state, examples = uneven(model), examples_of(model, 40)
    mask = Mask.dense(state, model.prunable)
    found = score(SNIP(rows=7), state, mask, STREAMS, model, examples)
    rows = torch.randperm(40, generator=STREAMS("rows"))[:7]
    by_hand = score(SNIP(), state, mask, STREAMS, model, examples.take(rows))
    other = score(SNIP(rows=7), state, mask, Streams(0, ("prune",), (("level", 2),)), model, examples)
    for n, t in found.items():
        torch.testing.assert_close(t, by_hand[n])
        assert not torch.allclose(t, other[n])


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_snip_is_of_the_mean_loss_however_many_images_go_at_once(norm):
    """More than one chunk, and batch norm by its running statistics: the mean over images one at a time."""
    model = convnet(norm=norm)
    state, examples = uneven(model), examples_of(model, 150)
    mask = Mask.dense(state, model.prunable)
    found = score(SNIP(rows=150), state, mask, STREAMS, model, examples)
    total = {n: torch.zeros_like(state[n]) for n in model.prunable}
    for i in range(150):
        weights = {n: state[n].clone().requires_grad_() for n in model.prunable}
        loss = cross_entropy(model({**state, **weights}, examples.x[i : i + 1]), examples.y[i : i + 1])
        for n, g in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            total[n] += g / 150
    for n, t in found.items():
        torch.testing.assert_close(t, (total[n] * state[n]).abs())
    before = {n: t.clone() for n, t in state.items()}
    score(SNIP(), state, mask, STREAMS, model, examples)
    assert all(torch.equal(t, before[n]) and not t.requires_grad for n, t in state.items())


def test_a_snip_level_ranks_by_hand_and_says_what_it_cost():
    model = convnet(width=4)
    start, examples = dense(model), examples_of(model, 9)
    found = level(model, start, examples, SNIP(rows=6))
    scores = score(SNIP(rows=6), start.state, start.mask, STREAMS, model, examples)
    assert {n: t.flatten().tolist() for n, t in found.mask.kept.items()} == survivors(scores, start.mask.kept, 0.3, "global")
    assert found.numbers["cost"] == {"images": 6, "steps": 0, "flops": flops_of_step(model, 6, examples.shape)}
    every = {"images": 9, "steps": 0, "flops": flops_of_step(model, 9, examples.shape)}
    assert level(model, start, examples, SNIP(rows=99)).numbers["cost"] == every
    assert found.numbers["cost"]["flops"] > 0 and found.numbers["train_loss"] is None
    assert all(torch.equal(found.state[n], t * found.mask.kept.get(n, 1)) for n, t in start.state.items())


def test_one_shot_masks_of_snip_nest():
    model = convnet(width=6)
    start, examples = dense(model), examples_of(model, 30)
    shots = [level(model, start, examples, SNIP(rows=8), rounds=k, level=k) for k in (1, 2, 4)]
    assert shots[1].mask.inside(shots[0].mask) and shots[2].mask.inside(shots[1].mask)
    total = start.mask.total
    assert [t.mask.remaining for t in shots] == [remaining(total, 0.3, k) for k in (1, 2, 4)] and shots[2].level == 4


def test_scores_that_are_not_numbers_are_refused():
    model = convnet()
    start, examples = dense(model), examples_of(model, 5)
    bad = Examples(examples.x * float("nan"), examples.y)
    with pytest.raises(NonFiniteError, match=r"scores of '0\.weight' are not numbers"):
        level(model, start, bad, SNIP())
    huge = Ticket(start.mask, {n: t * (1e200 if n in model.prunable else 1) for n, t in start.state.items()}, 0)
    with pytest.raises(NonFiniteError, match="synaptic flow of the network is not finite\n  got:      inf"):
        level(model, huge, None, SYNFLOW(rounds=1))


# -- SynFlow


def flow(w: Mapping[str, Tensor], mask: Mask, depth: int, norm: str, side: int) -> Tensor:
    """R of the ConvNet written out: weights by magnitude, no biases, norms as factors of their channels."""
    w = {n: (t * mask.kept[n] if n in mask.kept else t).double().abs() for n, t in w.items()}
    x, layer = torch.ones(1, w["0.weight"].shape[1], side, side, dtype=torch.float64), 0
    for _ in range(depth):
        x = F.conv2d(x, w[f"{layer}.weight"], padding=1)
        if norm != "none":
            layer += 1
            deviation = (w[f"{layer}.running_var"] + 1e-5).sqrt() if norm == "batch" else torch.ones(1)
            x = x * (w[f"{layer}.weight"] / deviation).view(1, -1, 1, 1)
        x, layer = F.avg_pool2d(x, 2), layer + 3
    return (x.flatten() @ w[f"{layer + 1}.weight"].T).sum()


@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "none"])
def test_synflow_is_what_the_flow_loses_without_each_weight(norm):
    """R is linear in every single weight, so w dR/dw = R - R without it: exactly, one weight at a time."""
    model = convnet(depth=2, norm=norm, side=6)
    state = uneven(model)
    if norm == "batch":
        state = {n: t + 0.7 if "running" in n else t for n, t in state.items()}
    state = {n: t - 0.4 if n in model.prunable else -t if n.endswith("weight") else t for n, t in state.items()}
    mask = half(model, state)
    found = score(SYNFLOW(), state, mask, STREAMS, model)
    whole = flow(state, mask, 2, norm, 6)
    for n in model.prunable:
        assert found[n].dtype == torch.float64
        for i in range(state[n].numel()):
            without = state[n].clone()
            without.view(-1)[i] = 0
            lost = whole - flow({**state, n: without}, mask, 2, norm, 6)
            assert float(found[n].view(-1)[i]) == pytest.approx(float(lost), rel=1e-9, abs=float(whole) * 1e-13)
        assert float(found[n].sum()) == pytest.approx(float(whole), rel=1e-12)  # every layer carries all of the flow
        assert not found[n][~mask.kept[n]].any()
    assert any(bool((state[n] < 0).any()) for n in model.prunable)


def test_synflow_multiplies_where_other_norms_stand():
    """Norms that no model here has: layer and root-mean-square norm over trailing axes, batch norm without memory."""

    def built(norm: nn.Module | None) -> Model:
        layers = (nn.Conv2d(1, 4, 3), *([] if norm is None else [norm]), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        return Model(lambda: nn.Sequential(*layers), (1, 4, 4), 2, f"test of {norm}")

    plain = built(None)
    state = {n: t.double() for n, t in plain.fresh(0).items()}
    scores = list(score(SYNFLOW(), state, Mask.dense(state, plain.prunable), STREAMS, plain).values())
    for norm in (
        nn.LayerNorm((4, 2, 2)),
        nn.RMSNorm((4, 2, 2)),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
    ):
        model = built(norm)
        w, b = state["0.weight"], state["0.bias"]
        own = {"0.weight": w, "0.bias": b, "4.weight": state["3.weight"], "4.bias": state["3.bias"]}
        own |= {f"1.{n}": -3 * t.detach().double() for n, t in norm.named_parameters() if n == "weight"}
        own |= {f"1.{n}": t.detach().double() + 5 for n, t in norm.named_parameters() if n == "bias"}
        found = score(SYNFLOW(), own, Mask.dense(own, model.prunable), STREAMS, model)
        for a, b in zip(found.values(), scores, strict=True):
            torch.testing.assert_close(a, 3 * b)
        out = model({n: t.float() for n, t in own.items()}, torch.randn(2, 1, 4, 4))  # the network is as before
        assert not torch.allclose(out, built(None)({n: t.float() for n, t in state.items()}, torch.randn(2, 1, 4, 4)))
        assert not any(layer._forward_hooks for layer in model.module.modules())


def test_synflow_outlives_the_range_of_float32():
    model = build_model(LeNet(hidden=(5,) * 60), (1, 2, 2), 3)
    state = {n: 1e-2 * t for n, t in model.fresh(0, "init").items()}
    found = score(SYNFLOW(), state, Mask.dense(state, model.prunable), STREAMS, model)
    assert all(bool((t > 0).any()) and float(t.max()) < 1e-50 for t in found.values())


def test_synflow_is_in_parts_on_an_exponential_schedule_by_hand():
    model = convnet(depth=2, width=4, side=8)
    start = dense(model)
    found = level(model, start, None, SYNFLOW(rounds=7), rate=0.4, rounds=3)
    total = start.mask.total
    final = total
    for _ in range(3):
        final -= round(0.4 * final)
    kept = {n: t.clone() for n, t in start.mask.kept.items()}
    for i in range(1, 8):
        whole = {n: t.clone().requires_grad_() for n, t in Mask(kept).apply(start.state).items() if t.is_floating_point()}
        gradients = torch.autograd.grad(flow(whole, Mask(kept), 2, "instance", 8), [whole[n] for n in model.prunable])
        scores = {n: (g * whole[n]).abs().flatten().tolist() for n, g in zip(model.prunable, gradients, strict=True)}
        ranked = sorted(
            (scores[n][p], o, p, n) for o, n in enumerate(kept) for p in range(kept[n].numel()) if kept[n].view(-1)[p]
        )
        for _, _, place, n in ranked[: len(ranked) - round(total * (final / total) ** (i / 7))]:
            kept[n].view(-1)[place] = False
    assert all(torch.equal(t, kept[n]) for n, t in found.mask.kept.items())
    assert found.mask.remaining == final
    assert found.numbers["cost"] == {"images": 0, "steps": 0, "flops": 7 * flops_of_step(model, 1, torch.Size(model.shape))}
    once = level(model, start, None, SYNFLOW(rounds=1), rate=0.4, rounds=3)
    assert once.mask.remaining == final and not once.mask.inside(found.mask)


def test_synflow_keeps_every_layer_where_scores_taken_once_lose_some():
    """A layer with many weights has small ones. At 98.9 percent one ranking of the initial magnitudes, and SynFlow in one
    part, remove both middle layers whole; in 100 parts SynFlow keeps some of every layer, as does every part before."""
    model = build_model(ConvNet(depth=3, width=16), (1, 16, 16), 10)
    state = model.fresh(0, "init")
    start = Ticket(Mask.dense(state, model.prunable), state, 0)

    def layers(criterion) -> list[int]:
        ticket = level(model, start, None, criterion, rate=0.2, rounds=20)
        assert ticket.mask.remaining == remaining(start.mask.total, 0.2, 20) == 62
        return [row["remaining"] for row in ticket.mask.layers().values()]

    assert layers(INITIAL())[1:3] == [0, 0] and layers(SYNFLOW(rounds=1))[1:3] == [0, 0]
    assert min(layers(SYNFLOW())) > 5


# -- selection in parts


def test_the_schedule_is_exponential_and_ends_exactly():
    assert schedule([1000], [10], 2) == [[100], [10]]
    assert schedule([1000, 7], [512, 7], 3) == [[800, 7], [640, 7], [512, 7]]
    assert schedule([81], [16], 4) == [[54], [36], [24], [16]]
    assert schedule([9], [4], 1) == [[4]]
    assert schedule([9, 0], [0, 0], 2) == [[3, 0], [0, 0]]  # to one weight, and that one last
    for parts in (2, 3, 17, 100):
        counts = [row[0] for row in schedule([12345], [678], parts)]
        assert counts == sorted(counts, reverse=True) and counts[-1] == 678 and len(counts) == parts


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_parts_end_at_the_levels_count_and_masks_nest(scope):
    model = convnet(depth=2, width=5, side=8)
    start = dense(model)
    previous, counts = start, {n: t.numel() for n, t in start.mask.kept.items()}
    for k in (1, 2, 3):
        after = next_level(
            model,
            previous,
            start,
            Step(rate=0.37, criterion=SYNFLOW(rounds=9, scope=scope)),
            STREAMS,
            examples=None,
            recipe=None,
            first=0,
            device="cpu",
            progress=SILENT,
        )
        assert after.mask.inside(previous.mask) and after.level == k
        assert after.mask.remaining == previous.mask.remaining - round(0.37 * previous.mask.remaining) or scope == "layer"
        counts = {n: c - round(0.37 * c) for n, c in counts.items()}
        assert scope == "global" or {n: int(t.sum()) for n, t in after.mask.kept.items()} == counts
        previous = after


def test_ties_go_by_the_lowest_place_in_parts_and_at_once(write: Write):
    write(
        "score", SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False").replace("state[n].square()", "0 * state[n]")
    )
    load("score")
    start = dense(convnet())
    for rounds in (1, 3):
        found = level(None, start, None, CRITERIA["score"].Settings(), rounds=rounds)
        flat = torch.cat([t.flatten() for t in found.mask.kept.values()])
        gone = start.mask.total - remaining(start.mask.total, 0.3, rounds)
        assert flat.tolist() == [False] * gone + [True] * (len(flat) - gone)


def test_a_plugin_can_be_scored_in_parts(write: Write):
    """What it is given in each part: the mask so far, the state without what went, and the level's streams."""
    code = SCORE.replace("import Criterion", "import Iterative").replace("(Criterion)", "(Iterative)")
    code = code.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False\nSEEN = []").replace(
        "    return", "    SEEN.append((state, mask, streams))\n    return"
    )
    write("score", code)
    load("score")
    entry, start = CRITERIA["score"], dense(convnet())
    assert issubclass(entry.Settings, Iterative) and entry.Settings().rounds == 1
    level(None, start, None, entry.Settings(rounds=3), rate=0.5)
    total = start.mask.total
    assert [m.remaining for _, m, _ in entry.SEEN] == [total, round(total * 0.5 ** (1 / 3)), round(total * 0.5 ** (2 / 3))]
    for state, mask, streams in entry.SEEN:
        assert streams == STREAMS
        assert all(torch.equal(state[n], t * mask.kept.get(n, 1)) for n, t in start.state.items())
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        entry.Settings(rounds=0)


# -- how criteria are called


@pytest.mark.parametrize(
    ("name", "model", "images"),
    [
        ("magnitude", True, True),
        ("random", False, False),
        ("initial_magnitude", False, False),
        ("snip", True, True),
        ("synflow", True, False),
    ],
)
def test_what_criteria_need(name, model, images):
    assert (needs_model(CRITERIA[name]), needs_images(CRITERIA[name])) == (model, images)
    assert CRITERIA[name].NEEDS_TRAINING is (name == "magnitude")


def test_a_criterion_is_given_what_it_asks_for_by_name(write: Write):
    code = SCORE.replace("(state, mask, streams)", "(mask, examples, settings, streams, model, state, power=3)")
    write(
        "score",
        code.replace("return", "assert settings.name == 'score' and len(examples) == 5 and model.classes == 3\n    return"),
    )
    load("score")
    model = convnet()
    state, examples = uneven(model, dtype=torch.float32), examples_of(model, 5, dtype=torch.float32)
    start = Ticket(Mask.dense(state, model.prunable), state, 0)
    level(model, start, examples, CRITERIA["score"].Settings(), Recipe(length="2it", batch=4))
    found = score(CRITERIA["score"].Settings(), start.state, start.mask, STREAMS, model, examples)
    assert all(torch.equal(t, state[n].square()) for n, t in found.items())


def test_scores_come_without_their_graph(write: Write):
    write("score", SCORE.replace("state[n].square()", "state[n].clone().requires_grad_().square()"))
    load("score")
    model = convnet()
    start, examples = dense(model), examples_of(model, 5)
    found = score(CRITERIA["score"].Settings(), start.state, start.mask, STREAMS, model, examples)
    assert not any(t.requires_grad for t in found.values())


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            "state, mask, steams",
            "criterion 'score' asks for 'steams'\n  expected: of what it can have: settings, state, mask, str",
        ),
        ("state, mask, model", "asks for 'model'\n  expected: .*streams\n  mend:     NEEDS_MODEL = True in its module"),
        ("state, mask, examples", "asks for 'examples'\n  expected: .*streams\n  mend:     NEEDS_IMAGES = True in its module"),
    ],
)
def test_what_there_is_not_is_refused(write: Write, parameters, said):
    code = SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False").replace("state, mask, streams", parameters)
    write("score", code)
    load("score")
    model = convnet()
    with pytest.raises(RunError, match=said):
        level(model, dense(model), examples_of(model, 5), CRITERIA["score"].Settings())


def test_costs_are_asked_for_in_the_same_way(write: Write):
    code = SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False\nNEEDS_IMAGES = True\n")
    cost = "from distill_prune.artifacts import Cost\ndef cost(examples, steams):\n    return Cost(len(examples))\n"
    write("score", code + cost)
    load("score")
    model = convnet()
    with pytest.raises(RunError, match="asks for 'steams'"):
        level(model, dense(model), examples_of(model, 5), CRITERIA["score"].Settings())
    write("score", code + cost.replace(", steams", ""))
    found = level(None, dense(model), examples_of(model, 5), CRITERIA["score"].Settings())
    assert found.numbers["cost"] == {"images": 5, "steps": 0, "flops": 0}


def test_a_trained_criterion_spends_its_scores_beside_its_training(write: Write):
    """SNIP's formula at trained weights, as somebody's own entry: both costs add up."""
    code = SCORE.replace(
        "def scores", "from distill_prune.artifacts import Cost\ndef cost():\n    return Cost(7, 0, 11)\ndef scores"
    )
    write("score", code)
    load("score")
    model = convnet()
    start, examples, recipe = (
        dense(model, torch.float32),
        examples_of(model, 5, dtype=torch.float32),
        Recipe(length="2it", batch=4),
    )
    with_cost, without = (level(model, start, examples, CRITERIA[n].Settings(), recipe) for n in ("score", "magnitude"))
    more = {k: with_cost.numbers["cost"][k] - v for k, v in without.numbers["cost"].items()}
    assert more == {"images": 7, "steps": 0, "flops": 11} and without.numbers["cost"]["steps"] == 2
