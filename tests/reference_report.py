"""A made-up study for the report's tests, shaped as the pipeline hands it over; numbers are plausible, not measured."""

from __future__ import annotations

import io
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reference_page import Page
from scipy import stats

from distill_prune.analyze.answer import Answer
from distill_prune.analyze.declared import in_rows
from distill_prune.analyze.shares import shares
from distill_prune.report import figures, style
from distill_prune.report.figures import FIGURES, Drawing
from distill_prune.report.marks import values_of
from distill_prune.report.page import page
from distill_prune.study.outcome import outcome
from distill_prune.study.sets import SetShown

ARMS = (
    ("real", "Real-data IMP", "real"),
    ("distilled", "Distilled IMP (MTT)", "synthetic"),
    ("herded", "Herded subset IMP", "subset"),
    ("matched", "Real data, distilled recipe", "real"),
    ("random", "Random mask", "none"),
)


def estimate(values: list[float]) -> dict[str, Any]:
    """A t-interval by scipy."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return {"mean": mean, "sd": None, "se": None, "low": None, "high": None, "n": n}
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return {"mean": mean, "sd": sd, "se": sd / n**0.5, "low": mean - half, "high": mean + half, "n": n}


DETAILS = ("planes", "densities", "diagonals", "layerwise", "layer_traces", "between", "tickets", "trainings")

METRICS = (
    "accuracy",
    "train_accuracy",
    "barrier_test",
    "barrier_train",
    "barrier_loss",
    "excess_test",
    "trace",
    "trace_per_weight",
    "trace_invariant",
    "weight_norm",
    "train_loss",
)


def study(levels: int = 10, seeds: int = 3, arms: int = 5, **changes: Any) -> SimpleNamespace:
    """A whole study; `changes` replace fields."""
    rng = np.random.default_rng(0)
    chosen = ARMS[:arms]
    units: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    alphas = np.linspace(0, 1, 30)
    drop = {"real": 0.012, "distilled": 0.02, "herded": 0.026, "matched": 0.018, "random": 0.045}
    rise = {"real": 0.10, "distilled": 0.015, "herded": 0.03, "matched": 0.02, "random": 0.06}
    dense = {s: rng.normal(0, 1, 4) for s in range(seeds)}
    for name, _, _ in chosen:
        for seed in range(seeds):
            for level in range(levels):
                keep = 0.64**level
                z = dense[seed] if level == 0 else rng.normal(0, 1, 4)
                accuracy = 0.965 - drop[name] * (level / 4) ** 2 + 0.004 * z[0]
                barrier = max(0.012 + rise[name] * level / 9 + 0.004 * z[1], 0.001)
                trace = 900 * keep**0.35 * (0.45 if name == "distilled" and level else 1) * np.exp(0.12 * z[2])
                units.append(
                    {
                        "arm": name,
                        "seed": seed,
                        "level": level,
                        "sparsity": 1 - keep,
                        "accuracy": accuracy,
                        "train_accuracy": min(accuracy + 0.03, 1.0),
                        "barrier_test": barrier,
                        "barrier_train": barrier * 0.8,
                        "barrier_loss": barrier * 4,
                        "excess_test": barrier * 0.95,
                        "trace": trace,
                        "trace_se": trace * 0.03,
                        "trace_per_weight": trace / (25000 * keep),
                        "trace_invariant": trace * 0.06,
                        "weight_norm": 14 * keep**0.3,
                        "train_loss": 0.01 + 0.02 * level,
                    }
                )
                if level in (0, levels // 2, levels - 1):
                    bump = np.sin(np.pi * alphas)
                    curves.append(
                        {
                            "arm": name,
                            "seed": seed,
                            "level": level,
                            "sparsity": 1 - keep,
                            "alphas": alphas.tolist(),
                            "test_error": (1 - accuracy + barrier * bump).tolist(),
                            "train_error": (max(0.97 - accuracy, 0) + 0.8 * barrier * bump).tolist(),
                        }
                    )
        for level in range(levels):
            for i, layer in enumerate(("conv0.weight", "conv1.weight", "conv2.weight", "linear.weight")):
                total = (288, 9216, 9216, 640)[i]
                layers.append(
                    {
                        "arm": name,
                        "level": level,
                        "layer": layer,
                        "total": total,
                        "remaining": total * 0.64 ** (level * (0.5 + 0.18 * i + 0.05 * len(name) / 8)),
                    }
                )

    def values(arm: str, level: int, metric: str) -> list[float]:
        return [u[metric] for u in units if u["arm"] == arm and u["level"] == level]

    rows, paired = [], []
    base = {m: estimate(values("real", 0, m)) for m in METRICS}
    for name, _, _ in chosen:
        for level in range(levels):
            row: dict[str, Any] = {"arm": name, "level": level, "sparsity": 1 - 0.64**level, "n": seeds}
            row |= {m: estimate(values(name, level, m)) for m in METRICS}
            enough = seeds >= 3
            bar = base["accuracy"]["mean"] - (base["accuracy"]["sd"] or 0)
            row["matching"] = ("yes" if row["accuracy"]["mean"] >= bar else "no") if enough else "not decidable"
            row["stable"] = "yes" if row["barrier_test"]["mean"] < 0.02 else "no"
            row["iou"] = (
                None if name == "real" or not level else estimate(list(0.64 ** (level * 0.4) + rng.normal(0, 0.01, seeds)))
            )
            row["chance"] = None if row["iou"] is None else estimate([0.64**level / (2 - 0.64**level)] * seeds)
            rows.append(row)
            for m in ("accuracy", "barrier_test", "trace_per_weight"):
                if name != "real" and level:
                    d = np.subtract(values(name, level, m), values("real", level, m)).tolist()
                    paired.append(
                        {
                            "arm": name,
                            "versus": "real",
                            "level": level,
                            "metric": m,
                            "difference": estimate(d),
                            "p": 2 / 2**seeds,
                            "p_smallest": 2 / 2**seeds,
                            "claim": None,
                        }
                    )
    costs = []
    for i, (name, _, images) in enumerate(chosen):
        search = {
            "images": (4_300_000, 86_000, 86_000, 86_000, 0)[i],
            "steps": (67_000, 5_400, 5_400, 5_400, 0)[i],
            "flops": (6.4e13, 1.3e12, 1.3e12, 1.3e12, 0)[i],
        }
        more = {k: v + (3_000_000 if k == "images" else 40_000 if k == "steps" else 9e13) for k, v in search.items()}
        costs.append(
            {
                "arm": name,
                "search": search,
                "with_distillation": more if images == "synthetic" else search,
                "with_experts": {k: 3 * v for k, v in more.items()} if images == "synthetic" else search,
            }
        )
    fields: dict[str, Any] = {
        "name": "digits",
        "title": "Distilled pruning on handwritten digits",
        "store": "artifacts",
        "question": "Can a mask found on ten synthetic images per class replace one found on the real data, "
        "and what network does it leave?",
        "config_text": "name: digits\nlevels: 10\nrate: 0.36\n",
        "summary": {
            "arms": [
                {"name": n, "label": label, "images": images, "recipe": "default", "criterion": "magnitude"}
                for n, label, images in chosen
            ],
            "dense": base,
            "rows": rows,
            "paired": paired,
            "costs": costs,
            "answer": "At 98.2 % sparsity distilled IMP reaches 86.4 % test accuracy, real-data IMP 90.4 %, over "
            "3 initialisations; distilled masks stay stable at every level and real ones up to 36 %. With fewer than "
            "6 initialisations no claim is made.",
            "notes": [
                "With 3 initialisations the smallest attainable p-value is 0.25.",
                "Intervals are conditional on one synthetic set.",
            ],
        },
        "missing": [],
        "units": units,
        "curves": curves,
        "layers": layers,
        "synthetic": rng.integers(0, 255, (100, 8, 8), dtype=np.uint8),
        "synthetic_labels": [i // 10 for i in range(100)],
        "classes": [str(i) for i in range(10)],
        "evaluations": [
            {
                "label": s,
                "set": f"{s}, 10 images per class",
                "network": "ConvNet, depth 3, width 32",
                "accuracy": estimate([0.9 - d, 0.91 - d, 0.92 - d]),
                "validation": estimate([0.9 - d, 0.92 - d, 0.925 - d]),
                "accuracies": [0.9 - d, 0.91 - d, 0.92 - d],
            }
            for s, d in (("Distilled", 0.0), ("Herded", 0.06), ("Random real", 0.1))
        ],
        "rankings": [
            {"set": s, "network": "convnet", **{n: estimate([v, v + 0.01, v + 0.03]) for n, v in scores.items()}}
            for s, scores in (("mtt", {"hlr": 0.2, "ior": 0.3, "lrs": 0.26}),)
        ],
        "distillation": {
            "iterations": list(range(0, 2000, 10)),
            "loss": (0.5 + 0.5 * np.exp(-np.arange(200) / 60) + rng.normal(0, 0.02, 200)).tolist(),
            "lr": (0.02 + 0.01 * (1 - np.exp(-np.arange(200) / 80))).tolist(),
        },
        "provenance": [
            {
                "stage": "prune",
                "key": f"{i:064x}",
                "label": f"distilled, seed 0, level {i}",
                "seconds": 12.3 * i,
                "peak_mb": 512.0,
                "device": "cpu",
                "created": "2026-01-01T12:00:00Z",
            }
            for i in range(30)
        ],
        "sets": ["mtt"],
        "data": {"title": "Digits", "counts": {"train": 1293, "validation": 144, "test": 360}, "shape": [1, 8, 8]},
        "versions": {"distill-prune": "0.1.0", "torch": "2.13.0"},
        "versus": "real",
        "claim_p": 0.05,
        "copies": 2,
        "tasks": {n: None for n, _, _ in chosen},
        "samples": None,
        "plugins": (),
        "layer_titles": {},
        "against": None,
        **{name: [] for name in DETAILS},
    }
    return whole({**fields, **changes})


def whole(fields: dict[str, Any]) -> SimpleNamespace:
    """A study of the given fields, with what follows from them: its answer as data, its sets as they are shown, its shares."""
    summary, pixels, samples, course = (fields[name] for name in ("summary", "synthetic", "samples", "distillation"))
    answer = fields.get("answer", Answer((summary or {}).get("answer", "")))
    name = fields["sets"][0] if fields["sets"] else "set"
    pictures = [SetShown(name, pixels, fields["synthetic_labels"], samples, course)]
    made = {
        "answer": answer,
        "outcome": outcome(answer, summary, {m.name: m for m in in_rows()}),
        "pictures": pictures if pixels is not None or samples or course else [],
        "shares": shares(fields["units"], summary["arms"], 0.0) if summary else [],
    }
    return SimpleNamespace(**{**fields, **made})


def html_of(made: SimpleNamespace, names: Iterable[str] = FIGURES) -> str:
    """The page of a study, with an empty picture for every figure among `names` that it has."""
    empty = '<svg viewBox="0 0 331 200" xmlns="http://www.w3.org/2000/svg"></svg>'
    drawn = {name: FIGURES[name](made) for name in names}
    drawings = {name: Drawing(name, b"", empty, f"{name}: {found[1]}") for name, found in drawn.items() if found}
    return page(made, drawings)[0]


def laid_out(made: SimpleNamespace, names: Iterable[str] = FIGURES) -> Page:
    """The same, read."""
    return Page(html_of(made, names))


def vector(name: str, figure: Any, alt: str, pdf: bool) -> Drawing:
    """In the place of `figures._render`: a figure as SVG alone, which is quicker."""
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    return Drawing(name, b"", figures._rounded(svg.getvalue()), alt, values_of(figure))


def only(patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Leave these entries in the table of figures, and draw coarse PNGs, which is quicker."""
    for name in FIGURES.keys() - set(names):
        patch.delitem(FIGURES, name)
    patch.setitem(style.RC, "savefig.dpi", 40)


def small(**changes: Any) -> Any:
    """A study of two arms and three levels."""
    return study(levels=3, seeds=changes.pop("seeds", 3), arms=2, **changes)


def bare(**changes: Any) -> Any:
    """A study with one figure and few tables: quick to write."""
    return small(**{"summary": None, "units": [], "curves": [], "layers": [], **changes})


NOTHING: dict[str, Any] = {
    "summary": None,
    "units": [],
    "curves": [],
    "layers": [],
    "synthetic": None,
    "synthetic_labels": [],
    "evaluations": [],
    "rankings": [],
    "distillation": None,
    "provenance": [],
    "versions": {},
    "sets": [],
    "data": {},
}
