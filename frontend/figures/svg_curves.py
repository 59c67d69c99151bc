"""Curves of a training as SVG: axes, one line per fold and set, and a legend under the plot."""

from __future__ import annotations

import math

from .curves import Line, Panel
from .palette import SVG_DASHES
from .svg import GRID, INK, INK_2, INK_3, LINE, document, line, path, tag, text

TOP, RIGHT, LEFT, PLOT_HEIGHT, ROW = 30.0, 16.0, 52.0, 210.0, 20.0
# Widths in the legend: a letter, and what stands around a name (its line before it, its value after it).
LETTER, AROUND = 6.2, 92.0
# More points than this are a line without dots.
DOTS = 40


def draw(panel: Panel, width: float = 640.0) -> str:
    """The panel as an SVG string, `width` user units wide; draw it narrow for a phone rather than shrink its letters."""
    bottom = TOP + PLOT_HEIGHT

    def x(value: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * value / panel.x_max

    def y(value: float) -> float:
        low, high, at = (math.log10(v) for v in (panel.low, panel.high, value)) if panel.log else (panel.low, panel.high, value)
        return bottom - PLOT_HEIGHT * (at - low) / (high - low)

    parts = [text(0, 14, panel.y_label, size=12, fill=INK_2, weight=600)]
    for tick in panel.y_ticks:
        lowest = tick == panel.y_ticks[0]
        parts.append(line(LEFT, y(tick), width - RIGHT, y(tick), stroke=LINE if lowest else GRID))
        parts.append(text(LEFT - 8, y(tick) + 4, written(tick), size=11, anchor="end", fill=INK_3))
    for tick in panel.x_ticks:
        parts.append(line(x(tick), bottom, x(tick), bottom + 4, stroke=LINE))
        parts.append(text(x(tick), bottom + 17, written(tick), size=11, anchor="middle", fill=INK_3))
    parts.append(text((LEFT + width - RIGHT) / 2, bottom + 34, "Epochs passed", size=11, anchor="middle", fill=INK_2))
    for one in sorted(panel.lines, key=lambda one: one.strong):
        parts.append(_line([(x(a), y(b)) for a, b in zip(one.x, one.y)], one))
    legend, height = _legend(panel, width, bottom + 54)
    said = " ".join(f"{one.name}: {value(one.y[0])} at the start, now {value(one.y[-1])}." for one in panel.lines)
    return document(width, height, panel.caption, said, "".join(parts) + legend, class_="figure curves")


def _line(points: list[tuple[float, float]], one: Line) -> str:
    drawn = path(points, fill="none", stroke=one.colour, stroke_width=_width(one), stroke_dasharray=SVG_DASHES[one.dash] or None,
                 stroke_linejoin="round", stroke_opacity=None if one.strong else "0.75")  # fmt: skip
    # A single point has no line yet; what is measured once per epoch shows where.
    if len(points) == 1 or (one.strong and len(points) <= DOTS):
        drawn += "".join(tag("circle", cx=a, cy=b, r=2.6, fill=one.colour) for a, b in points)
    return tag("g", drawn)


def _width(one: Line) -> float:
    return 2.4 if one.strong else 1.4


def _legend(panel: Panel, width: float, top: float) -> tuple[str, float]:
    """A sample of each line before its name and last value, in as many columns as fit. Returns the drawing and the total height."""
    entry = AROUND + LETTER * max(len(one.name) for one in panel.lines)
    columns = max(1, min(int(width // entry), len(panel.lines)))
    if columns > 2 and len({one.strong for one in panel.lines}) > 1:
        columns -= columns % 2  # both lines of a fold stay in one row
    rows = math.ceil(len(panel.lines) / columns)
    parts = []
    for place, one in enumerate(panel.lines):
        left, at = (place % columns) * (width / columns), top + (place // columns) * ROW
        dash = SVG_DASHES[one.dash] or None
        parts.append(line(left, at, left + 26, at, stroke=one.colour, stroke_width=_width(one), stroke_dasharray=dash))
        if one.strong:
            parts.append(tag("circle", cx=left + 13, cy=at, r=2.6, fill=one.colour))
        parts.append(text(left + 33, at + 4, one.name, size=11.5, fill=INK))
        parts.append(text(left + width / columns - 14, at + 4, value(one.y[-1]), size=11.5, anchor="end", fill=INK_3))
    return "".join(parts), top + rows * ROW - 6


def written(tick: float) -> str:
    """A round number as short as it is."""
    return f"{tick:.3g}".replace("-", "−")


def value(figure: float) -> str:
    """A figure with three significant digits, so that figures under each other compare."""
    return (f"{figure:#.3g}".rstrip(".") if 1e-3 <= abs(figure) < 1e3 else f"{figure:.3g}").replace("-", "−")
