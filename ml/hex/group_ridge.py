"""Ridge whose penalty is chosen by holding out whole groups (patients, blocks of spots): what a head on the same features must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
PENALTIES = tuple(10.0**k for k in range(-1, 6))
FOLDS = 5


@dataclass(frozen=True)
class GroupRidge:
    """mean, scale: (d,) of the fitting rows. weights: (d, P). level: (P,). penalty: on standardised features, the same for all outputs."""

    mean: F64
    scale: F64
    weights: F64
    level: F64
    penalty: float

    def predict(self, x: NDArray[Any]) -> F64:
        """(n, d) -> (n, P)."""
        answer: F64 = (np.asarray(x, np.float64) - self.mean) / self.scale @ self.weights + self.level
        return answer


def group_ridge(x: NDArray[Any], y: NDArray[Any], groups: Sequence[Any], penalties: Sequence[float] = PENALTIES) -> GroupRidge:
    """x (n, d), y (n, P), groups: n ids. The penalty has the least squared error on held-out groups (five folds), outputs in their sd."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    fold = code % FOLDS
    unit = np.maximum(y.std(axis=0), 1e-9)
    errors = np.zeros(len(penalties))
    for k in np.unique(fold):
        fit, held = fold != k, fold == k
        if not fit.any():
            continue
        for i, ridge in enumerate(_path(x[fit], y[fit], penalties)):
            errors[i] += (((ridge.predict(x[held]) - y[held]) / unit) ** 2).sum()
    return _path(x, y, [penalties[int(np.argmin(errors))]])[0]


def _path(x: F64, y: F64, penalties: Sequence[float]) -> list[GroupRidge]:
    """One ridge per penalty from one decomposition of the features."""
    mean, scale, level = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9), y.mean(axis=0)
    u, s, vt = np.linalg.svd((x - mean) / scale, full_matrices=False)
    turned = u.T @ (y - level)
    return [GroupRidge(mean, scale, vt.T @ ((s / (s**2 + p))[:, None] * turned), level, p) for p in penalties]
