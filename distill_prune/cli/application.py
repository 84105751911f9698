"""The application with its commands, which register themselves."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from distill_prune.cli import (  # noqa: F401
    catalog,
    cite,
    exchange,
    housekeeping,
    listing,
    new,
    planning,
    runs,
    showing,
    stores,
    watching,
)
from distill_prune.cli.options import USUAL, app, in_front
from distill_prune.run.printed import quiet_libraries

_NEW_OBJECTS = 200_000
"""New objects between two looks for garbage. Imports and plans make that many and keep them; looking takes a sixth of their
time. Making artifacts goes back to the usual number."""


def obey(arguments: Sequence[str]) -> None:
    """Do what the arguments of the command ask for.

    Raises:
        SystemExit: with the exit code, as typer does.
        DistillPruneError: a mistake of the user, or a failure that the tool understands.
        OSError: the system refuses.
    """
    gc.set_threshold(_NEW_OBJECTS)
    quiet_libraries()
    try:
        app(args=in_front(arguments), prog_name="distill-prune")
    finally:
        gc.set_threshold(*USUAL)
