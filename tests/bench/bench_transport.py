"""Exact top 10 among 2,000 tissues of 16 niches x 90 dimensions, beside a loop of POT `emd2`; same data, one process.

Run: python tests/bench/bench_transport.py
Prints both times, the ratio, how many candidates were fully compared, and whether the answers are the same. Two kinds
of tissues: drawn independently (the bounds have little to work with), and from a few tissue types (as cohorts are).
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

from ml.transport.medoids import k_medoids
from ml.transport.retrieval import exact_top_k
from ml.transport.wasserstein import _pot
from ml.types import NicheSet

N, NICHES, DIM, K, QUERIES = 2_000, 16, 90, 10, 5


def tissues(rng, types):
    """N + QUERIES sets. types None: all niches independent. Else each tissue mixes the niche types in its own shares."""
    centres = None if types is None else rng.normal(size=(types, DIM)) * 1.5
    shift = rng.normal(size=(N + QUERIES, DIM)) * 0.5
    sets = []
    for i in range(N + QUERIES):
        vectors = rng.normal(size=(NICHES, DIM)) * (1.0 if types is None else 0.5)
        if centres is not None:
            vectors += centres[rng.choice(types, NICHES, p=rng.dirichlet(np.full(types, 0.5)))] + shift[i]
        sets.append(NicheSet(vectors.astype(np.float32), rng.dirichlet(np.full(NICHES, 2.0)), np.zeros((NICHES, 4))))
    return sets[:N], sets[N:]


def loop_of_pot(ot, query, candidates, k):
    x = query.vectors.astype(np.float64)
    cost = [
        ot.emd2(query.weights / query.weights.sum(), c.weights / c.weights.sum(), ot.dist(x, c.vectors.astype(np.float64)))
        for c in candidates
    ]
    distance = np.sqrt(np.maximum(cost, 0))
    order = np.lexsort((np.arange(len(candidates)), distance))[:k]
    return order, distance[order]


def compare(title, candidates, queries):
    ot = _pot()
    theirs = ours = 0.0
    same, compared, gap = True, [], 0.0
    for query in queries:
        start = time.perf_counter()
        order, distance = loop_of_pot(ot, query, candidates, K)
        theirs += time.perf_counter() - start
        start = time.perf_counter()
        found = exact_top_k(query, candidates, K)
        ours += time.perf_counter() - start
        same &= [hit.candidate for hit in found.hits] == order.tolist()
        gap = max(gap, float(np.abs(distance - [hit.distance for hit in found.hits]).max()))
        compared.append(found.n_fully_compared)
    print(
        f"{title}: POT loop {theirs / len(queries) * 1e3:.0f} ms, exact_top_k {ours / len(queries) * 1e3:.0f} ms, "
        f"ratio {theirs / ours:.1f}x; fully compared {np.mean(compared):.0f} of {len(candidates)}; "
        f"identical top {K}: {same}, largest difference of a distance {gap:.1e}"
    )


def medoid_times(rng):
    for n in (60, 1_000, 20_000):
        points = rng.normal(size=(n, DIM))
        start = time.perf_counter()
        found = k_medoids(points, NICHES)
        print(f"k_medoids n={n}: {(time.perf_counter() - start) * 1e3:.1f} ms, mean squared distance {found.cost:.1f}")


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    compare("independent niches", *tissues(generator, None))
    compare("six niche types   ", *tissues(generator, 6))
    medoid_times(generator)
