"""The study's answer in plain sentences: how far synthetic masks carry, beside masks found on real data.

The first sentence is the verdict alone: how the arms stand to the control in accuracy, stability and flatness. What it rests
on follows: the means, then what the paired intervals carry, metric by metric, and what that shows of the papers' two claims:

    more stable   shown where the test barrier is lower, the opposite where it is higher, by a claim of paired.py
    flatter       shown where every trace measured, per weight and rescaling-invariant, is lower, the opposite where every
                  one is higher; not shown where they disagree, or where one of them alone carries

Nothing is claimed below 6 initialisations. Learned arms and the control are named, other arms are not; in a study without
learned arms the control is, and the first others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distill_prune.analyze.paired import CLAIMS_FROM, PAIRED, carried
from distill_prune.analyze.reach import DECIDABLE_FROM

Record = Mapping[str, Any]

TOLD = ("accuracy", "barrier_test", "trace_per_weight", "trace_invariant")
OTHERS = 3
CLAIMS = {"more stable": ("barrier_test",), "flatter": ("trace_per_weight", "trace_invariant")}


class Question(NamedTuple):
    """What the first sentence says of a quantity: where it is lower or higher by every one of its `metrics`, and neither."""

    name: str
    metrics: tuple[str, ...]
    lower: str
    higher: str
    claimed: str = ""


QUESTIONS = (
    Question("accuracy", ("accuracy",), "less accurate", "more accurate"),
    Question("stability", CLAIMS["more stable"], "more stable", "less stable", "more stable"),
    Question("flatness", CLAIMS["flatter"], "flatter", "less flat", "flatter"),
)


def answer(
    arms: Sequence[Record],
    rows: Sequence[Record],
    paired: Sequence[Record],
    scanned: Sequence[Record],
    onsets: Sequence[Record],
    control: str,
) -> str:
    """The verdict in one sentence; accuracy and barrier of each synthetic arm and the control (where that alone is synthetic,
    of every arm) at the highest sparsity that they share; how far each is matching and stable; what the
    differences carry; in a scan, from which step on. The records are the summary's. Sentences end with a full stop and a
    space, which stand nowhere else.
    """
    task = next((a.get("task") for a in arms if a["name"] == control), None)
    first = [a for a in arms if "base" not in a and a.get("task") == task]
    labels = {a["name"]: str(a.get("label") or a["name"]).replace(". ", ".\u00a0") for a in first}
    learned = [a["name"] for a in first if a.get("learned", a["images"] == "synthetic")]
    if not learned and control not in labels:
        return "This study has no arm on synthetic images, so its question has no answer here."
    others = OTHERS
    if learned == [control]:  # every other is held to the synthetic arm, as elsewhere to that on real images
        learned, others = [], len(labels)
    if learned:
        shown = [a for a in learned if a != control] + ([control] if control in labels else [])
    else:  # the control, beside the first of the others
        shown = [control, *[a for a in labels if a != control][:others]]
    levels = [{r["level"] for r in rows if r["arm"] == a and r["level"] > 0 and r["accuracy"]} for a in shown]
    shared = set.intersection(*levels)
    if not shared:
        return "No pruned level has been retrained for every arm compared, so the question has no answer yet."
    level = max(shared)
    last = {r["arm"]: r for r in rows if r["level"] == level and r["arm"] in shown}
    k = next((f"k = {a['k']}" for a in first if a["name"] == shown[0] and "k" in a), "")
    few = min(last[a]["accuracy"]["n"] for a in shown) < CLAIMS_FROM
    here = [p for p in paired if (p["versus"], p["level"]) == (control, level)]
    sentences = [
        f"at {_percent(last[shown[0]]['sparsity'])} sparsity{f' ({k})' if k else ''} "
        + _verdict(shown, labels, last, here, control, bool(learned)),
        f"At {_percent(last[shown[0]]['sparsity'])} sparsity (level {level}{f', {k}' if k else ''}), "
        + "; ".join(_scored(labels[a], last[a]) for a in shown),
        "; ".join(_reached(labels[a], [r for r in rows if r["arm"] == a]) for a in shown)
        + (f"; below {CLAIMS_FROM} initialisations no difference is claimed" if few else ""),
    ]
    for arm in shown if control in labels else ():
        if arm != control:
            own = {p["metric"]: p for p in here if p["arm"] == arm}
            sentences += _compared(labels[arm], labels[control], own, few, arm in learned)
    sentences += _begun(labels, shown, level, scanned, onsets)
    return " ".join(f"{s[0].upper()}{s[1:]}." for s in sentences)


def of_sets(evaluations: Sequence[Record]) -> str:
    """The test accuracy of fresh networks trained on each set alone: `evaluations` of {set, network, accuracy}."""
    told = []
    for e in evaluations:
        a = e["accuracy"]
        spread = "" if a["sd"] is None else f" ± {100 * a['sd']:.1f}"
        told.append(f"set {e['set']} {100 * a['mean']:.1f}{spread} % ({e['network']}, n = {a['n']})")
    return f"Fresh networks trained on a set alone reach, in test accuracy (mean ± sd): {'; '.join(told)}." if told else ""


def lead(text: str) -> tuple[str, str]:
    """An answer's first sentence, and the others."""
    first, stop, rest = text.partition(". ")
    return (f"{first}.", rest) if stop else (text, "")


