"""How claims are judged by records of finished studies: one standard, that of the tool's own answer.

A claim is made of parts, each an estimate that lies to one side of zero if the claim is right: a difference within
initialisations, or a mean minus a bound. Of a part is said

    too few seeds     below 6 initialisations
    shown             its interval has no zero, lies on the claim's side, and for differences the exact p is at most 0.05
    opposite shown    the same, on the other side
    not shown         else; the text then has the smallest difference that so many would have shown (power.py)

Of the claim: too few seeds where a part has too few, opposite shown where a part has the opposite, shown where every part is,
else not shown. Parts that measure one property (two traces) count as one: a sign is shown where all of them show it. Where a
paper's claim is about a mean, its figure stands beside ours with the interval, and there is no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_prune.analyze.estimate import Estimate, estimate, sign_flip_p
from distill_prune.analyze.paired import CLAIMS_FROM, ROUNDING
from distill_prune.analyze.power import could_show
from distill_prune.analyze.sets import Place, by_place, exact_p, known, minus, over

Record = Mapping[str, Any]
CLAIM_P = 0.05
STABLE_BELOW = 0.02
SHOWN, OPPOSITE, NOT_SHOWN, FEW = "shown", "opposite shown", "not shown", "too few seeds"
A_MEAN = "a mean: no verdict"
NOT_RUN = "not yet run"

Judge = Callable[[Sequence[Record]], tuple[str, str]]
"""Of the records of a claim: the figures in words, and the verdict."""


@dataclass(frozen=True)
class Part:
    """An estimate that has the sign `towards` if the claim is right; `p` is that of its exact test, where it has one."""

    difference: Estimate
    towards: int
    p: float = 0.0

    @property
    def sign(self) -> int:
        """1 where the part is shown, -1 where its opposite is, else 0."""
        low, high = self.difference["low"], self.difference["high"]
        if self.few or low is None or high is None or low <= 0 <= high or self.p > CLAIM_P:
            return 0
        return self.towards if low > 0 else -self.towards

    @property
    def few(self) -> bool:
        return self.difference["n"] < CLAIMS_FROM

    def written(self, scale: float = 100) -> str:
        """The difference with its interval; where nothing is shown, what could have been."""
        could = None if self.few or self.sign else could_show(self.difference, CLAIM_P)
        return figure(self.difference, scale, signed=True) + (f" (could show {scale * could:.3g})" if could else "")


def verdict(*properties: Sequence[Part]) -> str:
    """What is said of a claim, of the parts of each of its properties."""
    if any(part.few for parts in properties for part in parts):
        return FEW
    signs = [s.pop() if len(s := {part.sign for part in parts}) == 1 else 0 for parts in properties]
    return OPPOSITE if -1 in signs else SHOWN if all(signs) else NOT_SHOWN


def figure(e: Estimate, scale: float = 100, signed: bool = False) -> str:
    """mean [low, high], to one digit after the point for shares, else to three digits."""
    digits = ".1f" if scale == 100 else ".3g"
    interval = "" if e["low"] is None or e["high"] is None else f" [{scale * e['low']:{digits}}, {scale * e['high']:{digits}}]"
    return f"{scale * e['mean']:{'+' if signed else ''}{digits}}{interval}"


def above(e: Estimate, bound: float) -> Estimate:
    """The estimate minus a bound."""
    ends = {end: None if e[end] is None else e[end] - bound for end in ("low", "high")}
    return {**e, "mean": e["mean"] - bound, **ends}  # type: ignore[typeddict-item]


def score(record: Record, name: str) -> Estimate:
    """Test accuracy of fresh networks that are trained on the set `name` alone."""
    return next(e["accuracy"] for e in record["evaluations"] if e["set"] == name)  # type: ignore[no-any-return]


def reached(name: str) -> Judge:
    """The mean accuracy of a set, beside the paper's."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        e = score(rs[0], name)
        return f"{figure(e)}% (n = {e['n']})", A_MEAN

    return judge


