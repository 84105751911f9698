"""Made-up surfaces and spectra of one place of a study, shaped as the pipeline hands them over."""

from __future__ import annotations

from typing import Any

import numpy as np

LAYERS = ("blocks.0.conv", "blocks.1.conv", "blocks.2.conv", "classifier")


def plane(place: dict[str, Any], kind: str, rng: Any) -> dict[str, Any]:
    """Bowls around each mark; a corner without finite values on one plane."""
    wide = 1.0 if kind == "directions" else 9.0 / (1 + place["level"])
    marks = (
        [[0.0, 0.0, "copy 0"]]
        if kind == "directions"
        else [[0.0, 0.0, "copy 0"], [wide, 0.0, "copy 1"], [0.45 * wide, 0.8 * wide, "copy 2"]]
    )
    x = np.linspace(-wide, wide, 17) if kind == "directions" else np.linspace(-0.25 * wide, 1.25 * wide, 17)
    y = x if kind == "directions" else np.linspace(-0.2 * wide, wide, 17)
    away = np.min([np.hypot(x[None] - a, y[:, None] - b) for a, b, _ in marks], axis=0) / wide
    surfaces = {}
    for data, floor in (("train", 0.01), ("test", 0.05), ("distilled", 0.002)):
        surfaces[f"{data}_loss"] = (floor + 4 * away**2 * (1 + 0.1 * rng.random())).tolist()
        surfaces[f"{data}_error"] = (np.minimum(floor + 0.6 * away**1.5, 0.9)).tolist()
    if kind == "directions" and place["arm"] == "random_layers":
        for z in surfaces.values():
            z[0][0] = None
    about = "the plane through copies 0, 1 and 2, drawn to scale" if kind == "copies" else "two random directions around copy 0"
    return {
        **place,
        "kind": kind,
        "x": x.tolist(),
        "y": y.tolist(),
        "unit": "lengths of each filter" if kind == "directions" else "Euclidean distance over all parameters",
        "marks": marks,
        "surfaces": surfaces,
        "at_marks": {n: [z[8][8]] * len(marks) for n, z in surfaces.items()},
        "about": about,
    }


def density(place: dict[str, Any], copy: int, rng: Any) -> dict[str, Any]:
    top = 40.0 / (1 + place["level"]) * (1 + 0.1 * rng.random())
    grid = np.linspace(-0.1 * top, 1.1 * top, 200)
    values = np.exp(-((grid / (0.03 * top)) ** 2)) + 1e-4 * np.exp(-(((grid - top) / (0.03 * top)) ** 2)) + 1e-12
    found = [
        {
            "value": top * 0.7**j,
            "residual": 1e-4 * (j + 1),
            "participation": 0.02 * (j + 1),
            "layers": dict.fromkeys(LAYERS, 0.25),
        }
        for j in range(5)
    ]
    return {
        **place,
        "copy": copy,
        "grid": grid.tolist(),
        "values": values.tolist(),
        "errors": [1e-6] * 200,
        "sigma": 0.03 * top,
        "eigenvalues": found,
    }


def diagonal(place: dict[str, Any], copy: int, rng: Any) -> dict[str, Any]:
    entries = rng.normal(0, 1e-5, 2000) + rng.lognormal(-7 + place["level"], 2.5, 2000)
    scale = float(np.median(np.abs(entries)))
    edges = scale * np.sinh(np.linspace(np.arcsinh(entries.min() / scale), np.arcsinh(entries.max() / scale), 31))
    q = (0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        **place,
        "copy": copy,
        "exact": False,
        "probes": 100,
        "quantiles": {str(p): float(np.quantile(entries, p)) for p in q},
        "error": 0.001,
        "negative": float((entries < 0).mean()),
        "histogram": {"edges": edges.tolist(), "counts": np.histogram(entries, edges)[0].tolist()},
    }
