"""How records of finished studies are put in words and judged: the measures that the claims of claims.py are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

Record = Mapping[str, Any]


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


def moved(record: Record) -> list[Record]:
    """The rows of transfer at the sparsest level that have a task's own ticket to be held to, masks of learned tasks alone."""
    rows, knows_no_task = (
        record["summary"]["transfer"],
        {a["name"] for a in record["summary"]["arms"] if a.get("criterion", "magnitude") != "magnitude"},
    )
    last = max(r["level"] for r in rows)
    return [r for r in rows if r["level"] == last and r["to_own"] and r["source"] not in knows_no_task]


def own_task_is_best() -> Judged:
    """Whether on every task the ticket that was found on it lies above those transferred to it."""

    def told(rs: Sequence[Record]) -> str:
        found = [
            f"{r['source']} on {r['target'] or 'the first task'} {100 * r['to_own']['mean']:+.1f}"
            + (f" [{100 * r['to_own']['low']:.1f}, {100 * r['to_own']['high']:.1f}]" if r["to_own"]["low"] is not None else "")
            for r in moved(rs[0])
        ]
        return f"score less that of the task's own ticket, in points: {', '.join(found)} (n = {moved(rs[0])[0]['to_own']['n']})"

    return told, lambda rs: all(r["to_own"]["mean"] < 0 for r in moved(rs[0]))


def universal(source: str) -> Judged:
    """Whether the ticket of `source` lies on no task that it was transferred to below the task's own, by the interval."""

    def rows(rs: Sequence[Record]) -> list[Record]:
        return [r for r in moved(rs[0]) if r["source"] == source]

    def told(rs: Sequence[Record]) -> str:
        found = [f"{r['target'] or 'the first task'} {100 * r['to_own']['mean']:+.1f}" for r in rows(rs)]
        return f"score less that of the task's own ticket, in points: {', '.join(found)} (n = {rows(rs)[0]['to_own']['n']})"

    def holds(rs: Sequence[Record]) -> bool | None:
        highs = [r["to_own"]["high"] for r in rows(rs)]
        return None if None in highs else all(high >= 0 for high in highs)

    return told, holds


def matching_alone(arm: str, others: Sequence[str], sparsity: float) -> Judged:
    """Whether `arm` is matching at the sparsity and none of the others is; stability is not asked."""

    def told(rs: Sequence[Record]) -> str:
        rows = {"dense": row(rs[0], arm, 0.0), **{a: row(rs[0], a, sparsity) for a in (arm, *others)}}
        found = [
            f"{a} {100 * r['accuracy']['mean']:.1f} ± {100 * (r['accuracy']['sd'] or 0):.1f}"
            + (f" (matching: {r['matching']})" if a != "dense" else "")
            for a, r in rows.items()
        ]
        return f"accuracy in % at {100 * rows[arm]['sparsity']:.0f}% sparsity: {', '.join(found)} (n = {rows[arm]['n']})"

    def holds(rs: Sequence[Record]) -> bool | None:
        verdicts = [row(rs[0], a, sparsity)["matching"] for a in (arm, *others)]
        return verdicts[0] == "yes" and "yes" not in verdicts[1:]

    return told, holds
