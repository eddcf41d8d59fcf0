"""A chart as inline SVG: two axes, a grid, and marks that carry their own tooltip. No library, no script.

Colours come from the page's style sheet (`s0` … `s7`), so that one drawing serves light and dark;
series differ in shape and dash as well, for those who do not see the difference in colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = 8
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 78, 14, 12, 46
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def colour(index: int) -> str:
    return f"s{index % COLOURS}"


def dash(index: int) -> str:
    return f' stroke-dasharray="{DASHES[index % len(DASHES)]}"' if index % len(DASHES) else ""


def marker(index: int, x: float, y: float, size: float = 5.0) -> str:
    """Circle, square, triangle, diamond, cross or plus."""
    drawn = (
        lambda: f"M{x - size:.1f},{y:.1f}a{size},{size} 0 1,0 {2 * size},0a{size},{size} 0 1,0 {-2 * size},0z",
        lambda: f"M{x - size:.1f},{y - size:.1f}h{2 * size}v{2 * size}h{-2 * size}z",
        lambda: f"M{x:.1f},{y - size * 1.2:.1f}l{size * 1.2:.1f},{size * 2.1:.1f}h{-size * 2.4:.1f}z",
        lambda: (
            f"M{x:.1f},{y - size * 1.35:.1f}l{size * 1.35:.2f},{size * 1.35:.2f}l{-size * 1.35:.2f},{size * 1.35:.2f}"
            f"l{-size * 1.35:.2f},{-size * 1.35:.2f}z"
        ),
        lambda: f"M{x - size:.1f},{y - size:.1f}l{2 * size},{2 * size}m0,{-2 * size}l{-2 * size},{2 * size}",
        lambda: f"M{x - size:.1f},{y:.1f}h{2 * size}m{-size},{-size}v{2 * size}",
    )
    return drawn[index % len(drawn)]()


@dataclass(frozen=True)
class Axis:
    """`show` writes a tick; a logarithmic axis needs positive bounds."""

    label: str
    low: float
    high: float
    show: Callable[[float], str]
    log: bool = False
    unit: float = 1.0  # ticks are round numbers of it

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self, wanted: int = 5) -> list[float]:
        """No two that read the same."""
        if self.log:
            found = _log_ticks(self.low, self.high)
        else:
            found = [tick * self.unit for tick in _ticks(self.low / self.unit, self.high / self.unit, wanted)]
        said: dict[str, float] = {}
        for tick in found:
            said.setdefault(self.show(tick), tick)
        return list(said.values())


def spanning(
    values: Iterable[float], *, zero: bool = False, log: bool = False, margin: float = 0.06
) -> tuple[float, float]:
    """Bounds around the values with some air; from zero where a length is read off."""
    found = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if log:
        return low / 1.3, high * 1.3
    if zero:
        low = min(low, 0.0)
    air = (high - low) * margin or abs(high) * margin or 1.0
    return (low if zero and low == 0 else low - air), high + air


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next((power * size for size in (1, 2, 2.5, 5, 10) if power * size >= raw), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [round((first + index) * step, 12) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    every = max(1, (last - first) // 6)
    found = [size * 10.0**power for power in range(first, last + 1, every) for size in steps]
    return [tick for tick in found if low <= tick <= high]


@dataclass
class Chart:
    x: Axis
    y: Axis
    height: int = HEIGHT
    left: int = LEFT
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + self.x.share(x) * (WIDTH - self.left - RIGHT)
        return across, self.height - BOTTOM - self.y.share(y) * (self.height - TOP - BOTTOM)

    def point(self, index: int, x: float, y: float, tip: str, *, reach: tuple[float, float] | None = None) -> None:
        """A mark, with a horizontal whisker where its interval is known."""
        across, down = self.at(x, y)
        if reach:
            (low, _), (high, _) = self.at(reach[0], y), self.at(reach[1], y)
            whisker = f"M{low:.1f},{down - 4:.1f}v8m0,-4H{high:.1f}m0,-4v8"
            self.parts.append(f'<path class="whisker {colour(index)}" d="{whisker}"/>')
        self._tipped(f'<path class="mark {colour(index)}" d="{marker(index, across, down)}"', tip, "/>")

    def line(self, index: int, points: Sequence[tuple[float, float]], tip: str, *, css: str = "") -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self._tipped(
            f'<polyline class="line {css or colour(index)}"{"" if css else dash(index)} points="{places}"', tip, "/>"
        )

    def bar(self, css: str, x: tuple[float, float], y: tuple[float, float], tip: str) -> None:
        (left, low), (right, high) = self.at(x[0], y[0]), self.at(x[1], y[1])
        box = f'x="{left:.1f}" y="{high:.1f}" width="{max(right - left, 0.6):.1f}" height="{low - high:.1f}"'
        self._tipped(f'<rect class="bar {css}" {box}', tip, "/>")

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", shift: tuple[float, float] = (0, 0)
    ) -> None:
        across, down = self.at(x, y)
        place = f'x="{across + shift[0]:.1f}" y="{down + shift[1]:.1f}" text-anchor="{anchor}"'
        self.parts.append(f"<text {place}>{escape(words)}</text>")

    def _tipped(self, opening: str, tip: str, closing: str) -> None:
        safe = escape(tip, quote=True)
        self.parts.append(f'{opening} data-tip="{safe}" tabindex="0" role="img" aria-label="{safe}"{closing}')

    def render(self, title: str, *, y_ticks: bool = True) -> str:
        box = f'viewBox="0 0 {WIDTH} {self.height}"'
        frame = [*self._x_axis(), *(self._y_axis() if y_ticks else [])]
        return (
            f'<svg class="chart" {box} role="group" aria-label="{escape(title, quote=True)}">'
            f"{''.join(frame)}{''.join(self.parts)}</svg>"
        )

    def _x_axis(self) -> list[str]:
        base, parts = self.height - BOTTOM, []
        for tick in self.x.ticks():
            across, _ = self.at(tick, self.y.low)
            parts.append(f'<path class="grid" d="M{across:.1f},{TOP}V{base}"/>')
            parts.append(
                f'<text x="{across:.1f}" y="{base + 16}" text-anchor="middle">{escape(self.x.show(tick))}</text>'
            )
        middle = (self.left + WIDTH - RIGHT) / 2
        place = f'x="{middle:.0f}" y="{self.height - 8}" text-anchor="middle"'
        parts.append(f'<text class="label" {place}>{escape(self.x.label)}</text>')
        return parts

    def _y_axis(self) -> list[str]:
        parts = []
        for tick in self.y.ticks():
            _, down = self.at(self.x.low, tick)
            parts.append(f'<path class="grid" d="M{self.left},{down:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(
                f'<text x="{self.left - 6}" y="{down + 4:.1f}" text-anchor="end">{escape(self.y.show(tick))}</text>'
            )
        middle = (self.height - BOTTOM + TOP) / 2
        parts.append(
            f'<text class="label" transform="rotate(-90 12 {middle:.0f})" x="12" y="{middle:.0f}" '
            f'text-anchor="middle">{escape(self.y.label)}</text>'
        )
        return parts
