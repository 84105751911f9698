"""The loss, the optimizer and the precision of a recipe, against loops written out from the papers."""

from __future__ import annotations

import math

import pytest
import torch
from reference import convnet, cross_entropy, examples_of, logits, trained_by_hand, uneven
from reference_training import NOISE, N, batches, close, half

from distill_prune import objective
from distill_prune.artifacts import Examples
from distill_prune.data import cutmix
from distill_prune.models import build_model
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.run.worker import conditions
from distill_prune.settings import canonical
from distill_prune.training import Recipe, evaluate, train

# -- loss and optimizer


def loss_by_hand(out, y, recipe, cut):
    """Cross-entropy with targets written out: probabilities, mixed by area, then smoothed."""
    classes = out.shape[1]
    p = torch.stack([torch.eye(classes, dtype=out.dtype)[int(c)] for c in y]) if y.dim() == 1 else y
    if cut is not None:
        p = torch.stack([cut.share * p[i] + (1 - cut.share) * p[pair] for i, pair in enumerate(cut.pairs.tolist())])
    p = (1 - recipe.label_smoothing) * p + recipe.label_smoothing / classes
    return -(p * out.log_softmax(1)).sum() / len(out)


def optimized_by_hand(start, examples, recipe, kept):
    """Weights after the last step, every step's loss and CutMix; one line of a paper after the other."""
    w, losses, cuts, lrs = dict(start), [], [], [recipe.lr_at(i, N) for i in range(recipe.steps(N))]
    first, second = ({n: torch.zeros_like(t) for n, t in w.items()} for _ in range(2))
    for i, ((x, y), lr) in enumerate(zip(batches(examples, recipe, 0, len(lrs)), lrs, strict=True)):
        cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, NOISE("cutmix", step=i)) if recipe.cutmix else None
        leaves = {n: (t * kept[n] if n in kept else t).detach().requires_grad_() for n, t in w.items()}
        out = logits(leaves, x if cut is None else cutmix.apply(x, cut), norm="none")
        loss = loss_by_hand(out, y, recipe, cut)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (n, old), g in zip(leaves.items(), gradients, strict=True):
            decay, old = recipe.weight_decay, old.detach()
            if recipe.optimizer == "adamw":
                first[n], second[n] = 0.9 * first[n] + 0.1 * g, 0.999 * second[n] + 0.001 * g**2
                root = (second[n] / (1 - 0.999 ** (i + 1))).sqrt()
                w[n] = old - lr * decay * old - lr * first[n] / (1 - 0.9 ** (i + 1)) / (root + 1e-8)
            else:
                g = g + decay * old
                first[n] = recipe.momentum * first[n] + g
                w[n] = old - lr * (g + recipe.momentum * first[n] if recipe.nesterov else first[n])
            w[n] = w[n] * kept[n] if n in kept else w[n]
        losses.append(float(loss.detach()))
        cuts.append(cut)
    return w, losses, cuts


