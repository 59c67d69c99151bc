"""Regions on a slide's mask: the exact share of every cell inside an outline, beside shapely on a prepared outline; one thread.

Run: python tests/bench/bench_regions.py
The peer gets all cells as arrays: those wholly inside by `contains`, those on the border by the area of the intersection. Shares are
compared for all cells.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import shapely

from ml.slides.regions import coverage

CELL = 32.0  # px0: 8 um on a 40x scan
REPEATS = 3


def outline(points: int, radius: float, centre: float, seed: int = 0) -> Any:
    """A lobed outline with one hole, as a brush leaves it."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    waves = sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.random() * 6) for k in range(2, 9))
    ring = centre + radius * (1 + 0.3 * waves)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return shapely.make_valid(shapely.polygons(ring)).difference(shapely.Point(centre, centre).buffer(radius / 4, 64))


def by_cells(area: Any, side: int) -> np.ndarray:
    """The peer: shapely's area of every cell cut with the (prepared) outline."""
    y, x = np.mgrid[0:side, 0:side] * CELL
    cells = shapely.box(x, y, x + CELL, y + CELL)
    shapely.prepare(area)
    share = shapely.contains(area, cells).astype(float)
    border = shapely.intersects(area, cells) & (share == 0)
    share[border] = shapely.area(shapely.intersection(cells[border], area)) / CELL**2
    return share


def timed(work: Callable[..., np.ndarray], *given: Any) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    found = work(*given)
    return time.perf_counter() - start, found


def main() -> None:
    print(f"{'cells':>12} {'points':>8} {'shapely, arrays':>18} {'ours':>10} {'ratio':>7}  largest difference")
    for side, points in ((400, 500), (1000, 2000), (1500, 20_000)):
        area = outline(points, 0.3 * side * CELL, 0.5 * side * CELL)
        theirs, ours = [], []
        for _ in range(REPEATS):
            seconds, expected = timed(by_cells, area, side)
            theirs.append(seconds)
            seconds, found = timed(coverage, area, (side, side), CELL)
            ours.append(seconds)
        off = float(np.abs(found - expected).max())
        assert off < 1e-5, off
        a, b = statistics.median(theirs), statistics.median(ours)
        print(f"{side:>6}x{side:<5} {points:>8} {a * 1e3:>15.0f} ms {b * 1e3:>7.0f} ms {a / b:>6.0f}x  {off:.1e}")


if __name__ == "__main__":
    main()
