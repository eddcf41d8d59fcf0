"""The only place that turns 0.0123 s into "12.3 ms"."""

from __future__ import annotations

import math
from collections.abc import Callable

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, no exponent: 1234 → 1,234; 0.01234 → 0.0123."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, places):,.{places}f}"


def _scaled(value: float | None, steps: tuple[tuple[float, str], ...]) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in steps:
        if abs(value) >= size * 0.9995:
            return f"{number(value / size)} {unit}"
    size, unit = steps[-1]
    return f"{number(value / size)} {unit}"


def seconds(value: float | None) -> str:
    return _scaled(value, ((60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def milliseconds(value_ms: float | None) -> str:
    return seconds(None if value_ms is None else value_ms / 1e3)


def bytes_(value: float | None) -> str:
    return _scaled(value, ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")))


def operations(value: float | None, unit: str = "FLOP") -> str:
    return _scaled(value, ((1e15, f"P{unit}"), (1e12, f"T{unit}"), (1e9, f"G{unit}"), (1e6, f"M{unit}"), (1, unit)))


def share(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def ratio(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}×"


def count(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def signed(value: float, show: Callable[[float], str]) -> str:
    """With a sign in front, a minus as wide as the plus; what rounds to nothing has none."""
    shown = show(abs(value))
    if shown == show(0.0):
        return shown
    return f"{'−' if value < 0 else '+'}{shown}"


def counted(number: int, one: str, many: str = "") -> str:
    """1 step, 2 steps."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
