"""What is read of the numbers that analyses have stored: their types, by the analysis's name.

A store may hold what a stranger packed: numbers whose hash is right, and whose types are any. What nobody reads is not looked
at, and may differ between versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.declared import at, declared
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import Row, ScanRow, Summary
from distill_prune.analyze.verdict import MATCHING, STABLE, Verdict
from distill_prune.artifacts.basis import Numbers

Floats = list[float]
Maybe = list[float | None]


class MeanNumbers(Numbers):
    """A mean with what is known of its spread."""

    mean: float
    sd: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class _Curves(Numbers):
    test_error: Floats
    train_error: Floats


class _Connectivity(Numbers):
    alphas: Floats
    curves: _Curves


def _as_tuple(value: object) -> object:
    """JSON has lists alone."""
    return tuple(value) if isinstance(value, list) else value


class _Plane(Numbers):
    x: Floats
    y: Floats
    unit: str
    marks: list[Annotated[tuple[float, float, str], BeforeValidator(_as_tuple)]]
    surfaces: dict[str, list[Maybe]]
    at_marks: dict[str, Maybe] = Field(default_factory=dict)
    about: str


class _Landscape(Numbers):
    planes: dict[str, _Plane | None]


class _Density(Numbers):
    grid: Floats
    values: Floats
    errors: Maybe = Field(default_factory=list)
    sigma: float


class _Eigenvalue(Numbers):
    value: float
    residual: float
    participation: float = 1.0
    layers: dict[str, float] = Field(default_factory=dict)


class _CopySpectrum(Numbers):
    copy_: int = Field(alias="copy")
    density: _Density
    eigenvalues: list[_Eigenvalue]


class _Spectrum(Numbers):
    copies: list[_CopySpectrum]


class _Histogram(Numbers):
    edges: Floats
    counts: list[int]


class _CopyDiagonal(Numbers):
    copy_: int = Field(alias="copy")
    quantiles: dict[str, float]
    noise: float = 0.0
    histogram: _Histogram | None = None


class _Diagonal(Numbers):
    copies: list[_CopyDiagonal]


class _Heights(Numbers):
    test_error: MeanNumbers
    train_error: MeanNumbers


class _Layer(Numbers):
    excess: _Heights
    barrier: _Heights


class _Layerwise(Numbers):
    layers: dict[str, _Layer]


class _LayerTrace(Numbers):
    trace_per_weight: MeanNumbers | None


class _Curvature(Numbers):
    layers: dict[str, _LayerTrace]


class _Between(Numbers):
    barrier: _Heights
    excess: _Heights
    disagreement: MeanNumbers
    distance: MeanNumbers
    shared: float


class _Chance(Numbers):
    iou: float | None


class _Overlap(Numbers):
    iou: float | None
    chance: _Chance
    z: float | None


class _Score(Numbers):
    accuracy: float


class _Evaluation(Numbers):
    network: str
    accuracy: dict[str, Estimate]
    nets: list[dict[str, _Score]]

    @model_validator(mode="after")
    def _whole(self) -> _Evaluation:
        parts = self.accuracy.keys()
        if "test" not in parts or any(net.keys() < parts for net in self.nets):
            raise ValueError("accuracy: a part is missing, of the estimates or of a network")
        return self


class _Ranking(Numbers):
    network: str
    hlr: Estimate
    ior: Estimate
    lrs: Estimate


def _check_rows(summary: Mapping[str, Any]) -> None:
    """What the answer is made of is there; a row has an estimate, or None, for every metric, and verdicts that there are."""
    if missing := [name for name in ("arms", "rows", "paired", "scan", "onset") if name not in summary]:
        raise ValueError(f"{missing[0]}: missing")
    fields = {**Row.__annotations__, **ScanRow.__annotations__}
    for row in (*summary["rows"], *summary["scan"]):
        for prop in (MATCHING, STABLE):
            Verdict(row[prop.name])
        for name in row.keys() - fields.keys():
            _adapter(Estimate | None).validate_python(row[name], strict=True)


FORMS: Mapping[str, Any] = {
    "connectivity": _Connectivity,
    "landscape": _Landscape,
    "spectrum": _Spectrum,
    "diagonal": _Diagonal,
    "layerwise": _Layerwise,
    "curvature": _Curvature,
    "between": _Between,
    "overlap": _Overlap,
    "evaluation": _Evaluation,
    "ranking": _Ranking,
    "summary": Summary,
}


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    """Made when it is first asked for: a command that reads no measurements needs none."""
    return TypeAdapter(form)


def check(analysis: str, numbers: Mapping[str, object]) -> None:
    """Compare an analysis's numbers with what is read of them. A plugin's are its own, but for the metrics that it declares.

    Raises:
        ValueError: they are of other types.
    """
    if analysis not in ANALYSES.own:
        return
    if analysis in FORMS:
        _adapter(FORMS[analysis]).validate_python(numbers, strict=True)
    if analysis == "summary":
        _check_rows(numbers)
    for metric in declared(analysis) if ANALYSES[analysis].TAKES != "study" else ():
        value = at(numbers, metric)
        if isinstance(value, Mapping) and metric.part == "mean":
            MeanNumbers.model_validate(value)
        elif isinstance(value, bool | str | list):
            raise ValueError(f"{'.'.join(metric.place)}: {value!a} is no number")
