from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from reference import Memory, convnet, examples_of, logits, survivors, trained_by_hand, uneven

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import NonFiniteError, RunError
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Step, next_level, score
from distill_prune.prune.inputs import LevelImages, LevelWeights
from distill_prune.prune.select import select
from distill_prune.rng import Streams
from distill_prune.settings import canonical
from distill_prune.store.store import Store
from distill_prune.training import Recipe, train

STREAMS = Streams(0, ("prune",), (("level", 1),))
RECIPE = Recipe(length="6it", batch=4, lr=0.1, momentum=0.9, weight_decay=0.05)
MAGNITUDE, RANDOM = CRITERIA["magnitude"].Settings, CRITERIA["random"].Settings


def dense_mask(*sizes) -> Mask:
    return Mask({f"{9 - i}.weight": torch.ones(s, dtype=torch.bool) for i, s in enumerate(sizes)})


# -- selection


@st.composite
def rankings(draw):
    """Scores with many ties, a mask that keeps some, a rate and a scope. Names are not in alphabetical order."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    scores, kept = {}, {}
    for i, size in enumerate(sizes):
        shape = (size,) if i % 2 else (size, 2)
        count = size if i % 2 else 2 * size
        values = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, float("inf")]), min_size=count, max_size=count))
        alive = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        scores[f"{9 - i}.weight"] = torch.tensor(values).view(shape)
        kept[f"{9 - i}.weight"] = torch.tensor(alive).view(shape)
    kept["9.weight"].view(-1)[0] = True
    return scores, kept, draw(st.floats(0.01, 0.99)), draw(st.sampled_from(["global", "layer"]))


@settings(max_examples=200, deadline=None)
@given(rankings())
def test_selection_is_the_sorted_list(ranking):
    scores, kept, rate, scope = ranking
    expected = survivors(scores, kept, rate, scope)
    if not any(any(row) for row in expected.values()):
        with pytest.raises(RunError, match="keeps no weight"):
            select(scores, Mask(kept), rate, scope)
        return
    before = Mask(kept)
    found = select(scores, before, rate, scope)
    assert {n: t.flatten().tolist() for n, t in found.kept.items()} == expected
    assert list(found.kept) == list(kept) and all(found.kept[n].shape == t.shape for n, t in kept.items())
    assert found.inside(before)
    groups = [[n] for n in kept] if scope == "layer" else [list(kept)]
    for group in groups:
        alive = sum(int(kept[n].sum()) for n in group)
        assert sum(int(found.kept[n].sum()) for n in group) == alive - round(rate * alive)


@pytest.mark.parametrize(("rate", "total", "gone"), [(0.2, 10, 2), (0.25, 10, 2), (0.35, 10, 4), (0.5, 5, 2), (0.01, 10, 0)])
def test_exactly_so_many_go(rate, total, gone):
    """Python's round: halves to even."""
    mask = dense_mask((total,))
    assert select({"9.weight": torch.arange(total)}, mask, rate, "global").remaining == total - gone


def test_ties_fall_on_the_lowest_place_across_tensors_in_order():
    mask = dense_mask((2, 2), (4,), (2,))
    found = select({n: torch.zeros(t.shape) for n, t in mask.kept.items()}, mask, 0.6, "global")
    assert [t.flatten().tolist() for t in found.kept.values()] == [[False] * 4, [False, False, True, True], [True] * 2]


def test_layers_lose_the_same_share_each():
    mask = dense_mask((10,), (20,))
    scores = {"9.weight": torch.arange(10.0), "8.weight": 100 + torch.arange(20.0)}
    assert [int(t.sum()) for t in select(scores, mask, 0.2, "layer").kept.values()] == [8, 16]
    assert [int(t.sum()) for t in select(scores, mask, 0.2, "global").kept.values()] == [4, 20]


def test_a_chain_is_nested_and_pruned_weights_never_return():
    mask, generator, remaining = dense_mask((5, 4), (30,)), torch.Generator().manual_seed(0), 50
    for _ in range(6):
        scores = {n: torch.rand(t.shape, generator=generator) for n, t in mask.kept.items()}
        after = select(scores, mask, 0.3, "global")
        remaining -= round(0.3 * remaining)
        assert after.inside(mask) and not mask.inside(after) and after.remaining == remaining
        mask = after


