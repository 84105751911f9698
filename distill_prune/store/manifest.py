"""The manifest of an artifact: what it is, what it was made from and with, and the sizes and hashes of its files.

The last field, `seal`, is the sha256 of the file's bytes before it, so that nothing in a manifest changes unseen. Manifests of
older versions have none.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError, model_validator

from distill_prune.errors import DamagedArtifact
from distill_prune.settings import Settings
from distill_prune.store.documents import Hash, reason

IDENTITY = ("key", "stage", "version", "settings", "inputs")
"""The fields that the key is made from, and the key."""
MANIFEST, TENSORS, NUMBERS = "manifest.json", "tensors.safetensors", "numbers.json"
_SEAL = b',\n "seal": "'


class File(Settings):
    """Size in bytes and sha256 of one file."""

    model_config = ConfigDict(strict=True)

    size: int = Field(ge=0)
    sha256: Hash


class Provenance(Settings):
    """What is known of an artifact before its files are written, in the order of `manifest.json`.

    `settings` are the job's as they enter the key, and `inputs` the keys of the inputs by role. `format` and `model` stand in
    manifests of imported artifacts alone. `seconds` are wall time, `peak_mb` MiB of resident memory, and `created` is a time
    in UTC (ISO 8601). Fields that other versions of the tool write are kept.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    key: str
    stage: str
    version: int
    label: str
    settings: dict[str, object]
    inputs: dict[str, str]
    format: str = ""
    model: dict[str, object] | None = None
    versions: dict[str, str]
    device: str
    threads: int
    seconds: float
    peak_mb: float
    created: str

    def document(self) -> dict[str, object]:
        """The JSON object of the file, in its order."""
        return {name: value for name, value in self if name in self.model_fields_set}

    def entry(self, setting: str) -> str:
        """The name of the table's entry that a setting chooses (`method`, `analysis`); empty where there is none."""
        value = self.settings.get(setting)
        return str(value.get("name", "")) if isinstance(value, dict) else ""

    def made_from(self, role: str) -> str:
        """The key of the input of a role that the stage always has.

        Raises:
            DamagedArtifact: it has none.
        """
        if role not in self.inputs:
            raise DamagedArtifact(self.stage, self.key, f"manifest: inputs: {role}: missing")
        return self.inputs[role]


class Manifest(Provenance):
    """One artifact's `manifest.json`; `files` are all its other files by name."""

    files: dict[Annotated[str, Field(pattern=r"^\w[\w.-]*$")], File]
    inputs: dict[str, Hash]
    seal: Hash = ""

    @model_validator(mode="after")
    def _numbered(self) -> Manifest:
        if NUMBERS not in self.files:
            raise ValueError(f"files: {NUMBERS} is not among them")
        return self

    @classmethod
    def parse(cls, content: bytes, stage: str, key: str) -> Manifest:
        """The manifest of `<stage>/<key>` from the content of its file.

        Raises:
            DamagedArtifact: it is no JSON, a field is missing or of a wrong type, or it was changed after it was sealed.
        """
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as problem:
            place = problem.errors(include_url=False)[0]["loc"]
            why = f"manifest: {reason(problem)}"
            if place and place[0] in IDENTITY:
                why = f"the manifest does not belong to the key ({why})"
            raise DamagedArtifact(stage, key, why) from problem
        if manifest.seal and content != _sealed(content.rpartition(_SEAL)[0]):
            raise DamagedArtifact(stage, key, "manifest: it has been changed, its seal is another")
        return manifest

    def document(self) -> dict[str, object]:
        document = super().document()
        document["files"] = {name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()}
        if seal := document.pop("seal", ""):
            document["seal"] = seal
        return document


def sealed(document: dict[str, object]) -> bytes:
    """The content of the file for a manifest's document, with its seal.

    Raises:
        ValueError: the document holds NaN or infinity.
    """
    return _sealed(json.dumps(document, indent=1, allow_nan=False).removesuffix("\n}").encode("ascii"))


def _sealed(body: bytes) -> bytes:
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode("ascii") + b'"\n}\n'
