"""Arms of a study: where masks come from, and the same arms at every rewinding step of a scan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from distill_prune.duration import Duration
from distill_prune.entries import EntryOf
from distill_prune.errors import Misfit, nearest
from distill_prune.prune import CRITERIA, needs_images
from distill_prune.prune.controls import Control
from distill_prune.prune.imp import Tensors
from distill_prune.settings import Entry, Settings

AnyCriterion = Annotated[SerializeAsAny[Entry], EntryOf(CRITERIA)]


class ControlOf(Control):
    """The tickets of the arm `of`, level by level, with one property removed."""

    of: str = Field(description="the arm whose tickets these are")


class Begin(Settings):
    """A chain that takes its levels up to `level` from another arm, and prunes with its own images from there."""

    arm: str = Field(description="the arm that the first levels are taken from")
    level: int = Field(ge=1, description="the last level that is taken")


class Arm(Settings):
    """One source of masks: what the chain prunes with (`real`, or a set of `distill`), its recipe and its criterion."""

    images: str = Field("real", description="what the chain prunes with: real, or a set of distill")
    recipe: Literal["retrain", "prune"] | None = Field(
        None, description="retrain: as on real data (prune.real); prune: as on small sets (prune.recipe). Default: by images"
    )
    criterion: AnyCriterion | None = Field(None, description="what decides which weights go; default: prune.criterion")
    label: str = Field("", description="what the page calls the arm; default: its name")
    one_shot: bool = Field(False, description="prune the dense network to every level at once, after one training")
    k: Duration | None = Field(None, description="the arm's own rewinding step, in place of prune.rewind.k")
    begins: Begin | None = Field(None, description="take the first levels from another arm")
    control: ControlOf | None = Field(None, description="take another arm's tickets with one property removed")
    task: str | None = Field(None, description="the entry of `tasks` that the arm is of: its real data; null: `data`")
    rewind: Tensors | None = Field(None, description="what returns to W_k, in place of prune.rewind.tensors")
    retrain: Literal["once", "chain"] = Field(
        "once", description="chain: as long as finding the ticket level by level and training it once take together"
    )

    @property
    def parent(self) -> str | None:
        """The arm whose tickets this one is made from."""
        return self.control.of if self.control else self.begins.arm if self.begins else None

    @property
    def recipe_name(self) -> Literal["retrain", "prune"]:
        """Which recipe finds the arm's masks."""
        return self.recipe or ("retrain" if self.images == "real" else "prune")

    def at(self, k: Duration) -> Arm:
        """The arm at another rewinding step of a scan; its parent's tickets are taken from that step, too."""
        changed: dict[str, object] = {"label": f"{self.label}, k = {k}" if self.label else "", "k": k}
        if self.control:
            changed["control"] = self.control.model_copy(update={"of": scanned(self.control.of, k)})
        if self.begins:
            changed["begins"] = self.begins.model_copy(update={"arm": scanned(self.begins.arm, k)})
        return self.model_copy(update=changed)


@dataclass(frozen=True)
class Placed:
    """An arm of the grid, which rewinds to `k`. In a scan `step` is this step of the scan, and at further steps `base` is the
    name that the arm has at the first one. `on_sets` says that some of its levels are found on a set of images."""

    name: str
    arm: Arm
    k: Duration
    step: Duration | None = None
    base: str | None = None
    task: str | None = None
    on_sets: bool = False


def scanned(name: str, k: Duration) -> str:
    """What the arm `name` is called at a further rewinding step."""
    return f"{name}@{k}"


def placed(arms: Mapping[str, Arm], k: Duration, scan: tuple[Duration, ...]) -> dict[str, Placed]:
    """The arms of the grid, parents first: at `k` (or at a step of their own), and at every other step of the scan.

    Raises:
        Misfit: an arm is made from itself, or from no arm.
    """
    names = _parents_first(arms)
    steps = {name: _own_step(arms, name) for name in names}
    on_sets = {name: _on_sets(arms, name) for name in names}
    grid = {
        n: Placed(n, arms[n], steps[n] or k, k if scan and steps[n] is None else None, None, _task(arms, n), on_sets[n])
        for n in names
    }
    for other in scan:
        for name in names if other != k else ():
            if steps[name] is None:
                at = scanned(name, other)
                grid[at] = Placed(at, arms[name].at(other), other, other, name, _task(arms, name), on_sets[name])
    return grid


def _own_step(arms: Mapping[str, Arm], name: str) -> Duration | None:
    """The rewinding step `k` that is written for the arm, or for the nearest arm that it is made from."""
    arm = arms[name]
    return arm.k or (_own_step(arms, arm.parent) if arm.parent else None)


def _on_sets(arms: Mapping[str, Arm], name: str) -> bool:
    """Whether an arm, or one that it is made from, prunes with a set of images. An intersection is of all draws of the sets."""
    arm = arms[name]
    if arm.control is not None and arm.control.kind == "intersection":
        return False
    return arm.images != "real" or (arm.parent is not None and _on_sets(arms, arm.parent))


