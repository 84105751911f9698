"""The control `permuted`: a ticket's mask on another initialisation, after the two networks' units were aligned.

    mask = pi(m),   weights = pi(m) * w'_k,   pi = argmin |B - pi(A)|^2

m is the ticket's mask. A is the dense network of the ticket's initialisation, trained from W_k on real data (the first copy of
its level 0). B is the same of another draw, whose W_k is w'_k. pi brings A's units into the order that is nearest to B's
(weight matching, models/permutations.py), and moves the mask with them: a weight of the mask then joins the units of B that are
most like those that it joined in A. The control `reinitialised` leaves the mask in A's order. The first paper finds that such
masks fail because of the order, and that aligned masks come near to the ticket as networks get wider.

pi is the same at every level of a chain, so masks stay nested. B is trained with the order of examples and the augmentation of
A's training. Nothing is counted as a search: finding pi takes no images, and A and B are dense networks, not masks.

References:
    | Sparse Training from Random Initialization: Aligning Lottery Ticket Masks using Weight Symmetry (Adnan et al., 2025),
      https://arxiv.org/abs/2505.05143
    | Git Re-Basin: Merging Models modulo Permutation Symmetries (Ainsworth, Hayase and Srinivasa, 2023),
      https://arxiv.org/abs/2209.04836
"""

from __future__ import annotations

from distill_prune.artifacts import Cost, Mask, Ticket
from distill_prune.errors import RunError
from distill_prune.models import Model
from distill_prune.models.permutations import aligned, fixed, permuted, specification
from distill_prune.rng import Streams
from distill_prune.tree import State, shapes

PERMUTED = "the control 'permuted'"


def permuted_ticket(model: Model, ticket: Ticket, dense: Ticket, trained: State, target: State, streams: Streams) -> Ticket:
    """The control of `ticket`, at its level. Its numbers have the share of units that are `fixed` by the permutation.

    Args:
        dense: Level 0 of another draw, whose weights survivors have.
        trained: The dense network of the ticket's initialisation, trained; every tensor, on the CPU.
        target: The dense network of the other draw, trained.
        streams: Those of the seed, the same at every level of a chain.

    Raises:
        UserError: it is not known which units of the network are interchangeable.
        RunError: the ticket and the level 0 are of different networks, or the permuted network is another function.
        NonFiniteError: a trained weight is not finite.
    """
    if shapes(ticket.mask.kept) != shapes(dense.mask.kept):
        raise RunError("a control and its level 0 are of different networks")
    spec = specification(model, PERMUTED)
    orders, _ = aligned(model, spec, target, trained, streams.under("permuted"))
    mask = Mask(permuted(spec, orders, ticket.mask.kept))
    numbers = {"cost": Cost().json(), "control": "permuted", "fixed": fixed(orders)}
    return Ticket(mask, mask.apply(dense.state), ticket.level, numbers)
