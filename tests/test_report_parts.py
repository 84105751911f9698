"""The report's colours, sheet of images and formats."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference_report as reference
from PIL import Image
from reference_report import laid_out
from reference_report_rich import rich
from scipy import stats

from distill_prune.analyze.shares import clopper_pearson
from distill_prune.report import formats, paint, pictures, style, tickets, words


def _contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _css() -> tuple[str, dict[str, str], dict[str, str]]:
    """page.css without its dark values, and what its variables stand for on light and on dark screens."""
    css = (Path(style.__file__).parent / "page.css").read_text()
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{ :root \{(.*?)\} \}", css, re.DOTALL)
    assert dark
    rest = css.replace(dark.group(0), "")
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rest))
    return rest, light, light | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark.group(1)))


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_colour_of_the_page_has_enough_contrast(dark: bool) -> None:
    """WCAG AA, 4.5:1, against every background of the page; borders of fields 3:1."""
    css, *screens = _css()
    named = screens[dark]
    resolved = re.sub(r"var\(--([\w-]+)\)", lambda m: named.get(m.group(1), m.group(0)), css)
    backgrounds = set(re.findall(r"(?<![\w-])background: (#[0-9a-f]{3,6});", resolved))
    # Print's white, the dot of the dense network and the plate of figures carry no text of the page, the tip its own.
    backgrounds -= {"#fff", "#8d8a84", "#ffffff" if dark else "", named["ink"]}
    texts = set(re.findall(r"(?<![\w-])color: ([^;}]+?)\s*[;}]", resolved)) - {"inherit", named["paper"]}
    assert {named["paper"], named["warn"], named["wash"]} <= backgrounds and named["ink"] in texts and len(texts) >= 4
    for text in texts:
        for background in backgrounds:
            assert _contrast(text, background) >= 4.5, (text, background)
    assert _contrast(named["edge"], named["paper"]) >= 3 and _contrast("#8d8a84", named["paper"]) >= 3


def test_every_colour_of_the_figures_has_enough_contrast() -> None:
    _, light, dark = _css()
    for color in (*style.COLORS, *style._MUTED, style._REAL, style.GREY, style.INK):
        for background in (light["paper"], style.PAPER):
            assert _contrast(color, background) >= 4.5, color
        assert _contrast(paint.DARK[color], dark["paper"]) >= 4.5, color
    assert paint.DARK[style.PAPER] == dark["paper"]
    assert paint.painted('fill: #22211f; stroke: #123456"') == 'fill: var(--c22211f); stroke: #123456"'
    assert "--c22211f: #22211f;" in paint.variables(dark=False) and "--c22211f: #e9e6df;" in paint.variables(dark=True)


def test_a_contrast_by_hand() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21) and _contrast("#767676", "#ffffff") == pytest.approx(
        4.54, abs=0.01
    )


def test_the_sheet_shows_each_class_in_its_row() -> None:
    images = np.zeros((4, 2, 2), dtype=np.uint8)
    images[:] = np.array([10, 60, 110, 160], dtype=np.uint8)[:, None, None]
    # Out of order on purpose; seven images of one class would not fit beside each other.
    study = reference.study(
        levels=3, seeds=3, arms=2, synthetic=images.repeat(7, axis=0), synthetic_labels=[1] * 14 + [0] * 14, classes=["a", "b"]
    )
    (sheet,) = pictures.sheets(study)
    study.pictures = [replace(study.pictures[0], name=name) for name in ("a/0", "b", "a/1", "a/2")]
    assert [each.again for each in pictures.sheets(study)] == [False, False, True, True]
    assert sheet.per_class == 10 and sheet.classes == ["a", "b"]
    import io

    canvas = np.asarray(Image.open(io.BytesIO(sheet.png)))[:, :, 0]
    cell = canvas.shape[1] // 10
    shown = canvas[cell // 2 :: cell, cell // 2 :: cell]
    assert shown.tolist() == [[110] * 7 + [160] * 3, [10] * 7 + [60] * 3]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0123456, "0.0123"),
        (1234.5, "1,230"),
        (3.42e6, "3.42 × 10⁶"),
        (-0.5, "−0.500"),
        (0, "0"),
        (2e-7, "2.00 × 10⁻⁷"),
        (0.09999, "0.100"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_number(x: float | None, text: str) -> None:
    assert formats.number(x) == text


def test_other_formats() -> None:
    assert [formats.count(x) for x in (0, 940, 12345, 4.3e6, 6.4e13)] == ["0", "940", "12.3 k", "4.3 M", "6.40 × 10¹³"]
    assert [formats.sparsity(x) for x in (0, 0.2, 0.488, 0.9856, 0.9928)] == ["0", "20", "48.8", "98.56", "99.28"]
    assert [formats.duration(x) for x in (0.84, 42, 200, 18120)] == ["0.8 s", "42 s", "3 min 20 s", "5 h 02 min"]
    assert formats.fixed(-0.0001, 1, 100, sign=True) == "0.0" and formats.fixed(0.012, 1, 100, sign=True) == "+1.2"
    assert [formats.power(x) for x in (1.0, 0.001, 1e-6, 10_000.0, 1e5)] == ["1", "0.001", "10⁻⁶", "10000", "10⁵"]
    assert formats.tidy("at level 3 (n = 6), p = 0.03") == "at level 3 (n\u00a0=\u00a06), p\u00a0=\u00a00.03"
    assert formats.tidy("-1.8 [-2.8, -0.8], 1-3, a-1, 8e-05, seeds=-1") == "−1.8 [−2.8,\u00a0−0.8], 1-3, a-1, 8e-05, seeds=-1"
    assert formats.tidy("2 points at 98 % of 3 M") == "2\u00a0points at 98\u00a0% of 3\u00a0M"
    assert formats.estimate(reference.estimate([0.1, 0.2, 0.3]), "signed") == {
        "mean": "+20.00",
        "range": "−4.84 to +44.84",
        "n": "3",
    }


# reach, onsets, claims, controls


def test_intervals_of_shares_are_those_of_clopper_and_pearson() -> None:
    """Against scipy's exact test, and against what an interval is: the shares that make the count seen no rarer than 2.5%."""
    for n in (1, 3, 6, 20):
        for yes in range(n + 1):
            low, high = clopper_pearson(yes, n)
            truth = stats.binomtest(yes, n).proportion_ci(0.95, "exact")
            assert (low, high) == pytest.approx((truth.low, truth.high)) and 0 <= low <= yes / n <= high <= 1
            assert not yes or stats.binom.sf(yes - 1, n, low) == pytest.approx(0.025)
    assert clopper_pearson(6, 6) == (pytest.approx(0.5407, abs=1e-4), 1.0)


