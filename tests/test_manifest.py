"""Manifests: read as they were written, and refused where a field is not what it should be."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny

from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact
from distill_prune.store.manifest import MANIFEST, NUMBERS, Manifest, sealed
from distill_prune.store.store import Store

PROVENANCE = tiny.provenance("data", {"rate": 0.1 + 0.2}, {"data": "1" * 64})
FILE = {"sha256": "0" * 64, "size": 1}


def test_a_manifest_comes_back_as_its_file(empty: Store) -> None:
    """Names and order of the fields are part of the form."""
    empty.write(PROVENANCE, Parts({}, {"one": 1}))
    path = empty.path("data", PROVENANCE.key) / MANIFEST
    fields = ["key", "stage", "version", "label", "settings", "inputs", "versions", "device", "threads", "seconds", "peak_mb"]
    assert list(json.loads(path.read_text())) == [*fields, "created", "files", "seal"]
    manifest = empty.check("data", PROVENANCE.key)
    assert json.dumps(manifest.document(), indent=1) + "\n" == path.read_text()
    assert manifest.settings == {"rate": 0.1 + 0.2} and list(manifest.files) == [NUMBERS]


def test_what_a_later_version_adds_is_kept() -> None:
    content = {**PROVENANCE.document(), "files": {NUMBERS: FILE}, "later": [1]}
    manifest = Manifest.parse(json.dumps(content).encode(), "data", PROVENANCE.key)
    assert manifest.document() == content  # a manifest of an older version, too: it has no seal
    again = Manifest.parse(sealed(content), "data", PROVENANCE.key).document()
    assert list(again)[-1] == "seal" and {**again, "seal": 0} == {**content, "seal": 0}


CHANGED = {
    "label": "another",
    "versions": {"torch": "9"},
    "device": "cuda",
    "seconds": 0.25,
    "created": "tomorrow",
    "threads": 2,
    "peak_mb": 2.0,
    "format": "mtt",
    "model": {"name": "lenet"},
    "files": {NUMBERS: {**FILE, "size": 2}},
    "later": [2],
    "seal": "0" * 64,
}


@pytest.mark.parametrize("field", CHANGED)
def test_no_field_changes_unseen(field: str) -> None:
    content = sealed({**PROVENANCE.document(), "format": "dc", "model": None, "later": [1], "files": {NUMBERS: FILE}})
    assert Manifest.parse(content, "data", PROVENANCE.key).seal
    changed = json.dumps({**json.loads(content), field: CHANGED[field]}, indent=1) + "\n"
    with pytest.raises(DamagedArtifact, match="manifest: it has been changed, its seal is another"):
        Manifest.parse(changed.encode(), "data", PROVENANCE.key)


@pytest.mark.parametrize("twice", ['"label": "another"', '"seal": "%s"'])
def test_nothing_is_added_behind_the_seal(twice: str) -> None:
    content = sealed({**PROVENANCE.document(), "files": {NUMBERS: FILE}})
    more = content.removesuffix(b"\n}\n") + b",\n " + (twice.replace("%s", "0" * 64)).encode() + b"\n}\n"
    with pytest.raises(DamagedArtifact, match="its seal is another"):
        Manifest.parse(more, "data", PROVENANCE.key)


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
        ({"files": {}}, f"manifest: files: {NUMBERS} is not among them"),
        ({"files": {NUMBERS: FILE, "../x": FILE}}, r"manifest: files: \.\./x: .* should match pattern"),
        ({"seal": None}, "manifest: seal: Input should be a valid string"),
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b"null", b"[" * 100_000, b"\xff", b'{"label": "\\ud800"}'])
def test_what_is_no_json_object_is_damage(content: bytes) -> None:
    with pytest.raises(DamagedArtifact, match="manifest: "):
        Manifest.parse(content, "data", PROVENANCE.key)
