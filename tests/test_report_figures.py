"""Figures: what they show of the numbers, how they stay readable, and that they say it in words too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import reference_report as reference
from reference_report_rich import STEPS, lines, looks, rich

from distill_prune.report import axes, depth, figures, layers, pairs, panels, scans, style, sweep
from distill_prune.report.figures import FIGURES

SEEDS, LEVELS = 2, 3
# One of each kind: metrics, planes and differences are drawn by one function each.
KINDS = ("accuracy", "top_eigenvalue", "landscape_copies_test_error", "landscape_directions_train_loss", "paired_disagreement")
ALIKE = {"transfer", *style.METRICS, *figures.LANDSCAPES, *(f"paired_{name}" for name in figures.PAIRED)} - set(KINDS)


@pytest.fixture(scope="module")
def study() -> Any:
    return rich(seeds=SEEDS, levels=LEVELS)


@pytest.fixture(scope="module")
def drawn(study: Any) -> dict[str, figures.Drawing]:
    """A figure of each kind of the whole study as SVG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_render", reference.vector)
        for name in ALIKE:
            patch.delitem(FIGURES, name)
        return figures.draw(study)


# all of them


def test_every_figure_is_drawn_and_says_numbers(drawn: dict[str, figures.Drawing]) -> None:
    assert set(drawn) == FIGURES.keys() - ALIKE
    assert all(len(d.alt) > 30 and re.search(r"\d", d.alt) for d in drawn.values())
    assert len({d.alt for d in drawn.values()}) == len(drawn)


def test_an_old_study_lacks_the_new_figures() -> None:
    old = reference.study(levels=3, seeds=3, arms=2)
    there = {name for name, draw in FIGURES.items() if draw(old) is not None}
    assert {"accuracy", "barrier_test", "interpolation", "layers", "costs", "overlap", "paired_accuracy"} <= there
    new = {
        "scan",
        "density",
        "diagonal",
        "histograms",
        "layerwise",
        "between",
        "layer_traces",
        "top_eigenvalue",
        "disagreement",
    }
    assert not there & {*new, *figures.LANDSCAPES}


def test_text_is_readable_on_a_phone(drawn: dict[str, figures.Drawing]) -> None:
    """At the width that page.css gives a figure on a screen of 400 px no text is smaller than 9 px."""
    css = (Path(figures.__file__).parent / "page.css").read_text()
    found = re.search(r"\.wide svg \{ min-width: (\d+)rem", css)
    assert found
    wide, narrow = 16 * int(found.group(1)), 400 - 2 * 16
    for name, d in drawn.items():
        sizes = [float(s) for s in re.findall(r"<text style=\"[^\"]*?([\d.]+)px", d.svg)]
        assert len(sizes) == d.svg.count("<text ") > 5, name
        assert min(sizes) * (wide if d.wide else narrow) / figures.width(d.svg) >= 9, name


def test_wide_figures_have_their_own_row(drawn: dict[str, figures.Drawing]) -> None:
    assert drawn["accuracy"].wide and figures.width(drawn["accuracy"].svg) == pytest.approx(72 * axes.WIDE)
    figure, _ = sweep.metric(reference.study(levels=3, seeds=3, arms=2), "accuracy") or pytest.fail("no figure")
    assert figure.get_figwidth() == axes.NARROW


def test_no_formula_is_left_as_code(drawn: dict[str, figures.Drawing]) -> None:
    assert [name for name, d in drawn.items() if re.search(r">[^<]*(\$|mathdefault)[^<]*</text>", d.svg)] == []


def test_paths_are_small(drawn: dict[str, figures.Drawing]) -> None:
    assert all(len(d.svg) < 200_000 for d in drawn.values())
    assert not any(re.search(r' d="[^"]*\d\.\d{3}', d.svg) for d in drawn.values())
    assert figures._rounded('<path d="M 1.23456 -0.126 L 7 8.10" id="1.23456"/>') == (
        '<path d="M 1.23 -0.13 L 7 8.10" id="1.23456"/>'
    )


# arms


def test_roles_follow_what_an_arm_lacks() -> None:
    roles = {a.name: a.role for a in style.arms(rich(seeds=1, levels=2))}
    assert roles["real"] == "real" and roles["synthetic"] == "treatment"
    assert {n for n, r in roles.items() if r == "source"} == {"subset", "herded", "short", "continued"}
    assert sum(r == "control" for r in roles.values()) == 7


def test_a_study_that_prunes_by_another_criterion_is_no_study_of_controls() -> None:
    assert style.role({"name": "a", "criterion": "mine"}, "mine") == "source"
    assert style.role({"name": "a", "criterion": "mine"}) == "control"