def _task(arms: Mapping[str, Arm], name: str) -> str | None:
    """The task that an arm is of: its own, or that of the arm that it is made from."""
    arm = arms[name]
    moved = arm.control is not None and arm.control.kind == "transferred"
    return arm.task if moved or arm.parent is None else _task(arms, arm.parent)


def _parents_first(arms: Mapping[str, Arm]) -> list[str]:
    """Names in the order of the file, but no arm before the one that it is made from."""
    names, children = list(arms), defaultdict[str | None, list[int]](list)
    for position, arm in enumerate(arms.values()):
        children[arm.parent].append(position)
    ordered: list[str] = []
    ready = children[None]  # positions in the file: a heap, as they ascend
    while ready:
        ordered.append(names[heappop(ready)])
        for position in children[ordered[-1]]:
            heappush(ready, position)
    for name in sorted(arms.keys() - ordered):
        _lineage(arms, name)
    return ordered


def _lineage(arms: Mapping[str, Arm], name: str) -> list[str]:
    """The arm, the arm that it is made from, the one that this is made from, and so on.

    Raises:
        Misfit: an arm is made from itself, or from no arm.
    """
    lineage = [name]
    while (parent := arms[lineage[-1]].parent) is not None:
        if parent not in arms:
            key = ("control", "of") if arms[lineage[-1]].control else ("begins", "arm")
            raise Misfit("no arm has this name", ["arms", lineage[-1], *key], got=parent, expected=nearest(parent, arms))
        if parent in lineage:
            cycle = [*lineage[lineage.index(parent) :], parent]
            raise Misfit("the arm is made from itself", ["arms", parent], got=" -> ".join(cycle))
        lineage.append(parent)
    return lineage


def check(arms: Mapping[str, Arm], sets: Mapping[str, object], tasks: Mapping[str, object], levels: int) -> None:
    """Refuse arms that mean nothing.

    Raises:
        Misfit: naming the arm and what is wrong with it.
    """
    for name, arm in arms.items():
        if "@" in name:
            raise Misfit("'@' stands for a rewinding step of a scan", ["arms", name], fix="another name for the arm")
        if arm.images != "real" and arm.images not in sets:
            known = nearest(arm.images, ["real", *sets])
            raise Misfit("no set of `distill` has this name", ["arms", name, "images"], got=arm.images, expected=known)
        if arm.task is not None and arm.task not in tasks:
            known = nearest(arm.task, tasks)
            raise Misfit("no entry of `tasks` has this name", ["arms", name, "task"], got=arm.task, expected=known)
        _check_search(name, arm)
        _lineage(arms, name)
        if arm.begins is not None:
            _check_begin(name, arm, arm.begins, arms, levels)
        if arm.parent is not None:
            _check_task(name, arm, arm.parent, arms)


def _check_task(name: str, arm: Arm, parent: str, arms: Mapping[str, Arm]) -> None:
    if arm.control is None or arm.control.kind != "transferred":
        if arm.task is not None:
            what = f"the arm is of the task of '{parent}', which it is made from"
            raise Misfit(what, ["arms", name, "task"], fix="leave task out")
    elif _task(arms, name) == _task(arms, parent):
        raise Misfit(f"transferred means to another task than that of '{parent}'", ["arms", name])


def _check_search(name: str, arm: Arm) -> None:
    entry = CRITERIA[arm.criterion.name] if arm.criterion is not None else None
    trains = entry is None or entry.NEEDS_TRAINING
    looks = entry is None or needs_images(entry)
    if arm.criterion is not None and ((not trains and arm.recipe) or (not looks and arm.images != "real")):
        what = f"the criterion '{arm.criterion.name}' trains on nothing"
        raise Misfit(what, ["arms", name], fix=f"leave out {'recipe' if looks else 'images and recipe'}")
    searches = arm.images != "real" or arm.recipe or arm.criterion or arm.one_shot or arm.begins or arm.k or arm.rewind
    if arm.control and searches:
        raise Misfit(
            f"a control is made from the tickets of '{arm.control.of}'",
            ["arms", name],
            fix="leave out images, recipe, criterion, one_shot, begins, k and rewind",
        )
    if arm.one_shot and arm.begins:
        raise Misfit("one_shot prunes the dense network", ["arms", name], fix="leave out begins")


def _check_begin(name: str, arm: Arm, begins: Begin, arms: Mapping[str, Arm], levels: int) -> None:
    parent = arms[begins.arm]
    if begins.level > levels:
        what = f"chains end at level {levels} (prune.levels)"
        raise Misfit(what, ["arms", name, "begins", "level"], got=begins.level, fix="an earlier level, or more prune.levels")
    if parent.one_shot or parent.control:
        what = "the arm is no chain: one_shot and control arms have no levels between"
        raise Misfit(what, ["arms", name, "begins", "arm"], got=begins.arm)
    if arm.k != parent.k:
        what = f"the arm '{begins.arm}' that it begins with rewinds to another step"
        raise Misfit(what, ["arms", name, "k"], got=arm.k, expected=parent.k or "prune.rewind.k: leave k out")
