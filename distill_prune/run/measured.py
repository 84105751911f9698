"""The numbers of an artifact, of the types that their readers take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_prune.analyze.stored import check
from distill_prune.artifacts import (
    DataNumbers,
    MeasurementsNumbers,
    SetNumbers,
    TicketNumbers,
    TrajectoryNumbers,
    WeightsNumbers,
)
from distill_prune.artifacts.basis import Numbers
from distill_prune.errors import DamagedArtifact
from distill_prune.store.damage import as_damage
from distill_prune.store.manifest import NUMBERS
from distill_prune.store.store import Store

_NOUNS: Mapping[str, type[Numbers]] = {
    "data": DataNumbers,
    "experts": TrajectoryNumbers,
    "distill": SetNumbers,
    "prune": TicketNumbers,
    "retrain": WeightsNumbers,
    "compare": MeasurementsNumbers,
}


def numbers(store: Store, stage: str, key: str) -> dict[str, Any]:
    """The artifact's numbers, checked.

    Raises:
        DamagedArtifact: they are not what was written, or of other types than a stage or an analysis writes.
    """
    values = store.numbers(stage, key)
    manifest = store.manifest(stage, key)
    with as_damage(stage, key, NUMBERS):
        _NOUNS[stage].model_validate(values)
        if stage == "compare":
            check(manifest.entry("analysis"), values)
    if stage in ("experts", "prune") and values.get("cost") is None and not manifest.format:
        raise DamagedArtifact(stage, key, f"{NUMBERS}: cost: only imported artifacts have none")
    return values
