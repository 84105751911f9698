"""How things look: one colour, marker and dash per arm, one set of drawing rules, and what each number is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_prune.pipeline.study import Study

INK, GREY, RULE, PAPER = "#22211f", "#6b6862", "#d9d5cc", "#ffffff"

# Told apart by the colour-blind (dark variants of Okabe and Ito), each at least 4.5:1 against white.
_REAL = "#22211f"
_COLORS = ("#0b62a8", "#b8470f", "#00755a", "#98408f", "#7a6200", "#0f7485", "#a8324a")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)))

# Text stays text in the SVG: small, searchable, and editable in a drawing program.
RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e8e5de",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "figure.facecolor": "none",
    "lines.linewidth": 1.5,
    "lines.markersize": 4.2,
    "svg.fonttype": "none",
    "savefig.dpi": 110,
}


@dataclass(frozen=True)
class Arm:
    """One arm of the study and its look, the same in every figure."""

    name: str
    label: str
    images: str
    color: str
    marker: str
    dash: Any


@dataclass(frozen=True)
class Metric:
    """A number measured at each level: what to call it, its unit, and how it is drawn."""

    name: str
    title: str
    unit: str
    scale: float = 1.0
    log: bool = False

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = {
    m.name: m
    for m in (
        Metric("accuracy", "Test accuracy", "%", 100),
        Metric("train_accuracy", "Train accuracy", "%", 100),
        Metric("barrier_test", "Test error barrier", "points", 100),
        Metric("barrier_train", "Train error barrier", "points", 100),
        Metric("barrier_loss", "Test loss barrier", "nats"),
        Metric("excess_test", "Excess of test error over the chord", "points", 100),
        Metric("trace", "Hessian trace, raw", "", log=True),
        Metric("trace_per_weight", "Hessian trace per surviving weight", "", log=True),
        Metric("trace_invariant", "Rescaling-invariant trace, Σ w² H", "", log=True),
        Metric("weight_norm", "Norm of the surviving weights", "", log=True),
    )
}


def arms(study: Study) -> list[Arm]:
    """The study's arms in their own order. Looks follow role: the real arm is dark, the first synthetic arm blue."""
    listed = list((study.summary or {}).get("arms") or [])
    known = {a["name"] for a in listed}
    for row in (*study.units, *study.curves, *study.layers):
        if row["arm"] not in known:
            known.add(row["arm"])
            listed.append({"name": row["arm"]})
    # Synthetic arms take the first colours wherever they stand in the list.
    ranked = sorted((a for a in listed if a["name"] != "real"), key=lambda a: a.get("images") != "synthetic")
    place = {a["name"]: i for i, a in enumerate(ranked)}
    made = []
    for a in listed:
        i = place.get(a["name"])
        look = (
            (_REAL, "o", "-")
            if i is None
            else (_COLORS[i % len(_COLORS)], _MARKERS[(i + 1) % len(_MARKERS)], _DASHES[i % len(_DASHES)])
        )
        made.append(Arm(a["name"], str(a.get("label") or a["name"]), str(a.get("images") or ""), *look))
    return made


def rows(study: Study) -> list[dict[str, Any]]:
    """The summary's rows; none where nothing is summarised yet."""
    return list((study.summary or {}).get("rows") or [])


def sparsities(study: Study) -> dict[tuple[str, int], float]:
    """Sparsity by (arm, level), from whatever knows it."""
    known = (*study.curves, *study.units, *rows(study))
    # A unit whose ticket is missing has measurements without a sparsity.
    return {(r["arm"], r["level"]): r["sparsity"] for r in known if r.get("sparsity") is not None}


def chosen_levels(levels: set[int]) -> list[int]:
    """The first, the middle and the last of the levels at hand."""
    ordered = sorted(levels)
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]}) if ordered else []
