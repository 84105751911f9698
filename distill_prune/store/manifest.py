"""The manifest of an artifact: what it is, what it was made from and with, and the sizes and hashes of its files."""

from __future__ import annotations

from pydantic import ConfigDict, Field, ValidationError

from distill_prune.errors import DamagedArtifact
from distill_prune.settings import Settings

IDENTITY = ("key", "stage", "version", "settings", "inputs")
"""The fields that the key is made from, and the key."""


class File(Settings):
    """Size in bytes and sha256 of one file."""

    model_config = ConfigDict(strict=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


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


class Manifest(Provenance):
    """One artifact's `manifest.json`; `files` are all its other files by name."""

    files: dict[str, File]

    @classmethod
    def parse(cls, content: bytes, stage: str, key: str) -> Manifest:
        """The manifest of `<stage>/<key>` from the content of its file.

        Raises:
            DamagedArtifact: it is no JSON, or a field is missing or of a wrong type.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as problem:
            error = problem.errors(include_url=False)[0]
            reason = ": ".join(("manifest", *map(str, error["loc"]), error["msg"]))
            if error["loc"] and error["loc"][0] in IDENTITY:
                reason = f"the manifest does not belong to the key ({reason})"
            raise DamagedArtifact(stage, key, reason) from problem

    def document(self) -> dict[str, object]:
        files = {name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()}
        return super().document() | {"files": files}
