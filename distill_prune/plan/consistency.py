"""Whether the settings of a study fit together, beyond the type of each."""

from __future__ import annotations

from collections.abc import Mapping

from distill_prune.analyze import ANALYSES
from distill_prune.distill import METHODS, last_epoch, misread, needs_experts
from distill_prune.errors import ONE_OF, Misfit, nearest
from distill_prune.letters import look_alike
from distill_prune.plan.arms import Placed, check
from distill_prune.plan.sections import Only, Sections, Stored
from distill_prune.settings import Entry


def check_study(p: Sections) -> None:
    """Refuse settings that do not fit together.

    Raises:
        Misfit: naming the setting.
    """
    if len(set(p.seeds)) != len(p.seeds):
        raise Misfit("each seed is given once", ["seeds"], got=list(p.seeds), expected="seeds that are all different")
    text = any(source.is_text for source in (p.data, *p.tasks.values()))
    if p.lanes > 1 and text:
        raise Misfit("networks of text are trained one by one", ["lanes"], got=p.lanes, fix="leave lanes out")
    if p.compile and text:
        raise Misfit("batches of text have too many lengths to compile each", ["compile"], fix="leave compile out")
    sections: dict[str, Mapping[str, object]] = {
        "arms": p.arms,
        "distill": p.distill,
        "tasks": p.tasks,
        "architectures": p.architectures,
    }
    for section, names in sections.items():
        if pair := look_alike(names):
            what = f"the names {pair[0]!a} and {pair[1]!a} look alike"
            raise Misfit(what, [section, pair[1]], fix="another name for one of them")
    check(p.arms, p.distill, p.tasks, p.prune.levels)
    if "versus" in p.model_fields_set and p.versus not in p.arms:
        raise Misfit("no arm has this name", ["versus"], got=p.versus, expected=nearest(p.versus, p.arms))
    _check_sets(p)
    _check_draws(p)
    _check_levels(p)
    for name in p.compare:
        if p.retrain.copies < (least := ANALYSES[name].MIN_COPIES):
            raise Misfit(
                f"it needs at least {least} copies of each ticket",
                ["compare", name],
                got=f"retrain.copies: {p.retrain.copies}",
                fix=f"retrain.copies={least}, or leave the analysis out: compare.{name}=null",
            )
    _check_steps(p)
    for name, only in p.only.items():
        _check_only(p, name, only)


def _earlier(method: Entry) -> str:
    """What makes a method read experts up to an earlier epoch only."""
    fields = type(method).model_fields
    return "a smaller max_start" if "max_start" in fields else "an earlier epoch"


def _check_sets(p: Sections) -> None:
    """Sets have other names than real data, and are matched to epochs that experts have."""
    if "real" in p.distill:
        raise Misfit("'real' stands for the data set itself", ["distill", "real"], fix="another name for the set")
    if (length := p.experts.recipe.length).unit != "ep":
        place = ["experts", "recipe", "length"]
        raise Misfit("experts are matched at the ends of epochs", place, got=length, expected="a length in epochs, like 20ep")
    if p.experts.stored and p.experts.convex:
        what = "stored experts are of the kind that they were trained as"
        raise Misfit(what, ["experts", "convex"], fix="leave convex out, or leave stored out")
    for name, method in p.distill.items() if not p.experts.stored else ():
        reads = not isinstance(method, Stored) and needs_experts(METHODS[method.name], method)
        if reads and (problem := misread(method, p.experts.convex)):
            fix = f"experts.convex: {str(not p.experts.convex).lower()}"
            raise Misfit(problem, ["distill", name], got=f"experts.convex: {str(p.experts.convex).lower()}", fix=fix)
        if (last := last_epoch(method)) > length.count:
            raise Misfit(
                f"it reads epoch {last} of the experts, and they train for {length}",
                ["distill", name],
                fix=f"{_earlier(method)}, or experts.recipe.length={last}ep",
            )


