"""Named random streams: every random draw of the tool comes from a generator that its name alone determines.

A stream is named by a seed, words and numbered parts; the generator's seed is the first 63 bits of the sha256 of that
name. Streams of different names are independent for all purposes here, and a stream can be opened anywhere without
having drawn what came before it, so resuming needs no generator state. Generators live on the CPU: draws are the same
on every device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch


def seed_of(seed: int, *names: str, **parts: int) -> int:
    """The 63-bit seed of the stream named by `seed`, `names` and `parts`."""
    name = json.dumps([int(seed), list(names), sorted((k, int(v)) for k, v in parts.items())], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big") >> 1


def stream(seed: int, *names: str, **parts: int) -> torch.Generator:
    """A fresh CPU generator for the stream named by `seed`, `names` and `parts`."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(seed, *names, **parts))
    return generator


@dataclass(frozen=True)
class Streams:
    """A family of streams under one name: `Streams(0, ("retrain",), {"copy": 1})("order", epoch=3)`."""

    seed: int
    names: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()

    def under(self, *names: str, **parts: int) -> Streams:
        """The family whose name is this one's, extended."""
        return Streams(self.seed, self.names + names, self.parts + tuple(sorted(parts.items())))

    def __call__(self, *names: str, **parts: int) -> torch.Generator:
        return stream(self.seed, *self.names, *names, **dict(self.parts), **parts)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under torch's global CPU generator seeded with `seed`, and put the generator back afterwards.

    For code that draws from the global generator and cannot be handed one, such as torch's default initialisation.
    """
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(before)
