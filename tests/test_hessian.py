"""Products with the Hessian, and what a sketch knows of it, beside the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_curvature import NETS, STREAMS, Dense, scene, signs
from reference_inputs import copies_of

from distill_prune import compiled
from distill_prune.analyze import curvature, diagonal, spectrum
from distill_prune.analyze.rows import recorded
from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import MODELS, build_model
from distill_prune.models.chain import Chain
from distill_prune.settings import canonical_json
from distill_prune.training import hessian
from distill_prune.training.derivatives import ClosedForm, DoubleBackward, derivatives
from distill_prune.training.hessian import Products, Sketch


def products_of(s):
    return Products(s.model, s.state, s.mask, s.examples)


def vectors_of(s, count=4, seed=0):
    return torch.randn(count, len(s.hessian), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", NETS)
def test_products_equal_those_of_the_whole_matrix(kind):
    s = scene(kind)
    v = vectors_of(s)
    torch.testing.assert_close(products_of(s).times(v), v @ s.hessian, rtol=1e-9, atol=1e-12)
    unmasked = torch.zeros(len(v), len(s.whole), dtype=torch.float64)
    unmasked[:, s.kept] = v
    assert not torch.allclose((unmasked @ s.whole)[:, : v.shape[1]], v @ s.hessian), "pruned coordinates would not be noticed"


@pytest.mark.parametrize("kind", NETS)
def test_vectors_are_of_the_survivors_in_the_networks_order(kind):
    s = scene(kind)
    products = products_of(s)
    v = vectors_of(s, 1)[0]
    assert torch.equal(products.weights(), s.weights)
    assert products.survivors == s.mask.remaining
    sums = products.by_layer(v[None])[0]
    assert dict(zip(products.layers, sums.tolist(), strict=True)) == pytest.approx(s.by_layer(v))


def test_flat_probes_are_the_probes():
    s = scene("group")
    products = products_of(s)
    probes = products.signs([STREAMS("p", i=i) for i in range(2)])
    assert set(probes.flatten().tolist()) == {-1.0, 1.0}
    over_all = products.probes([STREAMS("p", i=i) for i in range(2)])
    assert torch.equal(over_all[:, s.kept].double(), probes) and not bool(over_all[:, ~s.kept].any())
    terms = probes * products.times(probes)
    expected = torch.cat([products.by_layer(terms), terms @ s.weights.square()[:, None]], 1)
    torch.testing.assert_close(products.quadratics(over_all), expected)


def test_masks_in_another_order_give_the_same_vectors():
    s = scene("group")
    turned = Products(s.model, s.state, Mask(dict(reversed(s.mask.kept.items()))), s.examples)
    v = vectors_of(s)
    assert torch.equal(turned.times(v), products_of(s).times(v))
    assert list(turned.layers) == list(s.model.prunable)


def test_chunks_change_nothing(monkeypatch):
    s = scene("instance")
    whole = products_of(s)
    monkeypatch.setattr(hessian, "GRAPH_BYTES", 4 * whole._bytes_per_example())
    parts = products_of(s)
    assert (whole.chunk, parts.chunk) == (14, 4)
    torch.testing.assert_close(parts.times(vectors_of(s)), whole.times(vectors_of(s)))


@pytest.mark.parametrize("chunk", [14, 5])
@pytest.mark.parametrize(("kind", "form"), [("lenet", ClosedForm), ("transformer", DoubleBackward)])
def test_one_gradient_serves_all_vectors(monkeypatch, kind, form, chunk):
    s = scene(kind)
    monkeypatch.setattr(hessian, "GRAPH_BYTES", chunk * products_of(s)._bytes_per_example())
    products, passes, plain = products_of(s), [], form.product

    def counted(self, rows):
        passes.append(rows)
        return plain(self, rows)

    monkeypatch.setattr(form, "product", counted)
    products.times(vectors_of(s, 9))
    products.quadratics(products.probes([STREAMS("p", i=i) for i in range(9)]))
    assert len(passes) == (0 if chunk == 14 else 2 * 3)


@pytest.mark.parametrize("kind", NETS)
def test_chains_have_a_closed_form(kind):
    """It keeps less than a graph; networks with other layers, and numbers as labels, are left to autograd."""
    s = scene(kind)
    form = derivatives(s.model, s.state, s.examples)
    assert type(form) is (DoubleBackward if kind in ("batch", "transformer") else ClosedForm)
    if type(form) is ClosedForm:
        assert form.size(9) < DoubleBackward(s.model, s.state, s.examples).size(9)
    numbers = Examples(s.examples.x, torch.zeros(14, dtype=torch.float64))
    assert type(derivatives(s.model, s.state, numbers)) is DoubleBackward


@pytest.mark.parametrize("labels", ["classes", "probabilities"])
@pytest.mark.parametrize("kind", ["group", "instance", "lenet"])
def test_the_closed_form_is_that_of_autograd(kind, labels):
    s = scene(kind)
    y = s.examples.y
    if labels == "probabilities":
        y = torch.rand(14, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    examples, rows = Examples(s.examples.x, y), slice(2, 9)
    closed, twin = (form(*arguments) for form, arguments in forms_of(s, examples))
    v = torch.randn(len(s.whole), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(closed.product(rows)(v), twin.product(rows)(v), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(closed.loss(rows), twin.loss(rows))


def forms_of(s, examples):
    chain = Chain.of(s.model.module, s.model.shape)
    return (ClosedForm, (chain, s.model, s.state, examples)), (DoubleBackward, (s.model, s.state, examples))


def test_a_residual_network():
    model = build_model(MODELS["cifar_resnet"].Settings(depth=8, width=1), (1, 8, 8), 3)
    state = {n: t.double() if t.is_floating_point() else t for n, t in model.drawn(0, "r").items()}
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2] * 2)
    products = Products(model, state, Mask.dense(state, model.prunable), Examples(x, y))
    v = torch.randn(1, products.survivors, generator=generator, dtype=torch.float64)
    sizes = [state[n].numel() for n in model.prunable]

    def loss(flat):
        weights = {n: p.view(state[n].shape) for n, p in zip(model.prunable, flat.split(sizes), strict=True)}
        return torch.nn.functional.cross_entropy(model({**state, **weights}, x), y)

    expected = torch.autograd.functional.hvp(loss, products.weights(), v[0])[1]
    torch.testing.assert_close(products.times(v)[0], expected, rtol=1e-9, atol=1e-12)


def test_whole_chunks_are_compiled(monkeypatch):
    """One function for all of a network's products of so many rows; a shorter last chunk is computed as it is."""
    s = scene("instance")
    v, plain = vectors_of(s, 2), products_of(s).times(vectors_of(s, 2))
    calls = []

    def call(key, function, *tensors):
        calls.append(key)
        return function(*tensors)

    monkeypatch.setattr(compiled, "call", call)
    monkeypatch.setattr(hessian, "GRAPH_BYTES", 5 * products_of(s)._bytes_per_example())
    with compiled.compiling(True):
        torch.testing.assert_close(products_of(s).times(v), plain)
    assert len(calls) == 2 * len(v) and len(set(calls)) == 1


