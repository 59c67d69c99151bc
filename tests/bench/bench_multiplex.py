"""A multiplex image to an OME-Zarr pyramid in bands, beside the usual way: read it whole, halve it whole, write every level. Same
chunks, shards and codec, one process per way, run by turns.

Run: python tests/bench/bench_multiplex.py [SIDE_PX]
Prints both times (minima), the largest memory of both processes, the ratios, whether every pixel of every level is equal, and the time of
a view tile of four channels.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np

CHANNELS, SIDE, REPEATS, TILES = 4, 4096, 3, 64


def ours(path, target):
    from ml.multiplex.convert import convert_multiplex

    convert_multiplex(path, target)


def whole(path, target):
    """tifffile.imread, means of 2 x 2 by reshaping, zarr arrays written at once."""
    import tifffile
    import zarr

    from ml.multiplex.zarr_pyramid import _create

    level = tifffile.imread(path)
    group = zarr.open_group(str(target), mode="w-", zarr_format=3)
    for i in range(32):
        channels, height, width = level.shape
        _create(group, str(i), channels, height, width, level.dtype)[:] = level
        if max(height, width) <= 256:
            return
        pairs = level.reshape(channels, height // 2, 2, width // 2, 2).astype(np.uint32).sum(axis=(2, 4))
        level = ((2 * pairs + 4) // 8).astype(level.dtype)


def one_way(name, path, target):
    """In this process: (seconds of processor and disk, peak memory in MB)."""
    begun = time.perf_counter()
    {"ours": ours, "whole": whole}[name](path, target)
    print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run(name, path, target):
    command = [sys.executable, __file__, name, str(path), str(target)]
    seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(memory)


def equal(one, other):
    import zarr

    a, b = (zarr.open_group(str(folder), mode="r") for folder in (one, other))
    names = sorted(name for name, _ in a.arrays())
    return names == sorted(name for name, _ in b.arrays()) and all(np.array_equal(a[name][:], b[name][:]) for name in names)


def view_tiles(folder, side):
    from ml.multiplex.zarr_pyramid import Shown, render_tile

    shown = [Shown(c, colour, 0, 200) for c, colour in enumerate(("4d6dff", "00d000", "ff4040", "ffd700"))]
    rng, times = np.random.default_rng(0), []
    for col, row in rng.integers(0, side // 256, (TILES, 2)):
        begun = time.perf_counter()
        render_tile(folder, 0, int(col), int(row), shown)
        times.append(time.perf_counter() - begun)
    return 1000 * float(np.median(times))


def main(side=SIDE):
    from multiplex_pictures import draw, write_ome

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        picture = np.tile(draw(CHANNELS, 512, 512), (1, side // 512, side // 512))
        path = write_ome(folder / "a.ome.tif", picture, names=("DAPI", "CD3", "CD8", "PanCK"), tile=(512, 512), compression="zlib")
        del picture
        times, memory = {"ours": [], "whole": []}, {}
        for repeat in range(REPEATS):
            for name, found in times.items():
                seconds, memory[name] = run(name, path, folder / f"{name}{repeat}.zarr")
                found.append(seconds)
        best = {name: min(found) for name, found in times.items()}
        print(f"{CHANNELS} channels of {side} x {side} px uint16 ({CHANNELS * side * side * 2 / 2**20:.0f} MB), zlib tiles of 512")
        print(f"in bands, with the facts of every channel: {best['ours']:.2f} s, {memory['ours']:.0f} MB at most")
        print(f"read whole, halved whole:                  {best['whole']:.2f} s, {memory['whole']:.0f} MB at most")
        print(f"ratio of times {best['whole'] / best['ours']:.2f}, of memory {memory['whole'] / memory['ours']:.2f}")
        print(f"every pixel of every level equal: {equal(folder / 'ours0.zarr', folder / 'whole0.zarr')}")
        print(f"a view tile of four channels: {view_tiles(folder / 'ours0.zarr', side):.1f} ms (median of {TILES})")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one_way(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
