"""The papers' claims, what would measure each here, and how it is judged; `results.py` makes the table of docs/results.md.

A verdict comes from finished records (docs/results/*.json) alone: "holds", "does not hold", or "not yet run" where there is no
record of the claim's own pipeline. A shrunk study is a claim of its own and never stands in for the full one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """`records` are the files that it needs, `ours` puts them in words, `holds` judges them."""

    what: str
    paper: str
    pipeline: str
    records: tuple[str, ...]
    ours: Callable[[Sequence[Record]], str]
    holds: Callable[[Sequence[Record]], bool | None]


def scores(records: Sequence[Record], name: str) -> list[float]:
    """Test accuracy in % of the set `name` by its own network, one figure a record: the mean over fresh networks."""
    found = [next(e for e in r["evaluations"] if e["set"] == name) for r in records]
    return [100 * e["accuracy"]["mean"] for e in found]


def said(values: Sequence[float], unit: str = "%") -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}{unit} (n = {len(values)})"


Judged = tuple[Callable[[Sequence[Record]], str], Callable[[Sequence[Record]], bool | None]]
"""The figures in words, and whether the claim holds."""


def reached(name: str, least: float) -> Judged:
    return lambda rs: said(scores(rs, name)), lambda rs: mean(scores(rs, name)) >= least


def beats(name: str, other: str, by: float) -> Judged:
    def gaps(rs: Sequence[Record]) -> list[float]:
        return [a - b for a, b in zip(scores(rs, name), scores(rs, other), strict=True)]

    return (
        lambda rs: f"{said(scores(rs, name))} against {said(scores(rs, other))}: {said(gaps(rs), ' points')}",
        lambda rs: mean(gaps(rs)) >= by,
    )


def row(record: Record, arm: str, sparsity: float) -> Record:
    """The summary's row of an arm nearest to a sparsity."""
    return min((r for r in record["summary"]["rows"] if r["arm"] == arm), key=lambda r: abs(r["sparsity"] - sparsity))


def within(arm: str, expected: Mapping[float, float], points: float) -> Judged:
    def found(rs: Sequence[Record]) -> dict[float, Record]:
        return {s: row(rs[0], arm, s)["accuracy"] for s in expected}

    return (
        lambda rs: ", ".join(f"{100 * a['mean']:.1f} ± {100 * a['sd']:.1f}" for a in found(rs).values()) + " %, n = 3",
        lambda rs: all(abs(100 * a["mean"] - expected[s]) <= points for s, a in found(rs).items()),
    )


def stablest(arm: str, others: Sequence[str], sparsity: float) -> Judged:
    """Whether the mean test barrier of `arm` lies below those of the others and of the dense network."""

    def barriers(rs: Sequence[Record]) -> dict[str, float]:
        rows = {"dense": row(rs[0], others[0], 0.0), **{a: row(rs[0], a, sparsity) for a in (arm, *others)}}
        return {a: 100 * r["barrier_test"]["mean"] for a, r in rows.items()}

    return (
        lambda rs: (
            f"test barrier at {100 * sparsity:.0f}% sparsity: "
            + ", ".join(f"{a} {b:.1f}" for a, b in barriers(rs).items())
            + f" points (n = {rs[0]['summary']['rows'][0]['n']})"
        ),
        lambda rs: all(barriers(rs)[arm] < b for a, b in barriers(rs).items() if a != arm),
    )


def matching_to(arm: str, sparsity: float) -> Judged:
    """Whether `arm` is matching and stable at the sparsity."""

    def told(rs: Sequence[Record]) -> str:
        r, dense = row(rs[0], arm, sparsity), row(rs[0], arm, 0.0)
        return (
            f"at {100 * r['sparsity']:.1f}% sparsity: {100 * r['accuracy']['mean']:.1f}% (dense "
            f"{100 * dense['accuracy']['mean']:.1f}%), barrier {100 * r['barrier_test']['mean']:.1f} points; matching "
            f"{r['matching']}, stable {r['stable']} (n = {r['n']})"
        )

    return told, lambda rs: row(rs[0], arm, sparsity)["matching"] == row(rs[0], arm, sparsity)["stable"] == "yes"


