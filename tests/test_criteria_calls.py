"""Selection in parts, and how criteria are called: what they are given by name, what they cost, what is refused."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from reference import convnet, examples_of, uneven
from reference_criteria import SNIP, STREAMS, SYNFLOW, dense, level
from reference_plugins import SCORE, Write, written

from distill_prune.artifacts import Mask, Ticket
from distill_prune.errors import ConfigError, RunError
from distill_prune.plugins import load
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.imp import Step, next_level, score
from distill_prune.prune.inputs import LevelImages
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
    untrained = SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False")
    write("score", untrained.replace("level.state[n].square()", "0 * level.state[n]"))
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
        "    return", "    SEEN.append((level.state, level.mask, level.streams))\n    return"
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
        ("hutchinson", True, True),
        ("synflow", True, False),
    ],
)
def test_what_criteria_need(name, model, images):
    assert (needs_model(CRITERIA[name]), needs_images(CRITERIA[name])) == (model, images)
    assert CRITERIA[name].NEEDS_TRAINING is (name == "magnitude")


def test_a_trained_criterion_is_given_all_there_is(write: Write):
    looked = "assert settings.name == 'score' and len(level.examples) == 5 and level.model.classes == 3\n    return"
    write("score", SCORE.replace("return", looked))
    load("score")
    model = convnet()
    state, examples = uneven(model, dtype=torch.float32), examples_of(model, 5, dtype=torch.float32)
    start = Ticket(Mask.dense(state, model.prunable), state, 0)
    level(model, start, examples, CRITERIA["score"].Settings(), Recipe(length="2it", batch=4))
    found = score(CRITERIA["score"].Settings(), LevelImages(start.state, start.mask, STREAMS, model, examples))
    assert all(torch.equal(t, state[n].square()) for n, t in found.items())


def test_scores_come_without_their_graph(write: Write):
    write("score", SCORE.replace("level.state[n].square()", "level.state[n].clone().requires_grad_().square()"))
    load("score")
    model = convnet()
    start, examples = dense(model), examples_of(model, 5)
    found = score(CRITERIA["score"].Settings(), LevelImages(start.state, start.mask, STREAMS, model, examples))
    assert not any(t.requires_grad for t in found.values())


FORM = "given its settings and one record\n  got:      {}\n  expected: {}\\(settings, given\\), a LevelWeights of distill_prune"
NOT = "scores asks for what there is not\n  got:      level.{}\n  expected{}"
KNOWN = " one of: state, mask, streams"
FLAG = "\n  fix:      {} = True in its module"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("settings, level", "state, mask, streams", FORM.format("scores.state, mask, streams.", "scores")),
        ("settings, level", "state, mask", FORM.format("scores.state, mask.", "scores")),
        ("settings, level", "settings, mask", FORM.format("scores.settings, mask.", "scores")),
        ("level.mask", "level.masks", NOT.format("masks", ": did you mean 'mask'")),
        ("return", "level.model\n    return", NOT.format("model", KNOWN) + FLAG.format("NEEDS_MODEL")),
        ("return", "level.examples\n    return", NOT.format("examples", KNOWN) + FLAG.format("NEEDS_IMAGES")),
        ("def", "def cost(settings, level):\n    return level.model\ndef", "cost asks for .*\n.*\n.*\n.*NEEDS_MODEL = True"),
        ("def", "def cost(examples):\n    return 0\ndef", FORM.format("cost.examples.", "cost")),
    ],
)
def test_what_there_is_not_is_refused(write: Write, old, new, said):
    write("score", SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False").replace(old, new))
    load("score")
    with pytest.raises(ConfigError, match=said.replace("scores(", "scores.").replace(")\n", ".\n")):
        _ = CRITERIA["score"]


def test_what_a_criterion_needs_must_be_there():
    model, step = convnet(), Step(criterion=SNIP())
    start, common = dense(model), {"recipe": None, "first": 0, "device": "cpu", "progress": SILENT}
    with pytest.raises(RunError, match="snip needs a network, and there is none"):
        next_level(None, start, start, step, STREAMS, examples=examples_of(model, 5), **common)
    with pytest.raises(RunError, match="snip needs examples, and there is none"):
        next_level(model, start, start, step, STREAMS, examples=None, **common)
    with pytest.raises(RunError, match="magnitude needs a recipe, and there is none"):
        step = Step(criterion=CRITERIA["magnitude"].Settings())
        next_level(model, start, start, step, STREAMS, examples=examples_of(model, 5), **common)


def test_costs_are_asked_for_in_the_same_way(write: Write):
    code = SCORE.replace("NEEDS_TRAINING = True", "NEEDS_TRAINING = False\nNEEDS_IMAGES = True\n")
    cost = "from distill_prune.artifacts import Cost\ndef cost(settings, level):\n    return Cost(len(level.examples))\n"
    write("score", code + cost)
    load("score")
    model = convnet()
    found = level(model, dense(model), examples_of(model, 5), CRITERIA["score"].Settings())
    assert found.numbers["cost"] == {"images": 5, "steps": 0, "flops": 0}


def test_a_trained_criterion_spends_its_scores_beside_its_training(write: Write):
    """SNIP's formula at trained weights, as somebody's own entry: both costs add up."""
    cost = "from distill_prune.artifacts import Cost\ndef cost(settings, level):\n    return Cost(7, 0, 11)\n"
    code = SCORE.replace("def scores", f"{cost}def scores")
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
