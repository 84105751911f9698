"""The control `signs`: a ticket's mask and the signs of its trained weights, on the magnitudes of another initialisation.

    w_i = sign(t_i) |w'_i|   of survivors,   w' the W_k of another draw of the seed, t the ticket retrained

t is the ticket's first copy (`retrain`, copy 0): the weights at the end of its training on the real data, whatever the images
are that found its mask. So masks of all sources are asked the same: is the mask with signs enough, without the magnitudes? A
trained weight of exactly zero counts as positive. The control's own search costs nothing, for the copy is the ticket's. The
control's copy 0 sees the order and augmentation that gave the signs; its further copies do not.

    mask: false     the signs without the mask: no weight is pruned, and those that the ticket prunes have the signs of w'
    norms: kept     layers of normalization have the parameters and running statistics of t. The first paper finds that signs
                    carry a ticket to another initialisation where these go along; `reset` gives them the values of w'

Every other tensor (biases, embeddings) is that of w'. A layer of normalization is one whose weight is a vector, or that has
running statistics.

References:
    | Find A Winning Sign: Sign Is All We Need to Win the Lottery (Oh, Baik and Lee, 2025), https://arxiv.org/abs/2504.05357
    | Sign-In to the Lottery: Reparameterizing Sparse Training From Scratch (Gadhikar et al., 2025),
      https://arxiv.org/abs/2504.12801
"""

from __future__ import annotations

import torch

from distill_prune.artifacts import Cost, Mask, Ticket
from distill_prune.errors import RunError, UserError
from distill_prune.prune.controls import Control
from distill_prune.tree import State, select, shapes


def signs_ticket(control: Control, ticket: Ticket, dense: Ticket, trained: State) -> Ticket:
    """The control of `ticket`, at its level.

    Args:
        dense: Level 0 of another draw, whose magnitudes the weights have.
        trained: Every tensor of the ticket's first copy, on the CPU.

    Raises:
        UserError: the ticket is of level 0.
        RunError: the ticket, the level 0 and the copy are of different networks.
    """
    if not ticket.level:
        raise UserError(
            "the control 'signs' has no level 0",
            got="a dense ticket, which has no mask",
            expected="a ticket of level 1 or more",
        )
    layers = ticket.mask.kept
    if not shapes(layers) == shapes(dense.mask.kept) == shapes({n: trained[n] for n in layers if n in trained}):
        raise RunError("a control, its level 0 and its trained copy are of different networks")
    mask = ticket.mask if control.mask else Mask.dense(dense.state, list(layers))
    magnitudes = select(dense.state, layers)
    signed = {n: torch.where(layers[n], torch.copysign(w, trained[n] + 0.0), w) for n, w in magnitudes.items()}
    norms = select(trained, norms_of(trained)) if control.norms == "kept" else {}
    state = {**dense.state, **norms, **signed}
    return Ticket(mask, mask.apply(state), ticket.level, {"cost": Cost().json(), "control": control.kind})


def norms_of(state: State) -> list[str]:
    """The tensors of a network's layers of normalization."""
    by_layer: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        layer, _, tensor_name = name.rpartition(".")
        by_layer.setdefault(layer, {})[tensor_name] = tensor
    normalizes = {
        layer
        for layer, tensors in by_layer.items()
        if "running_mean" in tensors or ("weight" in tensors and tensors["weight"].dim() == 1)
    }
    return [name for name in state if name.rpartition(".")[0] in normalizes]
