"""Tissue mask -> tiles: share of tissue in every square, beside shapely with a prepared polygon of the same mask; one thread.

Run: python tests/bench/bench_tissue_tiles.py
Two peers: a loop over the squares as whole-slide tools write it (contains, intersects, then the area of the intersection), and the same
squares handed to shapely as arrays at once. Shares are compared for all squares, and so is which ones are selected; making the polygon is
not counted against shapely, making our table is counted against us. Then a loop that averages mask cells per tile, which is
what one writes with OpenCV: its squares snap to whole cells, so that its shares differ; and shapely's answer to
whether a square touches tissue at all, which is no share.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import shapely
from scipy import ndimage
from table import table_row

from ml.slides.grid import tile_grid, tissue_share
from ml.slides.tissue import TissueMask

MPP, CELL_UM, TILE_UM, MIN_TISSUE = 0.25, 8.0, 60.0, 0.3
ROWS, COLS = 1250, 1750  # a scan of 10 x 14 mm
REPEATS = 5
TOLERANCE = 1e-9  # of a share: both are exact up to the rounding of floats


class Scan:
    """Size and um per px0 of a slide: all that a grid asks of it."""

    size = (int(COLS * CELL_UM / MPP), int(ROWS * CELL_UM / MPP))

    def need_mpp(self) -> float:
        return MPP


def drawn_mask(ragged: bool) -> TissueMask:
    """Blobs with gaps on about a third of the slide; their borders ragged (biopsies, fat), or smooth (one piece cut clean)."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(ROWS, COLS)), 25 if ragged else 120)
    field = noise / noise.std()
    if ragged:
        fine = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(ROWS, COLS)), 5)
        field += 0.35 * fine / fine.std()
    return TissueMask(field > 0.4, CELL_UM, CELL_UM / MPP, 20.0)


def polygon_of(mask: TissueMask):
    """The mask's cells as one polygon in px0: runs of each row, united."""
    runs = []
    for row, cells in enumerate(mask.mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.view(np.int8), [0]])))
        runs += [(start, row, end, row + 1) for start, end in zip(edges[::2], edges[1::2])]
    area = shapely.union_all(shapely.box(*(np.array(runs, float) * mask.cell_px0).T))
    shapely.prepare(area)
    return area


def corners() -> tuple[np.ndarray, np.ndarray, float]:
    """Every square that lies wholly on the slide: xs, ys (px0) and the side."""
    side = TILE_UM / MPP
    xs, ys = (np.rint(np.arange(int(length // side)) * side).astype(np.int64) for length in Scan.size)
    return xs, ys, side


def by_shapely_loop(area) -> np.ndarray:
    xs, ys, side = corners()
    shares = np.zeros((len(ys), len(xs)))
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            square = shapely.box(x, y, x + side, y + side)
            if area.contains(square):
                shares[i, j] = 1.0
            elif area.intersects(square):
                shares[i, j] = area.intersection(square).area / side**2
    return shares


def by_shapely_arrays(area) -> np.ndarray:
    xs, ys, side = corners()
    x, y = np.meshgrid(xs, ys)
    squares = shapely.box(x, y, x + side, y + side)
    shares = shapely.contains(area, squares).astype(float)
    rest = (shares == 0) & shapely.intersects(area, squares)
    shares[rest] = shapely.area(shapely.intersection(area, squares[rest])) / side**2
    return shares


def by_intersects(area) -> np.ndarray:
    xs, ys, side = corners()
    x, y = np.meshgrid(xs, ys)
    return shapely.intersects(area, shapely.box(x, y, x + side, y + side))


def by_cells(mask: TissueMask) -> np.ndarray:
    xs, ys, side = corners()
    cells = round(side / mask.cell_px0)
    shares = np.zeros((len(ys), len(xs)))
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            row, col = round(y / mask.cell_px0), round(x / mask.cell_px0)
            shares[i, j] = mask.mask[row : row + cells, col : col + cells].mean()
    return shares


def best(call, repeats: int) -> tuple[float, object]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> int:
    return max(compare("ragged tissue", drawn_mask(ragged=True)), compare("smooth tissue", drawn_mask(ragged=False)))


def compare(title: str, mask: TissueMask) -> int:
    scan = Scan()
    area = polygon_of(mask)
    xs, ys, side = corners()
    squares = len(xs) * len(ys)
    ours, grid = best(lambda: tile_grid(mask, scan, TILE_UM, TILE_UM, MIN_TISSUE), REPEATS)
    shares = tissue_share(mask.mask, mask.cell_px0, xs, ys, side)
    points = shapely.get_num_coordinates(area)
    print(f"{title}: {squares} squares of {TILE_UM:.0f} um, tissue on {mask.mask.mean():.0%}, polygon of {points} points")
    print(f"ours, summed-area table          {ours * 1e3:9.1f} ms  {ours / squares * 1e6:7.2f} us per square")
    wrong = 0
    for name, call, repeats in (
        ("shapely, prepared, loop", lambda: by_shapely_loop(area), 1),
        ("shapely, prepared, arrays", lambda: by_shapely_arrays(area), 2),
        ("mean of mask cells, loop", lambda: by_cells(mask), 1),
    ):
        theirs, other = best(call, repeats)
        chosen = other >= MIN_TISSUE - TOLERANCE
        same = np.array_equal(chosen, shares >= MIN_TISSUE - TOLERANCE)
        print(f"{name:32} {theirs * 1e3:9.1f} ms  {theirs / squares * 1e6:7.2f} us per square  {theirs / ours:6.0f} times ours")
        print(f"  largest difference of a share {np.abs(other - shares).max():.1e}; the same {chosen.sum()} of {len(grid)} tiles: {same}")
        if name == "shapely, prepared, loop":
            differ = f"share differs by {np.abs(other - shares).max():.0e}, same tiles: {same}"
            micro = f"{theirs / squares * 1e6:.1f} us", f"{ours / squares * 1e6:.2f} us"
            table_row(f"tissue mask -> tiles, {title}", "shapely polygon per square", *micro, f"{theirs / ours:.0f}x", ">= 8x", differ)
        wrong += name.startswith("shapely") and not (same and np.abs(other - shares).max() < TOLERANCE and chosen.sum() == len(grid))
    cheap, _ = best(lambda: by_intersects(area), 2)
    name = "shapely, touches only, no share"
    print(f"{name:32} {cheap * 1e3:9.1f} ms  {cheap / squares * 1e6:7.2f} us per square  {cheap / ours:6.0f} times ours")
    print(f"aim: at least 8 times; equal within {TOLERANCE:g} (both are exact sums of the same rectangles, rounded as floats)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
