"""Two studies side by side: the rows that both have, the arms that one of them has, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import yaml

from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import Row, Summary, estimate_of
from distill_prune.study.study import Against, Both, Setting, Study

SAME = 5e-4
"""Sparsities that differ by less are one level."""


def against(study: Study, other: Study) -> Against:
    """The two studies side by side; arms are the same where they have one name."""
    here, there = _arms(study.summary), _arms(other.summary)
    return Against(
        other,
        list(_both(study, other)),
        [name for name in here if name not in there],
        [name for name in there if name not in here],
        list(_settings(study, other)),
    )


def _arms(summary: Summary | None) -> list[str]:
    return [a["name"] for a in (summary or {}).get("arms") or []]


def _both(study: Study, other: Study) -> Iterator[Both]:
    theirs = _rows(other)
    for row in _rows(study):
        same = (r for r in theirs if r["arm"] == row["arm"] and abs(r["sparsity"] - row["sparsity"]) < SAME)
        if match := next(same, None):
            yield Both(
                row["arm"],
                row["sparsity"],
                (estimate_of(row, ACCURACY), estimate_of(match, ACCURACY)),
                (estimate_of(row, BARRIER), estimate_of(match, BARRIER)),
            )


def _rows(study: Study) -> list[Row]:
    return list((study.summary or {}).get("rows") or [])


def _settings(study: Study, other: Study) -> Iterator[Setting]:
    here, there = (_flat(yaml.safe_load(s.config_text)) for s in (study, other))
    for name in dict.fromkeys((*here, *there)):
        if here.get(name) != there.get(name):
            yield Setting(name, here.get(name, ""), there.get(name, ""))


def _flat(value: object, at: str = "") -> dict[str, str]:
    """The leaves of a document by their dotted names."""
    if isinstance(value, Mapping) and value:
        leaves: dict[str, str] = {}
        for key, inner in cast(Mapping[object, object], value).items():
            leaves |= _flat(inner, f"{at}.{key}" if at else str(key))
        return leaves
    return {at: str(value)}
