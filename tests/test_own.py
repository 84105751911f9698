"""Networks and sets of one's own: the same numbers as a study's, true to slow twins, and refusals in words."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian

import distill_prune as dp
from distill_prune.plan.nodes import Graph
from distill_prune.rng import stream
from distill_prune.store.store import Store
from distill_prune.tree import clone, flatten


def small(kind: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(*layers).to(kind)


def examples(n: int = 40, kind: torch.dtype = torch.float32) -> dp.Examples:
    x = torch.randn(n, 1, 4, 4, generator=stream(0, "x")).to(kind)
    return dp.Examples(x, torch.arange(n) % 3)


SHORT = {"length": "6it", "lr": 0.1, "batch": 8}


# -- the same as a study's


def test_tickets_and_copies_are_those_of_a_study(finished: tuple[Store, Graph]) -> None:
    results = dp.study(tiny.pipeline(), store=finished[0])
    train, recipe = results.data.examples("train"), results.pipeline.retrain.recipe
    start = results.ticket("real", 0, 0).state
    tickets = dp.find_tickets(results.model, train, recipe, levels=2, rate=0.3, start=start)
    for level, ticket in enumerate(tickets):
        theirs = results.ticket("real", 0, level)
        assert all(torch.equal(kept, theirs.mask.kept[name]) for name, kept in ticket.mask.kept.items())
        assert all(torch.equal(tensor, theirs.state[name]) for name, tensor in ticket.state.items())
    state = dp.retrain(results.model, tickets[2], train, recipe, copy=1).state
    assert all(torch.equal(tensor, state[name]) for name, tensor in results.weights("real", 0, 2, copy=1).items())


# -- tickets


def test_a_network_is_pruned_and_left_as_it_is() -> None:
    net = small().train()
    before = clone(net.state_dict())
    tickets = dp.find_tickets(net, examples(), SHORT, levels=3, rate=0.5)
    assert [t.mask.remaining for t in tickets] == [63, 31, 15, 7]  # Python rounds 31.5 up and 15.5 up, to even
    assert all(b.mask.inside(a.mask) for a, b in pairwise(tickets))
    assert net.training and all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    for ticket in tickets:
        rewound = ticket.mask.apply(before)
        assert all(torch.equal(t, rewound[n]) for n, t in ticket.state.items())
    net.load_state_dict(tickets[-1].state)
    trained = dp.retrain(net, tickets[-1], examples(), SHORT)
    assert all(bool((trained.state[n][~kept] == 0).all()) for n, kept in tickets[-1].mask.kept.items()) and len(trained.losses)


def test_criteria_are_named_or_written_out() -> None:
    net = small()
    by_layer = dp.find_tickets(net, examples(), SHORT, rate=0.25, criterion={"name": "magnitude", "scope": "layer"})[1]
    assert [layer["remaining"] for layer in by_layer.mask.layers().values()] == [20, 27]
    snip = dp.find_tickets(net, examples(), SHORT, rate=0.25, criterion="snip")[1]
    assert snip.mask.remaining == 47
    net.prunable = ("3.weight",)
    assert list(dp.find_tickets(net, examples(), SHORT)[1].mask.kept) == ["3.weight"]


# -- measurements


def test_a_barrier_is_the_worst_of_the_line_minus_the_mean_of_its_ends() -> None:
    net, train, test = small(), examples(), examples(30)
    a, b = small().state_dict(), {n: torch.randn(t.shape, generator=stream(1, n)) for n, t in net.state_dict().items()}
    line = dp.barrier(net, a, b, train=train, test=test, points=5)
    losses = []
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        state = {n: (1 - alpha) * t + alpha * b[n] for n, t in a.items()}
        losses.append(float(F.cross_entropy(functional_call(net, state, (test.x,)), test.y)))
    assert line.alphas == [0, 0.25, 0.5, 0.75, 1] and line.curves["test_loss"] == pytest.approx(losses, rel=1e-5)
    assert line.test_loss == pytest.approx(max(losses) - (losses[0] + losses[-1]) / 2, rel=1e-4)
    assert line.distance == pytest.approx(float((flatten(a) - flatten(b)).norm()), rel=1e-5)
    same = dp.barrier(net, a, a, train=train, test=test, points=3)
    assert same.test_error == same.train_loss == 0


def test_a_trace_is_that_of_the_dense_hessian_of_the_survivors() -> None:
    net, data = small(torch.float64), examples(kind=torch.float64)
    ticket = dp.find_tickets(net, data, SHORT, rate=0.3)[1]
    names = [*ticket.mask.kept]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = torch.split(vector, [ticket.state[n].numel() for n in names])
        weights = {n: part.view_as(ticket.state[n]) for n, part in zip(names, parts, strict=True)}
        return F.cross_entropy(functional_call(net, {**ticket.state, **weights}, (data.x,)), data.y)

    diagonal = hessian(loss)(flatten(ticket.state, names)).diagonal()
    truth = float(diagonal[flatten(ticket.mask.kept, names)].sum())
    trace = dp.hessian_trace(net, ticket.state, data, relative_error=0.02, probes_max=400)
    assert abs(trace.mean - truth) < 4 * trace.se and trace.low < trace.mean < trace.high
    assert trace.survivors == ticket.mask.remaining and trace.per_weight is not None
    assert trace.per_weight["mean"] == pytest.approx(trace.mean / trace.survivors)
    assert trace.train_loss == pytest.approx(float(loss(flatten(ticket.state, names))))


@pytest.mark.parametrize(("batch", "momentum", "soft"), [(None, 0.0, False), (4, 0.5, True)])
def test_a_matching_gradient_is_that_of_the_whole_unroll(batch: int | None, momentum: float, soft: bool) -> None:
    net, kind = small(torch.float64), torch.float64
    data, layout = examples(6, kind), dict(net.named_parameters())
    labels = torch.randn(6, 3, generator=stream(0, "y")).double() if soft else data.y
    start = clone(net.state_dict())
    target = {n: t + 0.1 * torch.randn(t.shape, generator=stream(2, n)).double() for n, t in start.items()}
    found = dp.match_trajectory(net, data.x, labels, start, target, steps=3, lr=0.2, batch=batch, momentum=momentum, seed=5)
    pixels, log_lr = data.x.clone().requires_grad_(), torch.tensor(0.2, dtype=kind).log().requires_grad_()
    y = labels.clone().requires_grad_() if soft else labels
    generator, queue = stream(5, "match", "batches"), []
    theta, speed = {n: t.clone().requires_grad_() for n, t in start.items()}, {n: torch.zeros_like(t) for n, t in start.items()}
    for _ in range(3):
        rows = torch.arange(6)
        if batch is not None:
            queue = queue or list(torch.split(torch.randperm(6, generator=generator), batch))
            rows = queue.pop(0)
        aim = y[rows].softmax(1) if soft else y[rows]
        loss = F.cross_entropy(functional_call(net, theta, (pixels[rows],)), aim)
        slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        speed = {n: momentum * speed[n] + g for n, g in zip(theta, slopes, strict=True)}
        theta = {n: t - log_lr.exp() * speed[n] for n, t in theta.items()}
    gap = sum((theta[n] - target[n]).square().sum() for n in layout)
    value = gap / sum((start[n] - target[n]).square().sum() for n in layout)
    slopes = torch.autograd.grad(value, [pixels, log_lr, *([y] if soft else [])])
    torch.testing.assert_close(found.loss, value.detach())
    torch.testing.assert_close([found.pixels, found.log_lr, *([found.labels] if soft else [])], list(slopes))


# -- sets


def test_a_set_of_mtt_comes_with_the_space_of_its_data(tmp_path: Path) -> None:
    data = dp.load_data("digits")
    images, labels = torch.randn(20, 1, 8, 8, generator=stream(0, "set")), torch.arange(20) // 2
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(labels, tmp_path / "labels_best.pt")
    made = dp.load_set(tmp_path, "mtt", data=data, space="normalize", lr=0.02)
    assert torch.equal(made.images, images) and made.lr == 0.02 and made.fits(data.transform)
    files = [tmp_path / "images_best.pt", str(tmp_path / "labels_best.pt")]
    assert dp.load_set(files, "mtt", data=data, space="normalize", lr=None).lr is None
    for options, message in (
        ({}, "does not say the learned learning rate"),
        ({"lr": 0.1, "data": data}, "does not say which input space"),
        ({"lr": 0.1, "spaces": "zca"}, "unknown key 'spaces' in the arguments"),
        ({"lr": 0.1, "store": tmp_path}, "`store` means nothing to a file"),
    ):
        with pytest.raises(dp.UserError, match=message):
            dp.load_set(tmp_path, "mtt", **options)
    for form, message in (("mttt", "did you mean 'mtt'"), ("openlth", "holds no distilled sets")):
        with pytest.raises(dp.UserError, match=message):
            dp.load_set(tmp_path, form)


def test_a_set_of_a_store_is_read_by_its_name(store: Store, graph: Graph) -> None:
    store.tag(graph.sets["synthetic"], "mine")
    assert torch.equal(dp.load_set("mine", store=store).images, dp.load_set(graph.sets["synthetic"], store=store.root).images)
    with pytest.raises(dp.UserError, match="is not a synthetic set"):
        dp.load_set(graph.data, store=store)
    with pytest.raises(dp.UserError, match="only where its format is said"):
        dp.load_set("mine", store=store, space="zca")


# -- refusals


class Two(nn.Module):
    """Shares one weight between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.b(self.a(x.flatten(1))))