def test_scores_that_are_not_numbers_are_refused_where_a_weight_survives():
    mask = Mask({"9.weight": torch.tensor([True, True, False]), "8.weight": torch.ones(2, dtype=torch.bool)})
    scores = {"9.weight": torch.tensor([1.0, 2.0, float("nan")]), "8.weight": torch.tensor([3.0, 0.5])}
    assert select(scores, mask, 0.25, "global").kept["8.weight"].tolist() == [True, False]
    scores["8.weight"][0] = float("nan")
    for scope in ("global", "layer"):
        with pytest.raises(NonFiniteError, match=r"scores of '8\.weight' are not numbers"):
            select(scores, mask, 0.5, scope)


# -- criteria


def test_magnitude_is_the_absolute_value():
    model = convnet()
    state = uneven(model)
    mask = Mask.dense(state, model.prunable)
    found = CRITERIA["magnitude"].scores(MAGNITUDE(), LevelWeights(state, mask, STREAMS))
    assert list(found) == list(model.prunable)
    assert all(torch.equal(t, torch.maximum(state[n], -state[n])) for n, t in found.items())
    assert any(bool((state[n] < 0).any()) for n in found)


def test_random_scores_are_uniform_and_their_own_at_every_level():
    mask = dense_mask((40, 50))
    one, again, other = (
        CRITERIA["random"].scores(RANDOM(), LevelWeights({}, mask, Streams(0, ("prune",), (("level", k),))))["9.weight"]
        for k in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert bool((one >= 0).all()) and bool((one < 1).all()) and abs(float(one.mean()) - 0.5) < 0.03


@pytest.mark.parametrize("name", list(CRITERIA))
def test_every_criterion_scores_every_prunable_weight(name):
    model, entry = convnet(depth=1), CRITERIA[name]
    assert entry.Settings().name == name and isinstance(entry.NEEDS_TRAINING, bool)
    state = uneven(model)
    mask = Mask.dense(state, model.prunable)
    scores = score(entry.Settings(), LevelImages(state, mask, STREAMS, model, examples_of(model, 5)))
    assert {n: t.shape for n, t in scores.items()} == {n: t.shape for n, t in mask.kept.items()}
    # Curvature alone has both signs.
    assert all(name == "hutchinson" or bool((t >= 0).all()) for t in scores.values())
    assert all(bool(t.any()) and not t.requires_grad for t in scores.values())


# -- levels


def level(model, previous, dense, examples, recipe=RECIPE, streams=STREAMS, first=0, progress=SILENT, at=None, **step):
    step = Step(**{"rate": 0.3, "criterion": MAGNITUDE(), **step})
    common = {"examples": examples, "recipe": recipe, "first": first, "device": "cpu", "progress": progress, "level": at}
    return next_level(model, previous, dense, step, streams, **common)


def chain(norm="batch", levels=2, **step):
    """A model whose level 0 has uneven norms, and the tickets of its chain."""
    model = convnet(norm=norm, width=3)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, 11, dtype=torch.float32)
    tickets = [Ticket(Mask.dense(start, model.prunable), start, 0)]
    for k in range(1, levels + 1):
        tickets.append(level(model, tickets[-1], tickets[0], examples, streams=Streams(0, ("prune",), (("level", k),)), **step))
    return model, examples, tickets


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_rewinding_returns_every_tensor(norm):
    model, examples, (dense, *later) = chain(norm)
    trained = train(model, dense.state, examples, RECIPE, STREAMS).state
    others = [n for n in dense.state if n not in model.prunable]
    assert all(not torch.equal(trained[n], dense.state[n]) for n in others)  # training moves them all
    for ticket in later:
        assert set(ticket.state) == set(dense.state)
        for n, t in dense.state.items():
            expected = t * ticket.mask.kept[n] if n in ticket.mask.kept else t
            assert torch.equal(ticket.state[n], expected) and ticket.state[n].dtype == t.dtype
    if norm == "batch":
        assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} < set(others)


def test_rewinding_prunable_weights_alone_keeps_the_rest_as_trained():
    model, examples, (dense, first, second) = chain("batch", rewind="prunable")
    trained = train(model, dense.state, examples, RECIPE, STREAMS, mask=dense.mask).state
    for n, t in dense.state.items():
        expected = t * first.mask.kept[n] if n in first.mask.kept else trained[n]
        assert torch.equal(first.state[n], expected)
    assert not torch.equal(first.state["0.bias"], dense.state["0.bias"])
    assert not torch.equal(second.state["0.bias"], first.state["0.bias"])


