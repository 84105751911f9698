"""The control `permuted`, against a mask that is moved a weight at a time."""

from __future__ import annotations

import pytest
import tiny
import torch
from reference import convnet, uneven

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import RunError, UserError
from distill_prune.models.permutations import permuted, specification
from distill_prune.plan.graph import build
from distill_prune.plan.summary import _arm
from distill_prune.prune.permuted import permuted_ticket
from distill_prune.report.words import described
from distill_prune.rng import Streams
from distill_prune.settings import canonical
from distill_prune.store.store import Store

STREAMS = Streams(3, ("control",))


def parts_of(norm="batch"):
    """A ticket, level 0 of another draw, the trained dense network of the ticket's draw, in float64."""
    model = convnet(depth=2, norm=norm, width=4, side=8)
    start, drawn, trained = uneven(model), uneven(model, seed=5), uneven(model, seed=7)
    mask = Mask({n: torch.rand(start[n].shape, generator=torch.Generator().manual_seed(1)) < 0.4 for n in model.prunable})
    return model, Ticket(mask, mask.apply(start), 2), Ticket(Mask.dense(drawn, model.prunable), drawn, 0), trained


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_a_hidden_order_is_undone_and_the_mask_follows_it(norm):
    """B is A with channels in other places: channel c of A stands at place `at[c]` of B, and so must the mask's weights."""
    model, ticket, dense, trained = parts_of(norm)
    spec = specification(model, "a test")
    orders = {group: torch.tensor(o) for group, o in zip(spec.sizes, ([2, 0, 3, 1], [1, 3, 0, 2]), strict=True)}
    control = permuted_ticket(model, ticket, dense, trained, permuted(spec, orders, trained), STREAMS)
    first, second = ({unit: place for place, unit in enumerate(o.tolist())} for o in orders.values())
    one, two, head = model.prunable
    pixels = trained[head].shape[1] // 4
    moved = 0
    for name, kept in ticket.mask.kept.items():
        for index in torch.cartesian_prod(*map(torch.arange, kept.shape)).tolist():
            row, column, *rest = index
            if name == one:
                place = (first[row], column)
            elif name == two:
                place = (second[row], first[column])
            else:
                place = (row, second[column // pixels] * pixels + column % pixels)
            there = (*place, *rest)
            assert control.mask.kept[name][there] == kept[tuple(index)]
            weight = dense.state[name][there] if kept[tuple(index)] else 0
            assert control.state[name][there] == weight
            moved += there != tuple(index)
    assert moved > 50 and head in control.mask.kept
    others = [n for n in dense.state if n not in model.prunable]
    assert all(torch.equal(control.state[n], dense.state[n]) for n in others)
    assert control.level == 2 and control.mask.layers() == ticket.mask.layers()
    assert control.numbers == {"cost": {"images": 0, "steps": 0, "flops": 0}, "control": "permuted", "fixed": 0.0}
    back = Ticket.of(control.parts(dense.state), dense.state)
    assert all(torch.equal(t, back.state[n]) for n, t in control.state.items())


def test_an_aligned_network_leaves_the_mask_and_levels_nest():
    model, ticket, dense, trained = parts_of()
    same = permuted_ticket(model, ticket, dense, trained, trained, STREAMS)
    assert same.numbers["fixed"] == 1 and all(torch.equal(t, ticket.mask.kept[n]) for n, t in same.mask.kept.items())
    target = uneven(model, seed=8)
    sparser = Mask({n: t & (torch.arange(t.numel()) % 2 > 0).view(t.shape) for n, t in ticket.mask.kept.items()})
    later = Ticket(sparser, sparser.apply(ticket.state), 3)
    controls = [permuted_ticket(model, t, dense, trained, target, STREAMS) for t in (ticket, later)]
    assert controls[1].mask.inside(controls[0].mask) and controls[0].numbers["fixed"] < 1


def test_other_networks_are_refused():
    model, ticket, dense, trained = parts_of()
    with pytest.raises(RunError, match="of different networks"):
        permuted_ticket(
            model, ticket, Ticket(Mask({"0.weight": torch.ones(4, 1, 3, 3).bool()}), dense.state, 0), trained, trained, STREAMS
        )
    grouped = convnet(norm="group", width=8)
    with pytest.raises(UserError, match="the control 'permuted' has no specification for this network"):
        permuted_ticket(grouped, ticket, ticket, trained, trained, STREAMS)


ARM = "arms.moved={control: {of: real, kind: permuted}}"


def test_the_plan_names_the_two_dense_networks():
    graph = build(tiny.pipeline(ARM, "arms.again={control: {of: real, kind: reinitialised}}"), Store("/nonexistent"))
    node = graph.nodes[graph.chains["moved", 0][2]]
    assert {role: graph.nodes[key].label for role, key in node.inputs.items()} == {
        "of": "real seed 0 level 2",
        "dense": "dense seed 0 draw 1",
        "trained": "dense seed 0 copy 0",
        "target": "dense seed 0 draw 1 copy 0",
    }
    assert node.inputs["dense"] == graph.nodes[graph.chains["again", 0][2]].inputs["dense"]
    trained, target = (graph.nodes[node.inputs[role]] for role in ("trained", "target"))
    assert canonical(trained.job) == canonical(target.job) and target.inputs["ticket"] == node.inputs["dense"]
    assert graph.chains["moved", 0][0] == graph.chains["real", 0][0]
    assert canonical(node.job)["control"] == {"kind": "permuted"}
    assert "model" not in canonical(graph.nodes[graph.chains["again", 0][2]].job), "keys of other controls are what they were"
    assert described(_arm(graph, graph.pipeline.placed()["moved"]), {}).startswith("the mask of real on another draw")


def test_a_study_of_level_0_alone_trains_no_other_draw():
    graph = build(tiny.pipeline(ARM, "levels=[0]"), Store("/nonexistent"))
    assert not any("draw 1 copy" in node.label for node in graph.nodes.values())


@pytest.mark.parametrize("extra", [(), ("prune.rewind.k=2it", "arms.real.k=4it")])
def test_the_other_draw_begins_at_the_step_of_the_arm(extra):
    graph = build(tiny.pipeline(ARM, *extra), Store("/nonexistent"))
    node = graph.nodes[graph.chains["moved", 0][2]]
    trained, target = (graph.nodes[node.inputs[role]].job for role in ("trained", "target"))
    assert str(trained.first) == str(target.first) == ("4it" if extra else "0it")
