"""What lies in a store, in the order of the grid: every artifact with its paths, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from distill_prune.errors import DamagedArtifact, UnreadableArtifact
from distill_prune.plan.paths import Place, place
from distill_prune.store.store import STAGES, Ref, Store
from distill_prune.store.studies import part


@dataclass(frozen=True)
class Artifact:
    """One artifact of a list: `bytes` of all its files, the names that `tag` gave, its paths in all studies (those that are
    asked for first), and why it cannot be read."""

    stage: str
    key: str
    label: str
    created: str = ""
    bytes: int = 0
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    problem: str = ""

    def place(self) -> Place | None:
        """Where it stands in the grid."""
        return place(self.paths[0]) if self.paths else None

    def group(self) -> str:
        """Its study and its arm, or what it is besides the grid; empty without a path."""
        return "/".join(self.paths[0].split("/")[:2]) if self.paths else ""


@dataclass(frozen=True)
class Choice:
    """Which artifacts are asked for; None: any. An artifact in several places, as level 0, is in each of them."""

    stage: str | None = None
    arm: str | None = None
    seed: int | None = None
    draw: int | None = None
    level: int | None = None
    copy: int | None = None
    since: datetime | None = None

    @property
    def by_place(self) -> bool:
        """Whether a place in the grid is asked for."""
        return any(asked is not None for asked in (self.arm, self.seed, self.draw, self.level, self.copy))

    def of(self, artifact: Artifact) -> Artifact | None:
        """The artifact with the paths that are asked for first; None where it is not asked for."""
        if self.stage not in (None, artifact.stage) or not self._is_new(artifact.created):
            return None
        if not self.by_place:
            return artifact
        paths = sorted(artifact.paths, key=lambda path: not self._holds(path))
        if not paths or not self._holds(paths[0]):
            return None
        return Artifact(**{**vars(artifact), "paths": tuple(paths)})

    def _holds(self, path: str) -> bool:
        at = place(path)
        return at is not None and (
            (self.arm is None or part(self.arm) == at.arm)
            and self.seed in (None, at.seed)
            and self.draw in (None, at.draw)
            and self.level in (None, at.level)
            and self.copy in (None, at.copy)
        )

    def _is_new(self, created: str) -> bool:
        if self.since is None:
            return True
        try:
            return datetime.fromisoformat(created).astimezone() >= self.since
        except (ValueError, OverflowError):
            return False


@dataclass
class Group:
    """Artifacts of one stage that have one beginning of their paths."""

    stage: str
    name: str
    count: int = 0
    bytes: int = 0
    newest: str = ""
    problems: int = field(default=0)


def artifacts(store: Store, paths: Mapping[str, Sequence[str]]) -> list[Artifact]:
    """All artifacts of a store: by stage, in the order of the grid. Those without a path follow, by age and label."""
    names: dict[str, list[str]] = {}
    for name, key in store.tags().items():
        names.setdefault(key, []).append(name)
    order = {key: position for position, key in enumerate(paths)}
    listed = [_artifact(store, ref, names.get(ref.key, ()), paths.get(ref.key, ())) for ref in store.all()]
    return sorted(
        listed, key=lambda a: (STAGES.index(a.stage), order.get(a.key, len(order)), a.created if not a.paths else "", a.label)
    )


def _artifact(store: Store, ref: Ref, names: Iterable[str], paths: Iterable[str]) -> Artifact:
    try:
        m = store.manifest(ref.stage, ref.key)
    except (DamagedArtifact, UnreadableArtifact) as damage:
        what = "DAMAGED" if isinstance(damage, DamagedArtifact) else "UNREADABLE"
        label = f"{what}: {damage.reason}"
        return Artifact(ref.stage, ref.key, label, names=tuple(names), paths=tuple(paths), problem=label)
    size = sum(f.size for f in m.files.values())
    return Artifact(ref.stage, ref.key, m.label, m.created, size, tuple(names), tuple(paths))


def chosen(all_of_them: Iterable[Artifact], choice: Choice) -> list[Artifact]:
    """The artifacts that are asked for."""
    return [artifact for each in all_of_them if (artifact := choice.of(each)) is not None]


def arms_of(all_of_them: Iterable[Artifact]) -> set[str]:
    """The arms that artifacts are of, as paths write them."""
    places = (place(path) for artifact in all_of_them for path in artifact.paths)
    return {at.arm for at in places if at is not None}


def groups(listed: Collection[Artifact]) -> list[Group]:
    """The artifacts added up by stage and beginning of the path, in their order."""
    by_name: dict[tuple[str, str], Group] = {}
    for a in listed:
        group = by_name.setdefault((a.stage, a.group()), Group(a.stage, a.group()))
        group.count += 1
        group.bytes += a.bytes
        group.newest = max(group.newest, a.created)
        group.problems += bool(a.problem)
    return list(by_name.values())


def records(listed: Iterable[Artifact]) -> Iterator[dict[str, object]]:
    """The artifacts as `ls --json` prints them."""
    for a in listed:
        at = a.place()
        yield {
            "stage": a.stage,
            "key": a.key,
            "label": a.label,
            "created": a.created,
            "bytes": a.bytes,
            "names": [*a.names],
            "path": a.paths[0] if a.paths else None,
            "paths": [*a.paths],
            "arm": at.arm if at else None,
            "seed": at.seed if at else None,
            "draw": at.draw if at else None,
            "level": at.level if at else None,
            "copy": at.copy if at else None,
        }
