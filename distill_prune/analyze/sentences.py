"""The answer in plain sentences.

The first sentence is the verdict alone: how the arms stand to the control in accuracy, stability and flatness. Then follow
the means, how far each arm is matching and stable, what the paired intervals show of each metric and of the papers' claims,
and in a scan from which step on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distill_prune.analyze.answer import Answer, Compared, Comparison, Difference, Onset, Reached, SetScore, Standing, direction
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.paired import CLAIMS_FROM, carried
from distill_prune.analyze.verdict import MATCHING, STABLE, Verdict


def sentences(answer: Answer) -> tuple[str, ...]:
    """The sentences of an answer, the verdict first; none where there is nothing to say."""
    tickets = [answer.compared] if isinstance(answer.compared, str) else _compared(answer.compared)
    return tuple(f"{s[0].upper()}{s[1:]}" for s in (*tickets, of_sets(answer.sets)) if s)


def of_sets(scores: Sequence[SetScore]) -> str:
    """What fresh networks reach that are trained on each set alone; empty without sets."""
    reached = [f"set {s.set} {_mean_sd(s.accuracy)}% ({s.network}, n = {s.accuracy['n']})" for s in scores]
    return (
        f"Fresh networks trained on a set alone reach, in test accuracy (mean ± sd): {'; '.join(reached)}." if reached else ""
    )


def _compared(c: Compared) -> Iterator[str]:
    at, k = f"{_percent(c.sparsity)} sparsity", f"k = {c.k}" if c.k else ""
    few = f"; below {CLAIMS_FROM} initialisations no difference is claimed" if c.few else ""
    yield f"at {at}{f' ({k})' if k else ''} {_verdict(c)}."
    yield f"at {at} (level {c.level}{f', {k}' if k else ''}), {'; '.join(_scored(s) for s in c.standings)}."
    yield f"{'; '.join(f'{s.label} is {_joined(*(_reached(r) for r in s.reached))}' for s in c.standings)}{few}."
    for comparison in c.comparisons:
        for sentence in _differences(c, comparison):
            yield f"{sentence}."
    if c.ks:
        begun = [f"{s.label} {_joined(*(_begun(o) for o in s.onsets))}" for s in c.standings if s.onsets]
        for arm, onset in c.dense:
            text, n = _begun(onset)
            begun.append(f"the dense network{f' of {arm}' if len(c.dense) > 1 else ''} {text}{_of(n)}")
        yield f"of the rewinding steps k = {', '.join(c.ks)}, at level {c.level}: {'; '.join(begun)}."


def _verdict(c: Compared) -> str:
    """How the arms stand to the control; without learned arms first how the control stands to the dense network, and without
    a comparison how each arm does."""
    alone = () if c.comparisons and c.learned else (c.control,) if c.comparisons and c.control else c.standings
    labels_by_text: dict[str, list[str]] = {}
    for comparison in c.comparisons:
        labels_by_text.setdefault(_against(c, comparison), []).append(comparison.label)
    alike = [f"{_listed(ls)} {'is' if len(ls) == 1 else 'are'} {text}" for text, ls in labels_by_text.items()]
    return "; ".join([*(_stands(s) for s in alone), *alike])


def _stands(s: Standing) -> str:
    """Whether an arm is matching and stable at its level."""
    words = {Verdict.YES: "{}", Verdict.NO: "not {}"}
    matching, stable = (words.get(s.verdicts[p], p.open_words).format(p.name) for p in (MATCHING, STABLE))
    return f"{s.label} is {matching} and {stable} (n = {s.n})"


def _against(c: Compared, comparison: Comparison) -> str:
    """What the differences to the control show, what they do not, and what was not measured (in studies of learned arms)."""
    control = comparison.control
    shown, open_, unmeasured, counts = [], [], [], {}
    for q in c.questions:
        differences = comparison.on(q)
        if not differences:
            unmeasured.append(q.name)
            continue
        counts[q.name] = min(d.n for d in differences)
        sign = direction(differences)
        if sign:
            shown.append(q.lower if sign < 0 else q.higher)
        else:
            open_.append(q.claimed if c.learned and q.claimed else q.either)
    missing = f"; {_listed(unmeasured)} {'was' if len(unmeasured) == 1 else 'were'} not measured" if unmeasured else ""
    if not counts:
        return f"not compared with {control}{missing}"
    parts = [f"shown to be {_listed(shown)} than {control}"] if shown else []
    if open_:
        parts.append(f"not shown to be {_listed(open_, 'or')}{'' if shown else f' than {control}'}")
    differ = len(set(counts.values())) > 1
    n = ", ".join(f"{n} in {name}" for name, n in counts.items()) if differ else str(next(iter(counts.values())))
    few = f"; below {CLAIMS_FROM} initialisations nothing can be shown" if max(counts.values()) < CLAIMS_FROM else ""
    return f"{' and '.join(parts)} (n = {n}{few}){missing if c.learned else ''}"


def _scored(s: Standing) -> str:
    text = f"{s.label} reaches {_mean_sd(s.accuracy)}% test accuracy (mean ± sd, n = {s.n})"
    return text if s.barrier is None else f"{text} with a test barrier of {100 * s.barrier['mean']:.1f} points"


def _joined(a: tuple[str, int], b: tuple[str, int]) -> str:
    """Two verdicts in words, each with the number of initialisations behind it; 0 where there are none."""
    if a[1] == b[1]:
        return f"{a[0]} and {b[0]}{_of(a[1])}"
    return f"{a[0]}{_of(a[1])} and {b[0]}{_of(b[1])}"


def _of(n: int) -> str:
    return f" (n = {n})" if n else ""


def _reached(r: Reached) -> tuple[str, int]:
    if r.sparsity is not None:
        return f"last {r.prop.name} at {_percent(r.sparsity)} sparsity", r.n
    return (f"{r.prop.name} at no pruned level", r.n) if r.n else (r.prop.open_words, 0)


def _begun(o: Onset) -> tuple[str, int]:
    if not o.n:
        return f"is {o.prop.open_words}", 0
    if o.k is None and o.before:
        return f"is {o.prop.name} at some k, but not at the last one", o.n
    return f"becomes {o.prop.name} at {f'k = {o.k}' if o.k else 'no k'}", o.n


def _differences(c: Compared, comparison: Comparison) -> Iterator[str]:
    """What the paired differences at one level show, by metric; then, of a learned arm, whether the papers' claims are
    shown."""
    arm, control = comparison.label, comparison.control
    enough = [d for d in comparison.differences if d.n >= CLAIMS_FROM]
    if claimed := [carried(d.row, d.metric) for d in enough if d.claimed]:
        yield f"within initialisations, {arm} has, against {control}, {_listed(claimed)}"
    if unclaimed := [d for d in enough if not d.claimed]:
        yield f"between {arm} and {control} no difference is carried by interval and p in {_metrics(unclaimed)}"
    if (short := [d for d in comparison.differences if d not in enough]) and not c.few:
        yield f"below {CLAIMS_FROM} initialisations nothing is claimed of {arm} and {control} in {_metrics(short)}"
    if comparison.learned:
        claims = [f"{q.claimed} than {control}: {_shown(comparison.on(q))}" for q in c.questions if q.claimed]
        yield f"{arm} {'; '.join(claims)}"


def _shown(differences: Sequence[Difference]) -> str:
    """Whether the metrics are all lower, or all higher, by their claims."""
    if not differences:
        return "not measured"
    word = {-1: "shown", 1: "the opposite is shown", 0: "not shown"}[direction(differences)]
    return f"{word} in {_metrics(differences)}"


def _metrics(differences: Sequence[Difference]) -> str:
    """The metrics, with the number of pairs: once where it is the same."""
    counts = [d.n for d in differences]
    names = [d.metric.in_words for d in differences]
    if len(set(counts)) == 1:
        return f"{_listed(names)}{_of(counts[0])}"
    return _listed([f"{name}{_of(n)}" for name, n in zip(names, counts, strict=True)])


def _listed(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.1f}%"


def _mean_sd(accuracy: Estimate) -> str:
    """In percent."""
    spread = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.1f}"
    return f"{100 * accuracy['mean']:.1f}{spread}"