def test_a_level_is_training_ranking_and_rewinding_by_hand():
    model, examples, (dense, first, second) = chain("instance")
    for k, (previous, ticket) in enumerate(((dense, first), (first, second)), start=1):
        noise = Streams(0, ("prune",), (("level", k),))
        trained = train(model, previous.state, examples, RECIPE, noise, mask=previous.mask)
        scores = {n: trained.state[n].abs() for n in model.prunable}
        expected = survivors(scores, previous.mask.kept, 0.3, "global")
        assert {n: t.flatten().tolist() for n, t in ticket.mask.kept.items()} == expected
        assert ticket.level == k and ticket.mask.inside(previous.mask)
        assert ticket.numbers == {"cost": trained.cost.json(), "train_loss": trained.losses[-1]}


def test_a_random_level_trains_nothing():
    _, _, tickets = chain("batch", criterion=RANDOM(scope="layer"))
    dense, first = tickets[:2]
    bare = next_level(
        None,
        dense,
        dense,
        Step(rate=0.3, criterion=RANDOM(scope="layer")),
        STREAMS,
        examples=None,
        recipe=None,
        first=0,
        device="cpu",
        progress=SILENT,
    )
    assert bare.numbers == {"cost": {"images": 0, "steps": 0, "flops": 0}, "train_loss": None}
    assert all(torch.equal(t, first.mask.kept[n]) for n, t in bare.mask.kept.items())
    assert all(int(t.sum()) == t.numel() - round(0.3 * t.numel()) for t in bare.mask.kept.values())


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.model_copy(update={"optimizer": "adam", "lr": 0.05})])
def test_pruned_weights_are_zero_after_every_step(recipe):
    """Even where they start elsewhere: momentum and weight decay bring none back."""
    model, examples, (_, ticket, _) = chain("instance")
    memory = Memory()
    loud = {n: t + (n in model.prunable) for n, t in ticket.state.items()}
    found = train(model, loud, examples, recipe, STREAMS, mask=ticket.mask, progress=memory)
    states = [{n: s.tensors[f"state/{n}"] for n in model.prunable} for s in memory.snapshots] + [found.state]
    assert len(states) == 6
    for before, after in zip([loud, *states], states, strict=False):
        for n, kept in ticket.mask.kept.items():
            assert not after[n][~kept].any() and bool((before[n] != after[n])[kept].any())


@pytest.mark.parametrize("k", [1, 4])
def test_level_0_at_step_k_is_the_beginning_of_the_schedule(k):
    model = convnet(width=3)
    recipe = Recipe(length="8it", batch=4, lr=0.1, weight_decay=0.01, schedule="cosine")
    examples = examples_of(model, 11, dtype=torch.float32)
    ticket = tiny.dense_ticket(model, 7, examples, recipe, k, SILENT)
    start, noise = model.fresh(7, "init"), Streams(7, ("rewind",))
    rows = [r for e in range(2) for r in torch.randperm(11, generator=noise("order", epoch=e)).split(4)][:k]
    path, _ = trained_by_hand(
        logits,
        start,
        [(examples.x[r], examples.y[r]) for r in rows],
        [recipe.lr_at(i, 11) for i in range(k)],
        momentum=0.9,
        weight_decay=0.01,
    )
    for n, t in path[-1].items():
        torch.testing.assert_close(ticket.state[n], t, rtol=1e-4, atol=1e-6)
    assert not torch.equal(ticket.state["0.weight"], start["0.weight"])
    assert ticket.level == 0 and ticket.mask.sparsity == 0 and ticket.numbers["cost"]["steps"] == k
    after = level(model, ticket, ticket, examples, recipe, first=k)
    assert after.numbers["cost"]["steps"] == 8 - k
    assert all(torch.equal(after.state[n], t * after.mask.kept.get(n, 1)) for n, t in ticket.state.items())


