"""k-medoids under squared Euclidean distance: real members that stand for a set, with the share each one represents.

The cost (mean squared distance of a member to its medoid) is the squared transport cost of sending every member to its
medoid, so it bounds the squared 2-Wasserstein distance between the set and its summary: the smaller, the better.
BUILD and SWAP of PAM (Kaufman & Rousseeuw 1990) with all swaps evaluated at once (as FastPAM1, Schubert & Rousseeuw
2021); above `DIRECT` members CLARA: PAM on seeded subsamples, the best of them by its cost over all members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.transport.errors import TransportError
from ml.transport.wasserstein import Array, squared_distances

DIRECT = 1024
SAMPLE = 512
DRAWS = 5
MAX_SWAPS = 200


@dataclass(frozen=True)
class Medoids:
    """members: (k,) int64 rows, ascending. label: (n,) int64, place in members of each row's medoid. cost: mean squared distance."""

    members: NDArray[np.int64]
    label: NDArray[np.int64]
    cost: float

    @property
    def weights(self) -> Array:
        """(k,) share of the rows that each medoid represents; positive, sum 1."""
        return np.bincount(self.label, minlength=len(self.members)) / len(self.label)


def _build(distance: Array, k: int) -> list[int]:
    """Greedy start: the most central row, then whichever row lowers the cost most; ends early where nothing is gained."""
    chosen = [int(distance.sum(axis=0).argmin())]
    nearest = distance[:, chosen[0]].copy()
    while len(chosen) < k and nearest.max() > 0:
        after = np.minimum(distance, nearest[:, None]).sum(axis=0)
        chosen.append(int(after.argmin()))
        np.minimum(nearest, distance[:, chosen[-1]], out=nearest)
    return chosen


def _swap(distance: Array, chosen: list[int]) -> list[int]:
    """Exchange one medoid for one row as long as the cost falls.

    With d1, d2 the distances to the nearest and second nearest medoid, exchanging medoid i for row c changes the cost by
    sum_o (min(d_oc, d1_o) - d1_o) + sum_{o of i} (min(d_oc, d2_o) - min(d_oc, d1_o)).
    """
    if len(chosen) < 2:
        return chosen
    rows = np.arange(len(distance))
    for _ in range(MAX_SWAPS):
        to_medoids = distance[:, chosen]
        label = to_medoids.argmin(axis=1)
        first = to_medoids[rows, label]
        to_medoids[rows, label] = np.inf
        with_first = np.minimum(distance, first[:, None])
        with_second = np.minimum(distance, to_medoids.min(axis=1)[:, None])
        member = (label == np.arange(len(chosen))[:, None]).astype(np.float64)
        change = with_first.sum(axis=0) - first.sum() + member @ (with_second - with_first)
        best = int(change.argmin())
        if change.flat[best] >= -1e-12 * first.sum():
            break
        chosen[best // len(distance)] = best % len(distance)
    return chosen


def _pam(points: Array, k: int) -> NDArray[np.int64]:
    distance = squared_distances(points, points)
    return np.sort(np.array(_swap(distance, _build(distance, k)), dtype=np.int64))


def _assigned(points: Array, members: NDArray[np.int64]) -> Medoids:
    distance = squared_distances(points, points[members])
    label = distance.argmin(axis=1)
    label[members] = np.arange(len(members))  # a medoid stands for itself, also where another one equals it
    return Medoids(members, label, float(distance[np.arange(len(points)), label].mean()))


def k_medoids(points: ArrayLike, k: int, seed: int = 0) -> Medoids:
    """At most k medoids of points (n, d); fewer where there are fewer distinct rows. Deterministic: ties go to the lower row.

    Up to 1,024 rows every row takes part in the search. Above, PAM runs on 5 seeded subsamples of 512 rows and the
    medoids with the lowest cost over all rows are kept (CLARA); all rows are assigned either way.
    Raises TransportError: shape, empty, not_finite, k.
    """
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2:
        raise TransportError("shape", f"The niche vectors have shape {x.shape}; (n, d) is needed.", "Give one row per niche.")
    if not len(x):
        raise TransportError("empty", "There are no niches to summarise.", "Check the tissue mask of the slide.")
    if not np.isfinite(x).all():
        raise TransportError(
            "not_finite", "The niche vectors have values that are not finite numbers.", "Leave out niches without a prediction."
        )
    if k < 1:
        raise TransportError("k", f"The number of medoids is {k}; it must be at least 1.", "Ask for 1 or more.")
    if len(x) <= DIRECT:
        return _assigned(x, _pam(x, k))
    rng = np.random.default_rng(seed)
    found: Medoids | None = None
    for _ in range(DRAWS):
        drawn = np.sort(rng.choice(len(x), SAMPLE, replace=False))
        trial = _assigned(x, drawn[_pam(x[drawn], min(k, SAMPLE))])
        if found is None or trial.cost < found.cost:
            found = trial
    assert found is not None
    return found
