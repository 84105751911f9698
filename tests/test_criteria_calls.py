"""Selection in parts, and how criteria are called: what they are given by name, what they cost, what is refused."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from reference import convnet, examples_of, uneven
from reference_criteria import STREAMS, SYNFLOW, dense, level
from reference_plugins import SCORE, Write, written

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import RunError
from distill_prune.plugins import load
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.imp import Step, next_level, score
from distill_prune.prune.select import Iterative, remaining, schedule
from distill_prune.training import Recipe

write = pytest.fixture(written)


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
