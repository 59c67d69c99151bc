"""F1 per class and its mean over classes, with 95% intervals by a bootstrap of patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.discovery.checks import Floats, Labels, patient_codes
from ml.discovery.errors import DiscoveryError


@dataclass(frozen=True)
class F1Scores:
    """classes: those of the truth or the calls, in order. f1, lower, upper: (c,). macro: (mean of f1, lower, upper).
    cells: (c,) of the truth. patients: how many were drawn from; with one there is no interval (NaN)."""

    classes: tuple[str, ...]
    f1: Floats
    lower: Floats
    upper: Floats
    macro: tuple[float, float, float]
    cells: NDArray[np.int64]
    patients: int


def f1_scores(truth: NDArray[np.str_], called: NDArray[np.str_], patients: Labels, draws: int, seed: int) -> F1Scores:
    """truth, called: (n,); patients: n ids. F1 = 2 tp / (2 tp + fp + fn); in a draw, classes that it lacks are not counted.

    Raises DiscoveryError: empty, wrong_length.
    """
    if not len(truth):
        raise DiscoveryError("empty", "There is no cell to measure on.", "Hold out more patients.", "truth")
    if truth.shape != called.shape:
        raise DiscoveryError("wrong_length", f"{len(called)} calls are compared with {len(truth)} cells.", where="called")
    ids, who = patient_codes(patients, len(truth))
    classes, codes = np.unique(np.concatenate((truth, called)), return_inverse=True)
    t, k = np.split(codes, 2)
    n, c = len(ids), len(classes)

    def counts(cell: NDArray[np.intp]) -> Floats:
        return np.bincount(cell, minlength=n * c).reshape(n, c).astype(np.float64)

    hits, both = counts((who * c + t)[t == k]), counts(who * c + t) + counts(who * c + k)
    f1 = 2 * hits.sum(axis=0) / both.sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    with np.errstate(invalid="ignore"):
        boot = 2 * (drawn @ hits) / (drawn @ both)
    limits, macro = np.full((2, c), np.nan), np.full(2, np.nan)
    if n > 1:
        limits, macro = np.nanquantile(boot, (0.025, 0.975), axis=0), np.quantile(np.nanmean(boot, axis=1), (0.025, 0.975))
    summary = (float(f1.mean()), float(macro[0]), float(macro[1]))
    return F1Scores(tuple(classes.tolist()), f1, limits[0], limits[1], summary, np.bincount(t, minlength=c), n)