def _check_draws(p: Sections) -> None:
    """Several draws of sets go with sets that can be drawn, and with seeds for each."""
    draws = p.distill_seeds
    crossed = len(draws) > 1 and p.distill_grid == "crossed"
    for name, arm in p.arms.items() if not crossed else ():
        if arm.control is not None and arm.control.kind == "intersection":
            raise Misfit(
                "an intersection is of masks of several draws of a set",
                ["arms", name],
                fix="distill_seeds: [0, 1, ...] and distill_grid: crossed",
            )
    if not draws:
        if p.distill_grid == "crossed":
            raise Misfit("it goes with distill_seeds", ["distill_grid"], fix="write distill_seeds: [0, 1, ...]")
        return
    if len(set(draws)) != len(draws):
        raise Misfit("each draw is given once", ["distill_seeds"], got=list(draws), expected="draws that are all different")
    if p.distill_seed:
        raise Misfit("it is one draw, and distill_seeds are several", ["distill_seed"], fix="leave one of them out")
    if not p.distill:
        raise Misfit("there are no sets to draw: `distill` has none", ["distill_seeds"], fix="leave distill_seeds out")
    if stored := next((name for name, method in p.distill.items() if isinstance(method, Stored)), None):
        raise Misfit("of a stored set there is one draw", ["distill", stored], fix="leave distill_seeds out")
    if p.distill_grid == "nested" and len(draws) > len(p.seeds):
        raise Misfit(
            "each seed takes one draw, and there are fewer seeds",
            ["distill_seeds"],
            got=f"{len(draws)} draws, {len(p.seeds)} seeds",
            fix="as many seeds, or distill_grid: crossed",
        )


def _check_levels(p: Sections) -> None:
    """Levels leave weights, and are there."""
    if p.prune.share == "original" and p.prune.rate * p.prune.levels >= 1:
        what = f"{p.prune.levels} levels that each take {p.prune.rate:g} of the original weights leave none"
        raise Misfit(what, ["prune", "levels"], fix="a smaller prune.levels or prune.rate, or prune.share: remaining")
    if lost := [level for level in p.levels or () if not 0 <= level <= p.prune.levels]:
        what = f"there is no level {lost[0]}"
        raise Misfit(what, ["levels"], got=list(p.levels or ()), expected=f"0 to {p.prune.levels} (prune.levels)")
    for name, arm in p.arms.items():
        if arm.control is not None and arm.control.kind == "signs" and p.compared() == (0,):
            raise Misfit("the control 'signs' has no level 0, and the study has no other level", ["arms", name])


def _check_steps(p: Sections) -> None:
    """Rewinding steps are different ones, and lie within the schedule of retraining where this goes on from them."""
    if len(set(p.prune.scan)) != len(p.prune.scan):
        raise Misfit("a rewinding step is given twice", ["prune", "scan"], got=f"[{', '.join(map(str, p.prune.scan))}]")
    length = p.retrain.recipe.length
    for arm in p.placed().values() if p.prune.rewind.schedule == "continue" else ():
        if length < arm.k:
            raise Misfit(
                f"the rewinding step {arm.k} lies behind the end of the schedule that it is a part of",
                _step_of(p, arm),
                got=f"retrain.recipe.length: {length}",
                fix="an earlier step, or a longer retraining",
            )


def _step_of(p: Sections, placed: Placed) -> tuple[str, ...]:
    """The setting that says at which step a placed arm rewinds."""
    if placed.base is not None:
        return "prune", "scan"
    own = placed.name in p.arms and p.arms[placed.name].k
    return ("arms", placed.name, "k") if own else ("prune", "rewind", "k")


def _check_only(p: Sections, name: str, only: Only) -> None:
    if name not in p.compare:
        raise Misfit("`compare` has no analysis of this name", ["only", name], expected=nearest(name, p.compare))
    for what, given, known in (
        ("arms", only.arms, list(p.placed())),
        ("seeds", only.seeds, list(p.seeds)),
        ("levels", only.levels, list(p.compared())),
    ):
        if lost := [g for g in given or () if g not in known]:
            expected = nearest(str(lost[0]), map(str, known)) if what == "arms" else f"{ONE_OF}{', '.join(map(str, known))}"
            raise Misfit(f"the study has no {what.removesuffix('s')} {lost[0]}", ["only", name, what], expected=expected)
