"""Studies of a store: the paths of their artifacts, and the name of each, which its report's folder has too.

`<store>/.studies/<name>.json` gives a key to every path of one study's grid. The path `digits/synthetic/0/3` is the key that
`digits.json` has under `synthetic/0/3`. A run writes the file before it makes anything, so the paths of unfinished studies
are known. Studies are told apart by their pipeline file and by what was `--set`: the first of a name has it, and others have
six digits behind it. A study that writes no report into the store gives its name up to one that does.

A `/` or `%` within a part of a path is written `%2F` or `%25`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from distill_prune.errors import StoreError, nearest
from distill_prune.store.disk import make_folder, no_links, not_written, replace_json
from distill_prune.store.documents import BadDocument, Hash, read
from distill_prune.store.locks import locked

STUDIES, REPORTS, MARK = ".studies", "reports", ".made-of.json"
_LISTED = 20
"""Paths that a message lists at most."""


class Study(TypedDict):
    """One file: which pipeline file it is of (`plan.files.origin`), what was `--set` as it was written and as canonical JSON,
    whether its report goes into the store, and the key of every path in the order of the grid."""

    file: str
    sets: list[str]
    variant: str
    reports: bool
    paths: dict[str, Hash]


class Mark(TypedDict, total=False):
    """The file `.made-of.json` beside a report: the stamp of what it is made of (empty: it is always written anew), the name,
    title and origin of its study, and its files."""

    made_of: str
    pipeline: str
    title: str
    file: str
    variant: str
    sets: list[str]
    files: list[str]


_STUDY = TypeAdapter(Study)
_MARK = TypeAdapter(Mark)


@dataclass(frozen=True)
class Origin:
    """What tells two studies apart: the pipeline file, and what was `--set` (canonical JSON; empty where nothing was)."""

    file: str
    variant: str = ""
    sets: tuple[str, ...] = ()

    def digits(self) -> str:
        """What stands behind a name that another study has."""
        return hashlib.sha256(ascii(self.file + self.variant).encode()).hexdigest()[:6]


def part(text: object) -> str:
    """One part of a path."""
    return str(text).replace("%", "%25").replace("/", "%2F")


def study_file(root: Path, name: str) -> Path:
    return root / STUDIES / f"{name}.json"


def studies(root: Path) -> tuple[dict[str, Study], dict[Path, str]]:
    """(the studies of a store by name, in order of names; files that cannot be used, and why)."""
    usable: dict[str, Study] = {}
    unusable: dict[Path, str] = {}
    for path in sorted((root / STUDIES).glob("*.json"), key=lambda p: p.stem):
        try:
            usable[path.stem] = read(path, _STUDY)
        except (BadDocument, OSError) as problem:
            unusable[path] = str(problem)
    return usable, unusable


def mark(folder: Path) -> Mark:
    """What the mark of a report says; nothing where there is none, or it cannot be read."""
    with contextlib.suppress(OSError, BadDocument):
        return read(folder / MARK, _MARK)
    return {}


def write_mark(folder: Path, mark: Mark) -> None:
    """Write the mark of a report."""
    replace_json(folder / MARK, mark)


def name_of(root: Path, base: str, origin: Origin, *, reports: bool) -> str:
    """The name of a study in the store: `base`, unless it is another study's. `reports`: whether it writes a report."""
    return base if _free(root, base, origin, reports) else f"{base}-{origin.digits()}"


def _free(root: Path, name: str, origin: Origin, reports: bool) -> bool:
    """Whether a study may have the name."""
    if known := mark(root / REPORTS / name):
        return known.get("file", origin.file) == origin.file and known.get("variant", origin.variant) == origin.variant
    other = _there(study_file(root, name))
    return other is None or _is_of(other, origin) or (reports and not other["reports"])


def _there(path: Path) -> Study | None:
    """What a study's file says; None where there is none, or it cannot be used."""
    with contextlib.suppress(OSError, BadDocument):
        return read(path, _STUDY)
    return None


def _is_of(study: Study, origin: Origin) -> bool:
    return (study["file"], study["variant"]) == (origin.file, origin.variant)