@pytest.mark.parametrize("k", [0, 3])
def test_another_draw_of_level_0_is_another_initialisation_with_noise_of_its_own(k):
    model = convnet(width=3)
    examples = examples_of(model, 11, dtype=torch.float32)

    def made(draw):
        return tiny.dense_ticket(model, 7, examples, RECIPE, k, SILENT, draw).state

    own, one, other = made(0), made(1), made(2)
    assert all(torch.equal(t, made(1)[n]) for n, t in one.items())
    assert all(torch.equal(t, tiny.dense_ticket(model, 7, examples, RECIPE, k, SILENT).state[n]) for n, t in own.items())
    assert all(not torch.equal(a[n], b[n]) for a, b in ((own, one), (one, other)) for n in model.prunable)
    start, noise = model.fresh(7, "init", draw=1), Streams(7, ("rewind",), (("draw", 1),))
    by_hand = train(model, start, examples, RECIPE, noise, last=k).state if k else start
    assert all(torch.equal(t, by_hand[n]) for n, t in one.items())


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_one_shot_is_one_training_ranked_once_with_the_chains_counts(rounds, scope):
    model = convnet(width=3)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, 11, dtype=torch.float32)
    dense = Ticket(Mask.dense(start, model.prunable), start, 0)
    step = {"criterion": MAGNITUDE(scope=scope), "rounds": rounds, "at": rounds}
    ticket, less = level(model, dense, dense, examples, **step), level(model, dense, dense, examples, **{**step, "rounds": 1})
    trained = train(model, start, examples, RECIPE, STREAMS, mask=dense.mask)
    scores, kept = {n: trained.state[n].abs() for n in model.prunable}, dense.mask.kept
    for _ in range(rounds):
        kept = {n: torch.tensor(row).view_as(kept[n]) for n, row in survivors(scores, kept, 0.3, scope).items()}
    assert all(torch.equal(t, kept[n]) for n, t in ticket.mask.kept.items())
    assert ticket.level == rounds and ticket.numbers == {"cost": trained.cost.json(), "train_loss": trained.losses[-1]}
    assert ticket.mask.inside(less.mask) and (rounds == 1 or not less.mask.inside(ticket.mask))  # by the same noise, they nest


def test_one_shot_and_chain_have_equal_counts_and_a_step_without_rounds_its_old_key():
    model, examples, tickets = chain("instance", levels=4)
    for ticket in tickets[1:]:
        shot = level(model, tickets[0], tickets[0], examples, rounds=ticket.level, at=ticket.level)
        assert shot.mask.remaining == ticket.mask.remaining and shot.level == ticket.level
    step = Step(criterion=MAGNITUDE())
    assert canonical(step) == {"rate": 0.2, "criterion": {"scope": "global", "name": "magnitude"}, "rewind": "all"}
    assert canonical(step.model_copy(update={"rounds": 2}))["rounds"] == 2
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Step(criterion=MAGNITUDE(), rounds=0)


def test_level_0_without_steps_is_the_initialisation_and_free():
    model = convnet(norm="batch")
    ticket = tiny.dense_ticket(model, 7, None, None, 0, SILENT)
    fresh = model.fresh(7, "init")
    assert all(torch.equal(t, fresh[n]) for n, t in ticket.state.items())
    assert ticket.numbers["cost"] == {"images": 0, "steps": 0, "flops": 0}
    assert not torch.equal(fresh["0.weight"], model.fresh(8, "init")["0.weight"])


# -- parts


def test_the_order_of_a_mask_comes_back(tmp_path):
    mask = Mask({n: torch.tensor([True, False]) for n in ("4.weight", "13.weight", "0.weight")})
    ticket = Ticket(mask, {n: torch.tensor([1.0, 0.0]) for n in mask.kept}, 1)
    store, provenance = Store(tmp_path, create=True), tiny.provenance("prune", {})
    store.write(provenance, ticket.parts(None))
    assert list(Ticket.of(store.read("prune", provenance.key), None).mask.kept) == ["4.weight", "13.weight", "0.weight"]


@pytest.mark.parametrize("rewind", ["all", "prunable"])
def test_tickets_come_back_from_the_store(tmp_path, rewind):
    _, _, tickets = chain("batch", rewind=rewind)
    store, base = Store(tmp_path, create=True), tickets[0].state
    for ticket in tickets:
        parts = ticket.parts(base if ticket.level else None)
        provenance = tiny.provenance("prune", {"level": ticket.level})
        store.write(provenance, parts)
        back = Ticket.of(store.read("prune", provenance.key), base if ticket.level else None)
        assert list(back.mask.kept) == list(ticket.mask.kept) and back.level == ticket.level
        assert all(torch.equal(t, back.mask.kept[n]) for n, t in ticket.mask.kept.items())
        assert set(back.state) == set(ticket.state)
        assert all(torch.equal(t, back.state[n]) for n, t in ticket.state.items())
        held = {n for n in parts.tensors if n.startswith("state/")}
        assert bool(held) == (ticket.level == 0 or rewind == "prunable")  # what masking level 0 gives is not written
        assert back.numbers["remaining"] == ticket.mask.remaining and back.numbers["sparsity"] == ticket.mask.sparsity
