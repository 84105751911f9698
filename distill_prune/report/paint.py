"""Colours of the page: each colour of a figure is a variable, with a second value for dark screens."""

from __future__ import annotations

import re

from distill_prune.report.style import GREY, GRID, INK, PAPER

DARK = {
    INK: "#e9e6df",
    GREY: "#a8a49b",
    GRID: "#34322e",
    PAPER: "#1a1917",
    "#0b62a8": "#6db3f2",
    "#b8470f": "#f0965e",
    "#00755a": "#4cc7a5",
    "#98408f": "#d98fd1",
    "#7a6200": "#cfb34a",
    "#0f7485": "#56c0d2",
    "#a8324a": "#f0829a",
    "#586f86": "#9db3c9",
    "#84644f": "#c9a78f",
    "#567260": "#98b9a4",
    "#7b6279": "#bfa5bd",
    "#6f6a48": "#b5ae83",
    "#4c7278": "#8fb9c0",
    "#835f66": "#c8a2aa",
}
"""By its value on light paper, a colour's value on dark paper: at least 4.5:1 against it, as on light paper."""

_PLATES = ("landscape_", "transfer")
"""Figures whose fields are coloured: numbers stand on them in ink, so they keep their colours, and a light plate."""


def painted(svg: str) -> str:
    """The SVG, or a colour, with variables in place of colours that have a second value."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda m: variable(m.group(0)) if m.group(0) in DARK else m.group(0), svg)


def variable(color: str) -> str:
    """The variable of a colour."""
    return f"var(--{_name(color)})"


def on_plate(name: str) -> bool:
    """Whether the figure keeps its colours and lies on a light plate."""
    return name.startswith(_PLATES)


def variables(dark: bool) -> str:
    """The values of all variables, as declarations of a style sheet."""
    return " ".join(f"--{_name(light)}: {second if dark else light};" for light, second in DARK.items())


def _name(color: str) -> str:
    return f"c{color[1:]}"
