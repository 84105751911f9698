"""What a finished study took, by the manifests of its artifacts: the part of a record that docs/performance.md is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from distill_prune.store.store import STAGES, Store


class Spent(TypedDict):
    """Seconds of one worker, by stage and in all; the largest memory of a worker in MB; the size of all files in MiB."""

    core_seconds_total: float
    core_seconds: dict[str, float]
    peak_mb: float
    disk_mb: float
    devices: list[str]
    versions: dict[str, str]


def spent(store: Store, artifacts: Iterable[tuple[str, str]]) -> Spent:
    """Of artifacts that are there, each a stage and a key.

    Raises:
        DamagedArtifact: one is not there.
    """
    manifests = [store.manifest(stage, key) for stage, key in artifacts]
    seconds = {stage: round(sum(m.seconds for m in manifests if m.stage == stage), 1) for stage in STAGES}
    versions: dict[str, str] = {}
    for manifest in manifests:
        versions |= manifest.versions
    return {
        "core_seconds_total": round(sum(seconds.values()), 1),
        "core_seconds": seconds,
        "peak_mb": max(m.peak_mb for m in manifests),
        "disk_mb": round(sum(f.size for m in manifests for f in m.files.values()) / 2**20, 1),
        "devices": sorted({m.device for m in manifests}),
        "versions": versions,
    }
