"""Small plots as inline SVG: lines, bars and points, drawn to scale with their axes, without any library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 46
COLOURS = ("#0b6e4f", "#b5541c", "#3b5ba5", "#8a3b8f", "#7a7a1f", "#a23b3b", "#3a8fa0", "#6b5b4b", "#999999", "#444444")
DASHES = ("", "6 3", "2 3")
TICKS = 5


@dataclass(frozen=True, slots=True)
class Axis:
    """Values low to high onto pixels begin to end; `logarithmic` needs values above 0."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (log10(each) if self.logarithmic else each for each in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)


def lines(title: str, xs: Sequence[float], series: Mapping[str, Sequence[float | None]], x_name: str) -> str:
    """One line a series over logarithmic xs above 0; missing values leave gaps, the first series is drawn thicker."""
    x = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, logarithmic=True)
    y = Axis(0.0, _top(value for values in series.values() for value in values), HEIGHT - BOTTOM, TOP)
    parts = _frame(y) + [_x_tick(x.at(value), f"{value:g}") for value in xs]
    for place, values in enumerate(series.values()):
        points = [
            f"{x.at(at):.1f},{y.at(value):.1f}" for at, value in zip(xs, values, strict=True) if value is not None
        ]
        dash = DASHES[place // len(COLOURS) % len(DASHES)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{_colour(place)}" '
            f'stroke-width="{3 if place == 0 else 1.5}" stroke-dasharray="{dash}"/>'
        )
    return _svg(title, parts, x_name) + legend(series)


def bars(title: str, names: Sequence[str], series: Mapping[str, Sequence[float | None]], x_name: str) -> str:
    """A group of bars for each name, one bar a series."""
    y = Axis(0.0, _top(value for values in series.values() for value in values), HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(names), 1)
    thickness = step * 0.8 / max(len(series), 1)
    parts = _frame(y)
    for group, name in enumerate(names):
        begin = LEFT + group * step + step * 0.1
        parts.append(_x_tick(begin + step * 0.4, name))
        for place, values in enumerate(series.values()):
            value = values[group]
            if value is not None:
                top = y.at(value)
                parts.append(
                    f'<rect x="{begin + place * thickness:.1f}" y="{top:.1f}" width="{thickness:.1f}" '
                    f'height="{HEIGHT - BOTTOM - top:.1f}" fill="{_colour(place)}"/>'
                )
    return _svg(title, parts, x_name) + legend(series)


def reliability(title: str, points: Sequence[tuple[float, float, float, float]]) -> str:
    """Points (predicted, observed, low, high) of shares with intervals; on the diagonal foretold is observed."""
    high = _top(value for point in points for value in point)
    x, y = Axis(0.0, high, LEFT, WIDTH - RIGHT), Axis(0.0, high, HEIGHT - BOTTOM, TOP)
    parts = _frame(y) + [
        _x_tick(x.at(high * place / TICKS), f"{high * place / TICKS:.2g}") for place in range(TICKS + 1)
    ]
    parts.append(
        f'<line x1="{x.at(0):.1f}" y1="{y.at(0):.1f}" x2="{x.at(high):.1f}" y2="{y.at(high):.1f}" stroke="#999" '
        'stroke-dasharray="4 4"/>'
    )
    for predicted, observed, lowest, highest in points:
        at = x.at(predicted)
        parts.append(
            f'<line x1="{at:.1f}" y1="{y.at(lowest):.1f}" x2="{at:.1f}" y2="{y.at(highest):.1f}" '
            f'stroke="{COLOURS[0]}" stroke-width="2"/>'
            f'<circle cx="{at:.1f}" cy="{y.at(observed):.1f}" r="4" fill="{COLOURS[0]}"/>'
        )
    return _svg(title, parts, "foretold probability")


def legend(series: Mapping[str, object]) -> str:
    """Which colour is whose."""
    entries = "".join(
        f'<span><i style="background:{_colour(place)}"></i>{escape(name)}</span>' for place, name in enumerate(series)
    )
    return f'<p class="legend">{entries}</p>'


def _svg(title: str, parts: Sequence[str], x_name: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        + "".join(parts)
        + f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text></svg>'
    )


def _frame(y: Axis) -> list[str]:
    """Horizontal lines with their values."""
    parts = []
    for place in range(TICKS + 1):
        value = y.low + (y.high - y.low) * place / TICKS
        at = y.at(value)
        parts.append(
            f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    return parts


def _x_tick(at: float, text: str) -> str:
    return f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>'


def _top(values: Iterable[float | None]) -> float:
    """The least multiple of half a power of ten at or above all values; 1 where none is above 0."""
    highest = max((value for value in values if value is not None and isfinite(value)), default=0.0)
    if highest <= 0:
        return 1.0
    step = 10.0 ** floor(log10(highest)) / 2
    return ceil(highest / step - 1e-9) * step


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
