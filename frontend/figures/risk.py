"""A patient's absolute risk on a scale from 0 to 100 per cent, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

from .svg import GRID, INK, INK_3, LINE, document, line, tag, text

ACCENT = "#0a5873"


@dataclass(frozen=True)
class RiskStrip:
    """probability, lower, upper: 0..1 of an event by `horizon`, in words ("24 months")."""

    probability: float
    lower: float
    upper: float
    horizon: str


def draw_strip(strip: RiskStrip, width: float = 420.0) -> str:
    """The scale as SVG: the bar is the interval, the mark the estimate."""
    left, right, middle, height = 10.0, 22.0, 22.0, 54.0

    def x(p: float) -> float:
        return left + (width - left - right) * min(max(p, 0.0), 1.0)

    parts = [tag("rect", x=left, y=middle - 5, width=width - left - right, height=10.0, rx=5, fill=GRID)]
    for tenth in range(0, 11, 2):
        at = x(tenth / 10)
        parts.append(line(at, middle + 8, at, middle + 12, stroke=LINE))
        parts.append(text(at, middle + 26, f"{tenth * 10}%", size=11, anchor="middle", fill=INK_3))
    span = max(x(strip.upper) - x(strip.lower), 2.0)
    parts.append(tag("rect", x=x(strip.lower), y=middle - 5, width=span, height=10.0, rx=5, fill=ACCENT, fill_opacity="0.35"))
    parts.append(line(x(strip.probability), middle - 12, x(strip.probability), middle + 9, stroke=INK, stroke_width=3))
    said = f"Risk of an event within {strip.horizon}: {strip.probability:.0%}, 95% interval {strip.lower:.0%} to {strip.upper:.0%}."
    return document(width, height, said, said, "".join(parts), class_="figure strip")
