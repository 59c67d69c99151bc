"""What the curves of a training say, before anybody draws them: one panel per quantity, one line per fold and set."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .palette import GROUPS

# Series of these kinds are losses on one axis; any other kind ("held-out C") is a quantity of its own.
LOSSES = frozenset(("loss", "training", "training loss", "validation", "validation loss", "held-out", "held-out loss"))
HELD_OUT = ("validation", "held-out")
# "H&E alone, fold 2 training": which of several models, which fold, what.
SERIES = re.compile(r"^(?:(?P<model>.+), )?fold (?P<fold>\d+) (?P<kind>.+)$")
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
    """Panels of the curves of a job (`jobs.models.JobCurve`): model by model, its losses first, then its other quantities."""
    drawn: dict[tuple[str, str], list[Line]] = {}
    for curve in curves:
        model, fold, kind = _parts(curve.series)
        if not curve.x:
            continue
        colour, dash = GROUPS[(fold - 1) % len(GROUPS)]
        name = f"fold {fold} {kind}" if fold else curve.series
        line = Line(name, tuple(curve.x), tuple(curve.y), colour, dash, kind.startswith(HELD_OUT), curve.each)
        drawn.setdefault((model, "Loss" if kind in LOSSES else kind[:1].upper() + kind[1:]), []).append(line)
    models = list(dict.fromkeys(model for model, _ in drawn))
    order = sorted(drawn, key=lambda place: (models.index(place[0]), place[1] != "Loss"))
    return [_panel(f"{quantity}, {model}" if model else quantity, drawn[model, quantity]) for model, quantity in order]


def _parts(series: str) -> tuple[str, int, str]:
    """("", 2, "training") of "fold 2 training"; a series without a fold has fold 0 and keeps its whole name."""
    found = SERIES.match(series)
    return (found["model"] or "", int(found["fold"]), found["kind"]) if found else ("", 0, series)


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


def _powers(low: float, high: float) -> tuple[float, ...]:
    return tuple(10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1))
