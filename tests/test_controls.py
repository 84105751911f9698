"""Controls: what they take away from a ticket, and what they leave."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import tiny
import torch
from pydantic import ValidationError
from reference import convnet, examples_of, uneven

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import RunError
from distill_prune.progress import SILENT
from distill_prune.prune.controls import Control, control_ticket
from distill_prune.prune.imp import Step, next_level
from distill_prune.prune.magnitude import Settings as Magnitude
from distill_prune.rng import Streams
from distill_prune.settings import canonical
from distill_prune.store.store import Store
from distill_prune.training import Recipe

STREAMS = Streams(3, ("control",))
RECIPE = Recipe(length="4it", batch=4, lr=0.3)
KINDS = ("shuffled", "random", "reinitialised")


def chain(levels=3, rewind="all"):
    """The tickets of one chain of magnitude, level 0 first, and level 0 of another draw."""
    model = convnet(norm="batch", width=8)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, 11, dtype=torch.float32)
    tickets = [Ticket(Mask.dense(start, model.prunable), start, 0)]
    step = Step(rate=0.4, criterion=Magnitude(), rewind=rewind)
    for k in range(1, levels + 1):
        noise, common = Streams(0, ("prune",)).under(level=k), {"recipe": RECIPE, "device": "cpu", "progress": SILENT}
        tickets.append(next_level(model, tickets[-1], tickets[0], step, noise, examples=examples, first=0, **common))
    return tickets, tiny.dense_ticket(model, 0, None, None, 0, SILENT, 1)


@pytest.fixture(scope="module")
def made():
    tickets, other = chain()
    return tickets, other, {k: [_control(k, t, tickets, other) for t in tickets[1:]] for k in KINDS}


def _control(kind, ticket, tickets, other, streams=STREAMS):
    return control_ticket(kind, ticket, other if kind == "reinitialised" else tickets[0], streams)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_keep_as_many_weights_as_the_tickets(made, kind):
    tickets, _, controls = made
    for ticket, control in zip(tickets[1:], controls[kind], strict=True):
        assert control.mask.layers() == ticket.mask.layers() and list(control.mask.kept) == list(ticket.mask.kept)
        assert control.level == ticket.level
        assert control.numbers == {"cost": {"images": 0, "steps": 0, "flops": 0}, "control": kind}
    assert len({tuple(r["remaining"] / r["total"] for r in t.mask.layers().values()) for t in tickets}) == 4
    shares = [r["remaining"] / r["total"] for r in tickets[2].mask.layers().values()]
    assert max(shares) - min(shares) > 0.1  # layers differ, so that keeping their counts says something


@pytest.mark.parametrize("kind", ["shuffled", "random"])
def test_masks_are_others_on_the_same_weights(made, kind):
    tickets, _, controls = made
    for ticket, control in zip(tickets[1:], controls[kind], strict=True):
        assert all(not torch.equal(t, ticket.mask.kept[n]) for n, t in control.mask.kept.items())
        for n, t in tickets[0].state.items():
            assert torch.equal(control.state[n], t * control.mask.kept[n] if n in control.mask.kept else t)


def test_a_reinitialised_ticket_has_the_mask_and_no_weight_of_the_ticket(made):
    tickets, other, controls = made
    for ticket, control in zip(tickets[1:], controls["reinitialised"], strict=True):
        for n, kept in ticket.mask.kept.items():
            assert torch.equal(control.mask.kept[n], kept)
            assert torch.equal(control.state[n], other.state[n] * kept)
            assert not bool((control.state[n] == ticket.state[n])[kept].any())
        assert all(torch.equal(control.state[n], t) for n, t in other.state.items() if n not in ticket.mask.kept)
        assert not torch.equal(control.state["0.bias"], ticket.state["0.bias"])


def test_random_masks_nest_and_shuffled_ones_do_not(made):
    _, _, controls = made
    assert all(b.mask.inside(a.mask) for a, b in itertools.pairwise(controls["random"]))
    assert not any(b.mask.inside(a.mask) for a, b in itertools.pairwise(controls["shuffled"]))


def test_random_masks_are_the_largest_of_one_draw(made):
    tickets, _, controls = made
    for ticket, control in zip(tickets[1:], controls["random"], strict=True):
        for n, kept in ticket.mask.kept.items():
            drawn = torch.rand(kept.shape, dtype=torch.float64, generator=STREAMS("random", n)).flatten().tolist()
            best = sorted(range(len(drawn)), key=drawn.__getitem__)[len(drawn) - int(kept.sum()) :]
            assert control.mask.kept[n].flatten().nonzero().flatten().tolist() == sorted(best)


def test_a_shuffled_mask_is_the_tickets_in_the_order_of_its_stream(made):
    tickets, _, controls = made
    for ticket, control in zip(tickets[1:], controls["shuffled"], strict=True):
        for n, kept in ticket.mask.kept.items():
            order = torch.randperm(kept.numel(), generator=STREAMS("shuffled", n, level=ticket.level)).tolist()
            own = kept.flatten().tolist()
            assert control.mask.kept[n].flatten().tolist() == [own[i] for i in order]


@pytest.mark.parametrize("kind", ["shuffled", "random"])
def test_draws_are_the_seeds(made, kind):
    tickets, other, controls = made
    again, elsewhere = (_control(kind, tickets[2], tickets, other, s) for s in (STREAMS, Streams(4, ("control",))))
    same = controls[kind][1].mask.kept
    assert all(torch.equal(t, same[n]) for n, t in again.mask.kept.items())
    assert all(not torch.equal(t, same[n]) for n, t in elsewhere.mask.kept.items())
    # the order in which a mask lists its tensors decides nothing
    turned = Ticket(Mask(dict(reversed(tickets[2].mask.kept.items()))), tickets[2].state, 2)
    flipped = Ticket(Mask(dict(reversed(tickets[0].mask.kept.items()))), tickets[0].state, 0)
    assert all(torch.equal(t, same[n]) for n, t in control_ticket(kind, turned, flipped, STREAMS).mask.kept.items())


@pytest.mark.parametrize("kind", ["shuffled", "random"])
def test_every_mask_of_the_count_is_equally_likely(kind):
    """2 of 4 weights: 6 masks, 900 seeds; a chi-squared statistic of 5 degrees above 25.7 has probability 1e-4."""
    dense = Ticket(Mask({"a.weight": torch.ones(4, dtype=torch.bool)}), {"a.weight": torch.arange(1.0, 5)}, 0)
    mask = Mask({"a.weight": torch.tensor([True, True, False, False])})
    ticket = Ticket(mask, mask.apply(dense.state), 1)
    found = Counter(tuple(control_ticket(kind, ticket, dense, Streams(s)).mask.kept["a.weight"].tolist()) for s in range(900))
    assert len(found) == 6 and sum((n - 150) ** 2 / 150 for n in found.values()) < 25.7


def test_a_layer_without_survivors_stays_without():
    state = {n: torch.arange(1.0, 7).view(2, 3) for n in ("a.weight", "b.weight")}
    dense = Ticket(Mask.dense(state, ("a.weight", "b.weight")), state, 0)
    mask = Mask({"a.weight": torch.zeros(2, 3, dtype=torch.bool), "b.weight": torch.arange(6).view(2, 3) < 2})
    ticket = Ticket(mask, mask.apply(state), 5)
    for kind in KINDS:
        assert [int(t.sum()) for t in control_ticket(kind, ticket, dense, STREAMS).mask.kept.values()] == [0, 2]


def test_what_a_ticket_does_not_rewind_stays_with_its_own_weights():
    tickets, other = chain(2, "prunable")
    ticket = tickets[2]
    rest = [n for n in ticket.state if n not in ticket.mask.kept]
    assert any(not torch.equal(ticket.state[n], tickets[0].state[n]) for n in rest)
    for kind in ("shuffled", "random"):
        control = _control(kind, ticket, tickets, other)
        assert all(torch.equal(control.state[n], ticket.state[n]) for n in rest)
        assert all(torch.equal(control.state[n], tickets[0].state[n] * t) for n, t in control.mask.kept.items())
    control = _control("reinitialised", ticket, tickets, other)
    assert all(torch.equal(control.state[n], other.state[n]) for n in rest)


@pytest.mark.parametrize("kind", KINDS)
def test_controls_come_back_from_the_store(tmp_path, made, kind):
    tickets, other, controls = made
    base, control = (other if kind == "reinitialised" else tickets[0]).state, controls[kind][-1]
    store, provenance, parts = Store(tmp_path, create=True), tiny.provenance("prune", {}), control.parts(base)
    assert not any(n.startswith("state/") for n in parts.tensors)  # all of the state is level 0's, masked
    store.write(provenance, parts)
    back = Ticket.of(store.read("prune", provenance.key), base)
    assert all(torch.equal(t, back.state[n]) for n, t in control.state.items()) and back.numbers["control"] == kind


def test_another_network_is_refused(made):
    tickets, _, _ = made
    model = convnet(norm="batch", width=2)
    for kind in KINDS:
        with pytest.raises(RunError, match="a control and its level 0 are of different networks"):
            control_ticket(kind, tickets[1], tiny.dense_ticket(model, 0, None, None, 0, SILENT), STREAMS)


def test_settings_name_a_kind():
    assert canonical(Control(kind="random")) == {"kind": "random"}
    with pytest.raises(
        ValidationError,
        match="'shuffled', 'random', 'reinitialised', 'transferred', 'swapped', 'signs', 'permuted' or 'intersection'",
    ):
        Control(kind="rand")
    with pytest.raises(ValidationError, match="frozen"):
        Control(kind="random").kind = "shuffled"
