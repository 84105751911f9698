"""What a reader must know beside a study's numbers: the unit, what intervals and p-values cover, which weights each is of."""

from __future__ import annotations

from collections.abc import Sequence

from distill_prune.analyze.costs import unequal
from distill_prune.analyze.estimate import smallest_p
from distill_prune.analyze.metric import ACCURACY, Metric
from distill_prune.analyze.paired import CLAIMS_FROM
from distill_prune.analyze.records import ArmRecord, CostRow, PairedRow, Unit, value


def notes(
    units: Sequence[Unit],
    arms: Sequence[ArmRecord],
    paired: Sequence[PairedRow],
    costs: Sequence[CostRow],
    claim_p: float,
    metrics: Sequence[Metric],
) -> list[str]:
    """Sentences, the statistical ones first. `paired` and `costs` are the summary's."""
    sentences = [*_statistics(units, paired, claim_p)]
    sets = [name for name in dict.fromkeys(a["images"] for a in arms) if name != "real"]
    if draws := sorted({u["draw"] for u in units if "draw" in u}):
        places = {(u["seed"], u["draw"]) for u in units if "draw" in u}
        nested = len(places) == len({seed for seed, _ in places})
        sentences.append(
            f"Every set was drawn {len(draws)} times ({', '.join(sets)}), and each initialisation was pruned with "
            f"{'one draw' if nested else 'every draw'}. Intervals and tests cover other sets as well as other "
            "initialisations."
        )
    elif sets:
        sentences.append(
            f"Intervals are conditional on the sets of images at hand, one each ({', '.join(sets)}): they cover other "
            "initialisations, and do not cover another run of distillation or another draw of a subset."
        )
    first = [a for a in arms if "base" not in a]
    sentences += [
        f"Arm {a['name']} prunes with a set made from other data than it is retrained and tested on."
        for a in first
        if a.get("other_data")
    ]
    sentences += unequal(arms, costs)
    if any(c["search"] is not None and c["with_experts"] is None for c in costs):
        sentences.append("What the synthetic set cost to make is not known here, so totals with distillation are left out.")
    step = {a["name"]: (a.get("k"), a.get("task")) for a in arms}
    dense: dict[tuple[tuple[str | None, str | None] | None, int], set[float | None]] = {}
    for u in units:
        if u["level"] == 0:
            dense.setdefault((step.get(u["arm"]), u["seed"]), set()).add(value(u, ACCURACY))
    if any(len(values) > 1 for values in dense.values()):
        sentences.append("Dense networks differ between arms; each arm is compared with its own.")
    measured = [m for m in metrics if m.note and any(value(u, m.name) is not None for u in units)]
    return [*sentences, *dict.fromkeys(m.note for m in measured)]


def _statistics(units: Sequence[Unit], paired: Sequence[PairedRow], claim_p: float) -> list[str]:
    counts = {p["difference"]["n"] for p in paired} or {len({u["seed"] for u in units})}
    few, most = min(counts), max(counts)
    sentences = [
        f"The unit is one initialisation. With n = {most} paired differences the smallest attainable p-value is "
        f"{smallest_p(most):.3g}"
        + (f" (with n = {few}, the fewest here, {smallest_p(few):.3g})" if few < most else "")
        + f"; no claim is made below {CLAIMS_FROM} initialisations."
    ]
    if paired:
        rows = {m: [p for p in paired if p["metric"] == m] for m in dict.fromkeys(p["metric"] for p in paired)}
        family = max(rows.values(), key=len)
        least = min(1.0, len(family) * min(p["p_smallest"] for p in family))
        by = "their intervals alone" if claim_p == 1 else f"their intervals and p <= {claim_p:g}"
        sentences.append(
            f"{len(paired)} paired differences of {len(rows)} metrics were looked at. p is exact and not corrected for "
            f"their number; p_holm is, over the rows of one metric (Holm), and with {len(family)} rows cannot fall below "
            f"{least:.3g}. Claims are by {by}, not corrected."
        )
    return sentences
