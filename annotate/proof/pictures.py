"""Pictures of a proof, as SVG: lines over the steps of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 60, 50
COLOURS = ("#0b6e4f", "#c1440e", "#555555", "#2a5ca8", "#8a4fa0", "#b08800", "#20808d", "#7a5230")
TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values at each step, and how far each may be off, if that is known."""

    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def picture(title: str, unit: str, steps: Sequence[int], lines: Mapping[str, Line]) -> str:
    """An SVG with a line for each name, over the steps on a scale of powers of two. Intervals are shaded.

    Args:
        title: what is shown.
        unit: of the values.
        steps: above 0, rising.
        lines: by name.
    """
    known = [v for line in lines.values() for part in (line.values, line.low, line.high) for v in part or ()]
    finite = [value for value in known if math.isfinite(value)] or [0.0]
    bottom, top = min(finite), max(finite)
    pad = 0.05 * (top - bottom) or 0.5
    bottom, top = bottom - pad, top + pad
    first, last = math.log2(steps[0]), math.log2(steps[-1])

    def x(step: int) -> float:
        along = (math.log2(step) - first) / (last - first) if last > first else 0.5
        return LEFT + along * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    shaded = any(line.low is not None for line in lines.values())
    parts = [_text(12, 22, title, size=15, weight="bold")]
    parts.append(_text(12, 42, f"{unit}; shaded: 95 % intervals" if shaded else unit, size=11))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "steps of training", size=12, anchor="middle"))
    for value in _ticks(bottom, top):
        parts.append(_rule(LEFT, y(value), WIDTH - RIGHT, y(value), "#888888" if value == 0 else "#dddddd"))
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:g}", size=11, anchor="end"))
    parts += [_text(x(step), HEIGHT - BOTTOM + 18, f"{step:,}", size=11, anchor="middle") for step in steps]
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        if line.low is not None and line.high is not None:
            edge = [(x(step), y(v)) for step, v in zip(steps, line.high, strict=True) if math.isfinite(v)]
            edge += [(x(s), y(v)) for s, v in reversed(list(zip(steps, line.low, strict=True))) if math.isfinite(v)]
            parts.append(f'<polygon points="{_points(edge)}" fill="{colour}" fill-opacity="0.15"/>')
        shown = [(x(step), y(v)) for step, v in zip(steps, line.values, strict=True) if math.isfinite(v)]
        parts.append(f'<polyline points="{_points(shown)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in shown]
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 14 + 18 * i, name, size=12, colour=colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
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