def test_shares_are_counts_of_initialisations() -> None:
    study = reference.study(levels=3, seeds=3, arms=2)
    matching, stable = words.shares(study)
    assert (matching.prop.name, stable.prop.name) == ("matching", "stable") and len(matching.sparsities) == 2
    least = study.summary["dense"]["accuracy"]["mean"] - study.summary["dense"]["accuracy"]["sd"]
    for table, holds in (
        (matching, lambda u: u["accuracy"] >= least),
        (stable, lambda u: u["barrier_test"] < 0.02),
    ):
        for held in table.arms:
            for level, (text, interval, value) in enumerate(held.cells, start=1):
                of_level = [holds(u) for u in study.units if (u["arm"], u["level"]) == (held.arm.name, level)]
                assert text == f"{sum(of_level)} of 3" and float(value) == pytest.approx(sum(of_level) / 3, abs=1e-4)
                assert interval.endswith("%") and " to " in interval
    text = laid_out(study, ()).section("Sparsest matching and stable tickets", "The sets of images")
    assert "Clopper and Pearson" in text and f"{stable.arms[0].cells[0][0]} {stable.arms[0].cells[0][1]}" in text
    # Two dense networks are no bar to hold tickets to; what was not measured has no row.
    few = reference.study(levels=3, seeds=2, arms=2)
    assert [t.prop.name for t in words.shares(few)] == ["stable"]
    for unit in few.units:
        unit["barrier_test"] = None if unit["arm"] == "real" else unit["barrier_test"]
    (stable,) = words.shares(reference.whole(vars(few)))
    assert [a.arm.name for a in stable.arms] == ["distilled"]


def test_intervals_of_shares_end_at_0_and_100_percent() -> None:
    wide = reference.estimate([0.99, 0.8])
    assert wide["high"] > 1
    assert formats.estimate(wide, "percent")["range"].endswith(" to 100.0")
    assert formats.estimate(reference.estimate([0.001, 0.03]), "barrier")["range"].startswith("0.00 to ")
    assert formats.estimate(wide, "signed")["range"] == f"{100 * wide['low']:+.2f} to {100 * wide['high']:+.2f}".replace(
        "-", "−"
    )


def test_onsets_say_where_and_why_not() -> None:
    study = rich(seeds=3, levels=3)
    for entry in study.summary["scan"]:
        entry["matching"] = "no" if entry["arm"] == "subset" else "yes"
        entry["stable"] = "not measured" if entry["arm"] == "subset" else "yes" if entry["k"] == "0it" else "no"
    for onset in study.summary["onset"]:
        onset["stable_at"], onset["matching_at"] = None, None if onset["arm"] == "subset" else "0it"
    dense, *others = words.onsets(study)
    assert (dense.label, dense.stable, dense.matching) == ("Dense networks", "not at the last k (2ep)", "k = 0it")
    subset = next(o for o in others if o.arm.name == "subset")
    assert (subset.stable, subset.matching) == ("not measured", "at no k of the scan")
    # Dense networks that differ between arms keep their arms' names.
    study.summary["onset"].append({**study.summary["onset"][0], "arm": "synthetic"})
    assert not any(o.label for o in words.onsets(study))


