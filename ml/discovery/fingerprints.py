"""A patient's fingerprint: the share of her cells in each cluster, as a rank 0 (absent) or 1 to 3 by tertiles of the positive shares.

Source: VirTues, Methods, Biomarker discovery. Thresholds are learned on whichever patients are given to `tertiles`, so that a nested
estimate can learn them on its training patients only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Labels, patient_codes
from ml.discovery.errors import DiscoveryError
from ml.discovery.leiden import Cluster

Ranks = NDArray[np.int8]
RESPONSE, NON_RESPONSE, NEITHER = 1, -1, 0


def shares(clusters: Sequence[Cluster], patients: Labels, n: int) -> tuple[tuple[str, ...], Floats]:
    """(patients in order, (p, m) share of each patient's cells in each cluster). patients: one id per cell, n of them.

    A patient's cells of all her tissues are one set, as in the paper. Raises DiscoveryError: wrong_length, no_cluster_left.
    """
    if not clusters:
        raise DiscoveryError("no_cluster_left", "There is no cluster to look at.", "Raise the limit of size.", "clusters")
    ids, codes = patient_codes(patients, n)
    counts = np.stack([np.bincount(codes[c.cells], minlength=len(ids)) for c in clusters], axis=1)
    return ids, counts / np.bincount(codes, minlength=len(ids))[:, None]


def checked_shares(proportions: ArrayLike, n: int) -> Floats:
    """proportions as (n, m) float64 in 0..1. Raises DiscoveryError: wrong_shape, empty, not_finite, not_a_share."""
    p = np.asarray(proportions, dtype=np.float64)
    if p.ndim != 2 or len(p) != n:
        raise DiscoveryError("wrong_shape", f"Shares have the shape {p.shape}, not {n} patients x clusters.", where="proportions")
    if not p.size:
        raise DiscoveryError("empty", "There are no shares of clusters.", "Choose tissues that have cells.", "proportions")
    if not np.isfinite(p).all():
        raise DiscoveryError("not_finite", "A share is not finite.", "A patient without a cell has no fingerprint.", "proportions")
    if p.min() < 0 or p.max() > 1:
        raise DiscoveryError("not_a_share", "A share is below 0 or above 1.", "Divide by the patient's number of cells.", "proportions")
    return p


def tertiles(proportions: ArrayLike) -> Floats:
    """(2, m) thirds of the positive shares of each cluster; inf where no patient has any. proportions: (p, m) float64.

    Linear interpolation between order statistics, as numpy.quantile.
    """
    p = np.sort(np.asarray(proportions, dtype=np.float64), axis=0)
    n = len(p)
    positive = (p > 0).sum(axis=0)
    out = np.full((2, p.shape[1]), np.inf)
    for i, part in enumerate((1 / 3, 2 / 3)):
        place = n - positive + part * np.maximum(positive - 1, 0)
        low = np.minimum(place.astype(np.intp), n - 1)
        high = np.minimum(low + 1, n - 1)
        columns = np.arange(p.shape[1])
        between = p[low, columns] + (place - low) * (p[high, columns] - p[low, columns])
        out[i] = np.where(positive > 0, between, np.inf)
    return out


def ranks(proportions: ArrayLike, thresholds: Floats) -> Ranks:
    """(p, m) int8: 0 where the share is 0, 1 up to the first threshold, 2 up to the second, 3 above. thresholds: (2, m)."""
    p = np.asarray(proportions, dtype=np.float64)
    return ((p > 0).astype(np.int8) + ((p > 0) & (p > thresholds[0])) + ((p > 0) & (p > thresholds[1]))).astype(np.int8)


def risk_ratios(rank: Ranks, response: NDArray[np.bool_]) -> Floats:
    """(m,) P(response | rank > 1) / P(response | rank 0 or 1); inf where only the first is above 0, NaN where a side is empty.

    The paper names the first probability only; the comparison with all other patients is the reading taken here.
    """
    y = response.astype(np.float64)
    high = (rank > 1).astype(np.float64)
    n_high = high.sum(axis=0)
    yes_high = y @ high
    with np.errstate(divide="ignore", invalid="ignore"):
        return (yes_high / n_high) / ((y.sum() - yes_high) / (len(y) - n_high))


def directions(ratio: Floats) -> NDArray[np.int8]:
    """(m,) +1 where the risk ratio is above 1 (response), -1 below (non-response), 0 where it is 1 or unknown."""
    return np.where(ratio > 1, RESPONSE, np.where(ratio < 1, NON_RESPONSE, NEITHER)).astype(np.int8)
