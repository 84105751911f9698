"""Measurements of states of a network of one's own: the barrier between two, and the Hessian's trace at one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from distill_prune.analyze import connectivity, curvature
from distill_prune.analyze.copies import check_architecture
from distill_prune.analyze.curvature import CopyTrace, LayerTrace
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.api.own import Network, ready
from distill_prune.artifacts import Examples, Mask
from distill_prune.models import Model
from distill_prune.plan.places import ARGUMENTS
from distill_prune.plan.validate import validated
from distill_prune.progress import SILENT, Progress, TicksOnly
from distill_prune.rng import Streams
from distill_prune.tree import State, clone, to


@dataclass(frozen=True)
class Barrier:
    """How much worse a network is on the straight line between two states than at its ends.

    `test_error` and `train_error` are shares of 1 (0.02 is 2 percentage points), losses nats. `excess` are the same heights
    over the chord between the ends, `curves` the values at `alphas`, both by "test_error", "train_error", "test_loss" and
    "train_loss". `distance` is the Euclidean one over all parameters.
    """

    test_error: float
    train_error: float
    test_loss: float
    train_loss: float
    excess: dict[str, float]
    curves: dict[str, list[float]]
    alphas: list[float]
    distance: float


def barrier(
    network: Network,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    train: Examples,
    test: Examples,
    points: int = 30,
    allow_different_masks: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Barrier:
    """The error barrier between two states of one network: the largest value on the line minus the mean of its ends.

    Statistics of batch norms are measured anew at every point, on training examples.

    Args:
        network: The network that both states are of.
        a: Every tensor by name, as `state_dict` gives them; weights that are exactly 0 count as pruned.
        b: The same of the other end.
        train: Training examples; at most 10,000 of them, drawn by `seed`, give the training error and loss.
        test: Test examples, all of which give the test error and loss.
        points: How many points of the line are measured, both ends among them.
        allow_different_masks: Measure states whose pruned weights differ, too: between them lie denser networks.

    Raises:
        UserError: a state is of another network, the two have different masks, or examples are missing or do not fit.
        NonFiniteError: a loss on the line is not finite.

    References:
        | Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 (Frankle et al., 2020),
          https://arxiv.org/abs/1912.05671
    """
    model = ready(network, train, a, "training examples")
    ready(model, test, a, "test examples")
    options = {"points": points, "allow_different_masks": allow_different_masks}
    settings = validated(connectivity.Settings, options, (), ARGUMENTS)
    states = [_whole(model, "a", a), _whole(model, "b", b)]
    masks = [_mask(model, state) for state in states]
    parts = {"train": train, "test": test}
    streams = Streams(seed, ("compare",))
    numbers = connectivity.measure(
        settings, Copies(model, states, masks, states[0], parts, streams, progress=TicksOnly(progress))
    ).numbers
    (pair,) = numbers["pairs"]
    heights = {name: float(pair["barrier"][name]) for name in ("test_error", "train_error", "test_loss", "train_loss")}
    return Barrier(**heights, excess=pair["excess"], curves=pair["curves"], alphas=numbers["alphas"], distance=pair["distance"])


@dataclass(frozen=True)
class Trace:
    """The trace of the Hessian of the mean training loss, over the surviving prunable weights; in nats.

    `mean` comes with its standard error `se` and 95 % interval (`low`, `high`) over `probes` random directions, and `stopped`
    says which rule ended them: "relative error" or "cap". Traces of networks with different survivors or norms are comparable
    neither raw nor without these: `per_weight`, the trace divided by the number of survivors (None where there are none), and
    `invariant`, the sum of w^2 H_ww, which rescaling of layers does not change. `layers` has the trace of each layer by name.
    """

    mean: float
    se: float
    low: float
    high: float
    per_weight: Estimate | None
    invariant: Estimate
    layers: dict[str, LayerTrace]
    probes: int
    stopped: str
    survivors: int
    weight_norm: float
    train_loss: float


def hessian_trace(
    network: Network,
    state: Mapping[str, Tensor],
    examples: Examples,
    *,
    rows: int = 1024,
    relative_error: float = 0.05,
    probes_max: int = 200,
    method: Literal["hutchinson", "hutch++", "xtrace"] = "hutchinson",
    interval: Literal["student", "calibrated"] = "student",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Trace:
    """The Hessian trace of the mean training loss at a state, in evaluation mode, without weight decay, with its error.

    Args:
        network: The network that the state is of.
        state: Every tensor by name; weights that are exactly 0 count as pruned, and the trace is over the others.
        examples: Training examples without augmentation; the loss is the mean over at most `rows` of them, drawn by `seed`.
        relative_error: Probes end where se / |trace| is at most this, or at `probes_max`.
        method: `hutchinson`; `hutch++` and `xtrace` take fewer products where few eigenvalues are large.
        interval: `student`, or `calibrated`: corrected for the skewness of the probes and for their stopping.

    Raises:
        UserError: the state is of another network, or the examples or an option cannot be used.
        NonFiniteError: the loss or a product with the Hessian is not finite.

    References:
        | A stochastic estimator of the trace of the influence matrix (Hutchinson, 1989)
        | Hutch++: Optimal Stochastic Trace Estimation (Meyer, Musco, Musco and Woodruff, 2021), https://arxiv.org/abs/2010.09649
        | XTrace: Making the Most of Every Sample in Stochastic Trace Estimation (Epperly, Tropp and Webber, 2024),
          https://arxiv.org/abs/2301.07825
    """
    model = ready(network, examples, state)
    options = {
        "rows": rows,
        "relative_error": relative_error,
        "probes_max": probes_max,
        "method": method,
        "interval": interval,
    }
    settings = validated(curvature.Settings, options, (), ARGUMENTS)
    whole = _whole(model, "the state", state)
    parts, streams = {"train": examples}, Streams(seed, ("compare",))
    copies = Copies(model, [whole], [_mask(model, whole)], whole, parts, streams, progress=TicksOnly(progress))
    copy: CopyTrace = curvature.measure(settings, copies).numbers["copies"][0]
    trace = copy["trace"]
    se, low, high = trace["se"], trace["low"], trace["high"]
    assert se is not None and low is not None and high is not None  # there are 16 probes at least
    return Trace(
        trace["mean"],
        se,
        low,
        high,
        copy["trace_per_weight"],
        copy["invariant"],
        copy["layers"],
        copy["probes"],
        copy["stopped"],
        copy["survivors"],
        copy["weight_norm"],
        copy["train_loss"],
    )


def _whole(model: Model, name: str, state: Mapping[str, Tensor]) -> State:
    """A state of the network on the CPU, in tensors of its own.

    Raises:
        UserError: it is of another network.
    """
    check_architecture(model, {name: dict(state)})
    return to(clone(state), "cpu")


def _mask(model: Model, state: State) -> Mask:
    """What survives of a state: every prunable weight that is not exactly 0."""
    return Mask({name: state[name] != 0 for name in model.prunable})
