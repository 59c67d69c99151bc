"""Exact top k among weighted sets: lower bounds order and prune, exact transport decides.

Let m be the weighted mean of a set and xc = x - m its centred points. For every plan P between (x, a) and (y, b)

    sum P_ij |x_i - y_j|^2 = |m_x - m_y|^2 + sum P_ij |xc_i - yc_j|^2,

because the cross terms vanish under the marginals. Every unit of mass at x_i goes to some y_j, hence at least to the
nearest one, and the same holds from the other side, so

    W2^2 >= |m_x - m_y|^2 + max( sum_i a_i min_j |xc_i - yc_j|^2 , sum_j b_j min_i |xc_i - yc_j|^2 ).

(relaxed word mover's distance of the centred sets plus the bound by the means). Candidates are compared in the order
of that bound; the search ends when no unseen bound is at or below the k-th best exact distance.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.transport.errors import TransportError
from ml.transport.wasserstein import SUM_TOLERANCE, Array, checked_set, solve, squared_distances
from ml.types import NicheSet

# Bounds come from |x|^2 + |y|^2 - 2xy, whose rounding is about 1e-15 of the squared norms; this is far above it.
MARGIN = 1e-9
BLOCK_POINTS = 50_000


class Hit(NamedTuple):
    """candidate: its place in the list that was given, or its id in an index. distance: exact 2-Wasserstein distance to the query."""

    candidate: int
    distance: float


@dataclass(frozen=True)
class TopK:
    """hits: nearest first, equal distances by candidate. n_fully_compared: candidates for which the transport was solved.

    n_after_first_stage: candidates that the coarse bound of an index left over (`SetIndex.top_k`); None where there is no such stage.
    """

    hits: tuple[Hit, ...]
    n_candidates: int
    n_fully_compared: int
    n_after_first_stage: int | None = None


@dataclass(frozen=True)
class _Stack:
    """Candidates one under another: points (m, d), weights (m,), start (n,) of each; all float64 and checked."""

    points: Array
    weights: Array
    start: NDArray[np.int64]
    size: NDArray[np.int64]


def _stack(candidates: Sequence[NicheSet], dim: int) -> _Stack:
    """Check all candidates at once; where one is wrong, check it alone so that the error names it."""
    for index, one in enumerate(candidates):
        if one.vectors.ndim != 2 or one.weights.shape != one.vectors.shape[:1] or not one.vectors.size:
            checked_set(one.vectors, one.weights, f"candidate {index}")
        if one.vectors.shape[1] != dim:
            sentence = f"Candidate {index} has {one.vectors.shape[1]} dimensions, the query has {dim}."
            raise TransportError("dimension", sentence, "Compare niche sets of the same model version.", f"candidate {index}")
    size = np.array([len(one.weights) for one in candidates])
    start = np.cumsum(size) - size
    points = np.concatenate([one.vectors for one in candidates]).astype(np.float64, copy=False)
    weights = np.concatenate([one.weights for one in candidates]).astype(np.float64, copy=False)
    total = np.add.reduceat(weights, start)
    sound = np.minimum.reduceat(np.isfinite(points).all(axis=1) & (weights >= 0), start) & (np.abs(total - 1) <= SUM_TOLERANCE)
    for broken in np.flatnonzero(~sound).tolist():
        checked_set(candidates[broken].vectors, candidates[broken].weights, f"candidate {broken}")
    return _Stack(points, weights / np.repeat(total, size), start, size)


def _block_bounds(x: Array, a: Array, points: Array, weights: Array, size: NDArray[np.int64]) -> tuple[Array, Array]:
    """Bounds of W2^2 (n,) for one block of candidates, and what rounding may have added to each (n,)."""
    start = np.cumsum(size) - size
    means = np.add.reduceat(points * weights[:, None], start)
    centre = a @ x
    xc, yc = x - centre, points - np.repeat(means, size, axis=0)
    x_norm, y_norm = (xc**2).sum(axis=1), np.einsum("md,md->m", yc, yc)
    cross = np.maximum(x_norm[:, None] + y_norm[None, :] - 2 * (xc @ yc.T), 0)
    forth = a @ np.minimum.reduceat(cross, start, axis=1)
    back = np.add.reduceat(weights * cross.min(axis=0), start)
    mean_gap = ((means - centre) ** 2).sum(axis=1)
    slack = MARGIN * (x_norm.max() + np.maximum.reduceat(y_norm, start) + mean_gap)
    return mean_gap + np.maximum(forth, back), slack


def lower_bounds(x: Array, a: Array, stack: _Stack) -> Array:
    """(n,) numbers that no W2^2 between the query and a candidate is below (rounding already taken off)."""
    bounds = np.empty(len(stack.size))
    ends = np.cumsum(stack.size)
    first = 0
    while first < len(bounds):
        last = max(int(np.searchsorted(ends, stack.start[first] + BLOCK_POINTS, side="right")), first + 1)
        rows = slice(int(stack.start[first]), int(ends[last - 1]))
        bound, slack = _block_bounds(x, a, stack.points[rows], stack.weights[rows], stack.size[first:last])
        bounds[first:last] = bound - slack
        first = last
    return bounds


def exact_top_k(query: NicheSet, candidates: Sequence[NicheSet], k: int) -> TopK:
    """The k candidates nearest to the query in 2-Wasserstein distance: the same answer as comparing with every one.

    Fewer than k candidates give all of them. Raises TransportError (see `wasserstein2`), naming the candidate.
    """
    if k < 1:
        raise TransportError("k", f"The number of neighbours is {k}; it must be at least 1.", "Ask for 1 or more.")
    x, a = checked_set(query.vectors, query.weights, "query")
    if not len(candidates):
        return TopK((), 0, 0)
    stack = _stack(candidates, x.shape[1])
    bounds = lower_bounds(x, a, stack)
    best: list[tuple[float, int]] = []
    compared = 0
    for index in np.argsort(bounds, kind="stable"):
        if len(best) == k and bounds[index] > best[-1][0] ** 2 * (1 + MARGIN):
            break
        # checked alone, as `wasserstein2` does it, so that the distance is the same to the last digit
        y, b = checked_set(candidates[index].vectors, candidates[index].weights, f"candidate {index}")
        squared, _ = solve(a, b, squared_distances(x, y))
        insort(best, (float(np.sqrt(squared)), int(index)))
        del best[k:]
        compared += 1
    return TopK(tuple(Hit(index, distance) for distance, index in best), len(candidates), compared)
