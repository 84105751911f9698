"""The report's colours, sheet of images and formats."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import reference_report as reference
from PIL import Image

from distill_prune.report import formats, pictures, style


def _contrast(a: str, b: str) -> float:
    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_have_enough_contrast() -> None:
    css = (Path(style.__file__).parent / "page.css").read_text()
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))
    for name in ("ink", "soft", "accent"):
        assert _contrast(colors[name], colors["paper"]) >= 4.5
    for color in (*style._COLORS, style._REAL, style.GREY):
        assert _contrast(color, colors["paper"]) >= 4.5


def test_the_sheet_shows_each_class_in_its_row() -> None:
    images = np.zeros((4, 2, 2), dtype=np.uint8)
    images[:] = np.array([10, 60, 110, 160], dtype=np.uint8)[:, None, None]
    # Out of order on purpose; seven images of one class would not fit beside each other.
    study = reference.study(
        levels=3, seeds=3, arms=2, synthetic=images.repeat(7, axis=0), synthetic_labels=[1] * 14 + [0] * 14, classes=["a", "b"]
    )
    sheet = pictures.sheet(study)
    assert sheet is not None and sheet.per_class == 10 and sheet.classes == ["a", "b"]
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
    assert formats.tidy("2 points at 98 % of 3 M") == "2\u00a0points at 98\u00a0% of 3\u00a0M"
    assert formats.estimate(reference.estimate([0.1, 0.2, 0.3]), "signed") == {
        "mean": "+20.00",
        "range": "−4.84 to +44.84",
        "n": "3",
    }
