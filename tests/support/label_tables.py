"""Small label tables of the slides of `people`: 1120 px of 0.5 um, so tiles of 56 um are 112 px."""

from typing import Any

import numpy as np

MARKERS = ("CD8", "CD68")


def csv_of(slide: Any, n: int = 12, markers: Any = MARKERS, name: str | None = None, scale: float = 1.0, seed: int = 0) -> bytes:
    """A table of n tiles side by side; the slide under its own name unless another is given."""
    rng = np.random.default_rng(seed + slide.pk)
    called = slide.name if name is None else name
    rows = ["slide,index,x,y," + ",".join(markers)]
    for i in range(n):
        values = ",".join(f"{scale * value:.6g}" for value in rng.random(len(markers)))
        rows.append(f"{called},{i},{112 * (i % 5)},{112 * (i // 5)},{values}")
    return ("\n".join(rows) + "\n").encode()


def changed(table: bytes, row: int, column: str, value: str) -> bytes:
    """The table with another value in one cell; row as a person counts (the header is row 1)."""
    lines = [line.split(",") for line in table.decode().splitlines()]
    lines[row - 1][lines[0].index(column)] = value
    return ("\n".join(map(",".join, lines)) + "\n").encode()
