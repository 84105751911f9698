"""What can be removed from a store: artifacts that nobody needs, and files that dead runs left.

An artifact is removed under its key's lock. It is renamed into `<store>/.work/<key>/` and deleted there, so that a removal
that is interrupted leaves it whole or removed. Artifacts that were computed from it are removed before it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distill_prune.errors import DamagedArtifact, StoreError
from distill_prune.store import logs
from distill_prune.store.disk import flush_folder, make_folder, not_written
from distill_prune.store.leases import busy, leased
from distill_prune.store.names import TAGS, renaming
from distill_prune.store.store import Ref, Store
from distill_prune.store.studies import REPORTS, STUDIES, forget, forgotten

LEFT_SECONDS = 3600.0
"""Half-written files without a lock count as left behind after this time without a change."""


@dataclass(frozen=True)
class Item:
    """Something that can be removed. Its `kind` is one of

    - `artifact`
    - `unfinished`: work on an artifact
    - `damaged`: an artifact that was moved to `.damaged/`
    - `log`: what was said, or the losses, of an artifact that is not there
    - `lock`: an unused lock file
    - `paths`: the paths of a study of which the store has nothing, or that cannot be read
    - `file`: a half-written file
    """

    kind: str
    path: Path
    bytes: int
    ref: Ref | None = None
    label: str = ""


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(size(p) for p in path.iterdir())


class Lineage:
    """Which artifacts of a store were computed from which, by their manifests. One that cannot be read has no inputs."""

    def __init__(self, store: Store) -> None:
        self.refs = {r.key: r for r in store.all()}
        self.labels: dict[str, str] = {}
        self._made_from: dict[str, set[str]] = {}
        for key, ref in self.refs.items():
            try:
                manifest = store.manifest(ref.stage, key)
            except DamagedArtifact:
                self._made_from[key], self.labels[key] = set(), "damaged"
            else:
                self._made_from[key], self.labels[key] = set(manifest.inputs.values()), manifest.label
        self._used_by: dict[str, set[str]] = {}
        for key, inputs in self._made_from.items():
            for used in inputs:
                self._used_by.setdefault(used, set()).add(key)

    def behind(self, keys: Iterable[str]) -> set[str]:
        """`keys` and all their ancestors that the store's manifests name, whether the store has them or not."""
        return _closure(keys, self._made_from)

    def after(self, keys: Iterable[str]) -> set[str]:
        """`keys` and all their descendants in the store."""
        return _closure(keys, self._used_by)

    def used_by(self, key: str) -> set[str]:
        """What was computed from an artifact itself."""
        return self._used_by.get(key, set())

    def last_first(self, keys: Iterable[str]) -> list[Ref]:
        """The artifacts in an order of removal: each before its ancestors, which have fewer ancestors themselves."""
        return [self.refs[k] for k in sorted(keys, key=lambda k: (-len(self.behind([k])), k)) if k in self.refs]

    def item(self, store: Store, ref: Ref) -> Item:
        path = store.path(ref.stage, ref.key)
        return Item("artifact", path, size(path), ref, self.labels[ref.key])


def _closure(keys: Iterable[str], step: dict[str, set[str]]) -> set[str]:
    reached, stack = set(), list(keys)
    while stack:
        if (key := stack.pop()) not in reached:
            reached.add(key)
            stack += step.get(key, ())
    return reached


def removable(store: Store, refs: Collection[Ref], *, with_dependents: bool) -> list[Item]:
    """The artifacts to remove so that `refs` can be removed, in an order of removal.

    Raises:
        StoreError: they have descendants, which are not to be removed; or another process is working on one.
    """
    lineage, asked = Lineage(store), {r.key for r in refs}
    after = lineage.after(asked)
    if (others := lineage.last_first(after - asked)) and not with_dependents:
        named = ", ".join(f"{r.stage} {r.key[:12]} ({lineage.labels[r.key]})" for r in others[::-1][:3])
        raise StoreError(
            f"{len(others)} other artifacts of the store were made from what is to be removed"
            if len(others) > 1
            else "another artifact of the store was made from what is to be removed",
            got=named + (f" and {len(others) - 3} more" if len(others) > 3 else ""),
            fix="--with-dependents removes them too",
        )
    chosen = lineage.last_first(after)
    if at_work := [r for r in chosen if busy(store, r.key)]:
        raise _busy_error(lineage.item(store, at_work[0]))
    live = leased(store)
    if used := [r for r in chosen if r.key in live]:
        raise _busy_error(lineage.item(store, used[0]), "is needed by a run that is on its way")
    return [lineage.item(store, r) for r in chosen]


def _busy_error(item: Item, why: str = "is being worked on by another process") -> StoreError:
    name = f"{item.ref.stage} {item.ref.key[:12]}" if item.ref else item.path.name
    return StoreError(f"{name} {why}", fix="wait until that run has ended, or end it")


