"""How things look: one colour, marker and dash per arm, one set of drawing rules, and what each number is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.declared import on_page
from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import ArmRecord, Row, labels_of

if TYPE_CHECKING:
    from distill_prune.study.study import Study

INK, GREY, GRID, PAPER = "#22211f", "#6b6862", "#e8e5de", "#ffffff"

# Told apart by the colour-blind (dark variants of Okabe and Ito), each at least 4.5:1 against white.
_REAL = "#22211f"
COLORS = ("#0b62a8", "#b8470f", "#00755a", "#98408f", "#7a6200", "#0f7485", "#a8324a")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1.2)))

# Beyond eight arms controls step back: greyed colours and thin lines, told apart by marker and dash besides.
CROWD = 8
ENTRY = "arm: "
_MUTED = ("#586f86", "#84644f", "#567260", "#7b6279", "#6f6a48", "#4c7278", "#835f66")

# Surfaces: from light to dark in one hue, so that lines and words in ink are readable on all of it.
LOW, MIDDLE, HIGH = "#fdfaf0", "#b9d3e6", "#5c9bcc"
# Differences: orange below zero, blue above, as light; the colour-blind tell the two apart, and words in ink are readable.
AGAINST, EVEN, FOR = "#e0954a", "#fdfcfa", "#5c9bcc"

# Text stays text in the SVG: small, searchable, and editable in a drawing program.
RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,  # what papers ask for at the widths of axes.py; 9 px or more on a phone
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "figure.facecolor": "none",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.pad": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.8,
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.2,
    "savefig.dpi": 300,
    # Publishers refuse fonts of type 3.
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Arm:
    """One arm of the study and its look, the same in every figure; `place` is its number among the arms."""

    name: str
    label: str
    images: str
    color: str
    marker: str
    dash: Any
    role: str = "source"
    thin: bool = False
    place: int = 0

    @property
    def entry(self) -> str:
        """The label as what is drawn carries it: matplotlib leaves out of legends what begins with an underscore."""
        return ENTRY + self.label

    @property
    def width(self) -> float:
        """Of its lines, in points."""
        return 0.8 if self.thin else 1.2

    @property
    def mark(self) -> str:
        """Its class on the page, and the beginning of the ids of what is drawn for it."""
        return f"arm{self.place}"


METRICS = {m.name: m for m in on_page() if m.group}
"""The built-in metrics that have a figure."""


def metrics(study: Study) -> dict[str, Metric]:
    """The metrics of the study that the page shows, by name: the built-in ones, then those of plugins."""
    return {m.name: m for m in on_page(study.plugins)}


def every_arm(study: Study) -> list[Arm]:
    """All arms in their own order; one at a further rewinding step looks like the arm that it is at the first.

    Looks follow role: the arm that others are compared with is dark, the first learned arm blue, arms of other tasks grey.
    `role` is real, treatment, source or control.
    """
    listed = list((study.summary or {}).get("arms") or [])
    names = {a["name"] for a in listed}
    for row in (*study.units, *study.curves, *study.layers):
        if row["arm"] not in names:
            names.add(row["arm"])
            listed.append({"name": row["arm"], "images": ""})
    versus = study.versus if any(a["name"] == study.versus for a in listed) else "real"
    usual = next((a.get("criterion") for a in listed if a["name"] == versus), None) or "magnitude"
    labels = labels_of(listed)
    roles = {a["name"]: role(a, usual, versus) for a in listed}
    first = [a for a in listed if based_on(a) is None and of_main_task(study, a["name"])]
    crowded = len(first) > CROWD
    # Learned arms take the first colours wherever they stand in the list.
    ranked = sorted((a for a in first if roles[a["name"]] != "real"), key=lambda a: roles[a["name"]] != "treatment")
    bright = [a["name"] for a in ranked if not crowded or roles[a["name"]] != "control"]
    muted = [a["name"] for a in ranked if a["name"] not in bright]

    places = {a["name"]: i for i, a in enumerate(listed)}

    def look(name: str) -> tuple[str, str, Any]:
        if not of_main_task(study, name):
            return GREY, "o", "-"
        colors, names = (_MUTED, muted) if name in muted else (COLORS, bright)
        if name not in names:
            return _REAL, "o", "-"
        i = names.index(name)
        return colors[i % len(colors)], _MARKERS[(i + 1) % len(_MARKERS)], _DASHES[i % len(_DASHES)]

    return [
        Arm(
            a["name"],
            labels[a["name"]],
            a["images"],
            *look(based_on(a) or a["name"]),
            roles[a["name"]],
            a["name"] in muted,
            places.get(based_on(a) or a["name"], places[a["name"]]),
        )
        for a in listed
    ]


def role(arm: ArmRecord, usual: str = "magnitude", versus: str = "real") -> str:
    """What the arm is for: `real` (the arm `versus`), `treatment` (a learned set), `source` (other data), or `control`.

    A control lacks something that the real arm has: it is made from another arm's tickets, is pruned at once, or by
    another criterion than the `usual` one.
    """
    if (based_on(arm) or arm["name"]) == versus:
        return "real"
    if arm.get("control") or arm.get("one_shot") or arm.get("criterion", usual) != usual:
        return "control"
    return "treatment" if arm.get("learned", arm.get("images") == "synthetic") else "source"


def based_on(arm: ArmRecord) -> str | None:
    """The arm that this one is at another rewinding step; before a summary its name alone says so."""
    return arm.get("base") or arm["name"].rpartition("@")[0] or None


def of_main_task(study: Study, arm: str) -> bool:
    """Whether the arm is of the task that the study's differences are taken on."""
    return study.tasks.get(arm) == study.tasks.get(study.versus)


