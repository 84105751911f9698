"""Numbers as a reader wants them: shares as percent, a real minus sign, as many digits as are worth reading."""

from __future__ import annotations

import math
import re
from typing import TypedDict, TypeGuard

from distill_prune.analyze.estimate import Estimate

NONE = "–"
_SUPER = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def tidy(text: str) -> str:
    """`text` with minus signs, and with numbers and their unit, deviation or interval kept on one line."""
    text = re.sub(r"(?<![\w.)=-])-(?=\d)", "−", text)
    text = re.sub(r"(?<=\d) (?=%|points|nats|[kMG]\b)", "\u00a0", text)
    text = text.replace(" ± ", "\u00a0±\u00a0")
    text = re.sub(r"\[[^\[\]]*\]", lambda interval: interval.group(0).replace(" ", "\u00a0"), text)
    return re.sub(r"\b([np]) = (?=\d)", "\\1\u00a0=\u00a0", text)


def finite(x: object) -> TypeGuard[float]:
    """Whether `x` is a number that can be shown or drawn."""
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _minus(text: str) -> str:
    # A difference that rounds to nothing has no sign.
    return text.replace("-", "−") if any(c in "123456789" for c in text) else text.lstrip("-+")


def fixed(x: float | None, digits: int = 1, scale: float = 1.0, sign: bool = False) -> str:
    """`x * scale` with `digits` decimals."""
    return _minus(f"{x * scale:{'+' if sign else ''}.{digits}f}") if x is not None and finite(x) else NONE


def number(x: float | None, digits: int = 3) -> str:
    """`x` with `digits` significant digits: 0.0123, 1,234, 3.42 × 10⁶."""
    if x is None or not finite(x):
        return NONE
    if x == 0:
        return "0"
    rounded = float(f"{x:.{digits}g}")
    exponent = math.floor(math.log10(abs(rounded)))
    if -4 < exponent < 5:
        return _minus(f"{rounded:,.{max(digits - 1 - exponent, 0)}f}")
    return _minus(f"{rounded / 10.0**exponent:.{digits - 1}f}") + " × 10" + str(exponent).translate(_SUPER)


def power(x: float) -> str:
    """A power of ten on an axis: 0.01, 1, 100, 10⁶."""
    exponent = round(math.log10(x)) if x > 0 else 0
    return f"{x:g}" if -4 < exponent < 5 else "10" + str(exponent).translate(_SUPER)


def count(x: float | None) -> str:
    """A count in short: 940, 12.3 k, 4.56 M, 7.8 G, then powers of ten."""
    if x is None or not finite(x):
        return NONE
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size <= abs(x) < 1000 * size:
            return f"{x / size:.3g} {unit}"
    return f"{x:.4g}" if abs(x) < 1000 else number(x)


def sparsity(x: float | None) -> str:
    """A sparsity as percent, with more decimals where few weights remain: 20, 94.5, 99.28."""
    if x is None or not finite(x):
        return NONE
    decimals = 0 if abs(100 * x - round(100 * x)) < 0.005 else 1 if x < 0.985 else 2
    return f"{100 * x:.{decimals}f}"


def duration(seconds: float | None) -> str:
    """0.8 s, 42 s, 3 min 20 s, 5 h 02 min."""
    if seconds is None or not finite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def p_value(p: float | None) -> str:
    """A p-value with two significant digits."""
    return number(p, 2) if p is None or p >= 0.0001 else "< 0.0001"


def shown_interval(est: Estimate, unit: str) -> Estimate:
    """The estimate with its interval as far as the quantity can be: a share lies between 0 and 1, so the part of an interval
    that lies there covers it as often as all of the interval does. `unit` is as in `estimate`.
    """
    low, high = est["low"], est["high"]
    if unit not in ("percent", "barrier") or low is None or high is None:
        return est
    return {**est, "low": max(low, 0.0), "high": min(high, 1.0)}


class Words(TypedDict):
    """An estimate as text: `range` is the 95% interval, or why there is none."""

    mean: str
    range: str
    n: str


def estimate(est: Estimate | None, unit: str) -> Words:
    """An estimate {mean, sd, se, low, high, n} as text.

    `unit`: `percent` (a share, one decimal), `barrier` (a share, two decimals), `points` (the same of what may be below
    zero), `signed` (the same with a plus), `number` (three significant digits), `difference` (the same with a plus).
    """
    if est is None or not finite(est["mean"]):
        return {"mean": NONE, "range": "", "n": ""}

    def show(x: float | None) -> str:
        if unit in ("percent", "barrier", "points", "signed"):
            return fixed(x, 1 if unit == "percent" else 2, 100, unit == "signed")
        plus = "+" if unit == "difference" and x is not None and x > 0 else ""
        return plus + number(x)

    est = shown_interval(est, unit)
    n, low, high = est["n"], est["low"], est["high"]
    interval = f"{show(low)} to {show(high)}" if finite(low) and finite(high) else "no interval" if n < 2 else ""
    return {"mean": show(est["mean"]), "range": interval, "n": str(n)}


def said(est: Estimate, unit: str) -> str:
    """An estimate in one line: 93.9 [93.2 to 94.6], n = 6."""
    text = estimate(est, unit)
    interval = f" [{text['range']}]" if est["n"] > 1 and text["range"] else ""
    return f"{text['mean']}{interval}, n = {text['n']}"