def test_a_product_does_not_depend_on_the_others():
    s = scene("instance")
    single = Products(s.model, {n: t.float() for n, t in s.state.items()}, s.mask, Examples(s.examples.x.float(), s.examples.y))
    probes = single.probes([STREAMS("p", i=i) for i in range(5)])
    together = single.quadratics(probes)
    assert torch.equal(together, torch.cat([single.quadratics(probes[:2]), single.quadratics(probes[2:])]))


def test_single_precision_is_close():
    s = scene("transformer")
    state = {n: t.float() for n, t in s.state.items()}
    single = Products(s.model, state, s.mask, Examples(s.examples.x.float(), s.examples.y))
    v = vectors_of(s)
    found = single.times(v)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, v @ s.hessian, rtol=1e-4, atol=1e-4)


def test_a_product_that_is_not_finite_is_refused():
    s = scene("lenet")
    products = Products(s.model, {n: t * 1e200 for n, t in s.state.items()}, s.mask, s.examples)
    with pytest.raises(NonFiniteError, match="product with the Hessian is not finite"):
        products.times(vectors_of(s))


@pytest.mark.parametrize("kind", NETS)
def test_a_sketch_splits_the_matrix(kind):
    """Known diagonal and expected terms are those of the formula, written out; a sketch of full rank knows everything."""
    s = scene(kind)
    size, rng = len(s.hessian), np.random.default_rng(0)
    sketch = Sketch(products_of(s), signs(rng, 6, size))
    inside = sketch.basis @ sketch.basis.T
    outside = torch.eye(size, dtype=torch.float64) - inside
    torch.testing.assert_close(sketch.basis.T @ sketch.basis, torch.eye(6, dtype=torch.float64))
    rest = outside @ s.hessian @ outside
    torch.testing.assert_close(sketch.known, (s.hessian - rest).diagonal())
    probes = signs(rng, 3, size)
    torch.testing.assert_close(sketch.terms(probes), probes * (probes @ rest))
    assert sketch.products == 12
    full = Sketch(products_of(s), signs(rng, size + 9, size))
    torch.testing.assert_close(full.known, s.hessian.diagonal())
    assert float(full.terms(probes).abs().max()) < 1e-9 * float(s.hessian.abs().max())


