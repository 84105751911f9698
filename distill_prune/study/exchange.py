"""Foreign files into the store and artifacts out of it: resolves what a format cannot know, and gives keys.

An imported artifact's key is the hash of its tensors and numbers (and of the data set's key where `dataset` names one in
the store): the same file imported twice is one artifact, and a changed one is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from distill_prune.artifacts import Parts, SyntheticSet, Ticket, Trajectory, Transform, Weights
from distill_prune.data import cifar10, cifar100
from distill_prune.errors import ConfigError, DamagedArtifact, DataError, StoreError, UserError
from distill_prune.interop import FORMATS, Export, Origin
from distill_prune.interop.footprint import Footprint, footprint
from distill_prune.models import MODELS, build_model, resolved
from distill_prune.plan.files import override
from distill_prune.plan.jobs import VERSIONS
from distill_prune.plan.places import SET, locator
from distill_prune.plan.roles import keys_of
from distill_prune.plan.validate import entry, validated
from distill_prune.run.reader import Reader
from distill_prune.run.worker import versions
from distill_prune.store.manifest import Manifest, Provenance
from distill_prune.store.store import Ref, Store, identity
from distill_prune.tree import shapes

STAGE_OF = {"set": "distill", "experts": "experts", "ticket": "prune"}
KNOWN = {
    # of the code of trajectory matching and its relatives: [RGB mean], [RGB std], image size, classes
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), (3, 32, 32), cifar10.SET.classes),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), (3, 32, 32), cifar100.SET.classes),
}
"""What `--set dataset=NAME` means where NAME is a published set and not an artifact: how foreign code normalizes it."""


@dataclass(frozen=True)
class Imported:
    """One artifact that an import made or found."""

    ref: Ref
    label: str
    found: bool


def bring_in(store: Store, form: str, paths: Sequence[Path], assignments: Sequence[str], tag: str | None) -> list[Imported]:
    """Read foreign files and publish what they hold.

    Several artifacts (experts) are tagged `tag-0`, `tag-1`, ...

    Raises:
        UserError: the files, or what is said of them, cannot be used; nothing is written.
    """
    module = FORMATS[form]
    if module.read is None:
        raise UserError(f"format '{form}' can be exported only", fix="`distill-prune import --help` lists the formats")
    raw: dict[str, Any] = {}
    override(raw, assignments)
    dataset, model = raw.pop("dataset", None), raw.pop("model", None)
    origin, data = _origin(store, dataset)
    if model is not None:
        if origin.shape is None or origin.classes is None:
            raise ConfigError("a network needs the shape and classes of its data", fix="--set dataset=REF or a known name")
        known = resolved(entry(MODELS, model, ["model"], SET))
        built = Reader(store, "cpu").model_for(known, data) if data else build_model(known, origin.shape, len(origin.classes))
        model = known.identity()
        origin = Origin(origin.classes, origin.transform, origin.shape, built)
    settings = validated(module.Settings, {"name": form, **raw}, (), SET)
    content = module.read(settings, list(paths), origin)
    nouns = content if isinstance(content, list) else [content]
    stage, inputs = STAGE_OF[module.KIND], {"data": data} if data else {}
    out = []
    for i, noun in enumerate(nouns):
        label = f"imported {form} {paths[0].name}" + (f" {i}" if len(nouns) > 1 else "")
        imported = _publish(store, stage, form, _parts(noun), inputs, label, model)
        if tag:
            store.tag(imported.ref.key, tag if len(nouns) == 1 else f"{tag}-{i}")
        out.append(imported)
    return out


def _origin(store: Store, dataset: object) -> tuple[Origin, str]:
    """What `--set dataset=...` says, and the key of the data set where it lies in the store."""
    if dataset is None:
        return Origin(), ""
    name = str(dataset)
    if name in KNOWN:
        mean, std, shape, classes = KNOWN[name]
        transform = Transform("normalize", {"mean": torch.tensor(mean), "std": torch.tensor(std)})
        return Origin(classes, transform, shape), ""
    ref = store.find(name)
    if ref.stage != "data":
        raise StoreError(
            f"dataset '{name}' is not a prepared data set",
            got=f"{ref.stage}/{ref.key[:12]}",
            expected=f"an artifact of stage data, or one of {', '.join(KNOWN)}",
            fix="`distill-prune data PIPELINE` makes one, `distill-prune ls data` lists them",
        )
    images = Reader(store, "cpu").images(ref.key)
    return Origin(images.classes, images.transform, images.shape), ref.key


def _parts(noun: SyntheticSet | Trajectory | Ticket) -> Parts:
    """The noun's parts; what it cost is not known."""
    parts = noun.parts(None) if isinstance(noun, Ticket) else noun.parts()
    more: dict[str, object] = {"record": {}} if isinstance(noun, SyntheticSet) else {}
    return Parts(parts.tensors, {**parts.numbers, "cost": None, **more})


