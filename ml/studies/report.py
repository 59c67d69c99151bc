"""What the studies' tables share: rows, intervals, and the facts of the runs behind them."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def paragraphs(text: str) -> str:
    """Each paragraph filled to 140 columns, whatever was put into it; headings stay as they are."""
    parts = [part.strip() for part in text.strip().split("\n\n")]
    return "\n\n".join(
        part if part.startswith("#") else textwrap.fill(" ".join(part.split()), 140, break_on_hyphens=False) for part in parts
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(value: float, draws: Array | Sequence[float], digits: int = 3, sign: bool = False) -> str:
    """ "0.312 (0.288 to 0.334)": the value with the 2.5% and 97.5% quantiles of its draws."""
    low, high = limits(draws)
    mark = "+" if sign else ""
    return f"{value:{mark}.{digits}f} ({low:{mark}.{digits}f} to {high:{mark}.{digits}f})"


def limits(draws: Array | Sequence[float]) -> tuple[float, float]:
    """95% percentile interval."""
    low, high = np.nanquantile(np.asarray(draws, float), [0.025, 0.975])
    return float(low), float(high)


def verdict(name: str, against: str, difference: float, draws: Array | Sequence[float], what: str) -> str:
    """A sentence that says what a paired difference shows, made of its numbers alone."""
    low, high = limits(draws)
    told, name = f"{difference:+.3f}, 95% {low:+.3f} to {high:+.3f}", name[0].upper() + name[1:]
    if low > 0:
        return f"{name} is above {against} in {what} ({told})."
    if high < 0:
        return f"{name} is below {against} in {what} ({told})."
    return f"{name} and {against} cannot be told apart in {what} ({told})."


def run_facts(cells: Sequence[dict[str, Any]]) -> str:
    """How many cells, what they cost, which code and machine made them."""
    codes = sorted({str(c["code"]) for c in cells})
    cpu, wall = sum(c["cpu_seconds"] for c in cells), sum(c["seconds"] for c in cells)
    return (
        f"{len(cells)} cells, {cpu / 60:.0f} minutes of one core ({wall / 60:.0f} by the clock of a machine that did other work, too), "
        f"code {', '.join(codes)}; {machine()}."
    )


def machine() -> str:
    """Processor and number of cores."""
    place = Path("/proc/cpuinfo")
    names = [x.split(":", 1)[1].strip() for x in place.read_text().splitlines() if x.startswith("model name")] if place.exists() else []
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"
