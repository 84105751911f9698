"""Pruning of pre-trained networks: shares of the original weights, what is rewound, what becomes of the head, and controls."""

from __future__ import annotations

import itertools

import pytest
import tiny
import tiny_bert
import tiny_text
import torch
from reference import convnet, examples_of, survivors, uneven

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import RunError, UserError
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.prune.controls import control_ticket
from distill_prune.prune.imp import Step, next_level
from distill_prune.prune.initial_magnitude import Settings as Initial
from distill_prune.prune.magnitude import Settings as Magnitude
from distill_prune.rng import Streams
from distill_prune.training import Recipe, train

pytest.importorskip("transformers")

RECIPE = Recipe(length="6it", batch=8, optimizer="adamw", lr=3e-2, head_lr=3e-2)
CONTROL = Streams(3, ("control",))
LEVELS = 3

directory = pytest.fixture(scope="module")(tiny_bert.made)
model = pytest.fixture(scope="module")(tiny_text.model)


def noise(level, seed=0):
    return Streams(seed, ("prune",)).under(level=level)


def level(model, before, dense, step, at, examples=None, **more):
    examples = tiny_text.many(24) if examples is None else examples
    given = {"examples": examples, "recipe": RECIPE, "first": 0, "device": "cpu", "progress": SILENT, **more}
    return next_level(model, before, dense, step, noise(at), level=at, **given)


def chain(model, levels=LEVELS, **step):
    """The tickets of one chain, level 0 first."""
    tickets = [tiny.dense_ticket(model, 0, None, None, 0, SILENT)]
    how = Step(**{"rate": 0.2, "criterion": Magnitude(), "share": "original", **step})
    for at in range(1, levels + 1):
        tickets.append(level(model, tickets[-1], tickets[0], how, at))
    return tickets


@pytest.fixture(scope="module")
def made(model: Model) -> list[Ticket]:
    return chain(model)


def trained(model, before, at):
    """What training leaves of the ticket `before` on the way to level `at`."""
    return train(model, before.state, tiny_text.many(24), RECIPE, noise(at), mask=before.mask).state


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def masks(a, b):
    return equal(a.mask.kept, b.mask.kept)


# -- shares of the original weights


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_as_many_weights_go_at_every_level(model, scope):
    """Tensors of 256 and 512 weights, 4,096 in all: 0.13 of them are 33, 67 and 532."""
    tickets = chain(model, rate=0.13, criterion=Magnitude(scope=scope))
    for at, ticket in enumerate(tickets):
        rows = ticket.mask.layers().values()
        if scope == "layer":
            assert [r["remaining"] for r in rows] == [r["total"] - at * {256: 33, 512: 67}[r["total"]] for r in rows]
        else:
            assert ticket.mask.remaining == 4096 - at * 532
    plain = chain(model, 1, rate=0.13, share="remaining", criterion=Magnitude(scope=scope))
    assert masks(plain[1], tickets[1])
    again = chain(model, 2, rate=0.13, share="remaining")[2].mask.remaining
    assert again == 4096 - 532 - round(0.13 * (4096 - 532)) != 4096 - 2 * 532


def test_the_lowest_magnitudes_go(model, made):
    """Level by level against a sorted list; the share of what is left that makes 819 weights of the 4,096."""
    for at, (before, ticket) in enumerate(itertools.pairwise(made), start=1):
        scores = {n: trained(model, before, at)[n].abs() for n in model.prunable}
        alive = 4096 - 819 * (at - 1)
        expected = survivors(scores, before.mask.kept, 819 / alive, "global")
        assert {n: t.flatten().tolist() for n, t in ticket.mask.kept.items()} == expected
        assert ticket.mask.remaining == 4096 - 819 * at and ticket.mask.inside(before.mask)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_rounds_of_one_shot_land_on_the_counts_of_the_chain(model, scope):
    step = {"rate": 0.13, "criterion": Initial(scope=scope), "share": "original"}
    tickets = chain(model, **step)
    for at in range(1, LEVELS + 1):
        shot = level(model, tickets[0], tickets[0], Step(rounds=at, **step), at)
        assert shot.mask.layers() == tickets[at].mask.layers() if scope == "layer" else True
        assert shot.mask.remaining == tickets[at].mask.remaining and masks(shot, tickets[at])