def _verdict(
    shown: Sequence[str],
    labels: Mapping[str, str],
    last: Mapping[str, Record],
    paired: Sequence[Record],
    control: str,
    learned: bool,
) -> str:
    """How the arms stand to the control; without learned arms first how the control stands to the dense network, and without
    a control how each arm does."""
    others = [a for a in shown if a != control] if control in shown else []
    told = [] if learned and others else [_stands(labels[a], last[a]) for a in (shown if not others else [control])]
    alike: dict[str, list[str]] = {}
    for arm in others:
        rows = {p["metric"]: p for p in paired if p["arm"] == arm}
        alike.setdefault(_against(labels[control], rows, learned), []).append(labels[arm])
    told += [f"{_listed(arms)} {'is' if len(arms) == 1 else 'are'} {said}" for said, arms in alike.items()]
    return "; ".join(told)


def _stands(label: str, row: Record) -> str:
    """Whether an arm is matching and stable at its row's level."""
    undecided = f"not decidably matching below {DECIDABLE_FROM} initialisations"
    matching = {"yes": "matching", "no": "not matching"}.get(row["matching"], undecided)
    stable = {"yes": "stable", "no": "not stable"}.get(row["stable"], "of unmeasured stability")
    return f"{label} is {matching} and {stable} (n = {row['accuracy']['n']})"


def _against(control: str, rows: Mapping[str, Record], learned: bool) -> str:
    """What the differences to the control show, what they do not, and what was not measured (said of learned arms)."""
    shown, open_, unmeasured, counts = [], [], [], {}
    for q in QUESTIONS:
        held = [rows[m] for m in q.metrics if m in rows]
        if not held:
            unmeasured.append(q.name)
            continue
        counts[q.name] = min(r["difference"]["n"] for r in held)
        sign = _direction(held)
        either = f"more or {q.lower if q.lower.startswith('less') else q.higher}"
        if sign:
            shown.append(q.lower if sign < 0 else q.higher)
        else:
            open_.append(q.claimed if learned and q.claimed else either)
    missing = f"; {_listed(unmeasured)} {'was' if len(unmeasured) == 1 else 'were'} not measured" if unmeasured else ""
    if not counts:
        return f"not compared with {control}{missing}"
    parts = [f"shown to be {_listed(shown)} than {control}"] if shown else []
    if open_:
        of = "" if shown else f" than {control}"
        parts.append(f"not shown to be {_listed(open_, 'or')}{of}")
    spread = len(set(counts.values())) > 1
    n = ", ".join(f"{n} in {name}" for name, n in counts.items()) if spread else str(next(iter(counts.values())))
    few = f"; below {CLAIMS_FROM} initialisations nothing can be shown" if max(counts.values()) < CLAIMS_FROM else ""
    return f"{' and '.join(parts)} (n = {n}{few}){missing if learned else ''}"


def _scored(label: str, row: Record) -> str:
    accuracy, barrier = row["accuracy"], row["barrier_test"]
    spread = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.1f}"
    text = f"{label} reaches {100 * accuracy['mean']:.1f}{spread} % test accuracy (mean ± sd, n = {accuracy['n']})"
    return text if barrier is None else f"{text} with a test barrier of {100 * barrier['mean']:.1f} points"


def _reached(label: str, rows: Sequence[Record]) -> str:
    """How far the arm is matching and stable, pruned levels only."""
    pruned = [r for r in rows if r["level"] > 0]
    return f"{label} is {_joined(_last('matching', pruned), _last('stable', pruned))}"


def _joined(a: tuple[str, int], b: tuple[str, int]) -> str:
    """Two verdicts, each with the initialisations that it rests on; 0 where it rests on none."""
    if a[1] == b[1]:
        return f"{a[0]} and {b[0]}{_of(a[1])}"
    return f"{a[0]}{_of(a[1])} and {b[0]}{_of(b[1])}"


def _of(n: int) -> str:
    return f" (n = {n})" if n else ""


