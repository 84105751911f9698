"""The nouns of a store, as tensors and networks on a device."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill_prune.artifacts import Examples, Images, Parts, Sentences, SyntheticSet, Ticket, Trajectory, Weights
from distill_prune.errors import UserError
from distill_prune.models import Model, build_model, predicting
from distill_prune.models.encoder import EncoderSettings
from distill_prune.settings import Entry, digest
from distill_prune.store.store import Store
from distill_prune.tree import State, select, to

KEPT = 4
"""Data sets that a worker keeps in memory at most: the tasks of a study."""

READY_BYTES = 256 * 2**20
"""Sets up to this size are transformed once and kept as floats; larger ones batch by batch. The bits are the same."""


@dataclass
class Reader:
    """Nouns out of a store, on a device. Prepared data stay in memory between the artifacts that one worker makes."""

    store: Store
    device: str
    _images: dict[str, Images | Sentences] = field(default_factory=dict)
    _parts: dict[tuple[str, str], Examples] = field(default_factory=dict)
    _models: dict[str, Model] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    def images(self, key: str) -> Images | Sentences:
        if key not in self._images:
            if len(self._images) == KEPT:
                self._images, self._parts = {}, {}
            self._images[key] = self.store.noun("data", key, _data)
        return self._images[key]

    def part(self, key: str, name: str) -> Examples:
        """The examples of a part of a data set, on the device."""
        images = self.images(key)
        if (key, name) not in self._parts:
            examples = images.examples(name)
            small = examples.x.numel() * 4 <= READY_BYTES
            self._parts[key, name] = (examples.ready() if small else examples).to(self.device)
        return self._parts[key, name]

    def trajectory(self, key: str) -> Trajectory:
        """An expert's trajectory, whose hash is checked before the first use by this worker."""
        trajectory = self.store.trajectory(key, sizes_only=key in self._checked)
        self._checked.add(key)
        return trajectory

    def set(self, key: str) -> SyntheticSet:
        return self.store.noun("distill", key, SyntheticSet.of)

    def examples(self, key: str, data: str) -> Examples:
        """What a chain prunes with: the training part of a data set, or a synthetic set beside the chain's `data`."""
        return (
            self.part(key, "train") if self.store.exists("data", key) else self.set(key).examples(self.images(data).transform)
        )

    def classes(self, key: str) -> int:
        """The number of classes of what a chain prunes with."""
        return len(self.images(key).classes if self.store.exists("data", key) else self.set(key).classes)

    def model(self, settings: Entry, shape: tuple[int, ...], classes: int) -> Model:
        name = digest([settings, list(shape), classes])
        if name not in self._models:
            self._models[name] = build_model(settings, shape, classes)
        return self._models[name]

    def model_for(self, settings: Entry, data: str) -> Model:
        """The network for a data set's examples and classes; numbers take one output, masked word pieces BERT's own head.

        Raises:
            UserError: the tokenizer of a text data set has word pieces that the network lacks, or there is no such head.
        """
        images = self.images(data)
        embedded = settings.config["vocab_size"] if isinstance(settings, EncoderSettings) and settings.config else None
        if isinstance(images, Sentences) and embedded and images.vocabulary > embedded:
            raise UserError(
                "the tokenizer has more word pieces than the network",
                got=images.vocabulary,
                expected=f"at most {embedded}",
                fix="data.tokenizer: the directory of the network",
            )
        if isinstance(images, Sentences) and images.heads:
            settings = settings.model_copy(update={"heads": images.heads})
        if isinstance(images, Sentences) and images.masked:
            return self.model(predicting(settings), images.shape, embedded or images.vocabulary)
        return self.model(settings, images.shape, max(len(images.classes), 1))

    def ticket(self, key: str) -> Ticket:
        """A ticket with its full state. Tensors that its artifact does not have are those of its chain's level 0."""
        dense = self.store.manifest("prune", key).inputs.get("dense")
        base = None if dense is None else self.store.noun("prune", dense, lambda parts: Ticket.of(parts, None)).state
        return self.store.noun("prune", key, lambda parts: Ticket.of(parts, base))

    def state(self, key: str) -> State:
        """The full state of a copy. Tensors that no training changes are those of its ticket."""

        def whole(parts: Parts) -> State:
            weights = Weights.of(parts)
            frozen = weights.numbers.get("frozen")
            if not frozen:
                return weights.state
            ticket = self.store.manifest("retrain", key).made_from("ticket")
            return weights.state | select(self.ticket(ticket).state, frozen)

        return to(self.store.noun("retrain", key, whole), self.device)


def _data(parts: Parts) -> Images | Sentences:
    return (Sentences if parts.numbers.get("transform") == "text" else Images).of(parts)
