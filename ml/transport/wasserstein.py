"""The exact 2-Wasserstein distance between two weighted sets, its plan, and the strongest matched pairs.

W2(a, b)^2 = min over plans P >= 0 with row sums a and column sums b of sum_ij P_ij |x_i - y_j|^2.

Sets of equal size with uniform weights are an assignment problem (scipy); all others are solved by POT's network
simplex. Both are exact: no entropic term anywhere.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.transport.errors import TransportError
from ml.types import NicheSet

Array = NDArray[np.float64]
SUM_TOLERANCE = 1e-6
_TORCH_SWITCH = "POT_BACKEND_DISABLE_PYTORCH"


class MatchedPair(NamedTuple):
    """Niche i of the query goes to niche j of the hit: mass moved (0..1) and squared distance between the two (cost)."""

    i: int
    j: int
    mass: float
    cost: float


def _pot() -> ModuleType:
    """POT without its torch backend: importing torch would cost seconds and memory in processes that only compare sets."""
    before = os.environ.get(_TORCH_SWITCH)
    os.environ[_TORCH_SWITCH] = "1"
    try:
        import ot
    finally:
        if before is None:
            del os.environ[_TORCH_SWITCH]
        else:
            os.environ[_TORCH_SWITCH] = before
    module: ModuleType = ot
    return module


def checked_set(x: ArrayLike, a: ArrayLike, where: str) -> tuple[Array, Array]:
    """(k, d) vectors and (k,) weights as float64, weights divided by their sum; TransportError where they are no weighted set."""
    points, weights = np.asarray(x, dtype=np.float64), np.asarray(a, dtype=np.float64)
    if points.ndim != 2 or weights.ndim != 1 or len(points) != len(weights):
        sentence = f"The {where} has vectors of shape {points.shape} and weights of shape {weights.shape}."
        raise TransportError("shape", sentence, "Give vectors (k, d) and weights (k,).", where)
    if not points.size:
        raise TransportError("empty", f"The {where} is empty.", "A tissue without a kept niche cannot be compared.", where)
    if not np.isfinite(points).all() or not np.isfinite(weights).all():
        sentence = f"The {where} has values that are not finite numbers."
        raise TransportError("not_finite", sentence, "Leave out niches without a prediction.", where)
    if (weights < 0).any():
        raise TransportError("negative_weight", f"The {where} has a negative weight.", "Weights are shares of the tissue.", where)
    total = weights.sum()
    if abs(total - 1) > SUM_TOLERANCE:
        raise TransportError("weight_sum", f"The weights of the {where} sum to {total:.6g}, not to 1.", "Divide them by their sum.", where)
    return points, weights / total


def _checked_pair(x: ArrayLike, a: ArrayLike, y: ArrayLike, b: ArrayLike) -> tuple[Array, Array, Array, Array]:
    x, a = checked_set(x, a, "first set")
    y, b = checked_set(y, b, "second set")
    if x.shape[1] != y.shape[1]:
        sentence = f"The sets have {x.shape[1]} and {y.shape[1]} dimensions."
        raise TransportError("dimension", sentence, "Compare niche sets of the same model version.", "second set")
    return x, a, y, b


def squared_distances(x: Array, y: Array) -> Array:
    """(k, l) squared Euclidean distances of (k, d) and (l, d), by differences: no cancellation, exactly 0 for equal rows."""
    from scipy.spatial.distance import cdist

    distances: Array = cdist(x, y, "sqeuclidean")
    return distances


def _is_uniform(a: Array) -> bool:
    return bool(np.abs(a * len(a) - 1).max() <= 1e-12)


def solve(a: Array, b: Array, cost: Array) -> tuple[float, Array]:
    """Cost and plan (k, l) of the exact transport of checked weights a to b under cost (k, l)."""
    if len(a) == len(b) and _is_uniform(a) and _is_uniform(b):
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(cost)
        flow = np.zeros_like(cost)
        flow[rows, columns] = 1 / len(a)
        return float(cost[rows, columns].mean()), flow
    flow, log = _pot().emd(a, b, cost, numItermax=1_000_000, log=True)
    if log["warning"]:
        raise TransportError("not_solved", "The exact transport between two sets was not solved.", f"The solver says: {log['warning']}")
    return max(float(log["cost"]), 0.0), flow


def wasserstein2(x: ArrayLike, a: ArrayLike, y: ArrayLike, b: ArrayLike) -> float:
    """Exact 2-Wasserstein distance, in the unit of the vectors (the square root of the least squared cost).

    x: (k, d), a: (k,) weights that sum to 1; y: (l, d), b: (l,). Computed in float64.
    Raises TransportError: shape, empty, not_finite, negative_weight, weight_sum, dimension, not_solved.
    """
    x, a, y, b = _checked_pair(x, a, y, b)
    return float(np.sqrt(solve(a, b, squared_distances(x, y))[0]))


def plan(x: ArrayLike, a: ArrayLike, y: ArrayLike, b: ArrayLike) -> Array:
    """The plan (k, l) float64 behind `wasserstein2`: entry ij is the mass that goes from x_i to y_j; same errors."""
    x, a, y, b = _checked_pair(x, a, y, b)
    return solve(a, b, squared_distances(x, y))[1]


def matched(flow: Array, query: NicheSet, hit: NicheSet, n: int = 5) -> list[MatchedPair]:
    """The n pairs that carry most mass in a plan (k, l) of query to hit; of equal masses the nearer pair comes first."""
    expected = (len(query.weights), len(hit.weights))
    if flow.shape != expected:
        raise TransportError("shape", f"The plan has shape {flow.shape}; these sets need {expected}.", "Use the plan of this very pair.")
    rows, columns = np.nonzero(flow > 0)
    cost = squared_distances(query.vectors.astype(np.float64), hit.vectors.astype(np.float64))[rows, columns]
    mass = flow[rows, columns]
    # rounding makes masses that are equal differ in the last digits; the nearer pair should still win
    order = np.lexsort((columns, rows, cost, -np.round(mass, 12)))[:n]
    return [MatchedPair(int(rows[o]), int(columns[o]), float(mass[o]), float(cost[o])) for o in order]
