"""A patient's history along time: samplings, treatments, progressions, board decisions, last contact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .svg import GRID, INK, INK_2, INK_3, LINE, document, line, tag, text

DAYS_PER_MONTH = 30.4375
STEPS = (1, 2, 3, 6, 12, 24, 60, 120)
ROW, LEFT, RIGHT, TOP = 30.0, 104.0, 24.0, 10.0
COLOURS = {"sampling": "#14212c", "treatment": "#0072B2", "progression": "#D55E00", "outcome": "#14212c"}


@dataclass(frozen=True)
class Moment:
    """Something that happened. day and end_day: since time zero; end_day None for a moment. lane names its row."""

    lane: str
    kind: str
    name: str
    day: float
    end_day: float | None = None
    open_end: bool = False


@dataclass(frozen=True)
class History:
    """time_zero: what day 0 is, in words. undated: how many events have no day and so cannot be drawn."""

    moments: Sequence[Moment]
    time_zero: str
    undated: int = 0


def draw_history(history: History, width: float = 820.0) -> str:
    """The history as SVG, one row per lane, months along the axis; an empty string where nothing has a day."""
    if not history.moments:
        return ""
    lanes = list(dict.fromkeys(m.lane for m in history.moments))
    first = min(0.0, *(m.day for m in history.moments))
    last = max(DAYS_PER_MONTH, *(m.end_day or m.day for m in history.moments))
    left = 78.0 if width < 480 else LEFT

    def x(day: float) -> float:
        return left + (width - left - RIGHT) * (day - first) / (last - first)

    bottom = TOP + ROW * len(lanes)
    parts = [_axis(first, last, x, bottom, 4 if width < 480 else 9)]
    for place, lane in enumerate(lanes):
        middle = TOP + ROW * place + ROW / 2
        parts.append(text(0, middle + 4, lane, size=11.5, fill=INK_2))
        taken = -1e9
        for moment in (m for m in history.moments if m.lane == lane):
            drawn, taken = _moment(moment, x, middle, width, taken)
            parts.append(drawn)
    parts.append(text(left, bottom + 34, f"Months since {history.time_zero}", size=11, fill=INK_3))
    said = " ".join(f"{m.lane}: {m.name}, month {m.day / DAYS_PER_MONTH:.1f}." for m in history.moments)
    return document(width, bottom + 40, "Clinical timeline", said, "".join(parts), class_="figure history")


def _axis(first: float, last: float, x: object, bottom: float, at_most: int) -> str:
    step = next((s for s in STEPS if (last - first) / DAYS_PER_MONTH / s <= at_most), STEPS[-1])
    parts, month = [], int(first / DAYS_PER_MONTH // step) * step
    while month * DAYS_PER_MONTH <= last:
        if month * DAYS_PER_MONTH >= first:
            at = x(month * DAYS_PER_MONTH)  # type: ignore[operator]
            parts.append(line(at, TOP, at, bottom, stroke=LINE if month == 0 else GRID))
            parts.append(text(at, bottom + 16, str(month), size=11, anchor="middle", fill=INK_3))
        month += step
    return "".join(parts)


def _moment(moment: Moment, x: object, middle: float, width: float, taken: float) -> tuple[str, float]:
    """One bar or mark with its name, and how far to the right it reaches; a name that would run into its neighbour is left to the title."""
    at = x(moment.day)  # type: ignore[operator]
    colour = COLOURS.get(moment.kind, INK)
    title = tag("title", f"{moment.name}, month {moment.day / DAYS_PER_MONTH:.1f}")
    if moment.end_day is not None and moment.end_day > moment.day:
        end = max(x(moment.end_day), at + 4)  # type: ignore[operator]
        mark = tag("rect", title, x=at, y=middle - 6, width=end - at, height=12.0, rx=3, fill=colour, fill_opacity="0.85")
        label_at = end + 6
    elif moment.kind == "outcome":
        fill = "none" if moment.open_end else colour
        mark = tag("rect", title, x=at - 5, y=middle - 5, width=10.0, height=10.0, fill=fill, stroke=colour, stroke_width=2)
        label_at = at + 10
    elif moment.kind == "progression":
        points = f"{at:.1f},{middle - 7:.1f} {at + 7:.1f},{middle + 6:.1f} {at - 7:.1f},{middle + 6:.1f}"
        mark = tag("polygon", title, points=points, fill=colour)
        label_at = at + 11
    else:
        mark = tag("circle", title, cx=at, cy=middle, r=6, fill=colour)
        label_at = at + 11
    size = 6.3 * len(moment.name)
    if label_at + size > width:
        label_at = at - 11 - size
        if label_at < taken + 4:
            return mark, max(taken, at + 8)
        return mark + text(label_at, middle + 4, moment.name, size=11.5, fill=INK), at + 8
    if label_at < taken:
        return mark, max(taken, label_at)
    return mark + text(label_at, middle + 4, moment.name, size=11.5, fill=INK), label_at + size
