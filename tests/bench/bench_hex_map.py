"""HEX map assembly: predictions of 60,000 tiles -> map, beside the loop of the released script; one thread, maps compared in the run.

Run: python tests/bench/bench_hex_map.py
Row 1: the released assembly (a cell per tile, a later tile overwrites an earlier one), on coordinates in the order of a tiling, and on
shuffled ones of which a tenth fall into a cell that has a tile or beyond the slide. Row 2: our map of overlapping tiles, four steps to a
tile, beside the loop that one writes for it: every tile added to the cells that it covers, and divided by how many there were.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import time
from functools import partial
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from ml.hex.maps import to_map
from ml.hex.panel import HEX_PANEL
from ml.hex.released_maps import released_map
from ml.types import TileGrid

COLS, ROWS, TILE, MPP = 300, 200, 224, 0.25
SIZE = (COLS * TILE + 50, ROWS * TILE + 50)
STEPS = 4  # to a tile, where tiles overlap
REPEATS = 7
TOLERANCE = 1e-5  # of a mean, in float32


def by_loop(coords: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """What the released script does, tile by tile."""
    width, height = SIZE[0] // TILE + 1, SIZE[1] // TILE + 1
    laid = np.zeros((height, width, predictions.shape[1]), np.float16)
    for (x, y), prediction in zip(coords, predictions):
        col, row = int(x / TILE), int(y / TILE)
        if row < height and col < width:
            laid[row, col] = prediction
    return laid


def averaged_by_loop(grid: TileGrid, values: np.ndarray, step: int) -> np.ndarray:
    """Sum and count of the tiles over each cell, (P, rows, cols) float32, NaN where there is none."""
    cells = (grid.xy - grid.xy.min(axis=0)) // step
    shape = (int(cells[:, 1].max()) + STEPS, int(cells[:, 0].max()) + STEPS)
    total, count = np.zeros((*shape, values.shape[1])), np.zeros((*shape, 1))
    for (col, row), value in zip(cells, values):
        total[row : row + STEPS, col : col + STEPS] += value
        count[row : row + STEPS, col : col + STEPS] += 1
    with np.errstate(invalid="ignore"):
        return np.moveaxis(total / count, -1, 0).astype(np.float32)


def best(call, repeats: int) -> tuple[float, np.ndarray]:
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def told(name: str, theirs: float, ours: float, equality: str, equal: bool) -> int:
    print(f"{name:34} loop {1e3 * theirs:6.1f} ms, ours {1e3 * ours:5.1f} ms, ratio {theirs / ours:.1f}x; {equality}: {equal}")
    return 0 if equal else 1


def main() -> int:
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(COLS), np.arange(ROWS))
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    predictions = rng.random((len(places), len(HEX_PANEL))).astype(np.float32)
    tiling = places * TILE + 17
    mixed = tiling.copy()
    again = rng.choice(len(mixed), len(mixed) // 10, replace=False)
    mixed[again] = mixed[rng.choice(len(mixed), len(again))] + rng.integers(0, 5 * TILE, (len(again), 2))
    print(f"{len(places):,} tiles, {len(HEX_PANEL)} markers; aim: at least 5 times")
    wrong = 0
    for name, coords in (("order of a tiling", tiling), ("shuffled, a tenth in other cells", rng.permutation(mixed))):
        theirs, expected = best(partial(by_loop, coords, predictions), REPEATS)
        ours, found = best(partial(released_map, coords, predictions, SIZE, MPP), REPEATS)
        wrong += told(name, theirs, ours, "maps equal", found.dtype == expected.dtype and np.array_equal(found, expected))
    step = TILE // STEPS
    grid = TileGrid(places * step, float(TILE), MPP, SIZE)
    theirs, expected = best(partial(averaged_by_loop, grid, predictions, step), REPEATS)
    ours, found = best(lambda: to_map(predictions, grid, HEX_PANEL, step_um=step * MPP).values, REPEATS)
    worst = float(np.nanmax(np.abs(found - expected)))
    equal = bool(np.array_equal(np.isnan(found), np.isnan(expected)) and worst < TOLERANCE)
    wrong += told(f"averaged, {STEPS} steps to a tile", theirs, ours, f"same cells, largest difference {worst:.0e}", equal)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
