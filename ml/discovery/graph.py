"""The k-nearest-neighbour graph of cells, made once and shared by every resolution of Leiden.

The paper gives no graph parameters. Here: Euclidean distance between the tokens' first 50 principal components, 15 neighbours,
an undirected edge where either end has the other, weighted by the Jaccard index of both ends' neighbours (Levine et al. 2015,
PhenoGraph; each cell counts among its own neighbours, so that no edge weighs 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Tokens, cell_tokens
from ml.discovery.config import GraphConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell

# Edges whose neighbours are compared at once: some 100 MB.
EDGES = 400_000


@dataclass(frozen=True)
class CellGraph:
    """cells: number of nodes. edges: (e, 2) int32, the lower cell first, each pair once. weights: (e,) float64, above 0, at most 1."""

    cells: int
    edges: NDArray[np.int32]
    weights: Floats

    def igraph(self) -> Any:
        """The graph as igraph holds it, weights in the edge attribute "weight"."""
        import igraph

        return igraph.Graph(n=self.cells, edges=self.edges, edge_attrs={"weight": self.weights})


def neighbour_graph(tokens: ArrayLike, config: GraphConfig, progress: Progress | None = None, stop: Stop | None = None) -> CellGraph:
    """The graph of cells. tokens: (n, d) float32. Neighbours at exactly one distance: whichever scikit-learn finds first.

    Raises DiscoveryError (wrong_shape, empty, not_finite, too_few_cells), Cancelled.
    """
    x = cell_tokens(tokens)
    if len(x) <= config.neighbours:
        sentence = f"{len(x)} cells cannot have {config.neighbours} neighbours each."
        raise DiscoveryError("too_few_cells", sentence, "Ask for fewer neighbours or choose more tissues.", "tokens")
    tell(progress, stop, 0.0, "reducing tokens")
    near = nearest(_reduced(x, config.components), config, progress, stop)
    source = np.repeat(np.arange(len(x), dtype=np.int64), config.neighbours)
    low, high = np.minimum(source, near.ravel()), np.maximum(source, near.ravel())
    pairs = np.unique(low * len(x) + high)  # one number per pair: many times faster than unique rows
    edges = np.stack((pairs // len(x), pairs % len(x)), axis=1).astype(np.int32)
    weights = np.ones(len(edges)) if config.weights == "unit" else _jaccard(near, edges, progress, stop)
    tell(progress, stop, 1.0, "graph")
    return CellGraph(len(x), edges, weights)


def nearest(x: Tokens, config: GraphConfig, progress: Progress | None = None, stop: Stop | None = None) -> NDArray[np.int64]:
    """(n, k) the k nearest other cells of each cell, nearest first. x: (n, d) float32."""
    from sklearn.neighbors import NearestNeighbors

    k, n = config.neighbours, len(x)
    index = NearestNeighbors(algorithm="kd_tree" if x.shape[1] <= 8 else "brute").fit(x)
    near = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, config.block):
        tell(progress, stop, 0.8 * start / n, "neighbours")
        rows = np.arange(start, min(n, start + config.block))
        found = index.kneighbors(x[rows], k + 1, return_distance=False)
        # The cell itself goes last, wherever equal tokens put it; where they pushed it out, the farthest one is left out.
        order = np.argsort(found == rows[:, None], axis=1, kind="stable")[:, :k]
        near[rows] = np.take_along_axis(found, order, axis=1)
    return near


def _reduced(x: Tokens, components: int | None) -> Tokens:
    """The first principal components (exact, by the covariance) where there are more columns than those; centred either way."""
    from sklearn.decomposition import PCA

    if components is None or x.shape[1] <= components:
        return x
    return PCA(components, svd_solver="covariance_eigh").fit_transform(x).astype(np.float32)


def _jaccard(near: NDArray[np.int64], edges: NDArray[np.int32], progress: Progress | None, stop: Stop | None) -> Floats:
    """(e,) |N(a) & N(b)| / |N(a) | N(b)| with N(i) the neighbours of i and i itself, k + 1 cells each."""
    from scipy.sparse import csr_array

    n, k = near.shape
    members = np.concatenate((np.arange(n)[:, None], near), axis=1)
    has = csr_array((np.ones(members.size, dtype=np.float32), members.ravel(), np.arange(0, members.size + 1, k + 1)), shape=(n, n))
    has.sort_indices()
    shared = np.empty(len(edges))
    for start in range(0, len(edges), EDGES):
        tell(progress, stop, 0.8 + 0.2 * start / len(edges), "edge weights")
        a, b = edges[start : start + EDGES].T
        shared[start : start + EDGES] = has[a].multiply(has[b]).sum(axis=1)
    return shared / (2 * (k + 1) - shared)
