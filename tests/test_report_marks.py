"""What figures say of their parts: arms, values, legends; and axes that are compressed where few values lie."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import reference_report as reference
from matplotlib.backends.backend_agg import FigureCanvasAgg
from reference_report_rich import rich

from distill_prune.report import axes, figures, marks, scale, style, sweep, trainings
from distill_prune.report.formats import said


def drawing(study: Any, name: str) -> figures.Drawing:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_render", reference.vector)
        drawn = figures._drawing(name, figures.FIGURES[name], study, False)
    assert drawn is not None
    return drawn


def test_points_say_their_values_and_arms_have_one_class() -> None:
    study = reference.study(levels=3, seeds=3, arms=2)
    inline = drawing(study, "accuracy").inline
    root = ElementTree.fromstring(inline)
    titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")]
    rows = [r for r in study.summary["rows"] if r["arm"] == "distilled"]
    ours = [t for t in titles if t and t.startswith("Distilled IMP (MTT), ")]
    assert [t.split(": ")[1] for t in ours] == [said(r["accuracy"], "percent") for r in rows] and len(titles) == 2 * 3
    classes = set(re.findall(r'class="arm (arm\d+)"', inline))
    assert classes == {a.mark for a in style.arms(study)} and "arm0-" not in inline and "values-" not in inline


def test_the_page_cuts_the_legend_that_files_keep() -> None:
    drawn = drawing(reference.study(levels=3, seeds=3, arms=2), "accuracy")
    assert "Real-data IMP</text>" in drawn.svg and "Real-data IMP</text>" not in drawn.inline
    tall = {
        name: float(re.findall(r'viewBox="[\d.]+ [\d.]+ [\d.]+ ([\d.]+)"', svg)[0])
        for name, svg in vars(drawn).items()
        if name in ("svg", "inline")
    }
    cut = re.search(r'id="legend-([\d.]+)"', drawn.svg)
    assert cut and tall["inline"] == pytest.approx(tall["svg"] - float(cut.group(1)), abs=0.1) and tall["inline"] > 100
    assert marks.without_legend('<svg viewBox="0 0 9 9"><g/></svg>') == '<svg viewBox="0 0 9 9"><g/></svg>'


def test_a_line_with_points_outside_its_figure_is_left_as_it_is() -> None:
    svg = '<svg><g id="arm1-0-1"><g><use x="1"/><use x="2"/></g></g><use x="3"/></svg>'
    assert marks.with_values(svg, {"arm1-0-1": ["a", "b", "c"]}) == svg
    points = '<use x="1"><title>a</title></use><use x="2"><title>&lt;</title></use>'
    told = f'<svg><g id="arm1-0-1"><g>{points}</g></g><use x="3"/></svg>'
    assert marks.with_values(svg, {"arm1-0-1": ["a", "<"]}) == told


def test_an_axis_is_compressed_where_few_values_lie() -> None:
    values = [1.0, 2.0, 3.0, 2.5, 1.5, 2.2, 1.8, 60.0]
    assert scale.most(values) == (1.0, 3.0)
    bent = scale.knees(values, 0.5, 62.0)
    assert bent is not None and bent.below == 1 and bent.above < 0.05 and 3 < bent.high < 4
    ys = np.linspace(-1, 70, 40)
    assert bent.inverse(bent.forward(ys)) == pytest.approx(ys) and np.all(np.diff(bent.forward(ys)) > 0)
    shown = (bent.forward(np.array(bent.high)) - 0.5) / (bent.forward(np.array(62.0)) - 0.5)
    assert shown == pytest.approx(1 - scale._SHARE, abs=0.02)
    assert scale.knees([1.0, 2.0, 3.0], 0.9, 3.1) is None and scale.knees([1.0, 1.0], 0.9, 1.1) is None


def test_far_arms_leave_the_others_readable() -> None:
    study = reference.study(levels=6, seeds=3, arms=5)
    for row in study.summary["rows"]:
        if row["arm"] == "random" and row["level"] > 3:
            row["barrier_test"] = reference.estimate([0.5, 0.6, 0.7])
    figure, _ = sweep.metric(study, "barrier_test") or pytest.fail("no figure")
    panel = figure.axes[0]
    assert panel.get_yscale() == "function" and any(t.get_text() == "compressed" for t in panel.texts)
    height = panel.transAxes.inverted().transform(panel.transData.transform([(0.5, 15.0), (0.5, 0.0)]))[:, 1]
    assert height[0] - height[1] > 0.5, "15 points take more than half of the height, though values reach 60"


def test_numbers_of_an_axis_that_is_compressed_are_apart() -> None:
    figure, cells = axes.panels("heading", [""])
    values = [0.0, 0.69, 0.7, 0.2, 0.4, 0.1, 3.9, -1.7]
    bent = scale.knees(values, -1.8, 4.1) or pytest.fail("not compressed")
    scale.bend(cells[0], bent, -1.8, 4.1)
    figure.canvas.draw()
    ticks = [(0.0, tick) for tick in cells[0].get_yticks()]
    places = sorted(cells[0].transAxes.inverted().transform(cells[0].transData.transform(ticks))[:, 1])
    assert len(places) > 4 and min(np.diff(places)) > 0.09


@pytest.mark.parametrize("bounds", [(-0.0004, 0.0006), (0.0, 100.0)])
def test_numbers_of_an_axis_are_whole(bounds: tuple[float, float]) -> None:
    """Panels move to the right for numbers that are long, and stay for others."""
    with mpl.rc_context(style.RC):
        figure, cells = axes.panels("heading", ["left", "right"])
        before = cells[0].get_position().x0
        cells[0].set_ylim(*bounds)
        axes.room_for_numbers(figure, cells)
        figure.canvas.draw()
        assert min(label.get_window_extent().x0 for label in cells[0].get_yticklabels()) >= 0
        assert (cells[0].get_position().x0 > before) == (bounds[1] < 1)
        assert cells[-1].get_position().x1 < 1


def test_trainings_are_drawn_by_epoch() -> None:
    figure, alt = trainings.training(rich(seeds=2, levels=3)) or pytest.fail("no figure")
    dense, sparse = figure.axes
    assert dense.get_yscale() == "log" and [t.get_title(loc="left") for t in (dense, sparse)] == ["dense", "93.8% sparse"]
    line = next(line for line in sparse.get_lines() if line.get_marker() == "o")
    assert list(line.get_xdata()) == [1, 2, 3] and line.get_ydata() == pytest.approx([1.0, (0.3 + 0.15) / 2, 0.1])
    assert "real: 0.100." in alt
    assert trainings.training(rich(seeds=1, levels=2, trainings=[])) is None


def test_a_figure_fits_a_column_of_a_paper() -> None:
    """3.25 in wide, 8 pt throughout, nothing outside: legend and titles are whole."""
    with mpl.rc_context(style.RC):
        for name in ("accuracy", "excess_test", "paired_trace_per_weight", "overlap"):
            figure, _ = figures.FIGURES[name](reference.study()) or pytest.fail("no figure")
            assert figure.get_figwidth() == 3.25, name
            renderer = FigureCanvasAgg(figure).get_renderer()
            figure.draw(renderer)
            for text in figure.findobj(mpl.text.Text):
                box = text.get_window_extent(renderer)
                if text.get_text() and text.get_visible() and box.width:
                    assert text.get_fontsize() == 8, (name, text.get_text())
                    assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, (name, text.get_text())
                    assert box.y0 >= -1 and box.y1 <= figure.bbox.height + 1, (name, text.get_text())
