"""Manifests: read as they were written, and refused where a field is not what it should be."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny

from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact
from distill_prune.store.manifest import Manifest
from distill_prune.store.store import MANIFEST, NUMBERS, Store

PROVENANCE = tiny.provenance("data", {"rate": 0.1 + 0.2}, {"data": "1" * 64})
FILE = {"sha256": "0" * 64, "size": 1}


def test_a_manifest_comes_back_as_its_file(empty: Store) -> None:
    """Names and order of the fields are part of the form."""
    empty.write(PROVENANCE, Parts({}, {"one": 1}))
    path = empty.path("data", PROVENANCE.key) / MANIFEST
    fields = ["key", "stage", "version", "label", "settings", "inputs", "versions", "device", "threads", "seconds", "peak_mb"]
    assert list(json.loads(path.read_text())) == [*fields, "created", "files"]
    manifest = empty.check("data", PROVENANCE.key)
    assert json.dumps(manifest.document(), indent=1) + "\n" == path.read_text()
    assert manifest.settings == {"rate": 0.1 + 0.2} and list(manifest.files) == [NUMBERS]


def test_what_a_later_version_adds_is_kept() -> None:
    content = {**PROVENANCE.document(), "files": {NUMBERS: FILE}, "later": [1]}
    manifest = Manifest.parse(json.dumps(content).encode(), "data", PROVENANCE.key)
    assert manifest.document() == content


def test_the_entry_that_a_setting_chooses() -> None:
    manifest = tiny.provenance("distill", {"method": {"name": "herding"}, "seed": 0})
    assert [manifest.entry(n) for n in ("method", "seed", "analysis")] == ["herding", "", ""]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seconds": ...}, "manifest: seconds: Field required"),
        ({"seconds": "1"}, "manifest: seconds: Input should be a valid number"),
        ({"seconds": float("inf")}, "manifest: seconds: Input should be a finite number"),
        ({"threads": 1.5}, "manifest: threads: Input should be a valid integer"),
        ({"versions": {"torch": 2}}, "manifest: versions: torch: Input should be a valid string"),
        ({"files": ...}, "manifest: files: Field required"),
        ({"files": {NUMBERS: {**FILE, "size": "1"}}}, f"manifest: files: {NUMBERS}: size: Input should be a valid integer"),
        ({"files": {NUMBERS: {**FILE, "sha256": "0"}}}, f"manifest: files: {NUMBERS}: sha256: String should match pattern"),
        ({"inputs": {"data": 1}}, r"the manifest does not belong to the key \(manifest: inputs: data: .* valid string"),
        ({"version": "1"}, r"the manifest does not belong to the key \(manifest: version: .* valid integer"),
    ],
)
def test_a_field_of_a_wrong_type_is_damage(changes: dict[str, Any], reason: str) -> None:
    content = {**PROVENANCE.document(), "files": {NUMBERS: FILE}} | changes
    content = {name: value for name, value in content.items() if value is not ...}
    with pytest.raises(DamagedArtifact, match=f"damaged artifact data/{PROVENANCE.key[:12]}: {reason}"):
        Manifest.parse(json.dumps(content).encode(), "data", PROVENANCE.key)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_object_is_damage(content: bytes) -> None:
    with pytest.raises(DamagedArtifact, match="manifest: "):
        Manifest.parse(content, "data", PROVENANCE.key)