def tickets(net: nn.Module, data: dp.Examples | None = None, **options: object) -> None:
    dp.find_tickets(net, examples() if data is None else data, options.pop("recipe", SHORT), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tickets(small, None), r"the network\n  got:      function\n.*an instance"),
        (lambda: tickets(nn.Sequential(nn.Flatten())), "has no parameters"),
        (lambda: tickets(nn.Sequential(nn.Flatten(), nn.Linear(9, 3))), r"cannot take inputs of shape \(N, 1, 4, 4\)"),
        (lambda: tickets(nn.Conv2d(1, 3, 3)), r"outputs for 2 examples\n.*\(2, 3, 2, 2\)\n.*\(2, K\)"),
        (lambda: tickets(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))), "no prunable weights"),
        (lambda: tickets(Two()), "share the weight 'a.weight'"),
        (lambda: tickets(small(), dp.Examples(examples().x, examples().y + 1)), r"labels of the examples\n.*1..3\n.*0..2"),
        (lambda: tickets(small(), examples(0)), "are empty"),
        (lambda: tickets(small(), examples(kind=torch.float64)), r"another type.*\n.*float64\n.*float32\n.*255"),
        (lambda: tickets(small(), recipe={"length": "6"}), "'length' in the recipe"),
        (lambda: tickets(small(), recipe={"lengths": "6it"}), r"unknown key 'lengths' in the recipe"),
        (lambda: tickets(small(), criterion="magnitud"), "did you mean 'magnitude'"),
        (lambda: tickets(small(), rate=20), "share between 0 and 1"),
        (lambda: tickets(small(), start={"0.weight": torch.zeros(1)}), "start is of another architecture"),
        (lambda: dp.load_data("digit"), "did you mean 'digits'"),
        (
            lambda: dp.as_model(small(), (1, 4, 4)).module and dp.barrier(small(), {}, {}, train=examples(), test=examples()),
            "a is of",
        ),
    ],
)
def test_mistakes_are_one_message(call, message: str) -> None:
    with pytest.raises(dp.UserError, match=message):
        call()


def test_states_of_different_masks_are_mixed_only_where_it_is_meant() -> None:
    net = small()
    a, b = net.state_dict(), clone(net.state_dict())
    b["0.weight"][0] = 0
    with pytest.raises(dp.UserError, match="different masks"):
        dp.barrier(net, a, b, train=examples(), test=examples())
    line = dp.barrier(net, a, b, train=examples(), test=examples(), points=2, allow_different_masks=True)
    assert line.test_error == pytest.approx(abs(line.curves["test_error"][0] - line.curves["test_error"][1]) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "at least 1 each"),
        ({"lr": 0.0}, "lr above 0"),
        ({"augment": "blur"}, "augment 'blur'"),
        ({"target": None}, "start and target are equal"),
    ],
)
def test_matching_that_means_nothing_is_refused(options, message: str) -> None:
    net = small()
    start, data = net.state_dict(), examples(6)
    target = start if "target" in options else {n: t + 1 for n, t in start.items()}
    values = {"steps": 2, "lr": 0.1, **{n: v for n, v in options.items() if n != "target"}}
    with pytest.raises(dp.UserError, match=message):
        dp.match_trajectory(net, data.x, data.y, start, target, **values)