def remember(root: Path, base: str, origin: Origin, paths: Mapping[str, str], *, reports: bool) -> str:
    """Write the paths of a study; its name. What an earlier run of the same study wrote is replaced.

    Raises:
        StoreError: the store cannot be written to.
        RunError: the disk is full or broken.
    """
    try:
        with _alone(root):
            name = name_of(root, base, origin, reports=reports)
            path, aside = study_file(root, name), study_file(root, f"{base}-{origin.digits()}")
            there = _there(path)
            mine = there is not None and _is_of(there, origin)
            study: Study = {
                "file": origin.file,
                "sets": [*origin.sets],
                "variant": origin.variant,
                "reports": reports or (there is not None and mine and there["reports"]),
                "paths": dict(paths),
            }
            if study == there:
                return name
            make_folder(path.parent)
            if there is not None and not mine:
                path.replace(study_file(root, f"{base}-{Origin(there['file'], there['variant']).digits()}"))
            replace_json(path, study)
            if path != aside:
                aside.unlink(missing_ok=True)  # from before it had the name
    except OSError as problem:
        raise not_written(root, "the paths of the study", problem) from problem
    return name


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While no other process changes files of studies.

    Raises:
        StoreError: a folder is a link, and nothing is written through one.
        OSError: there can be no lock.
    """
    for folder in (STUDIES, ".locks"):
        no_links(root, root / folder)
    with locked(root / ".locks" / "studies", wait=True):
        yield


def key_at(root: Path, ref: str) -> str:
    """The key of a path, `digits/synthetic/0/3`.

    Raises:
        StoreError: no study has it; the message names the nearest ones.
    """
    usable, unusable = studies(root)
    keys = {f"{part(name)}/{path}": key for name, study in usable.items() for path, key in study["paths"].items()}
    if ref in keys:
        return keys[ref]
    broken = next((f"'{path}' cannot be used ({why}): run its pipeline again" for path, why in unusable.items()), None)
    raise StoreError(
        f"no artifact in this store matches '{ref}'",
        got=f"the store '{root}'" + ("" if keys else ", which has no paths yet"),
        expected=_next_to(ref, keys) if keys else None,
        fix=broken or "`distill-prune ls` lists the paths; a run of a pipeline gives them",
    )


def unmatched(root: Path, ref: str, names: Collection[str], key: str) -> StoreError:
    """The error of a reference for which the store has no artifact; `key` is what it stands for."""
    if "/" in ref:
        return StoreError(
            f"'{ref}' is not in this store", got=f"no artifact {key[:12]} in '{root}'", fix="run its pipeline: that makes it"
        )
    nearby = nearest(ref, names) if names else ""
    study = next((f"{part(name)}/summary" for name in studies(root)[0]), "digits/summary")
    return StoreError(
        f"no artifact in this store matches '{ref}'",
        got=f"the store '{root}'",
        expected=f"a name, a path such as {study}, or at least 4 digits of a key" + (f"; {nearby}" if nearby else ""),
        fix="`distill-prune ls` lists them",
    )


def _next_to(ref: str, paths: Collection[str]) -> str:
    """The paths that go on where `ref` goes wrong, or ends too early."""
    right, there = "", ref.split("/")
    while there and any(path.startswith(f"{right}{there[0]}/") for path in paths):
        right += there.pop(0) + "/"
    following = sorted({right + path.removeprefix(right).partition("/")[0] for path in paths if path.startswith(right)})
    wanted = right + (there[0] if there else "")
    if len(following) > _LISTED:
        following = get_close_matches(wanted, following, n=_LISTED, cutoff=0.0)
    return nearest(wanted, following)


def forgotten(root: Path, alive: Set[str]) -> list[Path]:
    """Files of studies of which no artifact is `alive`, and those that cannot be used."""
    usable, unusable = studies(root)
    return [*(study_file(root, name) for name, s in usable.items() if not alive & set(s["paths"].values())), *unusable]


def forget(root: Path, path: Path, alive: Set[str]) -> None:
    """Remove such a file, unless a run has written it anew."""
    with _alone(root):
        if path in forgotten(root, alive):
            path.unlink(missing_ok=True)


def paths_by_key(root: Path) -> tuple[dict[str, list[str]], dict[Path, str]]:
    """(the paths of every key, in the order of studies and their grids; files of studies that cannot be used, and why)."""
    usable, unusable = studies(root)
    paths: dict[str, list[str]] = {}
    for name, study in usable.items():
        for path, key in study["paths"].items():
            paths.setdefault(key, []).append(f"{part(name)}/{path}")
    return paths, unusable
