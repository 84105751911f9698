"""Controls: a ticket with one thing taken away, so that what remains shows what it was worth.

shuffled:       the mask of each layer in random order, drawn anew at every level.
random:         each layer keeps as many weights as the ticket's, those of the largest of scores ~ U[0, 1) that are drawn once
                for the chain.
reinitialised:  the ticket's own mask, on the weights of another draw of the initialisation (never pre-trained ones).
transferred:    the ticket's own mask, on the weights that another task begins at: pre-trained ones, and that task's head.
swapped:        the mask of the same size by magnitude of W_k, with as many weights exchanged in each layer as tell the ticket
                from it; those that come in and those that go out are drawn at random from the ticket's own range of magnitudes.

At one level shuffled and random have the same distribution: every mask with the ticket's counts of survivors, layer by layer,
is equally likely. They differ over levels: random masks of one chain nest, as the tickets' do; shuffled ones are independent
of one another, so that no level's luck is the next one's. Neither knows which weights the ticket chose; all three keep how
many it chose of each layer. A criterion `random` keeps not even that. Swapped masks are as like to the one-shot mask as the
ticket is: what they lack is the knowledge which of the weights about the threshold to exchange.

References:
    | Pruning Neural Networks at Initialization: Why Are We Missing the Mark? (Frankle et al., 2021),
      https://arxiv.org/abs/2009.08576
    | The Lottery Ticket Hypothesis (Frankle and Carbin, 2019), for re-initialisation, https://arxiv.org/abs/1803.03635
"""

from __future__ import annotations

from typing import Literal

import torch

from distill_prune.artifacts import Cost, Mask, Ticket
from distill_prune.errors import RunError
from distill_prune.prune.select import keep, survivors
from distill_prune.rng import Streams
from distill_prune.settings import Settings
from distill_prune.tree import shapes

Kind = Literal["shuffled", "random", "reinitialised", "transferred", "swapped"]


class Control(Settings):
    """What is taken away from a ticket."""

    kind: Kind


def control_ticket(kind: Kind, ticket: Ticket, dense: Ticket, streams: Streams) -> Ticket:
    """The control of `ticket`, at its level; it costs no search.

    Args:
        dense: Level 0, whose weights survivors have: the ticket's own, for `reinitialised` that of another draw, for
            `transferred` that of another task. What the ticket does not rewind to its own level 0 (`rewind.tensors:
            prunable`) stays as the ticket has it, but for these two, where it was trained beside other weights.
        streams: The seed's, the same at every level of a chain; layers are told apart by name.

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


def _shuffled(ticket: Ticket, streams: Streams) -> Mask:
    kept = {}
    for name, own in ticket.mask.kept.items():
        order = torch.randperm(own.numel(), generator=streams("shuffled", name, level=ticket.level))
        kept[name] = own.flatten()[order].view_as(own)
    return Mask(kept)


def _random(ticket: Ticket, streams: Streams) -> Mask:
    own = ticket.mask.kept
    # In float64: among millions of weights float32 would draw ties.
    drawn = {n: torch.rand(t.shape, dtype=torch.float64, generator=streams("random", n)) for n, t in own.items()}
    everything = Mask({n: torch.ones_like(t) for n, t in own.items()})
    return keep(drawn, everything, survivors(ticket.mask, "layer"), "layer")


def _swapped(ticket: Ticket, dense: Ticket, streams: Streams) -> Mask:
    own = ticket.mask.kept
    sizes = {n: dense.state[n].abs() for n in own}
    plain = keep(sizes, Mask({n: torch.ones_like(t) for n, t in own.items()}), survivors(ticket.mask, "global"), "global").kept
    kept = {}
    for name, mine in own.items():
        size, out = sizes[name], plain[name].clone()
        swapped = size[mine != plain[name]]
        if len(swapped):
            band = (size >= swapped.min()) & (size <= swapped.max())
            for state, count in ((True, int((plain[name] & ~mine).sum())), (False, int((mine & ~plain[name]).sum()))):
                pool = (band & (plain[name] == state)).flatten().nonzero().squeeze(1)
                order = torch.randperm(len(pool), generator=streams("swapped", name, level=ticket.level, out=int(state)))
                out.view(-1)[pool[order[:count]]] = not state
        kept[name] = out
    return Mask(kept)