def test_a_sketch_spans_the_large_curvature():
    """Beside signs alone, the range of H holds the large eigenvalues: the rest is nearly that of the best basis."""
    s = scene("group")
    values = torch.linalg.eigvalsh(s.hessian).abs().sort().values
    sketch = Sketch(Dense(s.hessian), signs(np.random.default_rng(1), 8, len(s.hessian)))
    rest = s.hessian - sketch.basis @ (sketch.basis.T @ s.hessian)
    best = float(values[:-8].square().sum())
    assert best <= float(rest.square().sum()) < 4 * best


def test_sketches_of_nothing():
    none = Sketch(Dense(torch.eye(3, dtype=torch.float64)), torch.zeros(0, 3, dtype=torch.float64))
    assert none.known.tolist() == [0, 0, 0] and none.products == 0
    assert none.terms(torch.ones(1, 3, dtype=torch.float64)).tolist() == [[1, 1, 1]]
    flat = Sketch(Dense(torch.zeros(3, 3, dtype=torch.float64)), torch.ones(2, 3, dtype=torch.float64))
    assert flat.known.tolist() == [0, 0, 0] and flat.basis.shape == (3, 0)


def test_all_analyses_look_at_the_same_rows():
    s = scene("lenet")
    arguments = (s.model, [s.state], [s.mask], s.examples, STREAMS)
    found = [
        curvature.measure(curvature.Settings(rows=6, probes_max=16), copies_of(*arguments)),
        spectrum.measure(spectrum.Settings(rows=6, eigenvalues=2, steps=2, starts=2), copies_of(*arguments)),
        diagonal.measure(diagonal.Settings(rows=6), copies_of(*arguments)),
    ]
    assert len({canonical_json(f.numbers["rows"]) for f in found}) == 1
    (loss,) = {f.numbers["copies"][0]["train_loss"] for f in found}
    index = torch.randperm(14, generator=STREAMS("curvature", "rows"))[:6]
    logits = s.model(s.state, s.examples.x[index])
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, s.examples.y[index])))


@pytest.mark.parametrize("name", ["curvature", "spectrum", "diagonal"])
def test_nothing_to_measure_is_refused(name):
    s = scene("lenet")
    with pytest.raises(UserError, match=rf"(?s){name} needs training examples and a retrained copy.*14 examples, 0 copies"):
        recorded(name, [], s.examples, 5, STREAMS)
    entry = {"curvature": curvature, "spectrum": spectrum, "diagonal": diagonal}[name]
    none = s.examples.take(torch.arange(0))
    with pytest.raises(UserError, match=rf"(?s){name} needs training examples.*0 examples, 1 copies"):
        entry.measure(entry.Settings(), copies_of(s.model, [s.state], [s.mask], none, STREAMS))


@pytest.mark.parametrize("entry", [spectrum, diagonal], ids=["spectrum", "diagonal"])
def test_networks_that_overflow_are_refused(entry):
    s = scene("lenet")
    state = {n: t * 1e200 for n, t in s.state.items()}
    settings = entry.Settings(**({"eigenvalues": 2} if entry is spectrum else {}))
    with pytest.raises(NonFiniteError, match="of copy 0 is not finite"):
        entry.measure(settings, copies_of(s.model, [state], [s.mask], s.examples, STREAMS))
