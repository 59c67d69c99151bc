"""A feature file of 20,000 tiles x 1,024 values: full read and 2,048 random rows, beside HDF5 chunked (1, D) as TRIDENT and CLAM write it.

Run: python tests/bench/bench_features_file.py
Prints both times, the ratios, and whether the same numbers came back. The files are in the page cache for both; h5py reads the other one as
those tools do (`file["features"][:]`) and with sorted rows, which it insists on.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import tempfile
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import h5py
import numpy as np
from table import table_row

from ml.slides.features import read_bag, read_rows, write_bag
from ml.types import FeatureBag, TileGrid

N, DIM, ROWS, REPEATS = 20_000, 1_024, 2_048, 7


def write_theirs(path, bag):
    with h5py.File(path, "w") as file:
        for name, array in (("features", bag.features), ("coords", bag.grid.xy)):
            stored = file.create_dataset(
                name, shape=array.shape, maxshape=(None, array.shape[1]), chunks=(1, array.shape[1]), dtype=array.dtype
            )
            stored[:] = array


def theirs_full(path):
    with h5py.File(path, "r") as file:
        return file["features"][:], file["coords"][:]


def theirs_rows(path, rows):
    with h5py.File(path, "r") as file:
        wanted, back = np.unique(rows, return_inverse=True)
        return file["features"][wanted][back]


def full_by_h5py(path):
    """Ours, read as their tools read it."""
    with h5py.File(path, "r") as file:
        return file["features"][:], file["coords"][:]


def fastest(jobs):
    """Seconds of each, the best of several rounds in which they take turns; and what they gave."""
    best, gave = [float("inf")] * len(jobs), [None] * len(jobs)
    for _ in range(REPEATS):
        for i, job in enumerate(jobs):
            start = time.perf_counter()
            gave[i] = job()
            best[i] = min(best[i], time.perf_counter() - start)
    return best, gave


def main():
    rng = np.random.default_rng(0)
    xy = rng.integers(0, 100_000, (N, 2)).astype(np.int64)
    bag = FeatureBag(rng.standard_normal((N, DIM)).astype(np.float32), TileGrid(xy, 448.0, 0.25, (100_448, 100_448)), "bench")
    rows = rng.integers(0, N, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.h5", Path(folder) / "theirs.h5"
        write_bag(ours, bag)
        write_theirs(theirs, bag)
        (slow, checked, plain), (a, b, c) = fastest([lambda: theirs_full(theirs), lambda: read_bag(ours), lambda: full_by_h5py(ours)])
        same = np.array_equal(a[0], b.features) and np.array_equal(a[1], b.grid.xy) and np.array_equal(a[0], c[0])
        print(
            f"full read: (1, D) {slow * 1e3:.0f} ms, ours read as TRIDENT's {plain * 1e3:.0f} ms, ratio {slow / plain:.1f}x; equal: {same}"
        )
        equal = f"equal: {same}"
        table_row(
            "feature file: full read",
            "h5 chunked (1, D)",
            f"{slow * 1e3:.0f} ms",
            f"{plain * 1e3:.0f} ms",
            f"{slow / plain:.1f}x",
            ">= 6x",
            equal,
        )
        print(f"  read_bag, which also looks for NaN, {checked * 1e3:.0f} ms, ratio {slow / checked:.1f}x")
        (slow, quick), (a, b) = fastest([lambda: theirs_rows(theirs, rows), lambda: read_rows(ours, rows)])
        same = np.array_equal(a, b)
        print(f"{ROWS} random rows: (1, D) {slow * 1e3:.0f} ms, read_rows {quick * 1e3:.1f} ms, ratio {slow / quick:.1f}x; equal: {same}")
        name, equal = f"feature file: {ROWS} random rows", f"equal: {same}"
        table_row(name, "h5 chunked (1, D)", f"{slow * 1e3:.0f} ms", f"{quick * 1e3:.1f} ms", f"{slow / quick:.0f}x", ">= 10x", equal)
        print(f"size: (1, D) {theirs.stat().st_size / 1e6:.1f} MB, ours {ours.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
