"""What HEX is measured against: the slide mean, nuclear density, and ridge on plain colour and texture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.colour import nuclear_density, tile_statistics

Array = NDArray[np.float64]


def slide_mean(labels: NDArray[Any], slides: Sequence[str]) -> Array:
    """(n, P): every tile gets its own slide's measured mean, an oracle that knows the level and nothing of space (r = 0 within)."""
    _, inverse = np.unique(np.asarray(slides, str), return_inverse=True)
    sums = np.zeros((inverse.max() + 1, labels.shape[1]))
    np.add.at(sums, inverse, labels)
    means: Array = (sums / np.bincount(inverse)[:, None])[inverse]
    return means


def cross_fit_ridge(
    x: NDArray[Any], labels: NDArray[Any], patients: Sequence[str], folds: Mapping[str, int], penalty: float = 1.0
) -> Array:
    """(n, P) out-of-fold predictions of a ridge on standardised x (n, m); folds: patient -> fold. penalty: per tile, on unit variance."""
    fold = np.array([folds[p] for p in patients])
    out = np.empty(labels.shape)
    for k in np.unique(fold):
        fit, held = fold != k, fold == k
        mean, sd = x[fit].mean(axis=0), np.maximum(x[fit].std(axis=0), 1e-9)
        z, level = (x[fit] - mean) / sd, labels[fit].mean(axis=0)
        gram = z.T @ z + penalty * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, z.T @ (labels[fit] - level))
        out[held] = (x[held] - mean) / sd @ weights + level
    return out


def baselines(
    images: NDArray[np.uint8], labels: NDArray[Any], patients: Sequence[str], slides: Sequence[str], folds: Mapping[str, int]
) -> dict[str, Array]:
    """Name -> (n, P) predictions of each baseline on held-out patients (the slide mean is an oracle: it reads the labels)."""
    hematoxylin = nuclear_density(images)[:, None]
    return {
        "slide mean": slide_mean(labels, slides),
        "nuclear density": cross_fit_ridge(hematoxylin, labels, patients, folds),
        "ridge on colour and texture": cross_fit_ridge(tile_statistics(images), labels, patients, folds),
    }