def ahead(arm: str, others: Sequence[str], sparsity: float) -> Judged:
    """Whether the mean accuracy of `arm` (the control of the record) lies above those of the others."""

    def apart(rs: Sequence[Record]) -> list[Record]:
        level = row(rs[0], arm, sparsity)["level"]
        rows = [p for p in rs[0]["summary"]["paired"] if (p["level"], p["metric"], p["versus"]) == (level, "accuracy", arm)]
        return [next(p for p in rows if p["arm"] == other) for other in others]

    def told(rs: Sequence[Record]) -> str:
        found = apart(rs)
        gaps = [
            f"{p['arm']} {100 * p['difference']['mean']:+.1f} [{100 * p['difference']['low']:.1f}, "
            f"{100 * p['difference']['high']:.1f}]"
            for p in found
        ]
        return f"accuracy less that of {arm}, in points: {', '.join(gaps)} (n = {found[0]['difference']['n']})"

    return told, lambda rs: all(p["difference"]["mean"] < 0 for p in apart(rs))


def flattest(arm: str, other: str, sparsity: float) -> Judged:
    """Whether both the trace per surviving weight and the rescaling-invariant trace of `arm` lie below the other's."""
    metrics = ("trace_per_weight", "trace_invariant")

    def means(rs: Sequence[Record]) -> list[tuple[float, float]]:
        return [tuple(row(rs[0], a, sparsity)[m]["mean"] for a in (arm, other)) for m in metrics]  # type: ignore[misc]

    def told(rs: Sequence[Record]) -> str:
        found = [f"{m.replace('_', ' ')} {a:.3g} against {b:.3g}" for m, (a, b) in zip(metrics, means(rs), strict=True)]
        return f"{', '.join(found)} (n = {row(rs[0], arm, sparsity)['n']})"

    return told, lambda rs: all(a < b for a, b in means(rs))


def only_stable_match(arm: str) -> Judged:
    """Whether no rewinding step has tickets of `arm` that are matching and not stable."""

    def looked(rs: Sequence[Record]) -> list[Record]:
        return [r for r in rs[0]["summary"]["scan"] if r["arm"] == arm and r["level"]]

    def told(rs: Sequence[Record]) -> str:
        found = [f"{r['k']}: {100 * r['barrier_test']['mean']:.1f}, {r['matching']}" for r in looked(rs)]
        return f"barrier in points, and whether matching, by k: {'; '.join(found)} (n = {looked(rs)[0]['accuracy']['n']})"

    return told, lambda rs: all(r["stable"] == "yes" for r in looked(rs) if r["matching"] == "yes")


