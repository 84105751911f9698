"""Which files lie beside the page for each of its figures, as paths relative to it."""

from __future__ import annotations

from collections.abc import Collection

from distill_prune.report.figures import Drawing

_TABLES = {
    "distillation": "distillation",
    "training": "training",
    "interpolation": "interpolation",
    "layerwise": "layerwise",
    "between": "between",
    "scan": "scan",
    "layer_traces": "layer_traces",
    "diagonal": "diagonal",
    "histograms": "diagonal",
    "density": "density",
    "layers": "layers",
    "transfer": "transfer",
    "costs": "costs",
}
"""By figure, the table with its numbers; figures of a metric, and of overlap, have theirs in the table of levels."""


def table_of(figure: str, tables: Collection[str]) -> str:
    """The table with the numbers of a figure: `runs` where the study has no summary yet."""
    if figure.startswith("paired_"):
        return "paired"
    for whole in ("landscape", "against"):
        if figure.startswith(f"{whole}_"):
            return whole
    return _TABLES.get(figure) or ("levels" if "levels" in tables else "runs")


def links(drawing: Drawing, tables: Collection[str]) -> list[tuple[str, str]]:
    """(what it is called, path) of every file of a figure."""
    table = table_of(drawing.name, tables)
    pictures = [("PNG", "png"), ("SVG", "svg"), *([("PDF", "pdf")] if drawing.pdf else [])]
    return [
        *((title, f"figures/{drawing.name}.{suffix}") for title, suffix in pictures),
        *((title, f"tables/{table}.{title.lower()}") for title in ("CSV", "JSON")),
    ]
