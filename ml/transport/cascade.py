"""Exact top k in a set index: a coarse bound for all, a full one in its order, exact transport in the order of that.

The bound. Let m be the weighted mean of a set and xc = x - m its centred points. For every plan P between (x, a) and (y, b) (see
`ml.transport.retrieval`)

    sum P_ij |x_i - y_j|^2 = |m_x - m_y|^2 + sum P_ij C_ij,   C_ij = |xc_i - yc_j|^2.

Numbers f_i, g_j with f_i + g_j <= C_ij bound the second term (weak duality):

    sum P_ij C_ij >= sum P_ij (f_i + g_j) = sum a_i f_i + sum b_j g_j.

Such numbers are f_i = min_j C_ij with g_j = min_i (C_ij - f_i), and the other way round. As C_ij >= f_i, g is not negative: each of
the two is at least the relaxed bound of its direction (RWMD), so the larger of both is at least the larger relaxed bound. Any C' <= C
may stand for C: the first stage takes it in c principal axes and the length of the rest (`ml.transport.segment`), the second in all
dimensions.

Rounding. Both stages count in float32 (u = 2^-24) and take off what that may have added. A sum of K products is off by at most
K u (1 + K u) times the sum of their absolute values, in any order. R, the longest centred point of the query plus that of the set, has
|xc|^2 + |yc|^2 + 2|xc||yc| <= R^2, which bounds every C', f and g. Weights sum to 1, so an error of each pair is at most that error of
the sum; the weighted sums have at most q + s terms. What is taken off, with a tenth to spare and 1e-30 for what is too small for float32:

    first stage   K = c + 3. A coordinate is off by u, the length of the rest by less than 60 u, of the point's length (the latter
                  by float64 cancellation in up to 4,096 dimensions):      (c + q + s + 160) u R^2
    second stage  K = d + 2. The centred points are off by less than e = 2 u (|m_y| + |m_y - centre| + R):
                                                                          (d + q + s + 64) u (R + e)^2 + 2 (R + e) e + e^2
    mean term     K = d + 2. Means less the index's centre:                (d + 32) u (|m_x - centre| + |m_y - centre|)^2

So bound <= W2^2 holds as computed, and leaving out what is bounded above the k-th best exact distance cannot leave out a hit. Exact
distances are computed from the points as given, as `wasserstein2` computes them.

The order. A set is bounded again only while its coarse bound is below the smallest full bound that waits, and transported only when its
full bound is the smallest of all: no search with these bounds transports fewer sets (Seidl & Kriegel 1998).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from ml.transport.errors import TransportError
from ml.transport.retrieval import MARGIN, Hit, TopK
from ml.transport.segment import LARGEST, Frame, Segment, blocks, coarse_coordinates, slots
from ml.transport.wasserstein import Array, checked_set, solve, squared_distances
from ml.types import NicheSet

Single = NDArray[np.float32]
U = 2.0**-24
SPARE, TINY = 1.1, 1e-30
CHUNK_SLOTS = 1024
SPARSE = 0.5


@dataclass(frozen=True)
class Query:
    """x (q, d), a (q,): as `wasserstein2` takes them. coarse: (q, c + 3) float32. centred: (q, d) float32 with squares (q,).

    mean: (d,) float32 less the frame's centre, of that length. radius: length of the longest centred point. shares: a as float32.
    """

    x: Array
    a: Array
    coarse: Single
    centred: Single
    squares: Single
    mean: Single
    length: float
    radius: float
    shares: Single


def prepared(query: NicheSet, frame: Frame) -> Query:
    """The query in the coordinates of the frame. Raises TransportError: dimension, out_of_range, and those of `checked_set`."""
    x, a = checked_set(query.vectors, query.weights, "query")
    if x.shape[1] != len(frame.centre):
        sentence = f"The query has {x.shape[1]} dimensions, the index {len(frame.centre)}."
        raise TransportError("dimension", sentence, "Ask the index of the query's own model version.", "query")
    if np.abs(x).max() > LARGEST:
        raise TransportError("out_of_range", f"The query has values above {LARGEST:g}.", "Scale the vectors.", "query")
    mean = a @ x
    centred = x - mean
    z = coarse_coordinates(centred, frame.axes)
    norm = np.einsum("qc,qc->q", z, z)
    coarse = np.concatenate([-2 * z, np.ones((len(z), 1)), norm[:, None]], axis=1)
    rest = mean - frame.centre
    return Query(
        x,
        a,
        coarse=coarse.astype(np.float32),
        centred=centred.astype(np.float32),
        squares=norm.astype(np.float32),
        mean=rest.astype(np.float32),
        length=float(np.linalg.norm(rest)),
        radius=float(np.sqrt(norm.max())),
        shares=a.astype(np.float32),
    )


def dual_bound(cross: Single, a: Single, b: Single, scratch: Single) -> Single:
    """(n,) bounds of sum P C for cross C (q, s, n), weights a (q,) and b (s, n); scratch: as cross, written over."""
    f, g = cross.min(axis=1), cross.min(axis=0)
    np.subtract(cross, f[:, None, :], out=scratch)
    forth = a @ f + np.einsum("sn,sn->n", b, scratch.min(axis=0))
    np.subtract(cross, g[None], out=scratch)
    back = a @ scratch.min(axis=1) + np.einsum("sn,sn->n", b, g)
    best: Single = np.maximum(forth, back)
    return best


def mean_bound(segment: Segment, query: Query, rows: NDArray[np.int64]) -> Array:
    """(r,) float64 bounds of |m_x - m_y|^2 for some rows."""
    every = len(rows) == len(segment)
    means = segment.means if every else segment.means[rows]
    length = segment.lengths[:, 1] if every else segment.lengths[rows, 1]
    gap = (means @ query.mean).astype(np.float64)
    slack = SPARE * (means.shape[1] + 32) * U * (length + query.length) ** 2
    return np.maximum(length**2 + query.length**2 - 2 * gap - slack, 0)


def first_stage(segment: Segment, query: Query, wanted: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(n,) coarse bounds of W2^2 and (n,) mean bounds; infinite where a set is not wanted."""
    bound, gap = np.full(len(segment), np.inf), np.full(len(segment), np.inf)
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return bound, gap
    gap[rows] = mean_bound(segment, query, rows)
    width, q = query.coarse.shape[1], len(query.a)
    runs = list(blocks(segment.sizes, segment.order))
    ends = np.cumsum([len(some) * int(segment.sizes[some[-1]]) for some in runs])
    room = np.empty(
        (2, q * int(np.diff(ends, prepend=0).max())), np.float32
    )  # made once: fresh pages for each block cost as much as the minima
    for some, last in zip(runs, ends.tolist(), strict=True):
        s, b = int(segment.sizes[some[-1]]), len(some)
        first, use = last - s * b, wanted[some]
        count = int(use.sum())
        if not count:
            continue
        points = segment.coarse[width * first : width * last].reshape(width, s, b)
        shares = segment.shares[first:last].reshape(s, b)
        if count < SPARSE * b:
            points, shares, some = points[:, :, use], shares[:, use], some[use]
        columns = points.reshape(width, -1)
        cross, scratch = (part[: q * columns.shape[1]].reshape(q, -1) for part in room)
        np.matmul(query.coarse, columns, out=cross)
        shape = (q, *shares.shape)
        found = dual_bound(cross.reshape(shape), query.shares, shares, scratch.reshape(shape))
        slack = SPARE * (width + q + s + 157) * U * (segment.lengths[some, 0] + query.radius) ** 2 + TINY
        bound[some] = np.maximum(found - slack, 0) + gap[some]
    bound[~wanted] = np.inf
    return bound, gap