def task_label(study: Study, task: str | None) -> str:
    """What to call a task; None is the study's own data."""
    return task or str(study.data.get("task") or study.data.get("title") or "the study's own data")


def is_text(study: Study) -> bool:
    """Whether examples are sentences."""
    return study.data.get("transform") == "text"


def arms(study: Study, main: bool = True) -> list[Arm]:
    """The study's arms in their own order, each at its first rewinding step; of its main task alone unless asked."""
    bases = {a["name"] for a in (study.summary or {}).get("arms") or [] if a.get("base")}
    first = [a for a in every_arm(study) if a.name not in bases and "@" not in a.name]
    return [a for a in first if not main or of_main_task(study, a.name)]


def sides(study: Study) -> list[tuple[str, list[Arm]]]:
    """The arms in the panels that they are drawn in: one, or sources and controls beside each other where they are many.

    The real and the first learned arm stand in both.
    """
    listed = arms(study)
    controls = [a for a in listed if a.role == "control"]
    if len(listed) <= CROWD or not controls:
        return [("", listed)]
    sources = [a for a in listed if a.role != "control"]
    treated = next((a for a in sources if a.role == "treatment"), None)
    both = [a for a in sources if a.role == "real" or a is treated]
    return [("Sources", sources), ("Controls", [*both, *controls])]


def rows(study: Study) -> list[Row]:
    """The summary's rows; none where nothing is summarised yet."""
    return list((study.summary or {}).get("rows") or [])


def sparsities(study: Study) -> dict[tuple[str, int], float]:
    """Sparsity by (arm, level), from whatever knows it."""
    # A unit whose ticket is missing has measurements without a sparsity.
    units = [u for u in study.units if u.get("sparsity") is not None]
    return {(r["arm"], r["level"]): r["sparsity"] for r in (*study.curves, *units, *rows(study))}


def chosen_levels(levels: set[int]) -> list[int]:
    """The first, the middle and the last of the levels at hand."""
    ordered = sorted(levels)
    return sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]}) if ordered else []


def shown_arms(study: Study, measured: set[str], most: int = 6) -> list[Arm]:
    """The arms among `measured` that are worth a row of panels: the real one, the learned ones, then the others."""
    order = {"real": 0, "treatment": 1, "source": 2, "control": 3}
    listed = [a for a in arms(study) if a.name in measured]
    kept = set(sorted(listed, key=lambda a: order[a.role])[:most])
    return [a for a in listed if a in kept]


def left_out(study: Study, measured: set[str], most: int = 6) -> list[Arm]:
    """The arms among `measured` that `shown_arms` leaves out."""
    shown = shown_arms(study, measured, most)
    return [a for a in arms(study) if a.name in measured and a not in shown]
