"""Figures of planes and spectra: what they show of the numbers, and that they stay readable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference_report_rich import lines, looks, rich

from distill_prune.report import spectra, style, surfaces
from distill_prune.report.tables import tables

SEEDS, LEVELS = 2, 3


@pytest.fixture(scope="module")
def study() -> Any:
    return rich(seeds=SEEDS, levels=LEVELS)


# surfaces


def test_all_planes_of_a_figure_share_bands_and_mark_their_copies(study: Any) -> None:
    figure, alt = surfaces.surface(study, "copies", "test_error") or pytest.fail("no figure")
    panels = figure.axes[:6]
    bands = [tuple(c.levels) for p in panels for c in p.collections if getattr(c, "filled", False)]
    assert len(bands) == 6 and len(set(bands)) == 1
    values = [
        100 * v for p in surfaces.drawn(study, "copies", "test_error") for row in p["surfaces"]["test_error"] for v in row
    ]
    assert bands[0][0] <= min(values) and bands[0][-1] >= max(values)
    for panel, plane in zip(panels, surfaces.drawn(study, "copies", "test_error"), strict=True):
        dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.get_lines()]
        assert dots == [(x, y) for x, y, _ in plane["marks"]]
        assert [t.get_text() for t in panel.texts if t.get_fontweight() == "bold"] == ["0", "1", "2"]
    assert "error on the test set" in alt.lower() and "%" in alt


def test_one_initialisation_is_shown_and_all_are_tabled(study: Any) -> None:
    assert {p["seed"] for p in study.planes} == {0, 1}
    assert {p["seed"] for p in surfaces.drawn(study, "directions", "train_loss")} == {0}
    points = tables(study)["landscape"]
    assert len(points) == sum(len(p["x"]) * len(p["y"]) + len(p["marks"]) for p in study.planes)
    plane = study.planes[0]
    (found,) = [r for r in points[: 17 * 17] if (r["x"], r["y"]) == (plane["x"][3], plane["y"][5]) and r["mark"] is None]
    assert found["test_loss"] == plane["surfaces"]["test_loss"][5][3]


@pytest.mark.parametrize(
    ("low", "high", "log", "edges"),
    [
        (3.0, 47.0, False, [0, 10, 20, 30, 40, 50]),
        (0.012, 0.9, True, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        (0.02, 1500.0, True, [0.01, 0.1, 1, 10, 100, 1000, 10000]),
        (0.2, 1.4, True, [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]),
        (0.0, 9.0, True, [0, 2, 4, 6, 8, 10]),
    ],
)
def test_bands(low: float, high: float, log: bool, edges: list[float]) -> None:
    assert surfaces.bands(low, high, log) == pytest.approx(edges)


def test_a_flat_surface_and_one_without_values() -> None:
    study = rich(seeds=1, levels=2)
    for plane in study.planes:
        plane["surfaces"] = {"test_error": [[0.1] * 17] * 17, "train_loss": [[None] * 17] * 17}
    assert surfaces.surface(study, "copies", "test_error") is not None
    assert surfaces.surface(study, "copies", "train_loss") is None
    assert surfaces.surface(study, "copies", "distilled_loss") is None


def test_ink_is_readable_on_all_of_the_ramp() -> None:
    ramp = surfaces.ramp()(np.linspace(0, 1, 33))[:, :3]
    linear = np.where(ramp <= 0.04045, ramp / 12.92, ((ramp + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()
    ink = 0.0147
    assert ((luminance + 0.05) / (ink + 0.05)).min() >= 4.5


# spectra


def test_density_shows_first_copies_and_leading_eigenvalues(study: Any) -> None:
    figure, alt = spectra.density(study) or pytest.fail("no figure")
    panel = figure.axes[0]
    own = [d for d in study.densities if (d["arm"], d["level"], d["copy"]) == ("real", 0, 0)]
    curves = [line for line in panel.get_lines() if line.get_marker() == "None"]
    ticks = [line for line in panel.get_lines() if line.get_marker() == "|"]
    assert [c.get_ydata().tolist() for c in curves] == [d["values"] for d in own]
    assert [t.get_xdata().tolist() for t in ticks] == [[e["value"] for e in d["eigenvalues"]] for d in own]
    assert panel.get_yscale() == "log" and len(own) == SEEDS
    assert "Largest eigenvalue at 93.8% sparsity" in alt
    assert len(tables(study)["eigenvalues"]) == 5 * len(study.densities)


def test_diagonals_are_bars_of_their_quantiles(study: Any) -> None:
    figure, alt = spectra.diagonal(study) or pytest.fail("no figure")
    first = next(d for d in study.diagonals if d["arm"] == "real")
    bars = lines(figure.axes[0], looks(study)["real"].color)
    assert bars[0].get_xdata().tolist() == [first["quantiles"]["0.05"], first["quantiles"]["0.95"]]
    assert bars[1].get_xdata().tolist() == [first["quantiles"]["0.25"], first["quantiles"]["0.75"]]
    assert "Median at 93.8% sparsity" in alt
    assert spectra.histograms(rich(seeds=1, levels=2, diagonals=[{k: v for k, v in first.items() if k != "histogram"}])) is None


def test_planes_and_spectra_of_many_arms_show_the_ones_that_matter() -> None:
    study = rich(seeds=1, levels=2)
    shown = [a.name for a in style.shown_arms(study, {a.name for a in style.arms(study)})]
    assert shown == ["real", "synthetic", "subset", "herded", "short", "continued"]
    assert [a.name for a in style.shown_arms(study, {"snip", "random", "real"}, most=2)] == ["real", "random"]