def second_stage(segment: Segment, query: Query, frame: Frame, rows: NDArray[np.int64]) -> Array:
    """(r,) bounds of sum P C in all dimensions."""
    bound = np.empty(len(rows))
    classes = np.ceil(np.log2(segment.sizes[rows])).astype(np.int64)
    for one in np.unique(classes):
        places = np.flatnonzero(classes == one)
        step = max(1, CHUNK_SLOTS >> int(one))
        for some in (places[i : i + step] for i in range(0, len(places), step)):
            bound[some] = _full_bound(segment, query, frame, rows[some])
    return bound


def _full_bound(segment: Segment, query: Query, frame: Frame, rows: NDArray[np.int64]) -> Array:
    places, shares = slots(segment.start[rows], segment.sizes[rows], segment.weights)
    s, b = places.shape
    y = segment.points[places.ravel()]
    y.reshape(s, b, -1)[...] -= (frame.centre + segment.means[rows]).astype(np.float32)
    # twice as fast as the product of the transposes, which has few rows
    cross = np.ascontiguousarray((y @ query.centred.T).T).reshape(len(query.a), s, b)
    cross *= -2
    cross += query.squares[:, None, None]
    cross += segment.squares[places]
    found = dual_bound(cross, query.shares, shares.astype(np.float32), np.empty_like(cross))
    radius = segment.lengths[rows, 0] + query.radius
    off = 2 * U * (segment.lengths[rows, 1] + segment.lengths[rows, 2] + radius)
    products = (y.shape[1] + len(query.a) + s + 64) * U
    slack = SPARE * (products * (radius + off) ** 2 + 2 * (radius + off) * off + off**2) + TINY
    return np.maximum(found - slack, 0)


