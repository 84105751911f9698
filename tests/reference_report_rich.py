"""A made-up study of thirteen arms with every analysis and a scan, shaped as the pipeline hands it over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from reference_report import estimate, study, whole
from reference_report_fields import LAYERS, density, diagonal, plane

from distill_prune.analyze.answer import Answer
from distill_prune.report import style

RICH = (
    {"name": "real", "label": "real", "images": "real", "recipe": "retrain"},
    {"name": "synthetic", "label": "synthetic", "images": "synthetic", "learned": True},
    {"name": "subset", "label": "random real subset", "images": "subset"},
    {"name": "herded", "label": "herded real subset", "images": "herded"},
    {"name": "short", "label": "real at synthetic's compute", "images": "real"},
    {
        "name": "continued",
        "label": "synthetic to level 2, then real",
        "images": "real",
        "begins": {"arm": "synthetic", "level": 2},
    },
    {"name": "one_shot", "label": "real, one-shot", "images": "real", "one_shot": True},
    {"name": "random", "label": "random mask", "images": "real", "criterion": "random"},
    {"name": "random_layers", "label": "random mask, real's layers", "control": {"of": "real", "kind": "random"}},
    {"name": "shuffled", "label": "real, layers shuffled", "control": {"of": "real", "kind": "shuffled"}},
    {"name": "reinitialised", "label": "real, re-initialised", "control": {"of": "real", "kind": "reinitialised"}},
    {"name": "synthetic_random", "label": "random mask, synthetic's layers", "control": {"of": "synthetic", "kind": "random"}},
    {"name": "snip", "label": "SNIP", "images": "real", "criterion": "snip", "one_shot": True},
)
STEPS = ("0it", "100it", "2ep")


def rich(seeds: int = 6, levels: int = 4, **changes: Any) -> SimpleNamespace:
    """A study of thirteen arms with every analysis and a scan over three steps; level 0 is shared by all arms of a step."""
    rng = np.random.default_rng(1)
    base = study(levels=2, seeds=2, arms=2)
    defaults = {"images": "real", "recipe": "prune", "criterion": "magnitude", "learned": False}
    arms = [defaults | dict(a) for a in RICH]
    for a in arms:
        a["k"] = STEPS[0]
    scanned = [
        a | {"name": f"{a['name']}@{k}", "label": f"{a['label']}, k = {k}", "base": a["name"], "k": k}
        for k in STEPS[1:]
        for a in arms[:3]
    ]
    everything = arms + scanned
    sparse = [1 - 0.5 ** (2 * level) for level in range(levels)]
    units, tickets, layers, traces, curves = [], [], [], [], []
    for i, a in enumerate(everything):
        step = STEPS.index(a["k"])
        place = next(j for j, b in enumerate(arms) if b["name"] == a.get("base", a["name"]))
        for seed in range(seeds):
            for level in range(levels):
                draw = np.random.default_rng([seed, step, level * (place + 1)])
                unit = _unit(a["name"], seed, level, sparse[level], 0 if level == 0 else place, step, draw)
                units.append(unit)
                left = round(40_000 * (1 - sparse[level]))
                tickets.append(
                    {
                        **unit,
                        "label": a["label"],
                        "k": a["k"],
                        "remaining": left,
                        "total": 40_000,
                        "key": f"{i:032x}{seed:016x}{level:016x}",
                    }
                )
                if level in (0, levels - 1) and a in arms:
                    curves.append(_curve(unit))
        for level in range(levels):
            for j, layer in enumerate(LAYERS):
                share = (1 - sparse[level]) ** (0.7 + 0.2 * j)
                layers.append(
                    {"arm": a["name"], "level": level, "layer": f"{layer}.weight", "total": 10_000, "remaining": 10_000 * share}
                )
                traces.append(
                    {
                        "arm": a["name"],
                        "level": level,
                        "sparsity": sparse[level],
                        "layer": layer,
                        "trace_per_weight": 0.01 * (1 + place) * 2.0**j,
                    }
                )

    metrics = [m for m in units[0] if m not in ("arm", "seed", "level", "sparsity")]

    def values(arm: str, level: int, metric: str) -> list[float]:
        return [u[metric] for u in units if u["arm"] == arm and u["level"] == level]

    rows, paired = [], []
    for a in everything:
        dense = estimate(values(a["name"], 0, "accuracy"))
        for level in range(levels):
            row = {"arm": a["name"], "level": level, "sparsity": sparse[level], "n": seeds, "iou": None, "chance": None}
            row |= {m: estimate(values(a["name"], level, m)) for m in metrics}
            row["matching"] = "yes" if row["accuracy"]["mean"] >= dense["mean"] - (dense["sd"] or 0) else "no"
            row["stable"] = "yes" if row["barrier_test"]["mean"] < 0.02 else "no"
            if level and a["name"] != "real":
                row["iou"] = estimate(list(0.5 + 0.1 * rng.random(seeds)))
                row["chance"] = estimate([0.3] * seeds)
                versus = "real" if "base" not in a else f"real@{a['k']}"
                measured = ("accuracy", "barrier_test", "trace_per_weight", "trace_invariant", "top_eigenvalue", "disagreement")
                paired += [
                    _difference(a, versus, level, m, np.subtract(values(a["name"], level, m), values(versus, level, m)))
                    for m in measured
                    if a["name"] != versus
                ]
            rows.append(row)
    stands = {
        a["name"]: (a.get("base", a["name"]), a["k"])
        for a in everything
        if a.get("base", a["name"]) in [b["name"] for b in arms[:3]]
    }
    scan = [
        {
            "arm": stands[r["arm"]][0],
            "k": stands[r["arm"]][1],
            **{k: r[k] for k in ("level", "sparsity", "accuracy", "barrier_test", "matching", "stable")},
        }
        for r in rows
        if r["arm"] in stands
    ]
    places = [
        {"arm": a, "seed": seed, "level": level, "sparsity": sparse[level]}
        for a in ("real", "synthetic", "random_layers")
        for seed in range(seeds)
        for level in (0, levels - 1)
    ]
    summary = {
        "arms": everything,
        "dense": {m: estimate(values("real", 0, m)) for m in metrics},
        "rows": rows,
        "paired": paired,
        "costs": [
            {
                "arm": a["name"],
                "n": seeds,
                **dict.fromkeys(
                    ("search", "with_distillation", "with_experts"),
                    None if "control" in a else {"images": 10_000 * (i + 1), "steps": 100 * (i + 1), "flops": 1e12 * (i + 1)},
                ),
            }
            for i, a in enumerate(arms)
        ],
        "reach": [
            {
                "arm": a["name"],
                "matching": _reach(rows, a["name"], "matching", i, seeds),
                "stable": _reach(rows, a["name"], "stable", i, seeds),
            }
            for i, a in enumerate(everything)
        ],
        "scan": scan,
        "onset": [
            {
                "arm": a,
                "level": level,
                "sparsity": sparse[level],
                "stable_at": at,
                "matching_at": None if a == "subset" else STEPS[1],
                "ks": list(STEPS),
            }
            for level in range(levels)
            for a, at in (("real", "2ep"), ("synthetic", "0it"), ("subset", None))
            if level or a == "real"
        ],
        "answer": "At 98.4 % sparsity synthetic reaches 86.4 % test accuracy, real 90.4 %, over 6 initialisations.",
        "notes": ["With 6 initialisations the smallest attainable p-value is 0.031."],
    }
    changed = {
        "title": "Tickets from distilled digits, all sources and controls",
        "summary": summary,
        "answer": Answer(str(summary["answer"])),
        "units": units,
        "tickets": tickets,
        "curves": curves,
        "layers": layers,
        "layer_traces": traces,
        "planes": [plane(p, kind, rng) for p in places if p["seed"] < 2 for kind in ("copies", "directions")],
        "densities": [density(p, copy, rng) for p in places for copy in range(2)],
        "diagonals": [diagonal(p, copy, rng) for p in places for copy in range(2)],
        "trainings": [{**p, "copy": copy, "losses": [1.0, 0.3 / (1 + copy), 0.1]} for p in places for copy in range(2)],
        "layerwise": [
            {**p, "layer": layer, "excess_test": e, "excess_train": 0.8 * e, "barrier_test": 1.1 * e}
            for p in places
            for j, layer in enumerate(LAYERS)
            for e in [0.01 * (1 + j) * rng.random()]
        ],
        "between": [
            {
                **p,
                "kind": kind,
                "versus": "real" if kind == "arms" else p["arm"],
                "versus_level": levels - 1 if kind == "arms" else 1,
                "barrier_test": b,
                "barrier_train": 0.8 * b,
                "excess_test": b,
                "disagreement": 3 * b,
                "distance": 9.0,
                "shared": 0.4,
            }
            for p in places
            if p["level"]
            for kind in ("arms", "levels")
            if kind == "levels" or p["arm"] != "real"
            for b in [0.01 + 0.05 * rng.random()]
        ],
    }
    return whole({**vars(base), **changed, **changes})


def _unit(arm: str, seed: int, level: int, sparsity: float, place: int, step: int, draw: Any) -> dict[str, Any]:
    z = draw.normal(0, 1, 8)
    accuracy = 0.96 - 0.01 * level - 0.004 * level * place + 0.004 * z[0] + 0.002 * step
    barrier = max(0.03 + (0.004 * place - 0.012) * level - 0.01 * step + 0.003 * z[1], 0.0005)
    trace = 800 * 0.6**level * (1 + 0.15 * place) * float(np.exp(0.1 * z[2]))
    weights = 40_000 * (1 - sparsity)
    return {
        "arm": arm,
        "seed": seed,
        "level": level,
        "sparsity": sparsity,
        "accuracy": accuracy,
        "train_accuracy": min(accuracy + 0.03, 1.0),
        "barrier_test": barrier,
        "barrier_train": 0.8 * barrier,
        "barrier_loss": 4 * barrier,
        "excess_test": 0.95 * barrier,
        "disagreement": 0.02 + 1.5 * barrier,
        "relative_distance": 0.9 - 0.1 * level + 0.02 * z[3],
        "trace": trace,
        "trace_se": 0.03 * trace,
        "trace_per_weight": trace / weights,
        "trace_invariant": 0.06 * trace,
        "weight_norm": 14 * (1 - sparsity) ** 0.3,
        "train_loss": 0.01 + 0.02 * level,
        "top_eigenvalue": trace / 20,
        "diagonal_median": 0.2 * trace / weights,
        "diagonal_negative": 0.08 + 0.01 * z[4],
    }


def _curve(unit: dict[str, Any]) -> dict[str, Any]:
    alphas = np.linspace(0, 1, 30)
    bump = unit["barrier_test"] * np.sin(np.pi * alphas)
    place = {k: unit[k] for k in ("arm", "seed", "level", "sparsity")}
    return {
        **place,
        "alphas": alphas.tolist(),
        "test_error": (1 - unit["accuracy"] + bump).tolist(),
        "train_error": (0.01 + bump).tolist(),
    }


def _difference(arm: dict[str, Any], versus: str, level: int, metric: str, differences: Any) -> dict[str, Any]:
    d = estimate(differences.tolist())
    claim = None
    if d["low"] is not None and d["low"] * d["high"] > 0:
        claim = f"{metric} of {arm['label']} differs from {versus} by {d['mean']:.3g} at level {level} (n = {d['n']})"
    return {
        "arm": arm["name"],
        "versus": versus,
        "level": level,
        "metric": metric,
        "difference": d,
        "p": 0.031,
        "p_smallest": 0.031,
        "p_holm": 0.4,
        "claim": claim,
    }


def _reach(rows: list[dict[str, Any]], arm: str, verdict: str, i: int, seeds: int) -> dict[str, Any]:
    """What every remark of the table needs: carried, at no level, undecided, unmeasured, censored."""
    last = max((r["sparsity"] for r in rows if r["arm"] == arm and r["level"] and r[verdict] == "yes"), default=None)
    if i == 12:
        return {"last": None, "known": False, "units": None, "at_least": 0}
    return {
        "last": last,
        "known": i != 11 or last is not None,
        "units": estimate([0.5 + 0.05 * j for j in range(seeds)]),
        "at_least": i % 3,
    }


def lines(panel: Any, color: str) -> list[Any]:
    """The lines of one colour in a panel."""
    return [line for line in panel.get_lines() if line.get_color() == color]


def looks(study: Any) -> dict[str, style.Arm]:
    """How each arm is drawn."""
    return {a.name: a for a in style.arms(study)}