def test_levels_that_would_leave_nothing(model):
    step = Step(rate=0.6, criterion=Initial(), share="original")
    tickets = [tiny.dense_ticket(model, 0, None, None, 0, SILENT)]
    tickets.append(level(model, tickets[0], tickets[0], step, 1))
    assert tickets[1].mask.remaining == 4096 - 2458
    with pytest.raises(RunError, match="keeps no weight"):
        level(model, tickets[1], tickets[0], step, 2)


# -- what is rewound


def test_rewinding_gives_every_tensor_back(model, made):
    begin = model.fresh(0, "init")
    assert equal(made[0].state, begin)
    for ticket in made[1:]:
        assert equal(ticket.state, ticket.mask.apply(begin))


def test_without_rewinding_everything_keeps_its_trained_value(model):
    tickets = chain(model, rewind="none")
    for at, (before, ticket) in enumerate(itertools.pairwise(tickets), start=1):
        assert equal(ticket.state, ticket.mask.apply(trained(model, before, at)))
        assert not torch.equal(ticket.state["classifier.bias"], tickets[0].state["classifier.bias"])
    assert masks(tickets[1], chain(model, 1)[1]), "the first level is trained from the same weights"


def test_prunable_alone_is_rewound(model):
    tickets = chain(model, 1, rewind="prunable")
    after, begin = trained(model, tickets[0], 1), tickets[0].state
    source = {n: begin[n] if n in model.prunable else t for n, t in after.items()}
    assert equal(tickets[1].state, tickets[1].mask.apply(source))


@pytest.mark.parametrize("rewind", ["all", "prunable", "none"])
@pytest.mark.parametrize("head", ["carry", "redraw"])
def test_what_becomes_of_the_head(model, rewind, head):
    tickets = chain(model, 2, rewind=rewind, head=head)
    without = chain(model, 1, rewind=rewind)
    for at, (before, ticket) in enumerate(itertools.pairwise(tickets), start=1):
        after = trained(model, before, at)
        drawn = model.drawn(0, "prune", "head", level=at)
        for name in model.head:
            assert torch.equal(ticket.state[name], after[name] if head == "carry" else drawn[name])
    others = {n: t for n, t in tickets[1].state.items() if n not in model.head}
    assert equal(others, {n: without[1].state[n] for n in others})
    weights = [t.state["classifier.weight"] for t in tickets]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(weights, 2))


def test_a_network_without_a_head_is_refused():
    model = convnet()
    state = uneven(model, dtype=torch.float32)
    dense, examples = Ticket(Mask.dense(state, model.prunable), state, 0), examples_of(model, 11, dtype=torch.float32)
    step = Step(rate=0.2, criterion=Magnitude(), head="carry")
    with pytest.raises(UserError, match=r"rewind.head is 'carry', and this network names no head"):
        level(model, dense, dense, step, 1, examples, recipe=Recipe(length="2it", batch=4))


# -- controls


def test_a_transferred_ticket_is_the_mask_on_the_other_task_s_weights(directory, made):
    """Of three classes, where the ticket's own task has two."""
    other = tiny_text.model_of(directory, 3)
    dense = tiny.dense_ticket(other, 0, None, None, 0, SILENT)
    for ticket in made[1:]:
        found = control_ticket("transferred", ticket, dense, CONTROL)
        assert masks(found, ticket) and found.level == ticket.level and found.numbers["control"] == "transferred"
        assert equal(found.state, ticket.mask.apply(dense.state))
        assert found.state["classifier.weight"].shape == (3, 16)
        kept = {n: t for n, t in found.state.items() if n.startswith("bert.")}
        assert equal(kept, {n: ticket.state[n] for n in kept}), "both begin at the pre-trained weights"


