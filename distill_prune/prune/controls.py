"""Controls: a ticket with one property removed, so that the difference in accuracy shows what this property is worth.

shuffled:       the mask of each layer in random order, drawn anew at every level.
random:         in each layer as many weights as the ticket has, chosen by the largest of scores ~ U[0, 1). The scores are
                drawn once for the whole chain.
reinitialised:  the ticket's mask on another draw of the initialisation, without pre-trained weights.
transferred:    the ticket's mask on the weights that another task begins at: the pre-trained ones and that task's head.
swapped:        the mask of the same size by magnitude of W_k, with as many weights of each layer swapped as differ between
                that mask and the ticket's. Which weights come in and which go out is drawn at random, from the range of
                magnitudes in which the two masks differ.
intersection:   the weights that the tickets of one level have in common, over several draws of the sets that found them.
                There are fewer than in any of them.
signs:          the ticket's mask and the signs of its trained weights, on the magnitudes of another draw (signs.py).
permuted:       the ticket's mask on another draw of the initialisation, its units in the order that aligns the trained dense
                networks of the two draws (permuted.py). `reinitialised` is the same without the order.

At one level shuffled and random have the same distribution: every mask with the ticket's count of survivors in each layer is
equally likely. Over levels they differ. Random masks of one chain nest, as the tickets' masks do. Shuffled masks of different
levels are independent of one another. Neither knows which weights the ticket chose, and both keep its counts by layer; the
criterion `random` does not keep the counts either. Swapped masks are as close to the one-shot mask as the ticket is, but do
not know which of the weights near the threshold to swap.

References:
    | Pruning Neural Networks at Initialization: Why Are We Missing the Mark? (Frankle et al., 2021),
      https://arxiv.org/abs/2009.08576
    | The Lottery Ticket Hypothesis (Frankle and Carbin, 2019), for re-initialisation, https://arxiv.org/abs/1803.03635
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator

from distill_prune.artifacts import Cost, Mask, Ticket
from distill_prune.errors import Misfit, RunError
from distill_prune.prune.select import keep, survivors
from distill_prune.rng import Streams
from distill_prune.settings import Later, Settings
from distill_prune.tree import shapes

OfTickets = Literal["shuffled", "random", "reinitialised", "transferred", "swapped"]
"""The kinds that need the ticket and a level 0 alone."""

Kind = Literal[OfTickets, "signs", "permuted", "intersection"]


class Control(Settings):
    """Which property of a ticket is removed. `kind`:

    - shuffled: the mask of each layer in random order
    - random: as many weights of each layer, chosen at random
    - reinitialised: the same mask, on another draw of the initialisation
    - transferred: the same mask, on the weights at which the task of this arm begins
    - swapped: the mask by magnitude of W_k, in which as many weights are exchanged at random, for others of about the same
      size, as the ticket exchanges
    - intersection: what the masks of all draws of the arm's sets have in common (distill_grid: crossed)
    - signs: the same mask and the signs of the ticket's first retrained copy, on the magnitudes of another draw
    - permuted: the same mask on another draw, its units in the order that aligns the trained dense networks of the two draws
    """

    kind: Kind = Field(description="the property that is removed")
    mask: bool = Later(True, description="of kind signs: the mask goes along; false: signs alone, and no weight is pruned")
    norms: Literal["reset", "kept"] = Later(
        "reset",
        description="of kind signs: layers of normalization have the values of the other draw (reset) or of the retrained "
        "copy (kept)",
    )

    @model_validator(mode="after")
    def _of_signs(self) -> Control:
        for name in ("mask", "norms"):
            if self.kind != "signs" and getattr(self, name) != type(self).model_fields[name].default:
                raise Misfit(f"it belongs to kind signs, and the kind is {self.kind}", [name], fix=f"leave {name} out")
        return self


def control_ticket(kind: OfTickets, ticket: Ticket, dense: Ticket, streams: Streams) -> Ticket:
    """The control of `ticket`, at its level; it costs no search.

    Args:
        dense: The level 0 whose weights the survivors have. It is that of the ticket; for `reinitialised` that of another
            draw, for `transferred` that of another task. Tensors that the ticket does not rewind (`rewind.tensors:
            prunable`) are the ticket's, but for these two kinds, whose weights they were not trained with.
        streams: Those of the seed, the same at every level of a chain. Each layer draws from a stream of its name.

    Raises:
        RunError: the two tickets are of different networks.
    """
    if shapes(ticket.mask.kept) != shapes(dense.mask.kept):
        raise RunError("a control and its level 0 are of different networks")
    elsewhere = kind in ("reinitialised", "transferred")
    if kind == "swapped":
        mask = _swapped(ticket, dense, streams)
    else:
        mask = ticket.mask if elsewhere else {"shuffled": _shuffled, "random": _random}[kind](ticket, streams)
    others = {} if elsewhere else {n: t for n, t in ticket.state.items() if n not in mask.kept}
    return Ticket(mask, mask.apply({**dense.state, **others}), ticket.level, {"cost": Cost().json(), "control": kind})


def intersection_ticket(tickets: Sequence[Ticket], dense: Ticket) -> Ticket:
    """What the masks of tickets of one level and initialisation have in common, on the weights of their level 0; it costs no
    search of its own. Tensors that are not prunable are the first ticket's.

    Raises:
        RunError: the tickets are of different networks or levels, or have no weight in common.
    """
    first = tickets[0]
    if any(t.level != first.level or shapes(t.mask.kept) != shapes(dense.mask.kept) for t in tickets):
        raise RunError("tickets that are to be intersected are of different networks or levels")
    mask = Mask({n: torch.stack([t.mask.kept[n] for t in tickets]).all(0) for n in first.mask.kept})
    others = {n: t for n, t in first.state.items() if n not in mask.kept}
    numbers = {"cost": Cost().json(), "control": "intersection"}
    return Ticket(mask, mask.apply({**dense.state, **others}), first.level, numbers)


def _shuffled(ticket: Ticket, streams: Streams) -> Mask:
    kept = {}
    for name, layer in ticket.mask.kept.items():
        order = torch.randperm(layer.numel(), generator=streams("shuffled", name, level=ticket.level))
        kept[name] = layer.flatten()[order].view_as(layer)
    return Mask(kept)


def _random(ticket: Ticket, streams: Streams) -> Mask:
    layers = ticket.mask.kept
    # In float64: among millions of weights float32 would draw ties.
    scores = {n: torch.rand(t.shape, dtype=torch.float64, generator=streams("random", n)) for n, t in layers.items()}
    everything = Mask({n: torch.ones_like(t) for n, t in layers.items()})
    return keep(scores, everything, survivors(ticket.mask, "layer"), "layer")


def _swapped(ticket: Ticket, dense: Ticket, streams: Streams) -> Mask:
    layers = ticket.mask.kept
    sizes = {n: dense.state[n].abs() for n in layers}
    everything = Mask({n: torch.ones_like(t) for n, t in layers.items()})
    plain = keep(sizes, everything, survivors(ticket.mask, "global"), "global").kept
    kept = {}
    for name, layer in layers.items():
        size, out = sizes[name], plain[name].clone()
        swapped = size[layer != plain[name]]
        if len(swapped):
            band = (size >= swapped.min()) & (size <= swapped.max())
            for state, count in ((True, int((plain[name] & ~layer).sum())), (False, int((layer & ~plain[name]).sum()))):
                pool = (band & (plain[name] == state)).flatten().nonzero().squeeze(1)
                order = torch.randperm(len(pool), generator=streams("swapped", name, level=ticket.level, out=int(state)))
                out.view(-1)[pool[order[:count]]] = not state
        kept[name] = out
    return Mask(kept)
