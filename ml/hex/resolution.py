"""Effective resolution of a map: the shortest distance at which it tells neighbouring tissue apart, measured on held-out patients.

The stride of a map says how far apart its cells are, not how fine the detail in it is. Here two tiles of one slide, `lag` steps
apart along a row or a column, give a predicted and a measured difference; where the two correlate with r >= 0.5 (median over
markers) the map resolves that distance. The answer is never finer than the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.evaluate import columns_r

RESOLVED = 0.5
LEAST_PAIRS = 50


@dataclass(frozen=True)
class Resolution:
    """um: the effective resolution, None where no lag is resolved. curve: (distance in um, median r over markers, pairs) per lag."""

    um: float | None
    curve: tuple[tuple[float, float, int], ...]


def effective_resolution(
    values: NDArray[Any], labels: NDArray[Any], xy_um: NDArray[Any], slides: Sequence[str], step_um: float, lags: int = 6
) -> Resolution:
    """values, labels: (n, P), held-out prediction and measurement per tile, same unit; xy_um: (n, 2) corners in um; slides: n ids.

    step_um: distance of neighbouring tiles. Lags with under 50 pairs are left out.
    """
    cells = np.rint(np.asarray(xy_um, float) / step_um).astype(np.int64)
    cells -= cells.min(axis=0)
    _, slide = np.unique(np.asarray(slides, str), return_inverse=True)
    width, height = cells.max(axis=0) + lags + 1
    key = (slide * height + cells[:, 1]) * width + cells[:, 0]
    order = np.argsort(key)
    y, p = np.asarray(labels, float), np.asarray(values, float)
    curve = []
    for lag in range(1, lags + 1):
        first, second = (np.concatenate(part) for part in zip(*(_pairs(key, order, lag * unit) for unit in (1, width))))
        if len(first) >= LEAST_PAIRS:
            r = float(np.median(columns_r(p[first] - p[second], y[first] - y[second])))
            curve.append((lag * step_um, r, len(first)))
    return Resolution(next((um for um, r, _ in curve if r >= RESOLVED), None), tuple(curve))


def _pairs(key: NDArray[np.int64], order: NDArray[np.int64], offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (i, j) of tiles whose keys differ by `offset`."""
    wanted = key + offset
    at = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
    found = key[order][at] == wanted
    return np.flatnonzero(found), order[at[found]]
