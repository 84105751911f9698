"""Prescribed densities of layers: the counts, against seats given out one at a time and against RigL's own rule."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import convnet, examples_of, survivors
from reference_criteria import SYNFLOW, dense, level

from distill_prune.artifacts import Mask
from distill_prune.prune import CRITERIA
from distill_prune.prune.densities import proportions, spread
from distill_prune.prune.select import counts_after, keep, select
from distill_prune.settings import canonical

RANDOM = CRITERIA["random"].Settings
LAYERS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=1, max_size=6)


def one_at_a_time(total, parts, most):
    """D'Hondt's method as it is told: each weight to the layer with the largest a / (n + 1) that has room."""
    counts = [0] * len(parts)
    for _ in range(total):
        best = None
        for i, (part, cap) in enumerate(zip(parts, most, strict=True)):
            if counts[i] < cap and (best is None or part * (counts[best] + 1) > parts[best] * (counts[i] + 1)):
                best = i
        counts[best] += 1
    return counts


def rigl(shapes, density):
    """Survivors of each layer, not rounded, by the loop of RigL's code: layers that would be above 1 are made dense."""
    sizes, raw, full = [math.prod(s) for s in shapes], [sum(s) / math.prod(s) for s in shapes], set()
    while True:
        rest = [i for i in range(len(shapes)) if i not in full]
        ones = sum(density * sizes[i] for i in rest) - sum((1 - density) * sizes[i] for i in full)
        epsilon = ones / sum(raw[i] * sizes[i] for i in rest)
        if max(raw[i] for i in rest) * epsilon <= 1:
            return [float(sizes[i]) if i in full else epsilon * raw[i] * sizes[i] for i in range(len(shapes))]
        full |= {i for i in rest if raw[i] == max(raw[j] for j in rest)}


@settings(max_examples=150, deadline=None)
@given(LAYERS, st.data())
def test_counts_are_those_of_seats_given_out_one_at_a_time(layers, data):
    parts, most = [p for p, _ in layers], [cap for _, cap in layers]
    total = data.draw(st.integers(0, sum(most)))
    counts = spread(total, parts, most)
    assert counts == one_at_a_time(total, parts, most) and sum(counts) == total
    fewer = data.draw(st.integers(0, total))
    assert spread(fewer, parts, counts) == spread(fewer, parts, most)  # a chain's level is what one step gives
    assert all(a <= b for a, b in zip(spread(fewer, parts, counts), counts, strict=True))


SHAPES = {"0.weight": (64, 3, 3, 3), "4.weight": (64, 64, 3, 3), "8.weight": (128, 64, 3, 3), "13.weight": (10, 2048)}


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2, 0.1, 0.02])
def test_erk_is_the_rule_of_rigl(density):
    mask = Mask({n: torch.ones(s, dtype=torch.bool) for n, s in SHAPES.items()})
    counts = counts_after(mask, "erk", 1 - density)
    assert sum(counts) == mask.total - round((1 - density) * mask.total)
    by_hand = rigl(list(SHAPES.values()), sum(counts) / mask.total)
    # D'Hondt never gives less than the part rounded down, and a few more to the largest layer.
    assert all(math.floor(m + 1e-9) <= n < m + len(SHAPES) for n, m in zip(counts, by_hand, strict=True))
    if density == 0.5:
        assert counts[0] == 64 * 27, "a small first layer stays whole, and what it cannot take goes to the others"


def test_balanced_layers_are_equal_where_they_have_room():
    mask = Mask({n: torch.ones(s, dtype=torch.bool) for n, s in SHAPES.items()})
    counts = counts_after(mask, "balanced", 0.9)
    left = sum(counts) - 1728
    assert counts == [1728, *(left // 3 + (i < left % 3) for i in range(3))]
    assert proportions(mask, "erk") == [73, 134, 198, 2058]


@pytest.mark.parametrize("scope", ["erk", "balanced"])
@pytest.mark.parametrize("share", ["remaining", "original"])
def test_chains_nest_and_end_where_one_step_ends(scope, share):
    mask, generator = Mask({n: torch.ones(s, dtype=torch.bool) for n, s in SHAPES.items()}), torch.Generator().manual_seed(0)
    begin = mask
    for number in range(1, 5):
        scores = {n: torch.rand(t.shape, generator=generator) for n, t in mask.kept.items()}
        after = keep(scores, mask, counts_after(mask, scope, 0.22, 1, share), scope)
        at_once = counts_after(begin, scope, 0.22, number, share)
        assert after.inside(mask) and [int(t.sum()) for t in after.kept.values()] == at_once
        assert after.remaining == counts_after(begin, "global", 0.22, number, share)[0]
        mask = after


def test_a_mask_of_other_densities_never_gains_a_weight():
    """A chain that begins with another arm's levels: the layer is below its part already."""
    kept = {n: torch.ones(s, dtype=torch.bool) for n, s in SHAPES.items()}
    kept["0.weight"].view(-1)[5:] = False
    mask = Mask(kept)
    after = select({n: torch.rand(t.shape) for n, t in kept.items()}, mask, 0.3, "erk")
    assert after.inside(mask) and int(after.kept["0.weight"].sum()) == 5
    assert after.remaining == mask.remaining - round(0.3 * mask.remaining)


@pytest.mark.parametrize("criterion", [RANDOM(scope="erk"), SYNFLOW(rounds=3, scope="erk"), RANDOM(scope="balanced")])
def test_levels_keep_the_best_of_each_layer(criterion):
    model = convnet(width=4)
    start = dense(model)
    found = level(model, start, examples_of(model, 3), criterion, rate=0.6)
    counts = counts_after(start.mask, criterion.scope, 0.6)
    assert [r["remaining"] for r in found.mask.layers().values()] == counts
    assert found.mask.remaining == start.mask.total - round(0.6 * start.mask.total)
    assert len({r["remaining"] / r["total"] for r in found.mask.layers().values()}) > 1


def test_within_a_layer_the_lowest_scores_go():
    mask = Mask({n: torch.ones(s, dtype=torch.bool) for n, s in {"b": (4, 3), "a": (5, 9)}.items()})
    scores = {n: torch.rand(t.shape, generator=torch.Generator().manual_seed(3)) for n, t in mask.kept.items()}
    found = select(scores, mask, 0.5, "erk")
    for name, count in zip(mask.kept, counts_after(mask, "erk", 0.5), strict=True):
        gone = 1 - count / mask.kept[name].numel()
        alone = survivors({name: scores[name]}, {name: mask.kept[name]}, gone, "global")
        assert found.kept[name].flatten().tolist() == alone[name]


def test_a_scope_enters_keys_as_it_is_written():
    assert canonical(RANDOM(scope="erk")) == {"name": "random", "scope": "erk"}
    with pytest.raises(ValueError, match="'global', 'layer', 'erk' or 'balanced'"):
        RANDOM(scope="er")
