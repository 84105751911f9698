"""Linear mode connectivity between two tickets of one initialisation: two levels of a chain, or two sources at one level.

On the line W(alpha) = (1 - alpha) W_a + alpha W_b from a copy of ticket a to a copy of ticket b, alpha in linspace(0, 1, 30),
barrier and excess are those of `connectivity`. The tickets' masks differ by nature: a network between the ends lives on the
union of the two masks and is denser than either. Small barriers say that the two lie in one basin of that union.

With `align: true` the line to the copy of b in the order of units that is nearest to that of a (see `rebasin`) is measured
beside it. This is of interest where b begins at another initialisation, as an arm of kind `permuted` or `reinitialised` does;
then the line as it is crosses a barrier that may come from the order of units alone.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
    | Unmasking the Lottery Ticket Hypothesis: What's Encoded in a Winning Ticket's Mask? (Paul et al., 2022), on levels of
      a chain, https://arxiv.org/abs/2210.03044
"""

from __future__ import annotations

from itertools import product
from typing import Literal

from pydantic import Field

from distill_prune.analyze.alignment import AlignedLine, align, over_aligned
from distill_prune.analyze.copies import check_architecture, check_counters
from distill_prune.analyze.disagreement import disagreement
from distill_prune.analyze.estimate import dependent
from distill_prune.analyze.inputs import Tickets
from distill_prune.analyze.line import Gauge, Line, RowSettings, line_of, over_pairs
from distill_prune.artifacts import Mask, Measurements
from distill_prune.errors import UserError
from distill_prune.models.permutations import specification
from distill_prune.progress import TicksOnly
from distill_prune.settings import Later
from distill_prune.training import outputs
from distill_prune.tree import to

TAKES: Literal["tickets"] = "tickets"


class Settings(RowSettings):
    name: Literal["between"] = "between"
    points: int = Field(30, ge=2, description="points on the line between two tickets' copies, both ends among them")
    align: bool = Later(False, description="measure the line to b aligned to a by weight matching, too")

    @property
    def permutes(self) -> bool:
        return self.align


class PairLine(Line):
    copies: list[int]
    disagreement: float


class AlignedPair(PairLine):
    aligned: AlignedLine


def measure(settings: Settings, tickets: Tickets) -> Measurements:
    """Barriers and excesses of every copy of one ticket with every copy of the other, which share copies.

    Numbers: `alphas`, `barrier` and `excess` {curve: estimate}, `curves`, `distance` (Euclidean, over all parameters),
    `disagreement` (share of test examples that the retrained two class differently), `shared` (weights that survive in both,
    of those that survive in either), `pairs` (`copies`: the one of a, the one of b), `rows`. Curves are those of
    `line.CURVES`. With `align` also `aligned`, the same of the aligned line, with `removed` (share of the distance that
    alignment removes) and `fixed` (share of units that stay at their places).

    Raises:
        UserError: a ticket without copies, different architectures, counters that cannot be interpolated, no examples, or, with
            `align`, a network whose interchangeable units are not known.
        NonFiniteError: a loss on a line is not finite.
    """
    model, train, (copies_a, copies_b) = tickets.model, tickets.train, (tickets.a.states, tickets.b.states)
    if not copies_a or not copies_b:
        raise UserError(
            "a barrier between tickets needs a retrained copy of each",
            got=f"{len(copies_a)} and {len(copies_b)} copies",
            expected="at least one of each",
            fix="retrain more copies: retrain.copies: 1",
        )
    named = {f"copy {i} of ticket {t}": c for t, copies in (("a", copies_a), ("b", copies_b)) for i, c in enumerate(copies)}
    check_architecture(model, named)
    check_counters(model, list(named.values()))
    gauge = Gauge.over(settings, model, copies_a[0], train, tickets.test, tickets.streams)
    spec = specification(model, "between with align: true") if settings.align else None
    alphas, lines = line_of(settings.points), 1 if spec is None else 2
    placed_a, placed_b = ([to(c, train.x.device) for c in copies] for copies in (copies_a, copies_b))
    classed_a, classed_b = (
        [outputs(model, c, gauge.parts["test"], arg_max=True) for c in copies] for copies in (placed_a, placed_b)
    )
    chosen = list(product(range(len(copies_a)), range(len(copies_b))))
    pairs: list[PairLine] = []
    aligned: list[AlignedLine] = []
    for done, (i, j) in enumerate(chosen):
        ticks, further = (
            TicksOnly(tickets.progress, (lines * done + k) * len(alphas), lines * len(chosen) * len(alphas)) for k in (0, 1)
        )
        height = gauge.height(placed_a[i], placed_b[j], alphas, ticks, note := f"copies {i} and {j}")
        pair: PairLine = {"copies": [i, j], "disagreement": disagreement(classed_a[i], classed_b[j]), **height}
        if spec is not None:
            streams = tickets.streams.under("between", a=i, b=j)
            alignment = align(gauge, spec, placed_a[i], placed_b[j], alphas, height["distance"], streams, further, note)
            with_aligned: AlignedPair = {**pair, "aligned": alignment.height}
            aligned.append(alignment.height)
            pair = with_aligned
        pairs.append(pair)
    return Measurements(
        "between",
        {
            "alphas": alphas,
            **over_pairs(pairs),
            "disagreement": dependent([p["disagreement"] for p in pairs]),
            "shared": shared(tickets.a.mask, tickets.b.mask),
            **({"aligned": over_aligned(aligned)} if aligned else {}),
            "pairs": pairs,
            "rows": dict(gauge.rows),
        },
    )


def shared(a: Mask, b: Mask) -> float:
    """Weights that survive in both masks, of those that survive in either."""
    both = sum(int((kept & b.kept[n].to(kept.device)).sum()) for n, kept in a.kept.items())
    return both / (a.remaining + b.remaining - both)