def test_many_arms_stand_in_two_panels_with_thin_muted_controls(study: Any) -> None:
    (_, sources), (_, controls) = style.sides(study)
    assert [a.name for a in controls][:2] == ["real", "synthetic"] == [a.name for a in sources][:2]
    assert all(a.thin and a.color in style._MUTED for a in controls[2:]) and not any(a.thin for a in sources)
    assert len({(a.color, a.marker) for a in style.arms(study)}) == 13
    figure, _ = sweep.metric(study, "accuracy") or pytest.fail("no figure")
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim() and left.get_xlim() == right.get_xlim()
    assert lines(right, controls[2].color)[0].get_linewidth() < lines(left, sources[1].color)[0].get_linewidth()
    assert not lines(left, controls[2].color)


def test_few_arms_stand_in_one_panel_in_full_colours() -> None:
    few = reference.study(levels=3, seeds=3, arms=5)
    assert [title for title, _ in style.sides(few)] == [""]
    assert not any(a.thin for a in style.arms(few))


def test_arms_are_told_apart_and_keep_their_look() -> None:
    seen = style.arms(reference.study())
    assert len({(a.color, a.marker, str(a.dash)) for a in seen}) == len({a.color for a in seen}) == 5
    assert seen[0].color == style._REAL and seen[1].color == style.COLORS[0]
    assert style.arms(reference.study(levels=3, arms=2)) == seen[:2]


def test_arms_at_further_steps_look_like_their_base_and_stay_out_of_figures(study: Any) -> None:
    every = {a.name: a for a in style.every_arm(study)}
    assert every["synthetic@2ep"].color == every["synthetic"].color != every["real@2ep"].color
    assert not any("@" in a.name for a in style.arms(study))
    figure, alt = sweep.metric(study, "accuracy") or pytest.fail("no figure")
    dots = sum(len(c.get_offsets()) for panel in figure.axes for c in panel.collections if c.get_offsets().size > 2)
    assert dots == (13 + 2) * SEEDS * LEVELS and "k = 2ep" not in alt
    # Before there is a summary a name alone tells an arm at a further step.
    study = rich(seeds=1, levels=2, summary=None)
    every = {a.name: a for a in style.every_arm(study)}
    assert len(style.arms(study)) == 13 < len(every) and every["subset@2ep"].color == every["subset"].color


# numbers


def test_a_metric_is_drawn_at_its_means(study: Any) -> None:
    for name in ("top_eigenvalue", "disagreement", "relative_distance"):
        figure, alt = sweep.metric(study, name) or pytest.fail("no figure")
        row = [r for r in study.summary["rows"] if r["arm"] == "synthetic"]
        (line,) = lines(figure.axes[0], looks(study)["synthetic"].color)
        scale = style.METRICS[name].scale
        assert line.get_ydata() == pytest.approx([scale * r[name]["mean"] for r in row])
        assert line.get_xdata() == pytest.approx([1 - r["sparsity"] for r in row])
        assert style.METRICS[name].heading in alt


def test_paired_differences_stand_apart_inside_the_panel(study: Any) -> None:
    figure, alt = pairs.paired(study, "disagreement") or pytest.fail("no figure")
    for panel in figure.axes:
        low, high = sorted(panel.get_xlim())
        points = [x for line in panel.get_lines() if line.get_marker() != "None" for x in line.get_xdata()]
        assert len(set(points)) == len(points) and low < min(points) and max(points) < high
    assert "−" not in alt and "random mask at 93.8% sparsity: +" in alt


def test_neighbours_do_not_reach_the_next_level() -> None:
    factors, room = axes.apart([0.2, 0.36, 0.488], 9)
    assert len(set(factors)) == 9 and max(factors) / min(factors) < 0.8 / 0.64 and room > max(factors)
    assert axes.apart([0.5], 1)[0] == [1.0]


def test_barriers_between_tickets_are_drawn_one_by_one(study: Any) -> None:
    figure, alt = pairs.between(study) or pytest.fail("no figure")
    arms, levels = figure.axes
    heights = sorted(y for line in arms.get_lines() if line.get_marker() != "None" for y in line.get_ydata())
    assert heights == pytest.approx(sorted(100 * b["barrier_test"] for b in study.between if b["kind"] == "arms"))
    assert sum(line.get_marker() != "None" for line in levels.get_lines()) == 3 * SEEDS
    assert "synthetic, to another arm, at 93.8% sparsity" in alt


def test_between_skips_what_was_not_measured() -> None:
    only = rich(seeds=1, levels=2)
    only.between = [b for b in only.between if b["kind"] == "levels"]
    figure, _ = pairs.between(only) or pytest.fail("no figure")
    assert len(figure.axes) == 1
    assert pairs.between(rich(seeds=1, levels=2, between=[])) is None


