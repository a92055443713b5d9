"""Pictures for reports, as SVG: lines over an axis, dots with intervals, and matrices of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 60, 50
COLOURS = ("#0b6e4f", "#c1440e", "#555555", "#2a5ca8", "#8a4fa0", "#b08800", "#20808d", "#7a5230")
TICKS = 5
CELL = 110, 44  # of a matrix


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values at each place of the axis, and how far each may be off, if that is known."""

    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def picture(
    title: str,
    unit: str,
    places: Sequence[float],
    lines: Mapping[str, Line],
    *,
    axis: str = "steps of training",
    doublings: bool = True,
    shaded: str = "95 % intervals",
) -> str:
    """An SVG with a line for each name. What lies between `low` and `high` is shaded.

    Args:
        title: what is shown.
        unit: of the values.
        places: along the axis, rising.
        lines: by name.
        axis: what the places are.
        doublings: whether the axis is one of powers of two; places are above 0 then.
        shaded: what the shaded parts are.
    """
    known = [v for line in lines.values() for part in (line.values, line.low, line.high) for v in part or ()]
    finite = [value for value in known if math.isfinite(value)] or [0.0]
    bottom, top = min(finite), max(finite)
    pad = 0.05 * (top - bottom) or 0.5
    bottom, top = bottom - pad, top + pad
    along = [math.log2(place) if doublings else place for place in places]
    first, last = along[0], along[-1]
    xs = [LEFT + ((at - first) / (last - first) if last > first else 0.5) * (WIDTH - LEFT - RIGHT) for at in along]

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    any_shaded = any(line.low is not None for line in lines.values())
    parts = [_text(12, 22, title, size=15, weight="bold")]
    parts.append(_text(12, 42, f"{unit}; shaded: {shaded}" if any_shaded else unit, size=11))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, axis, size=12, anchor="middle"))
    for value in _ticks(bottom, top):
        parts.append(_rule(LEFT, y(value), WIDTH - RIGHT, y(value), "#888888" if value == 0 else "#dddddd"))
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", size=11, anchor="end"))
    parts += [
        _text(
            x,
            HEIGHT - BOTTOM + 18,
            f"{int(place):,}" if place == int(place) else f"{place:g}",
            size=11,
            anchor="middle",
        )
        for x, place in zip(xs, places, strict=True)
    ]
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        if line.low is not None and line.high is not None:
            edge = [(x, y(v)) for x, v in zip(xs, line.high, strict=True) if math.isfinite(v)]
            edge += [(x, y(v)) for x, v in reversed(list(zip(xs, line.low, strict=True))) if math.isfinite(v)]
            parts.append(f'<polygon points="{_points(edge)}" fill="{colour}" fill-opacity="0.15"/>')
        shown = [(x, y(v)) for x, v in zip(xs, line.values, strict=True) if math.isfinite(v)]
        parts.append(f'<polyline points="{_points(shown)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in shown]
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 14 + 18 * i, name, size=12, colour=colour))
    return _svg(parts, WIDTH, HEIGHT)


def dots_picture(title: str, unit: str, names: Sequence[str], lines: Mapping[str, Line]) -> str:
    """An SVG with a dot for each name and line, side by side, on the bar of its interval.

    Args:
        title: what is shown.
        unit: of the values.
        names: what the values are of, from left to right.
        lines: by name, a value for each of `names`, with `low` and `high`.
    """
    known = [v for line in lines.values() for part in (line.values, line.low, line.high) for v in part or ()]
    finite = [0.0, *(value for value in known if math.isfinite(value))]
    bottom, top = min(finite), max(finite)
    pad = 0.05 * (top - bottom) or 0.5
    bottom, top = bottom - pad, top + pad
    column = max(90, 20 + round(7 * max(map(len, names), default=0)))
    width = LEFT + column * len(names) + RIGHT

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(12, 22, title, size=15, weight="bold"), _text(12, 42, f"{unit}; bars: 95 % intervals", size=11)]
    for value in _ticks(bottom, top):
        parts.append(_rule(LEFT, y(value), width - RIGHT, y(value), "#888888" if value == 0 else "#dddddd"))
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", size=11, anchor="end"))
    for k, name in enumerate(names):
        parts.append(_text(LEFT + column * (k + 0.5), HEIGHT - BOTTOM + 18, name, size=12, anchor="middle"))
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(_text(width - RIGHT + 12, TOP + 14 + 18 * i, name, size=12, colour=colour))
        off = 18 * (i - (len(lines) - 1) / 2)
        for k, value in enumerate(line.values):
            x = LEFT + column * (k + 0.5) + off
            if line.low is not None and line.high is not None and math.isfinite(line.low[k] + line.high[k]):
                parts.append(_rule(x, y(line.low[k]), x, y(line.high[k]), colour))
            if math.isfinite(value):
                parts.append(f'<circle cx="{x:.1f}" cy="{y(value):.1f}" r="4" fill="{colour}"/>')
    return _svg(parts, width, HEIGHT)


def matrix_picture(title: str, about: str, names: Sequence[str], values: Sequence[Sequence[float]], top: float) -> str:
    """An SVG of a square matrix: green cells are above 0, red ones below; each has its value.

    Args:
        title: what is shown.
        about: what a row, a column and a value are.
        names: of the rows and of the columns.
        values: by row; NaN where there is none.
        top: the value, up or down, that has the full colour.
    """
    left = 24 + round(7 * max(map(len, names), default=0))
    width, height = max(left + CELL[0] * len(names) + 12, 12 + round(6.2 * len(about))), 96 + CELL[1] * len(names)
    parts = [_text(12, 22, title, size=15, weight="bold"), _text(12, 42, about, size=11)]
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        middle = 80 + CELL[1] * (i + 0.5) + 4
        parts.append(_text(left + CELL[0] * (i + 0.5), 70, name, size=12, anchor="middle"))
        parts.append(_text(left - 8, middle, name, size=12, anchor="end"))
        for j, value in enumerate(row):
            known = math.isfinite(value)
            strength, colour = min(1.0, abs(value) / top) if known else 0.0, COLOURS[0] if value > 0 else COLOURS[1]
            parts.append(
                f'<rect x="{left + CELL[0] * j}" y="{80 + CELL[1] * i}" width="{CELL[0]}" height="{CELL[1]}" '
                f'fill="{colour}" fill-opacity="{0.85 * strength:.2f}" stroke="#dddddd"/>'
            )
            shown = f"{value:+.3f}" if known else "-"
            over = "#ffffff" if strength > 0.6 else "#222222"
            parts.append(_text(left + CELL[0] * (j + 0.5), middle, shown, size=12, anchor="middle", colour=over))
    return _svg(parts, width, height)


def _svg(parts: Sequence[str], width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif">\n<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _ticks(bottom: float, top: float) -> list[float]:
    """Round numbers in a range, about five."""
    rough = (top - bottom) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [round(i * step, 12) for i in range(math.ceil(bottom / step), math.floor(top / step) + 1)]


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(
    x: float, y: float, text: str, *, size: int, anchor: str = "start", weight: str = "normal", colour: str = "#222222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
