"""Where the values of a study are written: in which file and line, or in which `--set`. Looked up for a message alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from distill_prune.errors import DistillPruneError

Place: TypeAlias = Sequence[int | str]
"""The keys of a value, from the outermost section on; a list's values go by their positions."""
Locate: TypeAlias = Callable[[Place], str]
"""Says where a place is written: "digits.yaml, line 12"."""


@dataclass(frozen=True)
class Layer:
    """What one file, or one `--set`, writes: the values of `node`, at the place `under`."""

    name: str
    node: yaml.Node | None
    under: tuple[str, ...] = ()
    is_file: bool = True

    def where(self, place: Place) -> str | None:
        """Where this layer writes the place; None where it does not."""
        if self.is_file:
            line = _line(self.node, place)
            return None if line is None else f"{self.name}, line {line}"
        above, below = [*map(str, place[: len(self.under)])], place[len(self.under) :]
        if above != [*self.under] or (below and _line(self.node, below) is None):
            return None
        return f"{self.name} {'.'.join(self.under)}" if below else self.name

    def below(self, place: Place) -> str | None:
        """Where this layer writes something below the place, and so makes it; a file writes the place itself, too."""
        makes = not self.is_file and [*map(str, place)] == [*self.under[: len(place)]]
        return f"{self.name} {'.'.join(self.under)}" if makes else None


def locator(file: str, layers: Sequence[Layer] = ()) -> Locate:
    """Where places are written in `layers`, the last one laid on top; `file` where none of them says.

    A place that nobody writes, as one that is missing, stands where the nearest one above it is written.
    """

    def locate(place: Place) -> str:
        for length in range(len(place), 0, -1):
            for where in (Layer.where, Layer.below):
                for layer in reversed(layers):
                    if (written := where(layer, place[:length])) is not None:
                        return written
        return file

    return locate


@contextlib.contextmanager
def written_at(place: Place, locate: Locate, artifact: str = "") -> Iterator[None]:
    """Put in front of an error of the block the place of the settings that it is about, or of the one of them that it names,
    and the artifact that they are of."""
    try:
        yield
    except DistillPruneError as error:
        further = [*place, error.setting] if error.setting else [*place]
        error.place(f"'{'.'.join(map(str, further))}' in {locate(further)}" + (f" ({artifact})" if artifact else ""))
        raise


SET = locator("--set")
"""Of what a command takes from `--set` alone."""


ARGUMENTS = locator("the arguments")
"""Of what a function is called with."""
NOWHERE = locator("the pipeline")
"""Of settings that no file has."""


def _line(node: yaml.Node | None, place: Place) -> int | None:
    """The line of a place below a node, from 1 on: that of its key, or of the value of a list."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return None
            mark, node = pairs[-1][0].start_mark, pairs[-1][1]  # the last: what is merged in comes first
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            return None
        line = mark.line + 1
    return line