SMALL = tuple(f"mtt-cifar10-ipc10-small-{seed}" for seed in range(3))
CLAIMS = (
    Claim(
        "Trajectory matching, CIFAR-10, 10 images per class, ConvNet-3 of width 128",
        "65.3 ± 0.7% (Cazenavette et al. 2022; second-hand), 63.7% re-measured (DC-BENCH)",
        "mtt-cifar10-ipc10.yaml",
        ("mtt-cifar10-ipc10",),
        *reached("synthetic", 60.0),
    ),
    Claim(
        "The same, 1 image per class",
        "46.3 ± 0.8% (second-hand)",
        "mtt-cifar10-ipc1.yaml",
        ("mtt-cifar10-ipc1",),
        *reached("synthetic", 43.0),
    ),
    Claim(
        "The same, 50 images per class",
        "71.6 ± 0.2% (second-hand)",
        "mtt-cifar10-ipc50.yaml",
        ("mtt-cifar10-ipc50",),
        *reached("synthetic", 68.0),
    ),
    Claim(
        "Shrunk to two CPU cores (width 32): 15 points above as many random real images, hard labels",
        "none at this scale",
        "mtt-cifar10-ipc10-small.yaml",
        SMALL,
        *beats("synthetic", "subset", 15.0),
    ),
    Claim(
        "The same with learned soft labels",
        "none at this scale",
        "mtt-cifar10-ipc10-small.yaml",
        SMALL,
        *beats("soft", "subset", 15.0),
    ),
    Claim(
        "Distilled pruning, AlexNet on CIFAR-10, 10 images per class, at 36 / 67 / 89 / 95.6% sparsity",
        "81.07 / 78.77 / 78.63 / 77.28% (McDermott and Cummings 2023, their published logs)",
        "distilled-pruning-cifar10.yaml",
        ("distilled-pruning-cifar10",),
        *within("synthetic", {0.36: 81.07, 0.672: 78.77, 0.893: 78.63, 0.956: 77.28}, 1.5),
    ),
    Claim(
        "Distilled pruning, ConvNet-3 on CIFAR-100, 10 images per class, at 36 / 67 / 89 / 95.6% sparsity",
        "50.40 / 47.26 / 46.44 / 42.34% (their published logs)",
        "distilled-pruning-cifar100.yaml",
        ("distilled-pruning-cifar100",),
        *within("synthetic", {0.36: 50.40, 0.672: 47.26, 0.893: 46.44, 0.956: 42.34}, 1.5),
    ),
    Claim(
        "Subnetworks found on distilled images are more stable than dense ones and real-data IMP's, ConvNet-3, CIFAR-10",
        "figures alone (McDermott and Cummings 2023, arXiv 2310.18769)",
        "stable-subnetworks-cifar10.yaml",
        ("stable-subnetworks-cifar10",),
        *stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order, shrunk: a set of our own, width 32, 10,000 images",
        "none at this scale",
        "cifar10-small.yaml",
        ("cifar10-small",),
        *stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order on 8x8 digits",
        "none",
        "digits.yaml",
        ("digits",),
        *stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "The same order on 8x8 digits, six initialisations, three copies",
        "none",
        "digits-controls.yaml",
        ("digits-controls",),
        *stablest("synthetic", ("real",), 0.893),
    ),
    Claim(
        "They are flatter, too: on 8x8 digits, six initialisations",
        "figures alone, of the Hessian's diagonal (McDermott and Cummings 2023, arXiv 2310.18769)",
        "digits-controls.yaml",
        ("digits-controls",),
        *flattest("synthetic", "real", 0.893),
    ),
    Claim(
        "The same, shrunk, on CIFAR-10",
        "none at this scale",
        "cifar10-small.yaml",
        ("cifar10-small",),
        *flattest("synthetic", "real", 0.893),
    ),
    Claim(
        "Tickets of magnitude pruning are matching only where they are stable, over rewinding steps: digits, 83.2% sparsity",
        "ResNet-20, VGG-16, ResNet-50 (Frankle et al. 2020; second-hand)",
        "digits-instability.yaml",
        ("digits-instability",),
        *only_stable_match("real"),
    ),
    Claim(
        "Tickets of ResNet-20 on CIFAR-10, rewound to k = 1,000, are matching and stable at 86.6% sparsity",
        "down to 13.4% of the weights (Frankle et al. 2020; second-hand)",
        "lottery-cifar10-resnet20.yaml",
        ("lottery-cifar10-resnet20",),
        *matching_to("real", 0.866),
    ),
    Claim(
        "Tickets of LeNet-300-100 on MNIST at k = 0 are matching and stable at 96.5% sparsity",
        "down to 3.5% of the weights (Frankle et al. 2020; second-hand)",
        "lottery-mnist-lenet.yaml",
        ("lottery-mnist-lenet",),
        *matching_to("real", 0.965),
    ),
    Claim(
        "The same, shrunk, on Fashion-MNIST, at 95.3% sparsity",
        "none at this scale",
        "lottery-mnist-lenet-small.yaml",
        ("lottery-mnist-lenet-small",),
        *matching_to("real", 0.953),
    ),
    Claim(
        "LeNet-300-100 at k = 0: magnitude pruning lies above random masks and re-initialised networks, Fashion-MNIST, 95.3%",
        "the same order on MNIST (Frankle and Carbin 2019; Frankle et al. 2020)",
        "lottery-mnist-lenet-small.yaml",
        ("lottery-mnist-lenet-small",),
        *ahead("real", ("random", "reinitialised"), 0.953),
    ),
)


def table(found: Mapping[str, Record]) -> str:
    """The claims as a Markdown table, judged by the records at hand."""
    lines = [
        "| claim | paper | ours (mean ± sd) | data, hardware | command | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for c in CLAIMS:
        records = [found[n] for n in c.records if n in found]
        if len(records) < len(c.records):
            cells = ["–", "–", f"`distill-prune run {c.pipeline}`", "not yet run"]
        else:
            data = f"{records[0]['data']['title']}; {', '.join(records[0]['devices'])}"
            command = f"`{records[0]['command']}`" + (", ..." if len(records) > 1 else "")
            cells = [c.ours(records), data, command, "holds" if c.holds(records) else "does not hold"]
        lines.append(f"| {c.what} | {c.paper} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
