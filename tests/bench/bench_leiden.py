"""Leiden over 21 resolutions on one shared graph: `ml.discovery.leiden` (igraph) beside leidenalg, every resolution run by both.

Run: python tests/bench/bench_leiden.py [--full]
10,000 cells by default, so that `make bench` stays bearable; --full is the 100,000 cells of the table (leidenalg takes minutes). Same
graph, weights, resolutions (4.00 to 5.00) and iterations (2); one thread, CPU seconds. Two heuristics with different random draws do not
give the same partition: what is compared is the quality that both maximise (modularity at the resolution), and how far they agree (ARI).
"""

# ruff: noqa: E402 - the number of threads must be set before numpy starts
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import leidenalg
import numpy as np
from sklearn.metrics import adjusted_rand_score
from table import table_row

from ml.discovery.config import GraphConfig, LeidenConfig
from ml.discovery.graph import neighbour_graph
from ml.discovery.leiden import leiden

WIDTH, KINDS, TOLERANCE = 64, 40, 2e-3


def cells(n, seed=0):
    """Tokens of cell types that shade into one another: each cell lies between two of the types, with noise."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(KINDS, WIDTH))
    pairs = rng.integers(0, KINDS, (n, 2))
    share = rng.random((n, 1))
    return (share * kinds[pairs[:, 0]] + (1 - share) * kinds[pairs[:, 1]] + 0.8 * rng.normal(size=(n, WIDTH))).astype(np.float32)


def loop_of_leidenalg(graph, config):
    made, weights = graph.igraph(), graph.weights.tolist()
    found = [
        leidenalg.find_partition(
            made, leidenalg.RBConfigurationVertexPartition, weights=weights, resolution_parameter=r, n_iterations=config.iterations, seed=0
        )
        for r in config.resolutions
    ]
    return np.array([p.membership for p in found]), np.array([p.quality() for p in found]) / (2 * graph.weights.sum())


def main():
    n = 100_000 if "--full" in sys.argv[1:] else 10_000
    config = LeidenConfig()
    start = time.process_time()
    graph = neighbour_graph(cells(n), GraphConfig())
    print(f"graph of {n:,} cells, {len(graph.edges):,} edges, shared by both: {time.process_time() - start:.1f} s")
    start = time.process_time()
    mine = leiden(graph, config)
    ours = time.process_time() - start
    start = time.process_time()
    labels, quality = loop_of_leidenalg(graph, config)
    theirs = time.process_time() - start
    apart = mine.quality - quality
    agree = [adjusted_rand_score(a, b) for a, b in zip(mine.labels, labels)]
    again = [adjusted_rand_score(a, b) for a, b in pairwise(labels)]
    print(f"{len(config.resolutions)} resolutions: leidenalg {theirs:.1f} s, ours {ours:.1f} s, ratio {theirs / ours:.1f}x")
    print(f"clusters at {config.first:g}: {labels[0].max() + 1} and {mine.labels[0].max() + 1}; at {config.last:g}: ", end="")
    print(f"{labels[-1].max() + 1} and {mine.labels[-1].max() + 1}")
    print(f"quality, ours less leidenalg's: {apart.min():+.5f} to {apart.max():+.5f} (mean quality {quality.mean():.4f})")
    print(f"ARI, ours with leidenalg: {min(agree):.3f} to {max(agree):.3f}; leidenalg with its next resolution: mean {np.mean(again):.3f}")
    verdict = f"quality within {TOLERANCE:g}: {bool(apart.min() >= -TOLERANCE)}, ARI {np.mean(agree):.2f}"
    name = f"Leiden, {n:,} cells x {len(config.resolutions)} resolutions"
    table_row(name, "leidenalg", f"{theirs:.1f} s", f"{ours:.1f} s", f"{theirs / ours:.1f}x", ">= 8x", verdict)


if __name__ == "__main__":
    main()
