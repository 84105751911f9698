"""The control `signs`, against a weight at a time."""

from __future__ import annotations

import pytest
import tiny
import torch
from reference import convnet, uneven

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import ConfigError, RunError, UserError
from distill_prune.plan.graph import build
from distill_prune.plan.summary import _arm
from distill_prune.prune.controls import Control
from distill_prune.prune.signs import norms_of, signs_ticket
from distill_prune.report.words import described
from distill_prune.settings import canonical
from distill_prune.store.store import Store


def parts_of(norm="batch", level=2):
    """A ticket, level 0 of another draw, and the ticket trained, in float64."""
    model = convnet(norm=norm, width=4)
    start, drawn = uneven(model), uneven(model, seed=5)
    trained = {
        n: t + 0.7 * torch.randn(t.shape, generator=torch.Generator().manual_seed(1)) if t.is_floating_point() else t + 3
        for n, t in start.items()
    }
    kept = {n: (torch.arange(start[n].numel()) % 3 > 0).view(start[n].shape) for n in model.prunable}
    mask = Mask(kept)
    ticket = Ticket(mask, mask.apply(start), level)
    return model, ticket, Ticket(Mask.dense(drawn, model.prunable), drawn, 0), mask.apply(trained)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("norms", ["reset", "kept"])
def test_signs_are_the_trained_ones_and_magnitudes_the_draws(masked, norms):
    model, ticket, dense, trained = parts_of()
    found = signs_ticket(Control(kind="signs", mask=masked, norms=norms), ticket, dense, trained)
    turned = 0
    for name, tensor in found.state.items():
        if name not in model.prunable:
            source = trained if norms == "kept" and name.split(".")[0] == "1" else dense.state
            assert torch.equal(tensor, source[name]), name
            continue
        rows = zip(
            tensor.flatten(),
            ticket.mask.kept[name].flatten(),
            dense.state[name].flatten(),
            trained[name].flatten(),
            strict=True,
        )
        for value, alive, drawn, was in ((float(v), bool(k), float(d), float(w)) for v, k, d, w in rows):
            expected = (abs(drawn) if was >= 0 else -abs(drawn)) if alive else (0.0 if masked else drawn)
            assert value == expected
            turned += alive and expected != drawn
    assert turned > 10, "the two draws differ in signs"
    assert found.mask.remaining == (ticket.mask.remaining if masked else ticket.mask.total)
    assert found.level == 2 and found.numbers == {"cost": {"images": 0, "steps": 0, "flops": 0}, "control": "signs"}
    back = Ticket.of(found.parts(dense.state), dense.state)
    assert all(torch.equal(t, back.state[n]) for n, t in found.state.items())


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_norms_are_layers_whose_weight_is_a_vector_or_that_have_statistics(norm):
    model = convnet(norm=norm)
    layers = {n for n, layer in model.module.named_modules() if "Norm" in type(layer).__name__}
    assert set(norms_of(model.module.state_dict())) == {n for n in model.module.state_dict() if n.rpartition(".")[0] in layers}
    bare = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2, affine=False)).state_dict()
    assert norms_of(bare) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_a_trained_weight_of_zero_is_positive():
    _, ticket, dense, trained = parts_of()
    name = next(iter(ticket.mask.kept))
    zeros = {**trained, name: torch.full_like(trained[name], -0.0)}
    found = signs_ticket(Control(kind="signs"), ticket, dense, zeros)
    assert torch.equal(found.state[name], dense.state[name].abs() * ticket.mask.kept[name])


def test_level_0_and_another_network_are_refused():
    _, ticket, dense, trained = parts_of(level=0)
    with pytest.raises(UserError, match="the control 'signs' has no level 0"):
        signs_ticket(Control(kind="signs"), ticket, dense, trained)
    _, ticket, dense, trained = parts_of()
    del trained[next(iter(ticket.mask.kept))]
    with pytest.raises(RunError, match="of different networks"):
        signs_ticket(Control(kind="signs"), ticket, dense, trained)


ARM = "arms.signs={control: {of: real, kind: signs, mask: false, norms: kept}}"


def test_the_plan_names_the_copy_and_the_other_draw():
    graph = build(tiny.pipeline(ARM), Store("/nonexistent"))
    node = graph.nodes[graph.chains["signs", 0][2]]
    assert graph.nodes[node.inputs["trained"]].label == "real seed 0 level 2 copy 0"
    assert graph.nodes[node.inputs["dense"]].label == "dense seed 0 draw 1"
    assert node.inputs["of"] == graph.chains["real", 0][2] and graph.chains["signs", 0][0] == graph.chains["real", 0][0]
    assert canonical(node.job)["control"] == {"kind": "signs", "mask": False, "norms": "kept"}
    arm = _arm(graph, graph.pipeline.placed()["signs"])
    assert arm["control"] == {"of": "real", "kind": "signs", "mask": False, "norms": "kept"}
    assert "nothing is pruned" in described(arm, {}) and "norms are the trained ones" in described(arm, {})


def test_a_study_of_level_0_alone_has_no_signs():
    with pytest.raises(ConfigError, match=r"'arms\.signs' in .*: the control 'signs' has no level 0"):
        tiny.pipeline(ARM, "levels=[0]")


def test_pruning_alone_trains_the_copies_that_signs_need(tmp_path):
    graph, _ = tiny.execute(
        Store(tmp_path / "s", create=True), "arms.signs={control: {of: random, kind: signs}}", until="prune"
    )
    stages = [graph.nodes[k].label for k in graph.nodes if Store(tmp_path / "s").exists(graph.nodes[k].stage, k)]
    assert "signs seed 0 level 2" in stages and "random seed 0 level 2 copy 0" in stages
    assert "random seed 0 level 2 copy 1" not in stages and "signs seed 0 level 2 copy 0" not in stages
