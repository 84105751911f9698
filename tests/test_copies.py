"""What every analysis of copies refuses: too few, other masks, other architectures, integers that differ, no examples."""

from __future__ import annotations

import pytest
import torch
from reference_analyze import examples_of, mask_of, state_of, tiny
from reference_inputs import copies_of
from reference_lines import STREAMS, measured

from distill_prune.analyze import accuracy, between
from distill_prune.analyze.inputs import Retrained, Tickets
from distill_prune.artifacts import Mask
from distill_prune.errors import NonFiniteError, UserError

COPIES = ["connectivity", "layerwise", "disagreement", "landscape", "rebasin"]
MIXING = ["connectivity", "layerwise", "between", "landscape", "rebasin"]
NOUNS = {
    "connectivity": "a barrier",
    "layerwise": "a layer's barrier",
    "disagreement": "a disagreement",
    "landscape": "a landscape",
    "rebasin": "an alignment",
}
SMALL = {"points": 2}


def small(name):
    return {} if name == "disagreement" else SMALL


@pytest.mark.parametrize("name", COPIES)
def test_one_copy_is_refused(name):
    model = tiny()
    with pytest.raises(UserError, match=rf"(?s)^{NOUNS[name]} needs two copies.*1 copies.*at least 2.*retrain\.copies: 2"):
        measured(name, model, [state_of(model, 0)], examples_of(model, 5), examples_of(model, 5))


@pytest.mark.parametrize("name", COPIES)
def test_other_masks_are_refused_unless_asked_for(name):
    model = tiny("none")
    states = [state_of(model, s) for s in range(3)]
    masks = [mask_of(model, states[0], s) for s in range(3)]
    masks[1] = masks[0]
    arguments = (
        name,
        model,
        [m.apply(s) for m, s in zip(masks, states, strict=True)],
        examples_of(model, 5),
        examples_of(model, 5),
    )
    wanted = r"(?s)copies 0 and 2 have different masks.*0\.weight, 4\.weight.*copies of one ticket.*allow_different_masks"
    with pytest.raises(UserError, match=wanted):
        measured(*arguments, masks=masks, **small(name))
    assert measured(*arguments, masks=masks, allow_different_masks=True, **small(name))["rows"]


@pytest.mark.parametrize("name", [*COPIES, "between"])
def test_other_architectures_are_refused_whatever_is_asked_for(name):
    model = tiny("none")
    wide = {n: torch.cat([t, t]) if n.startswith("0.") else t for n, t in state_of(model, 1).items()}
    lacking = {n: t for n, t in state_of(model, 1).items() if n != "0.bias"}
    more = state_of(model, 1) | {"9.weight": torch.zeros(3)}
    asked = {} if name == "between" else {"allow_different_masks": True}
    which = "copy 0 of ticket b" if name == "between" else "copy 1"
    for other, said in (
        (wide, r"0\.weight \(4, 1, 3, 3\) \(network: \(2, 1, 3, 3\)\), 0\.bias \(4,\) \(network: \(2,\)\)"),
        (lacking, r"0\.bias missing \(network: \(2,\)\)"),
        (more, r"9\.weight \(3,\) \(network: missing\)"),
    ):
        with pytest.raises(
            UserError, match=rf"(?s)^{which} is of another architecture.*{said}\n.*equal names and shapes.*one model"
        ):
            measured(name, model, [state_of(model, 0), other], examples_of(model, 5), examples_of(model, 5), **asked)


@pytest.mark.parametrize("name", MIXING)
def test_integer_buffers_that_differ_are_refused(name):
    model = tiny("none")
    model.module.register_buffer("positions", torch.arange(3))
    copies = [state_of(model, s) | {"positions": torch.arange(3) + s} for s in range(2)]
    with pytest.raises(UserError, match=r"(?s)buffer 'positions' holds torch\.int64.*integers cannot be interpolated"):
        measured(name, model, copies, examples_of(model, 5), examples_of(model, 5))


def test_integers_may_differ_where_nothing_is_mixed():
    model = tiny("none")
    model.module.register_buffer("positions", torch.arange(3))
    copies = [state_of(model, s) | {"positions": torch.arange(3) + s} for s in range(2)]
    assert measured("disagreement", model, copies, examples_of(model, 5), examples_of(model, 5))["copies"] == 2


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", [*COPIES, "between"])
def test_a_set_of_no_examples_is_refused(name, part):
    model = tiny("batch")
    parts = {n: examples_of(model, 0 if n == part else 8) for n in ("train", "test")}
    wanted = rf"(?s)^{name} is asked for on a set of no examples: {part}.*0 examples.*at least one.*leave compare\.{name} out"
    with pytest.raises(UserError, match=wanted):
        measured(name, model, [state_of(model, 0), state_of(model, 1)], **parts)


def test_distilled_images_that_are_none_are_refused():
    model = tiny("none")
    with pytest.raises(UserError, match=r"landscape is asked for on a set of no examples: distilled"):
        measured(
            "landscape",
            model,
            [state_of(model, 0), state_of(model, 1)],
            examples_of(model, 8),
            examples_of(model, 8),
            distilled=examples_of(model, 0),
        )


@pytest.mark.parametrize("part", ["train", "test"])
def test_accuracy_on_no_examples_is_refused(part):
    model = tiny("none")
    parts = {n: examples_of(model, 0 if n in (part, "validation") else 8) for n in ("train", "validation", "test")}
    with pytest.raises(UserError, match=rf"(?s)accuracy is asked for on a set of no examples: {part}.*compare\.accuracy"):
        accuracy.measure(accuracy.Settings(), copies_of(model, [state_of(model, 0)], **parts))


@pytest.mark.parametrize("name", MIXING)
def test_batch_statistics_of_one_example_are_refused(name):
    model = tiny("batch")
    with pytest.raises(UserError, match=rf"(?s){name}: batch-norm statistics of a single example.*1 train.*at least 2"):
        measured(name, model, [state_of(model, 0), state_of(model, 1)], examples_of(model, 1), examples_of(model, 5))


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0)])
def test_a_ticket_without_copies_is_refused(a, b):
    model = tiny("none")
    state, mask = state_of(model, 0), Mask.dense(state_of(model, 0), model.prunable)
    with pytest.raises(UserError, match=rf"(?s)between tickets.*{a} and {b} copies.*at least one of each.*retrain\.copies: 1"):
        sides = Retrained([state] * a, mask), Retrained([state] * b, mask)
        between.measure(between.Settings(), Tickets(model, *sides, examples_of(model, 5), examples_of(model, 5), STREAMS))


@pytest.mark.parametrize("name", ["connectivity", "layerwise", "between", "rebasin"])
def test_a_loss_that_is_not_finite_is_an_error_that_says_where(name):
    model = tiny("none")
    copies = [state_of(model, 0), {n: t * float("1e308") for n, t in state_of(model, 1).items()}]
    of = {
        "layerwise": "layer 0 of copies 1 and 0",
        "connectivity": "copies 0 and 1",
        "between": "copies 0 and 0",
        "rebasin": "copies 0 and 1",
    }[name]
    with pytest.raises(
        NonFiniteError, match=rf"(?s)the train loss of {of} is not finite at alpha [01](\.5)?\n  got:      (nan|inf)"
    ):
        measured(name, model, copies, examples_of(model, 5), examples_of(model, 5), points=3)