def test_a_layer_has_a_dot_for_each_initialisation(study: Any) -> None:
    figure, alt = depth.layerwise(study) or pytest.fail("no figure")
    sparse = figure.axes[-1]
    real = next(line for line in lines(sparse, looks(study)["real"].color) if line.get_marker() == "o")
    own = [e for e in study.layerwise if e["arm"] == "real" and e["level"] == LEVELS - 1]
    assert real.get_xdata() == pytest.approx([100 * e["excess_test"] for e in own])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(dict.fromkeys(e["layer"] for e in own))
    top = max(own, key=lambda e: e["excess_test"])
    assert f"real: highest in {top['layer']}, {100 * top['excess_test']:.2f} points" in alt


def test_layers_are_bars_with_names(study: Any) -> None:
    figure, alt = layers.traces(study) or pytest.fail("no figure")
    (line,) = lines(figure.axes[1], looks(study)["real"].color)
    assert line.get_xdata() == pytest.approx([0.01, 0.02, 0.04, 0.08])
    assert "real: highest in classifier, 0.0800." in alt
    named = reference.study(levels=3, seeds=3, arms=2, layer_titles={"conv0.weight": "conv 1"})
    figure, _ = layers.layers(named) or pytest.fail("no figure")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["conv 1", "conv1", "conv2", "linear"]
    assert figure.axes[0].get_xlim()[0] == 0 and len(figure.axes[0].collections) == 2


def test_costs_that_were_not_counted_are_said(study: Any) -> None:
    figure, _ = panels.costs(study) or pytest.fail("no figure")
    said = [t for t in figure.axes[0].texts if t.get_text() == "not counted"]
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert [names[int(t.get_position()[1])] for t in said] == [
        a.label for a in style.arms(study) if a.name in ("random_layers", "shuffled", "reinitialised", "synthetic_random")
    ]


def test_a_single_recorded_iteration_is_a_dot() -> None:
    study = reference.study(levels=2, arms=2, distillation={"iterations": [10], "loss": [0.8], "lr": None})
    figure, _ = panels.distillation(study) or pytest.fail("no figure")
    assert figure.axes[0].get_lines()[0].get_marker() == "o"


def test_the_dense_level_is_named_by_layer() -> None:
    study = rich(seeds=1, levels=3)
    study.layer_traces = [e for e in study.layer_traces if e["level"] in (0, 2)]
    figure, _ = layers.traces(study) or pytest.fail("no figure")
    assert [a.get_title(loc="left") for a in figure.axes[:2]] == ["Sources, dense", "Sources, 93.8% sparse"]


def test_the_scan_rings_its_onsets(study: Any) -> None:
    figure, alt = scans.scan(study) or pytest.fail("no figure")
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == list(STEPS)
    rings = [[line for line in panel.get_lines() if line.get_markersize() == 11] for panel in figure.axes]
    # Rows are levels, columns accuracy and barrier; the dense networks are shared, and subset is stable at no step.
    assert [len(r) for r in rings] == [1, 1, 2, 2, 2, 2]
    entry = next(e for e in study.summary["scan"] if (e["arm"], e["k"], e["level"]) == ("synthetic", "0it", 2))
    assert 100 * entry["barrier_test"]["mean"] in [ring.get_ydata()[0] for ring in rings[5]]
    assert "real, dense: stable from k = 2ep on, matching from k = 100it on." in alt
    assert "random real subset, at 93.8% sparsity: not (decidably) stable at the last k" in alt
    assert scans.scan(rich(seeds=1, levels=2, summary=None)) is None


def test_wide_intervals_leave_the_scan_readable() -> None:
    study = rich(seeds=2, levels=2)
    study.summary["scan"][0]["accuracy"] |= {"low": -8.0, "high": 9.0}
    figure, _ = scans.scan(study) or pytest.fail("no figure")
    low, high = figure.axes[0].get_ylim()
    means = [100 * e["accuracy"]["mean"] for e in study.summary["scan"]]
    assert low < min(means) and max(means) < high < low + 3 * (max(means) - min(means))


def test_many_arms_stand_two_abreast_between_copies(study: Any) -> None:
    figure, _ = panels.interpolation(study) or pytest.fail("no figure")
    assert len(figure.axes) == 13 * 2
    assert len({round(a.get_position().x0, 3) for a in figure.axes}) == 4


def test_sparsities_that_differ_by_rounding_have_one_tick() -> None:
    """Criteria that prune layer by layer round otherwise: two labels would be drawn over each other."""
    from matplotlib.figure import Figure

    assert axes.distinct([0.5912, 0.0, 0.3588, 0.3590, 0.5911, 0.3588]) == [0.0, 0.3588, 0.5911]
    assert axes.distinct([1 - 0.8**k for k in range(20)]) == [1 - 0.8**k for k in range(20)]
    assert axes.apart([0.0, 0.3588, 0.3590, 0.5912], 5) == axes.apart([0.0, 0.3588, 0.5912], 5)
    panel = Figure().add_subplot()
    axes.sparsity_axis(panel, [0.0, 0.3588, 0.3590, 0.5912])
    assert [t.get_text() for t in panel.get_xticklabels()] == ["0", "35.9", "59.1"]
