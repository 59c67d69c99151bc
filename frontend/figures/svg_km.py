"""Kaplan-Meier curves as SVG, with numbers at risk under the axis."""

from __future__ import annotations

from collections.abc import Callable

from .palette import SVG_DASHES
from .survival import Curve, SurvivalFigure
from .svg import GRID, INK, INK_2, INK_3, LINE, document, line, path, steps, tag, text

TOP, RIGHT, PLOT_HEIGHT, ROW = 14.0, 14.0, 230.0, 19.0
Scale = Callable[[float], float]


def draw(figure: SurvivalFigure, width: float = 640.0) -> str:
    """The figure as an SVG string, `width` user units wide; draw it narrow for a phone rather than shrink its letters."""
    narrow = width < 480
    left = 44.0
    ticks = figure.ticks[::2] if narrow and len(figure.ticks) > 5 else figure.ticks
    bottom = TOP + PLOT_HEIGHT
    span = max(figure.x_max, 1e-9)

    def x(t: float) -> float:
        return left + (width - left - RIGHT) * t / span

    def y(s: float) -> float:
        return bottom - PLOT_HEIGHT * s

    parts = [_axes(figure, x, y, ticks, left, width, bottom)]
    if figure.horizon is not None and figure.horizon <= span:
        parts.append(_horizon(figure, x, bottom))
    for curve in sorted(figure.drawn, key=lambda c: c.marked):
        parts.append(_curve(curve, x, y))
    table, height = _at_risk(figure, x, ticks, left, bottom + 48)
    parts.append(table)
    said = " ".join(f"{c.name}: {c.n} patients, median {c.median}." for c in figure.curves)
    return document(width, height, figure.caption, said, "".join(parts), class_="figure km")


def _axes(figure: SurvivalFigure, x: Scale, y: Scale, ticks: tuple[float, ...], left: float, width: float, bottom: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(line(left, y(share), width - RIGHT, y(share), stroke=LINE if share == 0 else GRID))
        parts.append(text(left - 6, y(share) + 4, f"{share:.0%}", size=11, anchor="end", fill=INK_3))
    for tick in ticks:
        parts.append(line(x(tick), bottom, x(tick), bottom + 4, stroke=LINE))
        parts.append(text(x(tick), bottom + 17, f"{tick:.0f}", size=11, anchor="middle", fill=INK_3))
    parts.append(text((left + width - RIGHT) / 2, bottom + 33, figure.x_label, size=11, anchor="middle", fill=INK_2))
    return "".join(parts)


def _horizon(figure: SurvivalFigure, x: Scale, bottom: float) -> str:
    at = x(figure.horizon or 0.0)
    label = f"{figure.horizon:.0f} {figure.unit}"
    return line(at, TOP, at, bottom, stroke=INK_3, stroke_dasharray="2 4") + text(at + 5, TOP + 9, label, size=11, fill=INK_3)


def _curve(curve: Curve, x: Scale, y: Scale) -> str:
    parts = []
    end = x(curve.time[-1])
    if curve.band:
        upper = steps([(x(t), y(hi)) for t, _, hi in curve.band])
        lower = steps([(x(t), y(lo)) for t, lo, _ in curve.band])
        # A step function holds its last limits until the curve ends.
        upper.append((end, upper[-1][1]))
        lower.append((end, lower[-1][1]))
        parts.append(path([*upper, *reversed(lower)], close=True, fill=curve.colour, fill_opacity="0.12", stroke="none"))
    corners = steps([(x(t), y(s)) for t, s in zip(curve.time, curve.survival)])
    dash = SVG_DASHES[curve.dash] or None
    parts.append(path(corners, fill="none", stroke=curve.colour, stroke_width=3.0 if curve.marked else 1.8, stroke_dasharray=dash))
    for t, s in curve.censored:
        parts.append(line(x(t), y(s) - 4, x(t), y(s) + 4, stroke=curve.colour, stroke_width=1.2))
    return tag("g", "".join(parts))


def _at_risk(figure: SurvivalFigure, x: Scale, ticks: tuple[float, ...], left: float, top: float) -> tuple[str, float]:
    """Legend and numbers at risk in one: the sample of each line stands before its row. Returns the drawing and the total height."""
    parts = [text(0, top + 10, "At risk", size=11, fill=INK_3, weight=600)]
    place = {tick: i for i, tick in enumerate(figure.ticks)}
    row = top + 24
    for curve in figure.curves:
        dash = SVG_DASHES[curve.dash] or None
        parts.append(line(0, row, 26, row, stroke=curve.colour, stroke_width=3.0 if curve.marked else 2.0, stroke_dasharray=dash))
        name = f"{curve.name} (n {curve.n}" + ("" if curve.events is None else f", {curve.events} events") + ")"
        if curve.suppressed:
            name += ": too few to draw"
        elif curve.marked:
            name += ": this patient's group"
        parts.append(text(32, row + 4, name, size=11.5, fill=INK, weight=650 if curve.marked else None))
        if curve.at_risk:
            for tick in ticks:
                parts.append(text(x(tick), row + ROW + 1, str(curve.at_risk[place[tick]]), size=11, anchor="middle"))
            row += ROW
        row += ROW
    return "".join(parts), row - 4
