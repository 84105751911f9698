"""What commands share: the application, their options, and how a store, a graph and a run are begun."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from distill_prune.cli import completion
from distill_prune.errors import UserError
from distill_prune.letters import printable
from distill_prune.limits import DEFAULT, VARIABLE, shown, size_of
from distill_prune.run.devices import EXECUTORS
from distill_prune.version import VERSION

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Graph
    from distill_prune.plan.sweep import Cells
    from distill_prune.run.profile import Profile
    from distill_prune.store.store import Store

USUAL = gc.get_threshold()
"""Of the collector of garbage, as Python sets it; a command begins with a higher one."""
ORDER = (
    *("run", "data", "experts", "distill", "prune", "retrain", "compare", "plan", "report"),
    *("new", "pipelines", "entries", "cite", "evaluate", "diff", "import", "export", "pack", "unpack"),
    *("status", "watch", "ls", "show", "verify", "tag", "rm", "gc", "schema", "doctor"),
)


class _Formatter(Protocol):
    """What is used of a formatter of help, whose type typer keeps to itself, as it does that of a context."""

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: list[tuple[str, str]]) -> None: ...


class _Ordered(typer.core.TyperGroup):
    """Commands in the order of a study, and then what one does with a store."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def format_commands(self, ctx: Any, formatter: _Formatter) -> None:
        """Each command with the whole first sentence of its help, which a narrow terminal wraps; typer cuts it."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        lines = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(lines)


app = typer.Typer(
    cls=_Ordered,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find sparse networks with a few distilled images; compare their stability, curvature and accuracy with "
    "real-data pruning.\n\nBegin with:  distill-prune run digits.yaml",
)

PipelineArg = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE", help="a pipeline file, or the name of a shipped one", autocompletion=completion.pipelines
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a value, e.g. --set retrain.recipe.lr=0.1")
]
StoreDir = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="the store [default: $DISTILL_PRUNE_STORE, else ./artifacts]")
]
Device = Annotated[str | None, typer.Option("--device", metavar="D", help="cpu, cuda or cuda:N [default: the pipeline's]")]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="|".join(EXECUTORS),
        autocompletion=completion.executors,
        help="where artifacts are made: in this process, in worker processes, or on a Ray cluster (of this machine, or the "
        "one that $RAY_ADDRESS names)",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="workers [default: one a core; on a cluster with cuda, one a GPU]"),
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="where the report goes")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
RefArg = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="a path such as digits/synthetic/0/3, the beginning of a key, or a name",
        autocompletion=completion.references,
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="a Python module, of this folder or installed, with models, data sets, methods, criteria, analyses or formats "
        "of your own; may be given several times, and after the command too",
    ),
]


MaxSize = Annotated[
    str | None,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        help="the memory that the reading of one file or folder from outside may take, such as 4GB; may be given after the "
        f"command too [default: ${VARIABLE}, else {shown(DEFAULT)}]",
    ),
]


def _show_version(asked: bool) -> None:
    if asked:
        print(f"distill-prune {VERSION}")
        raise typer.Exit()


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version, and nothing else.")
]
_IN_FRONT = {"--plugin": ("a module", "my_module"), "--max-size": ("a size", "4GB")}
"""Options of every command: what each needs, and an example."""


@app.callback()
def everywhere(plugin: Plugins = None, max_size: MaxSize = None, version: Version = False) -> None:  # noqa: ARG001
    """What holds for every command."""
    if max_size is not None:
        os.environ[VARIABLE] = str(size_of(max_size, "--max-size"))  # worker processes inherit it
    if plugin:
        from distill_prune.plugins import load

        for module in plugin:
            load(module)


def in_front(arguments: Sequence[str]) -> list[str]:
    """The arguments with every `--plugin MODULE` and `--max-size SIZE` in front of the command, where the application itself
    takes them.

    Raises:
        UserError: one without a value.
    """
    front, rest, left = list[str](), list[str](), list(arguments)
    while left and left[0] != "--":
        word = left.pop(0)
        option, given, value = word.partition("=")
        if option not in _IN_FRONT:
            rest.append(word)
            continue
        value = value if given else left.pop(0) if left else ""
        if not value or value.startswith("-"):
            needs, example = _IN_FRONT[option]
            raise UserError(f"{option} needs {needs}", got=value or None, expected=f"{option} {example}")
        front += [option, value]
    return [*front, *rest, *left]


def open_store(folder: Path | None, *, create: bool = False) -> Store:
    """The store that a command works on."""
    from distill_prune.store.place import store_at

    return store_at(folder, create=create)


def open_graph(pipeline: str, sets: list[str] | None, store: Store) -> tuple[str, Graph]:
    """A pipeline's name and its graph; of a sweep, that of all its cells."""
    name, graph, _ = open_cells(pipeline, sets, store)
    return name, graph


def open_cells(pipeline: str, sets: list[str] | None, store: Store) -> tuple[str, Graph, Cells]:
    """A pipeline's name, its graph, and its cells where it is a sweep. What was narrowed is said on stderr."""
    from distill_prune.plan.sweep import build_cells, load_cells

    name, cells = load_cells(pipeline, sets or ())
    for note in dict.fromkeys(note for cell in cells.each for note in cell.notes):
        print(f"note: {printable(note)}", file=sys.stderr)
    return name, build_cells(cells, store), cells


def execute(
    graph: Graph,
    store: Store,
    until: str,
    device: str | None,
    executor: str,
    workers: int | None,
    json: bool,
    profile: Profile | None = None,
    name: str = "",
    tensorboard: Path | None = None,
) -> dict[str, float]:
    """Make what is missing, with progress for this stream and losses for TensorBoard; what was done, as plain data.

    `name` is what the user calls the pipeline.
    """
    from dataclasses import asdict

    from distill_prune.api.making import make

    # What was planned is kept; what artifacts leave behind, tensors among it, is looked for as usual.
    gc.freeze()
    gc.set_threshold(*USUAL)
    return asdict(
        make(
            graph,
            store,
            until,
            executor=executor,
            device=device,
            workers=workers,
            quiet=json,
            profile=profile,
            name=name,
            tensorboard=tensorboard,
        )
    )