def litter(store: Store, spared: Collection[str] = ()) -> list[Item]:
    """What dead runs left: unfinished work without a process, and logs of what is not there, unless its key is `spared`;
    damaged artifacts; half-written files; paths of studies that are gone; unused lock files."""
    items = [
        Item("unfinished", path, size(path), label="resumes where its run was stopped" if _saved(path) else "")
        for path in _inside(store.root / ".work")
        if path.name not in spared and not busy(store, path.name)
    ]
    items += [Item("damaged", p, size(p)) for p in _inside(store.root / ".damaged")]
    there = {ref.key for ref in store.all()} | set(spared)
    items += [
        Item("log", path, size(path))
        for path in _inside(logs.folder(store))
        if logs.key_of(path) not in there and not busy(store, logs.key_of(path))
    ]
    now = time.time()
    items += [Item("file", p, size(p)) for p in _half_written(store.root) if now - _touched(p) > LEFT_SECONDS]
    theirs = {p.path.name for p in items if p.kind == "unfinished"}
    items += [Item("paths", p, size(p)) for p in forgotten(store.root, _alive(store))]  # leases of dead runs go with this
    for path in _inside(store.root / ".locks"):
        if path.name not in theirs and not busy(store, path.name):
            items.append(Item("lock", path, size(path)))
    return items


def _alive(store: Store) -> set[str]:
    """Keys of artifacts that are there, and of those that live runs make."""
    return {r.key for r in store.all()} | leased(store)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _saved(work: Path) -> bool:
    return (work / "snapshot.safetensors").exists()


def _half_written(root: Path) -> Iterator[Path]:
    """Files and folders of the store and of reports that were never renamed to their final names."""
    for name in (TAGS, "fingerprints.json"):
        yield from root.glob(f".{name}.*")
    yield from (root / ".status").glob(".run-*.json.*")
    yield from (p for p in root.glob(f"{STUDIES}/.*.json.*") if p.suffix != ".json")
    yield from root.glob(f"{REPORTS}/.index.html.*")
    for report in _inside(root / REPORTS):
        yield from report.glob(".report-*")
        yield from report.glob("..made-of.json.*")
        yield from report.glob(".pipeline.yaml.*")


def _touched(path: Path) -> float:
    """The time of the last change inside, in seconds since the epoch; now, if files disappear while we look."""
    try:
        return max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
    except OSError:
        return time.time()


def unneeded(store: Store, kept: Iterable[str], stages: Collection[str]) -> list[Item]:
    """Artifacts of `stages` that are not `kept`, have no name, no live run needs, and are no ancestors of such artifacts."""
    lineage = Lineage(store)
    needed = lineage.behind([*kept, *store.tags().values(), *leased(store)])
    return [lineage.item(store, r) for r in lineage.last_first(lineage.refs.keys() - needed) if r.stage in stages]


def remove(store: Store, items: Iterable[Item], on_removed: Callable[[Item], None] = lambda _: None) -> list[Item]:
    """Remove the items in order, and the names of removed artifacts.

    `on_removed` is called with each removed item. Items that another process is working on stay, and are returned.
    """
    left = []
    for item in items:
        if _remove(store, item):
            on_removed(item)
        else:
            left.append(item)
    return left


def remove_all(store: Store, items: Iterable[Item], on_removed: Callable[[Item], None] = lambda _: None) -> None:
    """Remove artifacts in order, and stop at the first that another process is working on.

    Raises:
        StoreError: names that artifact. Those before it are removed; its ancestors are not.
    """
    for item in items:
        if not _remove(store, item):
            raise _busy_error(item)
        on_removed(item)


def _remove(store: Store, item: Item) -> bool:
    try:
        return _removed(store, item)
    except OSError as problem:
        raise not_written(store.root, "a removal", problem) from problem


def _removed(store: Store, item: Item) -> bool:
    if item.kind in ("damaged", "file"):
        _delete(item.path)
        return True
    if item.kind == "paths":
        forget(store.root, item.path, _alive(store))
        return True
    key = item.ref.key if item.ref else logs.key_of(item.path) if item.kind == "log" else item.path.name
    with store.lock(key) as mine:
        if not mine:
            return False
        if item.ref is not None and key in leased(store):
            return False  # a run has begun since the item was looked up
        if item.ref is not None:
            _bury(store, item.ref)
        if item.kind in ("artifact", "log"):
            logs.forget(store, key)
        if item.kind in ("artifact", "unfinished"):
            _delete(store.work(key))
        # Held while it is unlinked: who waits for this file finds it without a name, and opens a new one.
        (store.root / ".locks" / key).unlink(missing_ok=True)
    return True


def _bury(store: Store, ref: Ref) -> None:
    """Move an artifact to where unfinished work lies, and forget its names."""
    grave = store.work(ref.key) / "removed"
    _delete(grave)
    if store.exists(ref.stage, ref.key):
        make_folder(grave.parent)
        store.path(ref.stage, ref.key).rename(grave)
        flush_folder(store.root / ref.stage)
    if ref.key in store.tags().values():
        with renaming(store.root) as tags:
            for name in [n for n, key in tags.items() if key == ref.key]:
                del tags[name]


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