def beats(name: str, other: str, by: float) -> Judge:
    """Whether a set is better than another by so many points; a record is one draw of both sets."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        of_both = [[score(r, n)["mean"] for r in rs] for n in (name, other)]
        gaps = [a - b for a, b in zip(*of_both, strict=True)]
        beyond = [gap - by / 100 for gap in gaps]
        part = Part(estimate(beyond), 1, sign_flip_p(beyond))
        means = " minus ".join(f"{figure(estimate(values))}%" for values in of_both)
        return f"{means}: {figure(estimate(gaps), signed=True)} points (n = {len(rs)})", verdict([part])

    return judge


def row(record: Record, arm: str, sparsity: float) -> Record:
    """The summary's row of an arm nearest to a sparsity."""
    return min((r for r in record["summary"]["rows"] if r["arm"] == arm), key=lambda r: abs(r["sparsity"] - sparsity))


def apart(record: Record, arm: str, level: int, other: str, other_level: int, metric: str, towards: int) -> Part:
    """The metric of `arm` minus that of another, within initialisations. Level 0 is the dense network."""

    def values(name: str, at: int) -> dict[Place, float]:
        units = [u for u in record["units"] if (u["arm"], u["level"]) == (name, at)]
        return known(by_place(units), metric)

    differences, size = minus(values(arm, level), values(other, other_level))
    return Part(over(differences), towards, exact_p(differences, ROUNDING * size)[0])


def within(arm: str, sparsities: Sequence[float]) -> Judge:
    """The mean accuracies of an arm, beside the paper's."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        es = [row(rs[0], arm, s)["accuracy"] for s in sparsities]
        return f"{' / '.join(map(figure, es))}% (n = {es[0]['n']})", A_MEAN

    return judge


def stablest(arm: str, others: Sequence[str], sparsity: float) -> Judge:
    """Whether the test barrier of `arm` lies below those of the others and of the dense network."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        mine = row(rs[0], arm, sparsity)
        rows = {"dense": row(rs[0], others[0], 0.0), **{a: row(rs[0], a, sparsity) for a in (arm, *others)}}
        means = ", ".join(f"{a} {100 * r['barrier_test']['mean']:.1f}" for a, r in rows.items())
        parts = {
            name: apart(rs[0], arm, mine["level"], r["arm"], r["level"], "barrier_test", -1)
            for name, r in rows.items()
            if name != arm
        }
        gaps = ", ".join(f"minus {name} {part.written()}" for name, part in parts.items())
        text = f"test barrier at {100 * mine['sparsity']:.1f}% sparsity in points: {means}; {arm} {gaps} (n = {mine['n']})"
        return text, verdict(*([p] for p in parts.values()))

    return judge


def flattest(arm: str, other: str, sparsity: float) -> Judge:
    """Whether both the trace per surviving weight and the rescaling-invariant trace of `arm` lie below the other's."""
    metrics = {"trace_per_weight": "trace per weight", "trace_invariant": "rescaling-invariant trace"}

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        mine, its = row(rs[0], arm, sparsity), row(rs[0], other, sparsity)
        parts = {m: apart(rs[0], arm, mine["level"], other, its["level"], m, -1) for m in metrics}
        gaps = [f"{metrics[m]} {part.written(1)}" for m, part in parts.items()]
        return f"{arm} minus {other}: {', '.join(gaps)} (n = {mine['n']})", verdict([*parts.values()])

    return judge


def least(record: Record, arm: str) -> float:
    """The accuracy from which on a ticket of `arm` is matching: the dense networks' mean minus one deviation."""
    dense = row(record, arm, 0.0)["accuracy"]
    return float(dense["mean"] - (dense["sd"] or 0.0))


