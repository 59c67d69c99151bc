"""Similar tissues by the set index on the disk: exact top 10 of 20,000 and of 100,000 sets of 16 x 512, beside a loop of POT `emd2`.

Run: python tests/bench/bench_similar_tissues.py [20000 ...]
One thread. The tissues are those of `ml.studies.retrieval_scale`: mixtures of niche types (as cohorts are), and niches that are all drawn
by themselves, where bounds have least to work with. Each query leaves out its own patient's other tissue. Ids, their order and the
distances are compared. The index of 100,000 takes 4 GB of the temporary folder.
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

import numpy as np
from table import table_row

from ml.studies.retrieval_scale import KINDS, K, World, compared, others
from ml.transport.index import SetIndex
from ml.transport.wasserstein import _pot

PATH = "similar tissues, exact top 10, N = {:,} sets of 16 x 512"
RUNS = {20_000: ("tissues", "weighted", "unstructured"), 100_000: ("tissues",)}
QUERIES = {20_000: 3, 100_000: 2}


def means(asked: list[dict]) -> list[float]:
    """Seconds of the loop and of the index, sets that the first stage left, sets that were transported."""
    return [float(np.mean([q[name] for q in asked])) for name in ("theirs", "ours", "after_first", "transported")]


def bench(folder: Path, kind: str, n: int) -> list[dict]:
    """Builds an index and asks it; prints a line, gives what each query said."""
    world = World(KINDS[kind], seed=0)
    start = time.perf_counter()
    index = SetIndex.build(folder, world.tissues(0, n), stamp="bench")
    built = time.perf_counter() - start
    numbers = np.linspace(0, n - 1, QUERIES[n]).astype(int).tolist()
    asked = [compared(index, world.tissue(number), others(index, number)) for number in numbers]
    theirs, ours, left, solved = means(asked)
    print(
        f"{n:>7,} {kind}: drawn and built in {built:.0f} s; POT loop {theirs:.2f} s, "
        f"index {ours * 1e3:.0f} ms, ratio {theirs / ours:.1f}x; left by the first stage {left:.0f}, transported {solved:.0f}; "
        f"identical top {K}: {all(q['same'] for q in asked)}, largest difference of a distance {max(q['apart'] for q in asked):.0e}"
    )
    return asked


def row(n: int, asked: list[dict]) -> None:
    theirs, ours, left, solved = means(asked)
    aim = ">= 25x" if n == 20_000 else "<= 1 s per query" + ("" if max(q["ours"] for q in asked) <= 1 else ", **missed**")
    told = "identical ids and order" if all(q["same"] for q in asked) else "**answers differ**"
    equality = f"{told}; {left:.0f} left by the first stage, {solved:.0f} transported"
    table_row(PATH.format(n), "loop of POT emd2", f"{theirs:.2f} s", f"{ours * 1e3:.0f} ms", f"{theirs / ours:.1f}x", aim, equality)


def main() -> None:
    _pot()  # imported before anything is timed
    for n in [int(given) for given in sys.argv[1:]] or list(RUNS):
        with tempfile.TemporaryDirectory() as place:
            found = {kind: bench(Path(place) / kind, kind, n) for kind in RUNS[n]}
        row(n, found["tissues"])


if __name__ == "__main__":
    main()
