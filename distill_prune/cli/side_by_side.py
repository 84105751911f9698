"""How `diff` looks on a terminal: aligned plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.declared import beside

Record = Mapping[str, Any]


def lines(compared: Record) -> Iterator[str]:
    """The lines for what `difference` gives."""
    yield from _table([["", "a", "b"], *_heads(compared)])
    yield ""
    yield from _tickets(compared) if compared["kind"] == "tickets" else _sets(compared)
    if compared["measured"]:
        yield ""
        metrics = beside()
        if compared["measured"].keys() - metrics.keys():
            metrics = beside(n for n in ANALYSES if n not in ANALYSES.own)
        shares = {name for name, (_, metric) in metrics.items() if metric.scale == 100}
        yield from _table([["measured", "a", "b"], *(_measured(n, m, n in shares) for n, m in compared["measured"].items())])
    yield ""
    yield from _table([["cost", "a", "b"], *_costs(compared["costs"])])
    yield ""
    if not compared["differing"]:
        yield "no setting differs"
        return
    yield from _table([["differs", "a", "b"], *([d["path"], _value(d["a"]), _value(d["b"])] for d in compared["differing"])])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _heads(compared: Record) -> Iterator[list[str]]:
    a, b = compared["a"], compared["b"]
    yield [compared["kind"][:-1], f"{a['stage']} {a['key'][:12]}", f"{b['stage']} {b['key'][:12]}"]
    yield ["label", str(a["label"]), str(b["label"])]
    for name in ("device", "versions"):
        if a[name] != b[name]:
            yield [name, _value(a[name]), _value(b[name])]


def _tickets(compared: Record) -> Iterator[str]:
    overlap = compared["overlap"]
    rows = [["zeros", "a", "b", "survive in both", "IoU", "IoU by chance", "z"]]
    for name, layer in {"all": overlap, **overlap["layers"]}.items():
        zeros = [f"{100 * (1 - layer[side] / layer['total']):.2f}%" for side in "ab"]
        shared = f"{layer['shared']} of {layer['total']}"
        rows.append([name, *zeros, shared, _number(layer["iou"]), _number(layer["chance"]["iou"]), _number(layer["z"])])
    yield from _table(rows)
    yield ""
    yield _rewinding(compared["rewinding"])


def _rewinding(weights: Record | None) -> str:
    if weights is None:
        return "rewinding weights: a level 0 is not in the store, so they are not known"
    start = "one level 0" if weights["same_level_0"] else "two levels 0"
    others = f"; biases, norms and buffers differ by up to {weights['others_max_abs']:.3g}" if weights["others_max_abs"] else ""
    if weights["same"]:
        return f"rewinding weights: equal where they survive in both ({start}){others}"
    if not weights["shared"]:
        return f"rewinding weights: none survives in both ({start}){others}"
    return (
        f"rewinding weights: differ by up to {weights['max_abs']:.3g} where they survive in both "
        f"({weights['shared']} weights, {start}){others}"
    )


def _sets(compared: Record) -> Iterator[str]:
    a, b = compared["sets"]["a"], compared["sets"]["b"]
    yield from _table([["set", "a", "b"], *([name, _value(a[name]), _value(b[name])] for name in a)])
    yield ""
    rows = [["class", "images of a", "images of b", "distance of means"]]
    rows += [[c["class"], str(c["a"]), str(c["b"]), _number(c["distance"])] for c in compared["classes"]]
    yield from _table([*rows, ["mean", "", "", _number(compared["distance"])]])
    inner_a, inner_b = (_number(compared["between_classes"][side]) for side in "ab")
    yield f"in pixels of [0, 1]; different classes of one set are {inner_a} (a) and {inner_b} (b) apart"


def _measured(name: str, sides: Record, share: bool) -> list[str]:
    """A line of the table; a share is shown in percent."""
    cells = [_estimate(sides[side], 100 if share else 1, "%" if share else "") for side in "ab"]
    unlike = "" if sides["alike"] or None in (sides["a"], sides["b"]) else " (measured in different ways)"
    return [name + unlike, *cells]


def _estimate(estimate: Record | None, scale: float, unit: str) -> str:
    if estimate is None or estimate.get("mean") is None:
        return "-"
    spread = "" if estimate.get("sd") is None else f" ± {scale * estimate['sd']:.3g} sd"
    count = "" if estimate.get("n") is None else f" (n {estimate['n']})"
    return f"{scale * estimate['mean']:.4g}{unit}{spread}{count}"


def _costs(costs: Record) -> Iterator[list[str]]:
    for part in costs["a"]:
        for kind in ("images", "steps", "flops"):
            yield [f"{part}, {kind}", *(_count(costs[side][part], kind) for side in "ab")]


def _count(cost: Record | None, kind: str) -> str:
    if cost is None:
        return "not known"
    return f"{cost[kind]:.3g}" if kind == "flops" else f"{cost[kind]:,}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def _value(value: Any) -> str:
    """A setting's value; an input as its stage, key and label."""
    if isinstance(value, dict) and "key" in value:
        label = f" ({value['label']})" if value.get("label") else ""
        return f"{value.get('stage', '')} {value['key'][:12]}{label}".strip()
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)
