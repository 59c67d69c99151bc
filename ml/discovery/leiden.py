"""Leiden clusterings of one cell graph over a row of resolutions (Traag et al. 2019; VirTues, Methods, Biomarker discovery).

igraph's `community_leiden` with the objective "modularity" maximises sum_ij (A_ij - g k_i k_j / 2m) d(c_i, c_j) / 2m: the quality of
leidenalg's RBConfigurationVertexPartition divided by 2m. The same partitions are best for both; igraph finds them faster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats
from ml.discovery.config import GraphConfig, LeidenConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell
from ml.discovery.graph import CellGraph, neighbour_graph

# igraph has one random generator per process: whoever seeds it keeps others out until done.
_GENERATOR = threading.Lock()


@dataclass(frozen=True)
class Clustering:
    """resolutions: r of them. labels: (r, n) int32, numbered from 0 at each. quality: (r,) modularity at the resolution."""

    resolutions: tuple[float, ...]
    labels: NDArray[np.int32]
    quality: Floats


@dataclass(frozen=True)
class Cluster:
    """One cluster of one resolution. cells: its rows, ascending int32."""

    resolution: float
    label: int
    cells: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.cells)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """igraph draws from Python's generator with this seed: its own cannot be seeded (and is put back afterwards)."""
    import random

    import igraph

    with _GENERATOR:
        igraph.set_random_number_generator(random.Random(seed))
        try:
            yield
        finally:
            igraph.set_random_number_generator(None)


def leiden(graph: CellGraph, config: LeidenConfig, progress: Progress | None = None, stop: Stop | None = None) -> Clustering:
    """Cluster the cells at each resolution. A resolution has a seed of its own: it does not depend on which others are asked for.

    Raises DiscoveryError (empty), Cancelled (asked before each resolution).
    """
    if graph.cells == 0 or len(graph.edges) == 0:
        raise DiscoveryError("empty", "The graph has no edges, so there is nothing to cluster.", "Choose tissues that have cells.", "graph")
    made = graph.igraph()
    labels = np.empty((len(config.resolutions), graph.cells), dtype=np.int32)
    quality = np.empty(len(labels))
    for i, resolution in enumerate(config.resolutions):
        tell(progress, stop, i / len(labels), f"resolution {resolution:g}")
        with _seeded(config.seed * 1_000_003 + round(resolution * 1e6)):
            found = made.community_leiden(
                objective_function="modularity", weights="weight", resolution=resolution, n_iterations=config.iterations
            )
        labels[i], quality[i] = found.membership, found.quality
    tell(progress, stop, 1.0, "clustered")
    return Clustering(config.resolutions, labels, quality)


def small_clusters(clustering: Clustering, config: LeidenConfig) -> tuple[Cluster, ...]:
    """Clusters of `smallest` cells or more and fewer than `largest`, by resolution and label.

    The same set of cells found at several resolutions counts once, at the first: the paper does not say so, but two of the
    "best two" would be one cluster. Raises DiscoveryError: no_cluster_left.
    """
    kept: list[Cluster] = []
    seen: set[bytes] = set()
    for resolution, labels in zip(clustering.resolutions, clustering.labels):
        order = np.argsort(labels, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(labels))
        for label, cells in enumerate(np.split(order, ends[:-1])):
            if config.smallest <= len(cells) < config.largest and (key := cells.tobytes()) not in seen:
                seen.add(key)
                kept.append(Cluster(resolution, label, cells))
    if not kept:
        sentence = f"No cluster has {config.smallest} or more and fewer than {config.largest} cells."
        raise DiscoveryError("no_cluster_left", sentence, "Raise the limit of size or the resolutions.", "clusters")
    return tuple(kept)


def cluster_cells(
    tokens: ArrayLike,
    graph: GraphConfig,
    config: LeidenConfig,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[Cluster, ...]:
    """Tokens (n, d) float32 to the clusters that discovery looks at: graph, Leiden, limit of size. Outcomes play no part in it.

    Raises DiscoveryError (those of the three steps), Cancelled.
    """
    first = None if progress is None else lambda share, doing: progress(share / 2, doing)
    second = None if progress is None else lambda share, doing: progress(0.5 + share / 2, doing)
    return small_clusters(leiden(neighbour_graph(tokens, graph, first, stop), config, second, stop), config)
