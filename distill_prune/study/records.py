"""What a report is laid out from beside the summary: plain records of single tickets, sets and artifacts.

Tickets, and lines between tickets, have a key for every metric that was measured, too; `records.value` reads it.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from distill_prune.analyze.estimate import Estimate


class Place(TypedDict):
    """Which ticket a record is of; `draw` is that of its sets, where there are several."""

    arm: str
    seed: int
    draw: NotRequired[int]
    level: int
    sparsity: float


class Curve(Place):
    """Errors on the line between two copies, means over their pairs."""

    alphas: list[float]
    test_error: list[float]
    train_error: list[float]


class LayerCount(TypedDict):
    """Weights that remain in a layer, mean over initialisations."""

    arm: str
    level: int
    layer: str
    remaining: float
    total: int


class LayerTrace(TypedDict):
    """Trace per surviving weight of a layer, mean over initialisations."""

    arm: str
    level: int
    layer: str
    sparsity: float
    trace_per_weight: float


class Layerwise(Place):
    """Excess of the error over the chord with one layer interpolated."""

    layer: str
    excess_test: float
    excess_train: float


class Between(Place):
    """The line between two tickets: of two arms (`arms`) or two levels of one (`levels`)."""

    kind: str
    versus: str
    versus_level: int
    distance: float
    shared: float


class Plane(Place):
    """Surfaces (rows of y, columns of x) on a plane of networks; a point that is not finite is None."""

    kind: str
    x: list[float]
    y: list[float]
    unit: str
    marks: list[tuple[float, float, str]]
    surfaces: dict[str, list[list[float | None]]]
    at_marks: NotRequired[dict[str, list[float | None]]]
    about: str


class Eigenvalue(TypedDict):
    value: float
    residual: float
    participation: NotRequired[float]
    layers: NotRequired[dict[str, float]]


class Density(Place):
    """The spectral density of one copy on a grid, and its leading eigenvalues."""

    copy: int
    grid: list[float]
    values: list[float]
    errors: NotRequired[list[float | None]]
    sigma: float
    eigenvalues: list[Eigenvalue]


class Histogram(TypedDict):
    edges: list[float]
    counts: list[int]


class Diagonal(Place):
    """The distribution of the Hessian's diagonal of one copy."""

    copy: int
    quantiles: dict[str, float]
    noise: NotRequired[float]
    histogram: NotRequired[Histogram]


class Ticket(Place):
    """One retrained ticket."""

    label: str
    k: str
    remaining: int
    total: int
    key: str


class Training(Place):
    """The mean training loss of each epoch of one retrained copy."""

    copy: int
    losses: list[float]


class Evaluation(TypedDict):
    """Fresh networks trained on a set."""

    label: str
    set: str
    network: str
    accuracy: Estimate
    validation: Estimate | None
    accuracies: list[float]


class Ranking(TypedDict):
    set: str
    network: str
    hlr: Estimate
    ior: Estimate
    lrs: Estimate


class Distillation(TypedDict):
    """The course of a distillation, a value an iteration recorded."""

    iterations: list[int]
    loss: list[float]
    lr: list[float] | None


class Missing(TypedDict):
    stage: str
    key: str
    label: str


class Provenance(Missing):
    seconds: float
    peak_mb: float
    device: str
    created: str


class Data(TypedDict, total=False):
    """`task` is there where the data are one task of several that the data set has."""

    title: str
    counts: dict[str, int]
    shape: list[int]
    transform: str
    task: str


class Samples(TypedDict):
    """A set of text: `made_of` is "embeddings" or "sentences"; `labels` (N, K) are None where they are hard."""

    made_of: str
    count: int
    length: int
    width: int | None
    classes: list[int]
    labels: list[list[float]] | None
