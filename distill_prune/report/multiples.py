"""Small multiples: a block of panels for each arm, a column in it for each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_prune.arithmetic import ceil_div
from distill_prune.report.axes import WIDE
from distill_prune.report.formats import sparsity
from distill_prune.report.style import GREY, Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cell = tuple[str, int]


def grid(
    rows: int,
    columns: int,
    height: float,
    *,
    top: float,
    bottom: float,
    left: float,
    wspace: float = 0.08,
    hspace: float = 0.24,
    **share: Any,
) -> tuple[Figure, Any]:
    """A grid of panels on a wide figure; `height`, `top`, `bottom`, `left` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height))
    figure.subplots_adjust(
        left=left / WIDE, right=0.99, top=1 - top / height, bottom=bottom / height, wspace=wspace, hspace=hspace
    )
    panels = figure.subplots(rows, columns, squeeze=False, **share)
    return figure, panels


def multiples(
    arms: Sequence[Arm], levels: Sequence[tuple[int, float]], across: int, each: float, outer: bool = False, **layout: Any
) -> tuple[Figure, dict[Cell, Axes]]:
    """Panels by (arm, level): `levels` are (level, sparsity), `across` arms stand side by side, `each` inches tall a row.

    Titles name the arms, the line above the grid the sparsities; panels without an arm are taken away. With `outer` only the
    panels at the left and at the bottom have labels, as those do that share their axes.
    """
    across = min(across, len(arms))
    deep = ceil_div(len(arms), across)
    wide = len(levels)
    top, bottom = layout.get("top", 0.4), layout.get("bottom", 0.5)
    figure, panels = grid(
        deep, across * wide, each * deep + top + bottom, **{"left": 0.55, "top": top, "bottom": bottom} | layout
    )
    cells: dict[Cell, Axes] = {}
    for i in range(deep * across):
        # Down the first block of columns, then down the next.
        row, block = i % deep, i // deep
        for j, (level, _) in enumerate(levels):
            axes = panels[row][block * wide + j]
            if i < len(arms):
                cells[arms[i].name, level] = axes
                bottom_row = row == deep - 1 or i == len(arms) - 1
                axes.tick_params(labelbottom=bottom_row or not (outer or layout.get("sharex")))
                if outer:
                    axes.tick_params(labelleft=block + j == 0)
            else:
                axes.remove()
        if i < len(arms):
            panels[row][block * wide].set_title(arms[i].label, loc="left", fontweight="bold", color=arms[i].color, pad=4)
    for column in range(across * wide):
        head = panels[0][column].get_position()
        level, s = levels[column % wide]
        text = "dense" if level == 0 else f"{sparsity(s)}% sparse"
        figure.text((head.x0 + head.x1) / 2, 1 - 0.12 / figure.get_figheight(), text, ha="center", va="center", color=GREY)
    return figure, cells


def absent(axes: Axes, text: str = "not measured") -> None:
    """Words where a panel has nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def side(figure: Figure, text: str) -> None:
    """The name of the vertical axis that all panels share."""
    figure.text(0.016, 0.5, text, rotation=90, va="center", ha="center")


def below(figure: Figure, text: str, up: float = 0.09) -> None:
    """The name of the horizontal axis that all panels share, `up` inches above the figure's end."""
    figure.text(0.99, up / figure.get_figheight(), text, va="bottom", ha="right", color=GREY)
