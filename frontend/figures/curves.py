"""What the curves of a training say, before anybody draws them: one panel per quantity, one line per fold and set."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .palette import GROUPS

# Series of these kinds are losses on one axis; any other kind ("validation r") is a quantity of its own.
LOSSES = {"training": False, "training loss": False, "loss": False, "validation": True, "validation loss": True}
FOLD = re.compile(r"^fold (\d+)\s+(.+)$")
# Where the largest value is so much above the smallest, a linear axis would show one bend and then nothing.
LOG_FROM = 100.0


@dataclass(frozen=True)
class Line:
    """One series. strong: measured on patients who were held out. each: values behind a point."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    dash: str
    strong: bool
    each: int


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes. log: the y axis is logarithmic. ticks: of both axes, low, high: what the y axis spans."""

    name: str
    lines: tuple[Line, ...]
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_max: float
    low: float
    high: float
    log: bool

    @property
    def caption(self) -> str:
        return f"{self.name}: {', '.join(line.name for line in self.lines)}"

    @property
    def y_label(self) -> str:
        return f"{self.name} (log scale)" if self.log else self.name


def panels(curves: Iterable[Any]) -> list[Panel]:
    """Panels of the curves of a job (`jobs.models.JobCurve`): losses first, then other quantities in the order in which they began."""
    drawn: dict[str, list[Line]] = {}
    for curve in curves:
        fold, kind = _parts(curve.series)
        colour, dash = GROUPS[(fold or 0) % len(GROUPS)]
        line = Line(curve.series, tuple(curve.x), tuple(curve.y), colour, dash, LOSSES.get(kind, kind.startswith("validation")), curve.each)
        if line.x:
            drawn.setdefault("Loss" if kind in LOSSES else kind[:1].upper() + kind[1:], []).append(line)
    return [_panel(name, drawn[name]) for name in sorted(drawn, key=lambda name: name != "Loss")]


def _parts(series: str) -> tuple[int | None, str]:
    """("fold 2 training") -> (1, "training"); a series without a fold keeps its whole name."""
    found = FOLD.match(series)
    return (int(found[1]) - 1, found[2]) if found else (None, series)


def _panel(name: str, lines: list[Line]) -> Panel:
    values = [y for line in lines for y in line.y]
    low, high = min(values), max(values)
    log = low > 0 and high / low >= LOG_FROM
    y_ticks = _powers(low, high) if log else nice_ticks(low, high)
    x_max = max(line.x[-1] for line in lines) or 1.0
    x_ticks = tuple(tick for tick in nice_ticks(0.0, x_max) if tick <= x_max * (1 + 1e-9))
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    return Panel(name, tuple(sorted(lines, key=lambda one: one.name)), x_ticks, y_ticks, x_max, low, high, log)


def nice_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Up to `most` round numbers (1, 2, 5 times a power of ten) that enclose low and high."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2
    size = 10.0 ** math.floor(math.log10((high - low) / (most - 1)))
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    return tuple(round(place * step, 12) for place in range(first, last + 1))


def _powers(low: float, high: float) -> Sequence[float]:
    return tuple(10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1))