OPTIONS = {
    "adamw": Recipe(
        length="8it", batch=4, optimizer="adamw", lr=0.01, weight_decay=2.0, schedule="linear", warmup="2it", cutmix=1.0
    ),
    "nesterov": Recipe(
        length="8it",
        batch=4,
        lr=0.05,
        nesterov=True,
        weight_decay=0.05,
        label_smoothing=0.1,
        cutmix=0.5,
        cutmix_beta=2.0,
        augment="crop+flip",
    ),
    "smoothing": Recipe(length="3ep", batch=4, lr=0.1, momentum=0.5, label_smoothing=0.3),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_recipe_are_the_naive_loop(name, soft, masked):
    model, recipe = convnet(norm="none"), OPTIONS[name]  # before a norm, a bias has rounding for a gradient: adamw grows it
    start, examples, mask = uneven(model), examples_of(model, N), half(model) if masked else None
    if soft:
        examples = Examples(examples.x, torch.rand(N, 3, generator=NOISE("soft"), dtype=torch.float64).softmax(1))
    found = train(model, start, examples, recipe, NOISE, mask=mask)
    by_hand, losses, cuts = optimized_by_hand(start, examples, recipe, mask.kept if mask else {})
    close(found.state, by_hand)
    per_epoch = math.ceil(N / recipe.batch)
    epochs = [losses[i : i + per_epoch] for i in range(0, len(losses), per_epoch)]
    assert found.losses == pytest.approx([sum(e) / len(e) for e in epochs], rel=1e-5)
    shares = {None if cut is None else cut.share for cut in cuts}
    assert (None in shares) == (recipe.cutmix < 1) and (len(shares) > 2) == (recipe.cutmix > 0)
    assert found.cost == train(model, start, examples, Recipe(length=recipe.length, batch=4), NOISE).cost
    if mask:
        assert all(not found.state[n][~kept].any() for n, kept in mask.kept.items())


# -- precision


def lenet_logits(w, x, dtype):
    """LeNet with one hidden layer, every product's factors rounded to `dtype`, and its result too."""
    h = x.flatten(1)
    for layer, name in enumerate(("1", "3")):
        h = torch.nn.functional.linear(h.to(dtype), w[f"{name}.weight"].to(dtype), w[f"{name}.bias"].to(dtype))
        h = h.relu() if layer == 0 else h
    return h.float()


def test_bfloat16_rounds_the_products_alone():
    model = build_model(LeNet(hidden=(5,)), (1, 4, 4), 3)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    recipe = Recipe(length="6it", batch=4, lr=0.05, precision="bfloat16")
    found = train(model, start, examples, recipe, NOISE).state
    assert set(start) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    paths = {
        dtype: trained_by_hand(
            lambda w, x, dtype=dtype: lenet_logits(w, x, dtype),
            start,
            batches(examples, recipe, 0, 6),
            [0.05] * 6,
            momentum=0.9,
        )[0][-1]
        for dtype in (torch.bfloat16, torch.float32)
    }
    for n, tensor in found.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, paths[torch.bfloat16][n], rtol=1e-5, atol=1e-6)
    assert any((found[n] - paths[torch.float32][n]).abs().max() > 1e-4 for n in found)
    torch.testing.assert_close(found, paths[torch.float32], rtol=0.05, atol=0.05)


def switches():
    """What torch allows on CUDA: TF32 in products, and in convolutions."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(params=[(False, True), (True, False)])
def before(request):
    """The switches as somebody else has set them; the first are torch's defaults."""
    defaults = switches()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = defaults


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("bfloat16", False), ("tf32", True)])
def test_tf32_is_allowed_in_the_steps_of_a_recipe_that_says_so(precision, allowed, before, monkeypatch):
    """In the forward and the backward pass; and as it was before afterwards, also where a step fails."""
    seen, model, recipe = [], convnet(norm="none"), Recipe(length="2it", batch=4, lr=0.05, precision=precision)

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            seen.append(switches())
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            seen.append(switches())
            if len(seen) == 4:
                raise ArithmeticError
            return gradient

    real = objective.loss
    monkeypatch.setattr(objective, "loss", lambda outputs, *a, **k: real(Watched.apply(outputs), *a, **k))
    with pytest.raises(ArithmeticError):
        train(model, uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32), recipe, NOISE)
    assert seen == [(allowed, allowed)] * 4 and switches() == before


def test_no_other_work_of_a_worker_is_in_tf32(before):
    with conditions(1):
        assert switches() == (False, False)
    assert switches() == before


def test_tf32_is_float32_on_a_cpu_under_a_key_of_its_own():
    model = convnet(norm="instance")
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    full, short = (Recipe(length="6it", batch=4, lr=0.05, precision=kind) for kind in ("float32", "tf32"))
    one, other = (train(model, start, examples, recipe, NOISE).state for recipe in (full, short))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert canonical(short) == {**canonical(full), "precision": "tf32"}


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_bfloat16_is_deterministic_and_evaluation_is_not_in_it(norm):
    model = convnet(depth=2, norm=norm, width=8, side=8)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    full = Recipe(length="6it", batch=4, lr=0.05, cutmix=0.5, augment="crop+flip")
    half_precision = Recipe(**{**full.model_dump(), "precision": "bfloat16"})
    one, again = (train(model, start, examples, half_precision, NOISE, mask=half(model)) for _ in range(2))
    assert all(torch.equal(t, again.state[n]) for n, t in one.state.items()) and one.losses == again.losses
    other = train(model, start, examples, full, NOISE, mask=half(model))
    assert {n: t.dtype for n, t in one.state.items()} == {n: t.dtype for n, t in start.items()}
    assert any(not torch.equal(t, other.state[n]) for n, t in one.state.items())
    assert one.losses == pytest.approx(other.losses, rel=0.05) and one.cost == other.cost
    assert all(not one.state[n][~kept].any() for n, kept in half(model).kept.items())
    score = evaluate(model, one.state, examples)
    assert score.loss == pytest.approx(float(cross_entropy(model(one.state, examples.x), examples.y)), rel=1e-6)