@dataclass
class Search:
    """One search over the segments of an index. live: which sets of each segment may be found."""

    segments: Sequence[Segment]
    frame: Frame
    query: Query
    k: int
    best: list[tuple[float, int]] = field(default_factory=list)
    compared: int = 0
    refined: int = 0

    @property
    def limit(self) -> float:
        """What no bound of a further hit can be above."""
        return self.best[-1][0] ** 2 * (1 + MARGIN) if len(self.best) == self.k else float("inf")

    def run(self, live: Sequence[NDArray[np.bool_]]) -> TopK:
        """The k nearest of the live sets."""
        stages = [first_stage(one, self.query, wanted) for one, wanted in zip(self.segments, live, strict=True)]
        bound = np.concatenate([b for b, _ in stages]) if stages else np.empty(0)
        gap = np.concatenate([g for _, g in stages]) if stages else np.empty(0)
        n = int(np.isfinite(bound).sum())
        order = np.argsort(bound, kind="stable")[:n]
        ascending = bound[order]
        first = np.cumsum([0, *(len(one) for one in self.segments)])
        waiting: list[tuple[float, int]] = []
        while True:
            unseen = ascending[self.refined] if self.refined < n else float("inf")
            if waiting and waiting[0][0] <= unseen:
                if waiting[0][0] > self.limit:
                    break
                self._compare(heappop(waiting)[1], first)
            elif unseen > self.limit or self.refined == n:
                break  # what waits is above the unseen, hence above the limit, too
            else:
                rows = order[self.refined : self.refined + max(self.k, CHUNK_SLOTS // 16)]
                rows = rows[: max(1, int(np.searchsorted(bound[rows], self.limit, side="right")))]
                self.refined += len(rows)
                full = np.maximum(bound[rows], gap[rows] + self._refine(rows, first))
                for value, row in zip(full.tolist(), rows.tolist(), strict=True):
                    if value <= self.limit:
                        heappush(waiting, (value, row))
        hits = tuple(Hit(number, distance) for distance, number in self.best)
        return TopK(hits, n, self.compared, self.refined)

    def _refine(self, rows: NDArray[np.int64], first: NDArray[np.int64]) -> Array:
        bound = np.empty(len(rows))
        which = np.searchsorted(first, rows, side="right") - 1
        for place in np.unique(which).tolist():
            mine = which == place
            bound[mine] = second_stage(self.segments[place], self.query, self.frame, rows[mine] - first[place])
        return bound

    def _compare(self, row: int, first: NDArray[np.int64]) -> None:
        place = int(np.searchsorted(first, row, side="right")) - 1
        segment, local = self.segments[place], row - int(first[place])
        number = int(segment.ids[local])
        # from the points as given and checked alone, as `wasserstein2` does it, so that the distance is the same to the last digit
        y, b = checked_set(*segment.of(local), f"set {number}")
        squared, _ = solve(self.query.a, b, squared_distances(self.query.x, y))
        insort(self.best, (float(np.sqrt(squared)), number))
        del self.best[self.k :]
        self.compared += 1
