"""Arms of a study: where masks come from, and the same arms at every rewinding step of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from distill_prune.duration import Duration
from distill_prune.entries import EntryOf
from distill_prune.errors import nearest
from distill_prune.prune import CRITERIA
from distill_prune.prune.controls import Kind
from distill_prune.prune.imp import Tensors
from distill_prune.settings import Entry, Settings

AnyCriterion = Annotated[SerializeAsAny[Entry], EntryOf(CRITERIA)]


class ControlOf(Settings):
    """The tickets of the arm `of`, level by level, with one thing taken away. shuffled: each layer's mask in another order;
    random: any weights of each layer, as many; reinitialised: the same mask on another draw of the initialisation;
    transferred: the same mask on the weights that this arm's own task begins at; swapped: the mask by magnitude of W_k with as
    many weights of about the same size exchanged at random as the ticket exchanges."""

    of: str
    kind: Kind


class Begin(Settings):
    """A chain that is another arm's up to `level` and goes on with its own images from there."""

    arm: str
    level: int = Field(ge=1)


class Arm(Settings):
    """One source of masks: what the chain prunes with (`real`, or a set of `distill`), its recipe and its criterion."""

    images: str = "real"
    recipe: Literal["retrain", "prune"] | None = Field(
        None, description="retrain: as on real data (prune.real); prune: as on small sets (prune.recipe). Default: by images"
    )
    criterion: AnyCriterion | None = None
    label: str = ""
    one_shot: bool = Field(False, description="prune the dense network to every level at once, after one training")
    k: Duration | None = Field(None, description="the arm's own rewinding step, in place of prune.rewind.k")
    begins: Begin | None = None
    control: ControlOf | None = None
    task: str | None = Field(None, description="the entry of `tasks` that the arm is of: its real data; null: `data`")
    rewind: Tensors | None = Field(None, description="what returns to W_k, in place of prune.rewind.tensors")
    retrain: Literal["once", "chain"] = Field(
        "once", description="chain: as long as finding the ticket level by level and training it once take together"
    )

    @property
    def parent(self) -> str | None:
        """The arm whose tickets this one is made from."""
        return self.control.of if self.control else self.begins.arm if self.begins else None

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
    """An arm of the grid. In a scan `step` is its rewinding step as written, and `base` the arm that it is at the first one."""

    name: str
    arm: Arm
    k: Duration
    step: Duration | None = None
    base: str | None = None
    task: str | None = None


def scanned(name: str, k: Duration) -> str:
    """What the arm `name` is called at a further rewinding step."""
    return f"{name}@{k}"


def placed(arms: Mapping[str, Arm], k: Duration, scan: tuple[Duration, ...]) -> dict[str, Placed]:
    """The arms of the grid, parents first: at `k` (or their own step), and at every other step of the scan."""
    order = list(_parents_first(arms))
    own = {n: _own_step(arms, n) for n in order}
    found = {n: Placed(n, arms[n], own[n] or k, k if scan and own[n] is None else None, task=_task(arms, n)) for n in order}
    for other in scan:
        for n in order if other != k else ():
            if own[n] is None:
                found[scanned(n, other)] = Placed(scanned(n, other), arms[n].at(other), other, other, n, _task(arms, n))
    return found


def _own_step(arms: Mapping[str, Arm], name: str) -> Duration | None:
    """The rewinding step that the arm, or one that it is made from, has of its own."""
    arm = arms[name]
    return arm.k or (_own_step(arms, arm.parent) if arm.parent else None)


def _task(arms: Mapping[str, Arm], name: str) -> str | None:
    """The task that an arm is of: its own, or that of the arm that it is made from."""
    arm = arms[name]
    moved = arm.control is not None and arm.control.kind == "transferred"
    return arm.task if moved or arm.parent is None else _task(arms, arm.parent)


