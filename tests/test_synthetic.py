"""Synthetic sets with soft labels, several training images in one, and pixels in place of network input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from distill_prune.artifacts import SyntheticSet, Transform, decode
from distill_prune.artifacts.formation import enlarging
from distill_prune.errors import NonFiniteError, RunError
from distill_prune.rng import stream

PLAIN = Transform("normalize", {"mean": torch.tensor([0.25]), "std": torch.tensor([0.5])})
PIXELS = Transform("pixels", {})


def naive_decode(images, factor, fill=0.0):
    """Patch by patch with torch's own enlargement."""
    height, width = images.shape[2:]
    rows, columns = -(-height // factor), -(-width // factor)
    whole = torch.full((*images.shape[:2], rows * factor, columns * factor), fill, dtype=images.dtype)
    whole[..., :height, :width] = images
    out = []
    for i in range(factor):
        for j in range(factor):
            patch = whole[..., i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            out.append(F.interpolate(patch, size=(height, width), mode="bilinear", align_corners=False))
    return torch.cat(out)


@pytest.mark.parametrize(("side", "factor"), [((8, 8), 2), ((7, 9), 2), ((9, 8), 3), ((8, 8), 1)])
def test_decoding_is_cutting_and_enlarging(side, factor):
    images = torch.rand(5, 3, *side, generator=stream(0, "x"), dtype=torch.float64)
    found = decode(images, factor, fill=0.5)
    assert found.shape == (5 * factor**2, 3, *side)
    torch.testing.assert_close(found, naive_decode(images, factor, 0.5), rtol=0, atol=1e-12)


def test_decoding_can_be_differentiated_twice():
    images = torch.rand(2, 1, 6, 6, generator=stream(0, "x"), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: decode(x, 2) ** 2, images)


def test_a_row_of_the_enlarging_matrix_is_a_mean():
    matrix = enlarging(3, 8)
    assert matrix.shape == (8, 3) and torch.allclose(matrix.sum(1), torch.ones(8, dtype=torch.float64))


def soft(kind, factor=1, transform=PLAIN):
    values = torch.randn(4, 2, generator=stream(0, "labels"))
    labels = values if kind == "logits" else values.softmax(1)
    return SyntheticSet(torch.rand(4, 1, 4, 4), labels, ("a", "b"), transform, "x", 0.1, "none", factor, kind)


def test_targets_of_each_kind_of_label():
    logits, shares = soft("logits"), soft("probabilities")
    torch.testing.assert_close(logits.targets, shares.labels)
    assert torch.equal(shares.targets, shares.labels) and torch.equal(logits.hard, shares.hard)
    hard = SyntheticSet(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"), PLAIN, "x")
    assert torch.equal(hard.targets, hard.labels) and torch.equal(hard.hard, hard.labels)


def test_examples_of_several_images_in_one_repeat_the_labels_patch_by_patch():
    held = soft("logits", factor=2)
    examples = held.examples(PLAIN)
    assert held.count == len(examples) == 16
    torch.testing.assert_close(examples.y, held.targets.repeat(4, 1))
    torch.testing.assert_close(examples.x, decode(held.images, 2))


def test_pixels_take_the_transform_of_the_data_beside_them():
    held = soft("logits", transform=PIXELS)
    torch.testing.assert_close(held.examples(PLAIN).x, PLAIN.apply(held.images))
    assert held.fits(PLAIN)
    other = Transform("normalize", {"mean": torch.tensor([0.0]), "std": torch.tensor([0.5])})
    assert soft("logits").fits(PLAIN) and not soft("logits").fits(other)


def test_network_input_is_left_as_it_is():
    held = soft("logits")
    assert torch.equal(held.examples(Transform("normalize", {"mean": torch.ones(1), "std": torch.ones(1)})).x, held.images)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_parts_and_back(kind):
    held = soft(kind, factor=2, transform=PIXELS)
    again = SyntheticSet.of(held.parts())
    assert (again.factor, again.label_kind, again.transform.kind) == (2, kind, "pixels")
    assert torch.equal(again.labels, held.labels) and torch.equal(again.images, held.images)


def test_sets_of_before_these_fields_are_read():
    parts = soft("logits").parts()
    old = {k: v for k, v in parts.numbers.items() if k not in ("factor", "label_kind")}
    hard = SyntheticSet(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), ("a", "b"), PLAIN, "x").parts()
    again = SyntheticSet.of(type(parts)(hard.tensors, old))
    assert (again.factor, again.label_kind) == (1, "classes")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.zeros(4, 3)}, RunError, r"expected: images \(N, C, H, W\), labels \(N, 2\)"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, RunError, r"labels \(N, 2\)"),
        ({"factor": 5}, RunError, "whose images hold no patches"),
        ({"factor": 0}, RunError, "whose images hold no patches"),
        ({"labels": torch.full((4, 2), float("nan"))}, NonFiniteError, "tensor 'labels' is not finite"),
        ({"labels": torch.tensor([0, 1, 2, 0]), "label_kind": "classes"}, RunError, r"outside its classes"),
    ],
)
def test_what_cannot_be_is_refused(change, error, message):
    held = soft("logits")
    fields = {n: getattr(held, n) for n in ("images", "labels", "classes", "transform", "method", "factor", "label_kind")}
    with pytest.raises(error, match=message):
        SyntheticSet(**(fields | change))
