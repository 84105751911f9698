"""What a figure says of its parts: which arm something is drawn for, which values its points have, and where its legend lies.

A mark is the id of an element of the SVG. The page makes classes of the marks of arms, so that its one legend shows and hides
an arm in every figure; it writes the values beside the points, and cuts the legend off, which files keep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from distill_prune.letters import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from distill_prune.report.style import Arm

Values = Mapping[str, Sequence[str]]
"""By the mark of a line, a text for each of its points."""

_values: WeakKeyDictionary[Figure, dict[str, list[str]]] = WeakKeyDictionary()
_LEGEND = "legend-"
_GROUP = re.compile(r"<(/?)g\b[^>]*?(/?)>")


@contextmanager
def drawn_for(axes: Axes, arm: Arm) -> Iterator[None]:
    """What is drawn on the axes inside is the arm's."""
    before = {id(artist) for artist in axes.get_children()}
    yield
    for place, artist in enumerate(axes.get_children()):
        if id(artist) not in before and artist.get_gid() is None:
            artist.set_gid(f"{arm.mark}-{_place(axes)}-{place}")


def say(axes: Axes, line: Line2D, texts: Sequence[str]) -> None:
    """What each point of a line says, in the order of the points."""
    mark = line.get_gid() or f"values-{_place(axes)}-{axes.get_children().index(line)}"
    line.set_gid(mark)
    _values.setdefault(_figure(axes), {})[mark] = [printable(text) for text in texts]


def _place(axes: Axes) -> int:
    return _figure(axes).axes.index(axes)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def values_of(figure: Figure) -> Values:
    """What the points of a figure say."""
    return _values.get(figure, {})


def mark_legend(legend: Artist, height: float) -> None:
    """Of a legend that takes the lowest `height` inches of its figure."""
    legend.set_gid(f"{_LEGEND}{72 * height:.1f}")


def with_values(svg: str, values: Values) -> str:
    """The SVG with a title for each point that says something.

    Points that lie outside a figure are not in its SVG: a line that has some is left as it is.
    """
    for mark, texts in values.items():
        start = svg.index(f'<g id="{mark}">')
        end = _end(svg, start)
        uses = svg[start:end].split("<use ")
        if len(uses) == len(texts) + 1:
            titled = (
                use.replace("/>", f"><title>{escape(text)}</title></use>", 1) for use, text in zip(uses[1:], texts, strict=True)
            )
            svg = svg[:start] + "<use ".join([uses[0], *titled]) + svg[end:]
    return svg


def classed(svg: str) -> str:
    """The SVG with classes in place of marks."""
    svg = re.sub(r' id="(arm\d+)-\d+-\d+"', r' class="arm \1"', svg)
    return re.sub(r' id="values-[\d-]+"', "", svg)


def without_legend(svg: str) -> str:
    """The SVG cut above its legend; as it is where it has none."""
    legend = re.search(rf'<g id="{_LEGEND}([\d.]+)">', svg)
    if legend is None:
        return svg
    svg = svg[: legend.start()] + svg[_end(svg, legend.start()) :]
    left, top, width, height = map(
        float, re.findall(r"[\d.]+", svg[svg.index("viewBox=") : svg.index('"', svg.index("viewBox=") + 9)])
    )
    cut = f'viewBox="{left:g} {top:g} {width:g} {height - float(legend.group(1)):g}"'
    return re.sub(r'viewBox="[^"]*"', cut, svg, count=1)


def _end(svg: str, start: int) -> int:
    """Where the group that begins at `start` ends."""
    depth = 0
    for tag in _GROUP.finditer(svg, start):
        depth += -1 if tag.group(1) else 0 if tag.group(2) else 1
        if depth == 0:
            return tag.end()
    return len(svg)
