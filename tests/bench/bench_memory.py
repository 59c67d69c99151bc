"""Memory over a run of 100 slides in one process: resident set after each slide, its curve, and its slope.

Run: python tests/bench/bench_memory.py
Writes docs/results/memory.csv. Slides of 2,500 tiles of 16 um; reading, blocks and files are the product's, the encoder is a mean colour.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import csv
import os
import sys
import tempfile
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np
import psutil
from fine_slides import MeanColour, write_fine_slide
from table import table_row

from ml.encoders.extract import Extraction, extract_slides

SLIDES, TILES = 100, 2_500
WARM = 10  # slides until caches and pools have their size
RESULT = ROOT / "docs" / "results" / "memory.csv"


def main():
    process, curve, tiles = psutil.Process(), [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [write_fine_slide(folder / f"kind-{i}.tif", TILES, seed=i) for i in range(5)]
        paths = []
        for i in range(SLIDES):
            paths.append(folder / f"slide-{i:03}.tif")
            os.link(kinds[i % len(kinds)], paths[-1])
        for found in extract_slides(paths, MeanColour(), folder / "out"):
            if not isinstance(found, Extraction):
                raise SystemExit(f"{found.name}: {found.error}")
            tiles += found.n_tiles
            curve.append(process.memory_info().rss / 1e6)
    settled = np.array(curve[WARM:])
    slope = float(np.polyfit(np.arange(len(settled)), settled, 1)[0])
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    with RESULT.open("w", newline="") as file:
        csv.writer(file).writerows([["slide", "rss_mb"], *[[i + 1, f"{rss:.1f}"] for i, rss in enumerate(curve)]])
    print(f"{len(curve)} slides, {tiles} tiles in one process; resident MB after slide 1, 10, 50, 100:")
    print("  " + ", ".join(f"{curve[i]:.0f}" for i in (0, 9, 49, len(curve) - 1)))
    print(f"after the first {WARM}: least {settled.min():.0f}, most {settled.max():.0f}, slope {slope * 1000:+.0f} kB per slide")
    span = f"{settled.min():.0f}-{settled.max():.0f} MB, {slope * 1000:+.0f} kB per slide"
    table_row("memory over 100 slides, one process", "-", "-", span, "-", "flat", "docs/results/memory.csv")
    print(f"Written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