def test_only_claims_of_the_summary_are_printed() -> None:
    study = rich(seeds=3, levels=3)
    for row in study.summary["paired"]:
        row["claim"] = None
    said = laid_out(study, ()).section("What can be claimed", "Sources and controls")
    assert "Nothing: no difference here carries a claim" in said and "higher" not in said and "lower" not in said
    last = next(p for p in study.summary["paired"] if (p["arm"], p["level"], p["metric"]) == ("synthetic", 2, "accuracy"))
    other = next(p for p in study.summary["paired"] if (p["arm"], p["level"], p["metric"]) == ("random", 1, "accuracy"))
    last["claim"], other["claim"] = "accuracy of A is lower (n = 6)", "accuracy of B is lower (n = 6)"
    text = laid_out(study, ()).section("What can be claimed", "Sources and controls")
    head, table = text.split("Every difference as a table")
    assert "Accuracy of A is lower (n = 6); exact p = 0.031, corrected for all rows of its metric 0.40. 1 further" in " ".join(
        head.split()
    )
    assert "1 further difference carries a claim, of other levels or arms" in " ".join(head.split()) and "of B" not in head
    assert "accuracy of B is lower" in table and table.count(" none") == len(study.summary["paired"]) - 2


def test_differences_of_an_old_summary_say_that_nothing_is_corrected() -> None:
    text = laid_out(reference.study(levels=3, seeds=3, arms=2), ()).text
    assert "Not corrected for the number of rows." in text and "corrected p" not in text
    new = laid_out(rich(seeds=2, levels=2), ()).text
    assert "corrected p" in new and "Not corrected" not in new


def test_what_an_arm_is_in_words() -> None:
    labels = {"real": "real", "synthetic": "synthetic"}
    said = {a["name"]: words.described(a, labels) for a in rich(seeds=1, levels=2).summary["arms"]}
    assert said["synthetic"] == "largest weights after training on the learned images of the set synthetic, level by level"
    assert said["subset"] == "largest weights after training on the images of the set subset, level by level"
    assert said["short"] == "largest weights after training on all training data, with the recipe of small sets, level by level"
    assert said["continued"].endswith("level by level; up to level 2 the tickets of synthetic")
    assert said["one_shot"].endswith(", pruned at once") and said["snip"].startswith("SNIP: ")
    assert said["shuffled"] == "the mask of real, each layer's entries in another order"
    assert said["synthetic_random"] == "weights chosen at random, as many in each layer as synthetic keeps"
    assert said["reinitialised"] == "the mask of real on another draw of the initialisation"
    assert words.described({"name": "x", "criterion": "mine"}, {}) == "weights chosen by the criterion mine, level by level"


def test_sources_and_controls_show_their_sparsest_level() -> None:
    study = rich(seeds=3, levels=3)
    (sources, listed), (controls, taken) = words.compared(study)
    assert (sources, controls) == ("Sources", "Controls") and len(listed) == 6 and len(taken) == 7
    assert all(c.row["level"] == 2 for c in (*listed, *taken))
    assert listed[0].difference is None and taken[0].difference["n"] == 3
    assert "This study has no controls." in laid_out(reference.study(levels=3, seeds=3, arms=2), ()).text


# tickets


def test_the_table_of_tickets_has_a_row_for_each_and_a_column_for_what_was_measured() -> None:
    study = rich(seeds=2, levels=3)
    for t in study.tickets:
        t["disagreement"] = None
    study.tickets[1]["top_eigenvalue"] = None
    made = tickets.table(study)
    assert made is not None and len(made.rows) == len(study.tickets)
    names = [c.name for c in made.columns]
    assert names[:2] == ["label", "seed"] and names[-2:] == ["k", "key"] and "disagreement" not in names
    accuracy, top = names.index("accuracy"), names.index("top_eigenvalue")
    first, second = made.rows[0].cells, made.rows[1].cells
    assert first[accuracy].text == f"{100 * study.tickets[0]['accuracy']:.2f}"
    assert float(first[accuracy].value or "") == study.tickets[0]["accuracy"]
    assert (second[top].text, second[top].value) == ("–", "") and second[0].value is None
    page = laid_out(study, ())
    assert sum("data-arm" in a for a in page.having("tr")) == len(study.tickets)
    assert "Test examples that copies class differently" in page.text  # among what was not measured
    # Without a script there are neither fields nor buttons, but the whole table.
    assert page.having("button") == []


def test_eigenvalues_are_tabled_at_the_sparsest_level() -> None:
    study = rich(seeds=2, levels=3)
    text = laid_out(study, ()).section("Leading eigenvalues as a table", "Landscape around the retrained weights")
    assert text.count("(25%)") == 3 * 2 and "93.8 1" in text
