"""What a kill -9 costs: a process that makes features of a slide of 20,164 tiles is killed at random moments until it is through.

Run: python tests/bench/bench_killed_work.py
TRIDENT and CLAM keep nothing of a slide that was not finished: they do all of it again, 100%. Prints the share that is done again here, and
whether the file is the one that an uninterrupted run writes.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import tempfile
import time
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from fine_slides import write_fine_slide
from killed_extraction import kill_at_random
from table import table_row

from ml.slides.features import check_bag

SIDE, KILLS = 142, 10
N = SIDE * SIDE


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = write_fine_slide(folder / "slide.tif", N)
        start = time.perf_counter()
        kill_at_random(slide, folder / "whole.h5", N, kills=0, seed=0)
        whole = time.perf_counter() - start
        start = time.perf_counter()
        killed = kill_at_random(slide, folder / "killed.h5", N, KILLS, seed=1)
        took = time.perf_counter() - start
        same = (folder / "killed.h5").read_bytes() == (folder / "whole.h5").read_bytes()
        shares = ", ".join(f"{done / N:.0%}" for done in killed.finished)
        block = killed.rows_per_block
        print(f"{N} tiles, blocks of {block} ({block / N:.1%}); killed {killed.kills} times, finished by then: {shares}")
        print(
            f"done again: {killed.redone} tiles in all, {killed.redone / killed.kills / N:.2%} of the slide per kill "
            f"(TRIDENT, CLAM: {sum(killed.finished) / killed.kills / N:.0%} on average, all that was done)"
        )
        theirs, ours = sum(killed.finished) / killed.kills / N, killed.redone / killed.kills / N
        equal = f"final file byte for byte the same: {same}"
        table_row("killed inside a slide: redone", "TRIDENT, CLAM: whole slide", f"{theirs:.0%}", f"{ours:.2%}", "-", "<= 2%", equal)
        print(f"uninterrupted {whole:.1f} s, with {killed.kills} kills and starts of Python {took:.1f} s")
        print(f"the same file, byte for byte: {same}; whole by its checksum: {check_bag(folder / 'killed.h5').n == N}")


if __name__ == "__main__":
    main()
