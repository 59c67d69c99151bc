"""The screen: how well each cluster's rank alone tells responders, by cross-validated logistic regression, all at once.

A logistic regression of one covariate scores monotonically in it: up where its slope is positive, down where it is negative. With a ridge
(or none) the sign of the slope is that of the training covariance of rank and outcome, a whole number; where that is exactly 0, so is the
slope, all scores are equal and the AUROC is 1/2. A rank has four values, so the AUROC of a held-out fold follows from eight counts, and the
counts of all clusters and folds are one matrix product. (L-BFGS leaves a slope of 0 at 1e-9 or so; a reference must round it away.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.discovery.checks import Floats
from ml.discovery.errors import DiscoveryError
from ml.discovery.fingerprints import Ranks
from ml.training.splits import patient_folds

Held = NDArray[np.bool_]


def stratified_folds(patients: Sequence[str], response: NDArray[np.bool_], folds: int, repeats: int, seed: int) -> Held:
    """(repeats x folds, n) bool, True where a patient is held out. Each class is shared out among the folds of a repeat."""
    strata = {p: "1" if y else "0" for p, y in zip(patients, response)}
    fold = np.empty((repeats, len(patients)), dtype=np.intp)
    for repeat in range(repeats):
        of = patient_folds(patients, folds, seed + repeat, strata)
        fold[repeat] = [of[p] for p in patients]
    return (fold[:, None, :] == np.arange(folds)[None, :, None]).reshape(repeats * folds, len(patients))


def fold_aurocs(rank: Ranks, response: NDArray[np.bool_], held: Held) -> Floats:
    """(f, m) AUROC of each fold's held-out patients by each cluster's logistic regression on the others.

    rank: (n, m) int8 in 0..3; response: (n,); held: (f, n). Ties count one half. NaN where the held-out patients, or the others, are of
    one class: there is no AUROC, or no regression. Raises DiscoveryError: wrong_shape, empty, not_a_rank.
    """
    _check(rank, response, held)
    # Counts below 2^24 are exact in float32.
    y, out = response.astype(np.float32), held.astype(np.float32)
    at_least = np.concatenate([rank >= 1, rank >= 2, rank >= 3], axis=1).astype(np.float32)
    m = rank.shape[1]
    yes = _levels((out * y) @ at_least, (out @ y), m)
    no = _levels((out * (1 - y)) @ at_least, (out @ (1 - y)), m)
    higher = (yes[:3] - yes[1:4]) * (no[0] - no[:3])  # responders at rank k against the others below k
    tied = (yes[:3] - yes[1:4]) * (no[:3] - no[1:4])
    won = higher.sum(axis=0) + yes[3] * (no[0] - no[3]) + (tied.sum(axis=0) + yes[3] * no[3]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        area = won / (yes[0] * no[0])
    slope, trained = _slopes(rank, response, held, yes, no)
    area = np.where(slope > 0, area, np.where(slope < 0, 1 - area, np.where(np.isnan(area), np.nan, 0.5)))
    return np.where(trained[:, None], area, np.nan)


def screen(rank: Ranks, response: NDArray[np.bool_], held: Held) -> Floats:
    """(m,) mean AUROC over the folds that have one; NaN where none has. Arguments as `fold_aurocs`."""
    areas = fold_aurocs(rank, response, held)
    there = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return np.where(there, areas, 0.0).sum(axis=0) / there.sum(axis=0)


def _levels(counts: NDArray[np.float32], total: NDArray[np.float32], m: int) -> Floats:
    """(4, f, m) float64: held-out patients of a class with a rank of at least 0, 1, 2, 3."""
    at_least = counts.reshape(len(counts), 3, m).transpose(1, 0, 2)
    return np.concatenate((np.broadcast_to(total[:, None], (1, len(counts), m)), at_least)).astype(np.float64)


def _slopes(rank: Ranks, response: NDArray[np.bool_], held: Held, yes: Floats, no: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """((f, m) n sum(rank y) - sum(rank) sum(y) over the training patients, whole numbers; (f,) has the training both classes)."""
    r = rank.astype(np.float64)
    held_yes, held_no = yes[1:].sum(axis=0), no[1:].sum(axis=0)  # sum of the ranks, as each rank is its number of levels
    sum_yes = r[response].sum(axis=0) - held_yes
    sum_all = r.sum(axis=0) - held_yes - held_no
    n, positive = (~held).sum(axis=1), (~held & response).sum(axis=1)
    return n[:, None] * sum_yes - sum_all * positive[:, None], (positive > 0) & (positive < n)


def _check(rank: Ranks, response: NDArray[np.bool_], held: Held) -> None:
    if rank.ndim != 2 or response.shape != (len(rank),) or held.ndim != 2 or held.shape[1] != len(rank):
        sentence = f"Ranks {rank.shape}, outcomes {response.shape} and folds {held.shape} are not of the same patients."
        raise DiscoveryError("wrong_shape", sentence, where="ranks")
    if not rank.size or not held.size:
        raise DiscoveryError("empty", "There are no ranks or no folds to screen.", "Choose tissues that have cells.", "ranks")
    if rank.min() < 0 or rank.max() > 3:
        raise DiscoveryError("not_a_rank", "A rank is not one of 0, 1, 2, 3.", "Make ranks with fingerprints.ranks.", "ranks")