def _parents_first(arms: Mapping[str, Arm]) -> Iterator[str]:
    """Names in their own order, but no arm before the one that it is made from."""
    told: set[str] = set()
    waiting = list(arms)
    while waiting:
        ready = [n for n in waiting if arms[n].parent is None or arms[n].parent in told]
        told.add(ready[0])
        waiting.remove(ready[0])
        yield ready[0]


def check(arms: Mapping[str, Arm], sets: Mapping[str, object], tasks: Mapping[str, object], levels: int) -> None:
    """Refuse arms that mean nothing.

    Raises:
        ValueError: naming the arm and what is wrong with it.
    """
    for name, arm in arms.items():
        if "@" in name:
            raise ValueError(f"arms.{name}: '@' stands for a rewinding step of a scan; give the arm another name")
        if arm.images != "real" and arm.images not in sets:
            raise ValueError(f"arms.{name}.images is '{arm.images}': {nearest(arm.images, ['real', *sets])}")
        if arm.task is not None and arm.task not in tasks:
            raise ValueError(f"arms.{name}.task is '{arm.task}': {nearest(arm.task, tasks)}")
        _check_search(name, arm)
        if arm.parent is not None:
            _check_parent(name, arm, arms, levels)
            _check_task(name, arm, arms)


def _check_task(name: str, arm: Arm, arms: Mapping[str, Arm]) -> None:
    assert arm.parent is not None
    if arm.control is None or arm.control.kind != "transferred":
        if arm.task is not None:
            raise ValueError(f"arms.{name}: it is of the task of the arm '{arm.parent}' that it is made from; leave task out")
    elif _task(arms, name) == _task(arms, arm.parent):
        raise ValueError(f"arms.{name}: transferred means to another task than that of '{arm.parent}'")


def _check_search(name: str, arm: Arm) -> None:
    entry = CRITERIA[arm.criterion.name] if arm.criterion is not None else None
    trains = entry is None or entry.NEEDS_TRAINING
    looks = trains or getattr(entry, "NEEDS_IMAGES", False)
    if arm.criterion is not None and ((not trains and arm.recipe) or (not looks and arm.images != "real")):
        what = "trains on nothing, so leave out " + ("recipe" if looks else "images and recipe")
        raise ValueError(f"arms.{name}: the criterion '{arm.criterion.name}' {what}")
    searches = arm.images != "real" or arm.recipe or arm.criterion or arm.one_shot or arm.begins or arm.k or arm.rewind
    if arm.control and searches:
        raise ValueError(
            f"arms.{name}: a control is made from the tickets of '{arm.control.of}', so leave out images, recipe, criterion, "
            "one_shot, begins, k and rewind"
        )
    if arm.one_shot and arm.begins:
        raise ValueError(f"arms.{name}: one_shot prunes the dense network, so leave out begins")


def _check_parent(name: str, arm: Arm, arms: Mapping[str, Arm], levels: int) -> None:
    where = "control.of" if arm.control else "begins.arm"
    seen, at = [name], arm
    while at.parent is not None:
        if at.parent not in arms:
            raise ValueError(f"arms.{seen[-1]}.{where} is '{at.parent}', which is no arm: {nearest(at.parent, arms)}")
        if at.parent in seen:
            raise ValueError(f"arms.{name} is made from itself: {' -> '.join([*seen, at.parent])}")
        seen.append(at.parent)
        at = arms[at.parent]
    parent = arms[seen[1]]
    if arm.begins and arm.begins.level > levels:
        raise ValueError(f"arms.{name}.begins.level is {arm.begins.level}, and chains end at level {levels} (prune.levels)")
    if arm.begins and (parent.one_shot or parent.control):
        raise ValueError(
            f"arms.{name}.begins.arm is '{seen[1]}', which is no chain: one_shot and control arms have no levels between"
        )
    if arm.begins and arm.k != parent.k:
        raise ValueError(f"arms.{name}.k is {arm.k}, and the arm '{seen[1]}' that it begins with rewinds to {parent.k}")