def test_a_transferred_ticket_takes_nothing_that_was_trained(directory, model):
    ticket = chain(model, 1, rewind="none", head="carry")[1]
    dense = tiny.dense_ticket(tiny_text.model_of(directory, 3), 0, None, None, 0, SILENT)
    found = control_ticket("transferred", ticket, dense, CONTROL)
    assert equal(found.state, ticket.mask.apply(dense.state))


def test_a_transferred_ticket_is_of_the_same_network(tmp_path, made):
    deep = tiny_text.model_of(tiny_bert.write(tmp_path / "deep", num_hidden_layers=3))
    with pytest.raises(RunError, match="of different networks"):
        control_ticket("transferred", made[1], tiny.dense_ticket(deep, 0, None, None, 0, SILENT), CONTROL)


def one_shot(dense, count):
    """The places of the `count` largest weights of W_k, by a sorted list; of equal ones the later stay."""
    places = [(float(w), o, i, n) for o, n in enumerate(dense.mask.kept) for i, w in enumerate(dense.state[n].abs().flatten())]
    return {(n, i) for _, _, i, n in sorted(places)[len(places) - count :]}


def test_swapped_masks_are_as_far_from_one_shot_as_the_ticket(made):
    dense = made[0]
    for ticket in made[1:]:
        found = control_ticket("swapped", ticket, dense, CONTROL)
        plain = one_shot(dense, ticket.mask.remaining)
        assert found.mask.layers() == ticket.mask.layers() and found.mask.remaining == ticket.mask.remaining
        assert equal(found.state, found.mask.apply(dense.state)) and not masks(found, ticket)
        moved = 0
        for name, own in ticket.mask.kept.items():
            size = dense.state[name].abs().flatten().tolist()
            held = {i for n, i in plain if n == name}
            mine, theirs = ({i for i, k in enumerate(m.flatten().tolist()) if k} for m in (own, found.mask.kept[name]))
            assert len(theirs & held) == len(mine & held)
            exchanged = [size[i] for i in mine ^ held]
            if not exchanged:
                assert theirs == held == mine
                continue
            assert all(min(exchanged) <= size[i] <= max(exchanged) for i in theirs ^ held)
            moved += len(theirs ^ held)
        assert moved > 20


def test_swapped_masks_are_the_streams(made):
    first, again, other = (
        control_ticket("swapped", made[2], made[0], s).mask.kept for s in (CONTROL, CONTROL, Streams(4, ("control",)))
    )
    assert equal(first, again) and not equal(first, other)


def test_with_nothing_to_exchange_swapped_is_the_ticket(model):
    tickets = chain(model, 2, criterion=Initial())
    found = control_ticket("swapped", tickets[2], tickets[0], CONTROL)
    assert masks(found, tickets[2]) and equal(found.state, tickets[2].state)


def test_a_reinitialised_ticket_has_no_pre_trained_weight_but_the_frozen(model, directory, made):
    other = tiny.dense_ticket(model, 0, None, None, 0, SILENT, 1)
    found, begin = control_ticket("reinitialised", made[2], other, CONTROL), made[0].state
    assert masks(found, made[2]) and equal(found.state, made[2].mask.apply(other.state))
    assert len(model.frozen) == 5
    for name, tensor in other.state.items():
        if name in model.frozen:
            assert torch.equal(tensor, begin[name])
        elif name.endswith("weight") and "LayerNorm" not in name:
            assert not bool((tensor == begin[name]).any())
    assert not torch.equal(other.state["classifier.weight"], begin["classifier.weight"])
    drawn = model.drawn(0, "init", draw=1)
    assert all(torch.equal(t, drawn[n]) for n, t in other.state.items() if n not in model.frozen)
    thawed = tiny.dense_ticket(tiny_text.model_of(directory, frozen="none"), 0, None, None, 0, SILENT, 1)
    assert not torch.equal(
        thawed.state["bert.embeddings.word_embeddings.weight"], begin["bert.embeddings.word_embeddings.weight"]
    )


def test_random_controls_keep_the_layers_counts(made):
    for kind in ("random", "shuffled"):
        found = control_ticket(kind, made[2], made[0], CONTROL)
        assert found.mask.layers() == made[2].mask.layers() and equal(found.state, found.mask.apply(made[0].state))
