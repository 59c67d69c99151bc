"""Is a tile like the ones the model was fitted on? Mahalanobis distance in units of the fitting tiles' own 99th percentile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.hex.colour import tile_statistics
from ml.hex.data import Rows


@dataclass(frozen=True)
class FeatureRange:
    """mean, sd: (m,) float32 of the fitting tiles. whiten: (m, m) float32 with whiten whiten^T = inverse of the shrunk covariance of the
    standardised vectors. p99: 99th percentile of their own distances."""

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    whiten: NDArray[np.float32]
    p99: float

    def distance(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m) float32 -> (n,) float32; above 1 = further out than 99% of the fitting tiles."""
        far: NDArray[np.float32] = np.linalg.norm(((vectors - self.mean) / self.sd) @ self.whiten, axis=1) / self.p99
        return far.astype(np.float32)


def range_vectors(features: NDArray[np.float32], images: NDArray[np.uint8] | Rows) -> NDArray[np.float32]:
    """What a tile is judged by, (n, d + k) float32: the encoder's vector, and plain colour and texture statistics of its pixels.

    The second part is needed because a network can map tissue that it never saw onto vectors that it knows.
    """
    return np.concatenate([features, tile_statistics(images)], axis=1).astype(np.float32)


def fit_range(vectors: NDArray[np.float32]) -> FeatureRange:
    """Range of the fitting tiles, (n, m) float32, with a covariance shrunk as Ledoit and Wolf (2004): sound also for n < m."""
    mean, sd = vectors.mean(axis=0), np.maximum(vectors.std(axis=0), 1e-6)
    z = ((vectors - mean) / sd).astype(np.float64)
    n, m = z.shape
    cov = z.T @ z / n
    level = np.trace(cov) / m
    spread = ((cov - level * np.eye(m)) ** 2).sum()
    noise = ((z**2).sum(axis=1) ** 2).mean() / n - (cov**2).sum() / n
    share = float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0
    shrunk = (1 - share) * cov + (share + 1e-3) * level * np.eye(m)
    whiten = np.linalg.inv(np.linalg.cholesky(shrunk)).T.astype(np.float32)
    own = np.linalg.norm(z.astype(np.float32) @ whiten, axis=1)
    return FeatureRange(mean, sd, whiten, float(max(np.quantile(own, 0.99), 1e-6)))
