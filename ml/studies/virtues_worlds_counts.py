"""Figures made of counts per patient, so that their intervals redraw patients: agreement of clusters, macro-F1, ranks of distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
TOP = 10


def cluster_counts(vectors: NDArray[Any], truth: Ints, patient: Ints, k: int, seed: int) -> Ints:
    """(patients, truths, k): how often a true class fell into a cluster of k-means on the standardised vectors. Clusters see no truth."""
    from sklearn.cluster import KMeans

    x = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-6)
    label = KMeans(k, n_init=5, random_state=seed).fit_predict(x)
    counts = np.zeros((patient.max() + 1, truth.max() + 1, k), np.int64)
    np.add.at(counts, (patient, truth, label), 1)
    return counts


def adjusted_rand(counts: NDArray[Any]) -> float:
    """Adjusted Rand index of a (truths, clusters) table of counts (Hubert & Arabie 1985); 0 where one side has one class."""

    def pairs(v: NDArray[Any]) -> float:
        return float((v * (v - 1) / 2).sum())

    table = np.asarray(counts, np.float64)
    rows, cols, both, all_pairs = pairs(table.sum(1)), pairs(table.sum(0)), pairs(table), pairs(table.sum(keepdims=True))
    expected = rows * cols / max(all_pairs, 1.0)
    most = (rows + cols) / 2
    return (both - expected) / (most - expected) if most > expected else 0.0


def confusions(x: NDArray[Any], kinds: Ints, patient: Ints, fold: Ints, n_kinds: int) -> Ints:
    """(patients, n_kinds, n_kinds) true x predicted, each cell by a multinomial logistic regression (L2, C = 1, L-BFGS) on the other folds'
    patients; standardised on them. patient, fold: per cell."""
    from sklearn.linear_model import LogisticRegression

    counts = np.zeros((patient.max() + 1, n_kinds, n_kinds), np.int64)
    for f in np.unique(fold):
        seen = fold != f
        mean, scale = x[seen].mean(axis=0), np.maximum(x[seen].std(axis=0), 1e-6)
        probe = LogisticRegression(C=1.0, max_iter=1000).fit((x[seen] - mean) / scale, kinds[seen])
        np.add.at(counts, (patient[~seen], kinds[~seen], probe.predict((x[~seen] - mean) / scale)), 1)
    return counts


def macro_f1(counts: NDArray[Any]) -> float:
    """Mean F1 over the classes of a (true, predicted) table that are there."""
    hit, true, said = np.diag(counts), counts.sum(1), counts.sum(0)
    there = true > 0
    return float((2 * hit[there] / np.maximum(true + said, 1)[there]).mean())


def redrawn(counts: NDArray[Any], figure: Callable[[NDArray[Any]], float], draws: int, seed: int) -> tuple[float, Array]:
    """The figure of the sum over patients, and of `draws` sums in which patients are redrawn. counts: (patients, ...)."""
    rng, n = np.random.default_rng(seed), len(counts)
    weights = rng.multinomial(n, np.full(n, 1 / n), draws)
    drawn = [figure(np.tensordot(w, counts, 1)) for w in weights]
    return figure(counts.sum(axis=0)), np.array(drawn)


# --- retrieval: every field asks for the fields of other patients


def others(patient: Sequence[int]) -> NDArray[np.bool_]:
    """(n, n) True where two fields are of different patients."""
    ids = np.asarray(patient)
    return ids[:, None] != ids[None, :]


def nearest(distance: NDArray[Any], allowed: NDArray[np.bool_], top: int = TOP) -> Ints:
    """(n, top) columns of the nearest allowed fields, equal distances by number. Each row needs `top` allowed ones."""
    if (allowed.sum(axis=1) < top).any():
        raise ValueError(f"A query has fewer than {top} candidates.")
    return np.argsort(np.where(allowed, distance, np.inf), axis=1, kind="stable")[:, :top]


def rank_agreement(distance: NDArray[Any], truth: NDArray[Any], allowed: NDArray[np.bool_]) -> Array:
    """(n,) Spearman of each query's distances with the true ones, over its candidates."""
    values = []
    for d, t, ok in zip(np.asarray(distance, float), np.asarray(truth, float), allowed):
        a, b = rankdata(d[ok]), rankdata(t[ok])
        values.append(np.corrcoef(a, b)[0, 1] if np.ptp(a) and np.ptp(b) else 0.0)
    return np.array(values)


def precision(found: Ints, label: NDArray[Any]) -> Array:
    """(n,) share of the hits that carry the query's label."""
    return (label[found] == label[:, None]).mean(axis=1)


def overlap(found: Ints, wanted: Ints) -> Array:
    """(n,) share of the truly nearest that are among the hits."""
    return np.array([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist())])


def chance(label: NDArray[Any], allowed: NDArray[np.bool_]) -> Array:
    """(n,) share of a query's candidates that carry its label: the precision of a random draw."""
    return ((label[:, None] == label[None, :]) & allowed).sum(axis=1) / allowed.sum(axis=1)


def by_patient(values: Array, patient: Sequence[int], draws: int, seed: int) -> tuple[float, Array]:
    """Mean over patients of the mean over their queries, and its draws with patients redrawn (the candidates stay)."""
    ids, place = np.unique(np.asarray(patient), return_inverse=True)
    means = np.bincount(place, values) / np.bincount(place)
    weights = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), draws)
    return float(means.mean()), weights @ means / len(ids)
