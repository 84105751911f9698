"""Stratified choice of rows: every class keeps its share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill_prune.errors import DataError
from distill_prune.rng import stream


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """How many of each class are among `total` rows: proportional to `counts`, by largest remainder.

    The quotas sum to `total` exactly; equal remainders go to the lower class first.
    """
    whole = sum(counts)
    shares = [divmod(total * count, whole) for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: -shares[c][1])
    extra = set(by_remainder[: total - sum(floor for floor, _ in shares)])
    return [floor + (c in extra) for c, (floor, _) in enumerate(shares)]


def stratified(
    labels: Tensor, total: int, classes: Sequence[str], generator: torch.Generator, *, what: str, leave: bool, setting: str = ""
) -> Tensor:
    """Positions (total,) of rows drawn at random with every class's share kept, in ascending order.

    `what` names the rows in messages, and `setting` what asks for them, if one does. With `leave`, every class must also keep
    a row that is not drawn.

    Raises:
        DataError: there are fewer rows than `total`, or a class has too few for a share of its own.
    """
    if total > len(labels):
        raise DataError(
            f"{what}: more rows asked for than there are", got=total, expected=f"at most {len(labels)}", setting=setting
        )
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    chosen = []
    for c, (count, quota) in enumerate(zip(counts, quotas(counts, total), strict=True)):
        if quota < 1 or (leave and count - quota < 1):
            raise DataError(
                f"{what}: class '{classes[c]}' has too few examples to keep its share",
                got=f"{quota} of {count}",
                expected="at least 1 drawn and 1 left" if leave else "at least 1 drawn",
                fix="more examples of this class, or another share",
                setting=setting,
            )
        rows = (labels == c).nonzero().squeeze(1)
        chosen.append(rows[torch.randperm(count, generator=generator)[:quota]])
    return torch.cat(chosen).sort().values


def hold_out(labels: Tensor, share: float, classes: Sequence[str], seed: int, *, of: str) -> tuple[Tensor, Tensor]:
    """Rows to train with and a stratified test part of the given share, drawn by the split's `seed`; both ascending.

    Raises:
        DataError: a class has too few rows for both.
    """
    total, generator = round(share * len(labels)), stream(seed, "data", "test")
    what = f"test part of '{of}'"
    test = stratified(labels, total, classes, generator, what=what, setting="test_share", leave=True)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[test] = False
    return rest.nonzero().squeeze(1), test


def chosen(
    pools: Sequence[Tensor],
    labels: Sequence[Tensor],
    rows: tuple[int | None, int | None],
    classes: Sequence[str],
    seed: int,
    *,
    of: str,
) -> list[Tensor]:
    """Of the rows in a train and a test pool those to use: all, or a stratified part drawn by the split's `seed`.

    `labels` are those that each pool's rows point into; `rows` are the settings `rows` and `test_rows`.

    Raises:
        DataError: a pool has fewer rows, or a class has too few for a share of its own.
    """
    kept = []
    for pool, y, count, name in zip(pools, labels, rows, ("rows", "test_rows"), strict=True):
        if count is not None:
            generator = stream(seed, "data", name)
            what = f"{name} of '{of}'"
            kept.append(pool[stratified(y[pool], count, classes, generator, what=what, setting=name, leave=False)])
        else:
            kept.append(pool)
    return kept