METRIC = {"matching": "accuracy", "stable": "barrier_test"}


def _counted(verdict: str, rows: Sequence[Record]) -> int:
    """The fewest initialisations of the rows on which the verdict was decided; 0 where it was on none."""
    return min((r[METRIC[verdict]]["n"] for r in rows if r[verdict] in ("yes", "no")), default=0)


def _undecided(verdict: str) -> str:
    if verdict == "matching":
        return f"not decidably matching below {DECIDABLE_FROM} initialisations"
    return "of unmeasured stability"


def _last(verdict: str, rows: Sequence[Record]) -> tuple[str, int]:
    held = [r for r in rows if r[verdict] == "yes"]
    if held:
        sparsest = max(held, key=lambda r: r["sparsity"])
        return f"last {verdict} at {_percent(sparsest['sparsity'])} sparsity", _counted(verdict, [sparsest])
    if n := _counted(verdict, rows):
        return f"{verdict} at no pruned level", n
    return _undecided(verdict), 0


def _compared(arm: str, control: str, rows: Mapping[str, Record], few: bool, learned: bool) -> Iterator[str]:
    """What the paired differences at one level carry, by metric; then, of a learned arm, whether the papers' claims are
    shown."""
    known = [rows[m] for m in TOLD if m in rows]
    enough = [r for r in known if r["difference"]["n"] >= CLAIMS_FROM]
    if told := [carried(r) for r in enough if r["claim"]]:
        yield f"within initialisations, {arm} has, against {control}, {_listed(told)}"
    if unsure := [r for r in enough if not r["claim"]]:
        yield f"between {arm} and {control} no difference is carried by interval and p in {_metrics(unsure)}"
    if (short := [r for r in known if r not in enough]) and not few:
        yield f"below {CLAIMS_FROM} initialisations nothing is claimed of {arm} and {control} in {_metrics(short)}"
    if learned:
        told = [f"{claim} than {control}: {_shown([rows[m] for m in of if m in rows])}" for claim, of in CLAIMS.items()]
        yield f"{arm} {'; '.join(told)}"


def _shown(rows: Sequence[Record]) -> str:
    """Whether the metrics are all lower, or all higher, by their claims."""
    if not rows:
        return "not measured"
    word = {-1: "shown", 1: "the opposite is shown", 0: "not shown"}[_direction(rows)]
    return f"{word} in {_metrics(rows)}"


def _direction(rows: Sequence[Record]) -> int:
    """-1 where a claim says of every metric that it is lower, 1 where of every one that it is higher, else 0."""
    signs = {(1 if r["difference"]["mean"] > 0 else -1) if r["claim"] else 0 for r in rows}
    return signs.pop() if len(signs) == 1 else 0


def _metrics(rows: Sequence[Record]) -> str:
    """The rows' metrics, with the number of pairs: once where it is the same."""
    counts = [r["difference"]["n"] for r in rows]
    names = [PAIRED[r["metric"]].what for r in rows]
    if len(set(counts)) == 1:
        return f"{_listed(names)}{_of(counts[0])}"
    return _listed([f"{name}{_of(n)}" for name, n in zip(names, counts, strict=True)])


def _begun(
    labels: Mapping[str, str], shown: Sequence[str], level: int, scanned: Sequence[Record], onsets: Sequence[Record]
) -> Iterator[str]:
    """From which rewinding step on each arm is stable and matching, and dense networks stable."""
    at_level = {o["arm"]: o for o in onsets if o["level"] == level}
    begun = [at_level[a] for a in shown if a in at_level]
    dense = [o for o in onsets if o["level"] == 0]
    if not begun:
        return

    def verdict(o: Record, name: str) -> tuple[str, int]:
        rows = [r for r in scanned if (r["arm"], r["level"]) == (o["arm"], o["level"])]
        if rows[-1][name] not in ("yes", "no"):
            return f"is {_undecided(name)}", 0
        k, n = o[f"{name}_at"], _counted(name, rows)
        if k is None and any(r[name] == "yes" for r in rows):
            return f"is {name} at some k, but not at the last one", n
        return f"becomes {name} at {f'k = {k}' if k else 'no k'}", n

    told = [f"{labels[o['arm']]} {_joined(verdict(o, 'stable'), verdict(o, 'matching'))}" for o in begun]
    for o in dense:
        text, n = verdict(o, "stable")
        which = f"the dense network of {o['arm']}" if len(dense) > 1 else "the dense network"
        told.append(f"{which} {text}{_of(n)}")
    yield f"of the rewinding steps k = {', '.join(begun[0]['ks'])}, at level {level}: {'; '.join(told)}"


def _listed(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.1f} %"