def _publish(
    store: Store, stage: str, form: str, parts: Parts, inputs: Mapping[str, str], label: str, model: dict[str, object] | None
) -> Imported:
    settings: dict[str, object] = {"imported": parts.content()}
    key = identity(stage, VERSIONS[stage], settings, inputs)
    if store.sound(stage, key):
        return Imported(Ref(stage, key), label, True)
    with store.lock(key) as mine:
        if not mine:
            raise StoreError(f"{stage} {key[:12]} is being written by another run", fix="try again")
        if store.sound(stage, key):
            return Imported(Ref(stage, key), label, True)
        provenance = Provenance(
            key=key,
            stage=stage,
            version=VERSIONS[stage],
            label=label,
            settings=settings,
            inputs=dict(inputs),
            format=form,
            model=model,
            versions=versions(),
            device="imported",
            threads=1,
            seconds=0.0,
            peak_mb=0.0,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        store.write(provenance, parts)
    return Imported(Ref(stage, key), label, False)


def take_out(store: Store, ref: str, form: str, path: Path) -> tuple[list[Path], Footprint | None]:
    """Write an artifact in a foreign format: the files written, and of networks that the store knows their footprint. Where
    the format holds experts and the artifact is a set, its experts are written.

    Raises:
        UserError: the format cannot hold it, or something stands at `path`.
    """
    module = FORMATS[form]
    if module.write is None:
        raise UserError(f"format '{form}' can be imported only", fix="`distill-prune export --help` lists the formats")
    export = _export(store, ref, module.KIND)
    measured = None
    if isinstance(export.noun, Ticket | Weights) and export.model is not None and export.ticket is not None:
        # Measured first: torch's exporter of ONNX leaves the process slow.
        measured = footprint(export.model, export.noun.state, export.ticket.mask, export.model.shape)
    return list(module.write(export, path)), measured


def _export(store: Store, ref: str, kind: str) -> Export:
    target = store.find(ref)
    reader, manifest = Reader(store, "cpu"), store.manifest(target.stage, target.key)
    if target.stage == "distill" and kind == "experts":
        experts = keys_of("expert", manifest.inputs)
        if not experts:
            raise UserError(f"the set '{ref}' was made without experts")
        return Export(tuple(store.trajectory(key) for key in experts))
    if target.stage == "distill":
        return Export(reader.set(target.key))
    if target.stage == "experts":
        return Export((store.trajectory(target.key),))
    if target.stage == "prune":
        ticket = reader.ticket(target.key)
        dense = manifest.inputs.get("dense", target.key)
        return _network(store, reader, target, ticket, ticket, store.manifest("prune", dense))
    if target.stage == "retrain":
        ticket = reader.ticket(manifest.made_from("ticket"))
        return _network(store, reader, target, Weights(reader.state(target.key)), ticket, manifest)
    raise UserError(
        f"'{ref}' cannot be exported",
        got=f"{target.stage}/{target.key[:12]}",
        expected="a synthetic set, an expert, a ticket or a retrained network",
    )


def _network(store: Store, reader: Reader, target: Ref, noun: Ticket | Weights, ticket: Ticket, manifest: Manifest) -> Export:
    """The ticket or the weights of `target` with their network, where the store knows it: `manifest` is that of the
    artifact that names both.

    Raises:
        DamagedArtifact: the tensors are those of another network.
    """
    data, settings = manifest.inputs.get("data"), manifest.settings.get("model") or manifest.model
    if settings is None or data is None or not store.has("data", data):
        if isinstance(noun, Weights):
            raise DataError(
                f"the data {str(data)[:12]} that the network was trained on are not in the store",
                fix="`distill-prune data PIPELINE` makes them",
            )
        return Export(noun, None, ticket)
    model = reader.model_for(entry(MODELS, settings, ["model"], locator("the manifest")), data)
    there, expected = shapes(noun.state), shapes(model.module.state_dict())
    if strangers := sorted(n for n in there.keys() | expected.keys() if there.get(n) != expected.get(n)):
        raise DamagedArtifact(target.stage, target.key, f"content: '{strangers[0]}' is not as its network has it")
    return Export(noun, model, ticket, model.shape)