def matching_to(arm: str, sparsity: float) -> Judge:
    """Whether `arm` is matching and stable at the sparsity: both bounds lie outside the intervals."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        r = row(rs[0], arm, sparsity)
        text = (
            f"at {100 * r['sparsity']:.1f}% sparsity: accuracy {figure(r['accuracy'])}%, matching from "
            f"{100 * least(rs[0], arm):.1f}%; barrier {figure(r['barrier_test'])} points, stable below 2 (n = {r['n']})"
        )
        parts = Part(above(r["accuracy"], least(rs[0], arm)), 1), Part(above(r["barrier_test"], STABLE_BELOW), -1)
        return text, verdict(*([p] for p in parts))

    return judge


def matching_alone(arm: str, others: Sequence[str], sparsity: float) -> Judge:
    """Whether `arm` is matching at the sparsity and none of the others is; stability is not asked."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        rows, bound = {a: row(rs[0], a, sparsity) for a in (arm, *others)}, least(rs[0], arm)
        means = ", ".join(f"{a} {figure(r['accuracy'])}" for a, r in rows.items())
        text = (
            f"accuracy in % at {100 * rows[arm]['sparsity']:.1f}% sparsity: {means}; matching from {100 * bound:.1f} "
            f"(n = {rows[arm]['n']})"
        )
        parts = [Part(above(r["accuracy"], bound), 1 if a == arm else -1) for a, r in rows.items()]
        return text, verdict(*([p] for p in parts))

    return judge


def ahead(arm: str, others: Sequence[str], sparsity: float) -> Judge:
    """Whether the accuracy of `arm` lies above those of the others."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        rows = {a: row(rs[0], a, sparsity) for a in (arm, *others)}
        level = rows[arm]["level"]
        parts = {a: apart(rs[0], arm, level, a, rows[a]["level"], "accuracy", 1) for a in others}
        gaps = ", ".join(f"minus {a} {part.written()}" for a, part in parts.items())
        text = f"accuracy of {arm} in points: {gaps} (n = {min(p.difference['n'] for p in parts.values())})"
        return text, verdict(*([p] for p in parts.values()))

    return judge


def only_stable_match(arm: str) -> Judge:
    """Whether at every rewinding step where tickets of `arm` are matching they are stable."""

    def judge(rs: Sequence[Record]) -> tuple[str, str]:
        steps = [r for r in rs[0]["summary"]["scan"] if r["arm"] == arm and r["level"]]
        by_k = [f"{r['k']}: {figure(r['barrier_test'])}, {r['matching']}" for r in steps]
        text = f"barrier in points, and whether matching, by k: {'; '.join(by_k)} (n = {steps[0]['accuracy']['n']})"
        parts = [Part(above(r["barrier_test"], STABLE_BELOW), -1) for r in steps if r["matching"] == "yes"]
        return text, verdict(*([p] for p in parts)) if parts else NOT_SHOWN

    return judge


def moved(record: Record) -> list[Record]:
    """The rows of transfer at the sparsest level that have a task's own ticket to be held to, masks of learned tasks alone."""
    rows, knows_no_task = (
        record["summary"]["transfer"],
        {a["name"] for a in record["summary"]["arms"] if a.get("criterion", "magnitude") != "magnitude"},
    )
    last = max(r["level"] for r in rows)
    return [r for r in rows if r["level"] == last and r["to_own"] and r["source"] not in knows_no_task]


def transferred(rows: Sequence[Record], towards: int, named: Callable[[Record], str]) -> tuple[str, str]:
    """Scores of tickets on other tasks minus those of the task's own ticket."""
    parts = [Part(r["to_own"], towards) for r in rows]
    gaps = ", ".join(f"{named(r)} {part.written()}" for r, part in zip(rows, parts, strict=True))
    text = f"score minus that of the task's own ticket, in points: {gaps} (n = {parts[0].difference['n']})"
    return text, verdict(*([p] for p in parts))


def task_of(r: Record) -> str:
    return r["target"] or "the first task"


def own_task_is_best() -> Judge:
    """Whether on every task the ticket that was found on it lies above those transferred to it."""
    return lambda rs: transferred(moved(rs[0]), -1, lambda r: f"{r['source']} on {task_of(r)}")


def universal(source: str) -> Judge:
    """Whether the ticket of `source` is worth at least what each task's own is; that it is worth as much is never shown."""
    return lambda rs: transferred([r for r in moved(rs[0]) if r["source"] == source], 1, task_of)
