"""Counting, for many queries at once, the weight of the points in a range of positions whose rank is below a bound.

A wavelet matrix: the ranks are split bit by bit from the highest, and every query walks down all levels together, so
that the cost is (points + queries) x bits in numpy, with no loop over points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def weight_below(
    rank: NDArray[np.intp], weights: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp], bound: NDArray[np.intp]
) -> NDArray[np.float64]:
    """(q,) sum of weights[i] over start <= i < stop with rank[i] < bound. rank: (n,) >= 0; bound: (q,) >= 0.

    >>> weight_below(np.array([2, 0, 1]), np.ones(3), np.array([0]), np.array([3]), np.array([2])).tolist()
    [2.0]
    """
    bits = max(int(rank.max(initial=0)), int(bound.max(initial=0))).bit_length()
    values, w = rank, weights
    lo, hi = start.copy(), np.maximum(start, stop)
    total = np.zeros(len(bound))
    for bit in range(bits - 1, -1, -1):
        zero = (values >> bit) & 1 == 0
        zeros_before = np.append(0, np.cumsum(zero))
        weight_before = np.append(0.0, np.cumsum(np.where(zero, w, 0.0)))
        upper = (bound >> bit) & 1 == 1
        # a bound with this bit set: all points with the bit clear (and the same higher bits) are below it
        total += np.where(upper, weight_before[hi] - weight_before[lo], 0.0)
        zeros = zeros_before[-1]
        lo = np.where(upper, zeros + lo - zeros_before[lo], zeros_before[lo])
        hi = np.where(upper, zeros + hi - zeros_before[hi], zeros_before[hi])
        order = np.concatenate((np.flatnonzero(zero), np.flatnonzero(~zero)))
        values, w = values[order], w[order]
    return total
