"""Criteria that need no training: initial magnitude, SNIP and SynFlow, against the same by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from reference import convnet, cross_entropy, examples_of, logits, survivors, uneven
from reference_criteria import INITIAL, SNIP, STREAMS, SYNFLOW, dense, half, level
from torch import Tensor, nn

from distill_prune.artifacts import Examples, Mask, Ticket
from distill_prune.errors import NonFiniteError
from distill_prune.models import Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.progress import SILENT
from distill_prune.prune.imp import Step, next_level, score
from distill_prune.prune.inputs import LevelImages, LevelNetwork
from distill_prune.prune.select import remaining
from distill_prune.rng import Streams
from distill_prune.training import flops_of_step

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
    found = score(SNIP(rows=99), LevelImages(state, mask, STREAMS, model, examples))
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
    found = score(SNIP(rows=7), LevelImages(state, mask, STREAMS, model, examples))
    rows = torch.randperm(40, generator=STREAMS("rows"))[:7]
    by_hand = score(SNIP(), LevelImages(state, mask, STREAMS, model, examples.take(rows)))
    other = score(SNIP(rows=7), LevelImages(state, mask, Streams(0, ("prune",), (("level", 2),)), model, examples))
    for n, t in found.items():
        torch.testing.assert_close(t, by_hand[n])
        assert not torch.allclose(t, other[n])


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_snip_is_of_the_mean_loss_however_many_images_go_at_once(norm):
    """More than one chunk, and batch norm by its running statistics: the mean over images one at a time."""
    model = convnet(norm=norm)
    state, examples = uneven(model), examples_of(model, 150)
    mask = Mask.dense(state, model.prunable)
    found = score(SNIP(rows=150), LevelImages(state, mask, STREAMS, model, examples))
    total = {n: torch.zeros_like(state[n]) for n in model.prunable}
    for i in range(150):
        weights = {n: state[n].clone().requires_grad_() for n in model.prunable}
        loss = cross_entropy(model({**state, **weights}, examples.x[i : i + 1]), examples.y[i : i + 1])
        for n, g in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            total[n] += g / 150
    for n, t in found.items():
        torch.testing.assert_close(t, (total[n] * state[n]).abs())
    before = {n: t.clone() for n, t in state.items()}
    score(SNIP(), LevelImages(state, mask, STREAMS, model, examples))
    assert all(torch.equal(t, before[n]) and not t.requires_grad for n, t in state.items())


def test_a_snip_level_ranks_by_hand_and_says_what_it_cost():
    model = convnet(width=4)
    start, examples = dense(model), examples_of(model, 9)
    found = level(model, start, examples, SNIP(rows=6))
    scores = score(SNIP(rows=6), LevelImages(start.state, start.mask, STREAMS, model, examples))
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
    found = score(SYNFLOW(), LevelNetwork(state, mask, STREAMS, model))
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
    scores = list(score(SYNFLOW(), LevelNetwork(state, Mask.dense(state, plain.prunable), STREAMS, plain)).values())
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
        found = score(SYNFLOW(), LevelNetwork(own, Mask.dense(own, model.prunable), STREAMS, model))
        for a, b in zip(found.values(), scores, strict=True):
            torch.testing.assert_close(a, 3 * b)
        out = model({n: t.float() for n, t in own.items()}, torch.randn(2, 1, 4, 4))  # the network is as before
        assert not torch.allclose(out, built(None)({n: t.float() for n, t in state.items()}, torch.randn(2, 1, 4, 4)))
        assert not any(layer._forward_hooks for layer in model.module.modules())


def test_synflow_outlives_the_range_of_float32():
    model = build_model(LeNet(hidden=(5,) * 60), (1, 2, 2), 3)
    state = {n: 1e-2 * t for n, t in model.fresh(0, "init").items()}
    found = score(SYNFLOW(), LevelNetwork(state, Mask.dense(state, model.prunable), STREAMS, model))
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
