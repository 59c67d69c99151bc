"""How good a retrieval is: the published figures (VirTues, Methods, Retrieval) and those that keep them honest.

A ranking is (q, c) distances of q queries to c tissues (smaller is nearer; NaN leaves a pair out). `without_own` takes out the query itself
and all tissues of its patient, which every figure here expects. Ties are broken by the place of the tissue. Intervals redraw patients of
the queries, with replacement; all are 95% percentile intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.transport.errors import TransportError
from ml.transport.wasserstein import Array, _pot

Labels = NDArray[np.object_]


@dataclass(frozen=True)
class Figure:
    """A mean over queries with its interval; n: queries that count; per_query: (q,) NaN where a query does not count."""

    value: float
    low: float
    high: float
    n: int
    per_query: Array


@dataclass(frozen=True)
class McNemar:
    """only_first, only_second: queries that one of the two alone got right. chi2 = (n1 - n2)^2 / (n1 + n2), 1 df, no correction."""

    only_first: int
    only_second: int
    chi2: float
    p: float


def without_own(distances: ArrayLike, query_patients: Sequence[str], patients: Sequence[str]) -> Array:
    """(q, c) float64 with NaN for the tissues of the query's own patient. Raises TransportError: shape, not_finite."""
    ranking = np.array(distances, dtype=np.float64)
    if ranking.shape != (len(query_patients), len(patients)):
        sentence = f"Distances of shape {ranking.shape} do not fit {len(query_patients)} queries and {len(patients)} tissues."
        raise TransportError("shape", sentence, "Give a row per query and a column per tissue.")
    if np.isinf(ranking).any():
        raise TransportError("not_finite", "Some distances are infinite.", "Use NaN for pairs that are left out.")
    own = np.array(query_patients, dtype=object)[:, None] == np.array(patients, dtype=object)[None, :]
    ranking[own] = np.nan
    return ranking


def nearest(ranking: Array, k: int) -> NDArray[np.int64]:
    """(q, k) columns of the nearest tissues, nearest first; -1 where fewer are left."""
    order = np.argsort(np.where(np.isnan(ranking), np.inf, ranking), axis=1, kind="stable")[:, :k]
    found = np.where(np.isnan(np.take_along_axis(ranking, order, axis=1)), -1, order)
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)


def patient_bootstrap(values: Array, patients: Sequence[str], draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of the mean of values (q,), NaN left out, with whole patients redrawn. NaN, NaN where nothing counts."""
    counts = ~np.isnan(values)
    if not counts.any():
        return float("nan"), float("nan")
    _, who = np.unique(np.asarray(patients, dtype=str)[counts], return_inverse=True)
    total, size = np.bincount(who, values[counts]), np.bincount(who)
    times = np.random.default_rng(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), size=draws)
    low, high = np.quantile((times @ total) / (times @ size), [0.025, 0.975])
    return float(low), float(high)


def figure(values: Array, patients: Sequence[str], draws: int = 1000, seed: int = 0) -> Figure:
    """The mean of one value per query (NaN: does not count) with its patient bootstrap interval."""
    counts = ~np.isnan(values)
    value = float(values[counts].mean()) if counts.any() else float("nan")
    return Figure(value, *patient_bootstrap(values, patients, draws, seed), int(counts.sum()), values)


def _labels(values: Sequence[object]) -> tuple[Labels, NDArray[np.bool_]]:
    """Labels as objects, and which are known (not None, "" or NaN)."""
    labels = np.array([*values, None], dtype=object)[:-1]  # one more, so that equal-length sequences stay objects
    known = np.array([not (v is None or v == "" or (isinstance(v, float) and np.isnan(v))) for v in labels], dtype=bool)
    return labels, known


def precision_per_query(ranking: Array, query_labels: Sequence[object], labels: Sequence[object], k: int) -> Array:
    """(q,) share of the k nearest tissues *with a known label* that carry the query's; NaN where the query has none or no tissue is left.

    Fewer than k tissues: the share among those.
    """
    (mine, told), (theirs, known) = _labels(query_labels), _labels(labels)
    found = nearest(np.where(known[None, :], ranking, np.nan), k)
    right = (theirs[found] == mine[:, None]) & (found >= 0)
    there = (found >= 0).sum(axis=1)
    return np.where(told & (there > 0), right.sum(axis=1) / np.maximum(there, 1), np.nan)


def mean_precision(
    ranking: Array,
    query_labels: Sequence[object],
    labels: Sequence[object],
    query_patients: Sequence[str],
    k: int = 3,
    draws: int = 1000,
    seed: int = 0,
) -> Figure:
    """The paper's top-3 mean precision for one clinical label (k = 3), or precision at 10 (k = 10)."""
    return figure(precision_per_query(ranking, query_labels, labels, k), query_patients, draws, seed)


def chance_precision(ranking: Array, query_labels: Sequence[object], labels: Sequence[object]) -> Array:
    """(q,) what a random order of each query's own candidates is expected to reach, at any k."""
    (mine, told), (theirs, known) = _labels(query_labels), _labels(labels)
    there = ~np.isnan(ranking) & known[None, :]
    same = (theirs[None, :] == mine[:, None]) & there
    size = there.sum(axis=1)
    return np.where(told & (size > 0), same.sum(axis=1) / np.maximum(size, 1), np.nan)


def random_ranking(ranking: Array, seed: int) -> Array:
    """A random order of the same candidates of each query."""
    return np.where(np.isnan(ranking), np.nan, np.random.default_rng(seed).random(ranking.shape))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Two right-or-wrong answers to the same queries. Without a query that they answer differently chi2 is 0 and p 1."""
    from scipy.stats import chi2

    one, two = int((first & ~second).sum()), int((second & ~first).sum())
    statistic = (one - two) ** 2 / (one + two) if one + two else 0.0
    return McNemar(one, two, statistic, float(chi2.sf(statistic, 1)))


def against_random(
    ranking: Array, query_labels: Sequence[object], labels: Sequence[object], k: int = 3, draws: int = 3, seed: int = 0
) -> tuple[McNemar, ...]:
    """McNemar against that many random draws (the paper: three), seeds seed, seed + 1, ...; a query is right when at least one of its k
    nearest carries its label. Queries without a label do not count.
    """
    hit = precision_per_query(ranking, query_labels, labels, k)
    counts = ~np.isnan(hit)
    chance = [precision_per_query(random_ranking(ranking, seed + d), query_labels, labels, k) for d in range(draws)]
    return tuple(mcnemar(hit[counts] > 0, one[counts] > 0) for one in chance)


def majority_accuracy(
    ranking: Array,
    query_labels: Sequence[object],
    labels: Sequence[object],
    query_patients: Sequence[str],
    k: int = 5,
    draws: int = 1000,
    seed: int = 0,
) -> dict[object, Figure]:
    """Per diagnosis: share of its queries whose k nearest labelled tissues have it as their most frequent label.

    Of equally frequent labels the one whose nearest tissue is nearest counts. Keys in the order of their first query.
    """
    (mine, told), (theirs, known) = _labels(query_labels), _labels(labels)
    found = nearest(np.where(known[None, :], ranking, np.nan), k)
    right = np.full(len(found), np.nan)
    for q in np.flatnonzero(told & (found[:, 0] >= 0)).tolist():
        votes: dict[object, int] = {}
        for column in found[q][found[q] >= 0].tolist():
            votes[theirs[column]] = votes.get(theirs[column], 0) + 1
        right[q] = float(max(votes, key=lambda label: votes[label]) == mine[q])  # the first of equals: the nearest
    names = list(dict.fromkeys(mine[told].tolist()))
    return {name: figure(np.where(mine == name, right, np.nan), query_patients, draws, seed) for name in names}


@dataclass(frozen=True)
class SameSite:
    """share: of the k nearest from the query's own site. chance: share of its candidates from there. excess: share - chance, paired."""

    share: Figure
    chance: Figure
    excess: Figure


def same_site(
    ranking: Array,
    query_sites: Sequence[object],
    sites: Sequence[object],
    query_patients: Sequence[str],
    k: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> SameSite:
    """How much a retrieval finds sites in place of tissue. Chance is each query's own: what its candidates hold."""
    share, chance = precision_per_query(ranking, query_sites, sites, k), chance_precision(ranking, query_sites, sites)
    told = (figure(values, query_patients, draws, seed) for values in (share, chance, share - chance))
    return SameSite(*told)


def proportion_gap(
    ranking: Array,
    query_proportions: ArrayLike,
    proportions: ArrayLike,
    query_patients: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
) -> Figure:
    """L1 distance (0 to 2) between coarse cell-type proportions (q, t), (c, t), rows summing to 1, of each query and its best match."""
    p, r = np.asarray(query_proportions, dtype=np.float64), np.asarray(proportions, dtype=np.float64)
    best = nearest(ranking, 1)[:, 0]
    gap = np.where(best >= 0, np.abs(p - r[best]).sum(axis=1), np.nan)
    return figure(gap, query_patients, draws, seed)


def sliced_wasserstein2(x: ArrayLike, y: ArrayLike, projections: int = 128, seed: int = 0) -> float:
    """Sliced W2 between pixel vectors (n, d) and (m, d), all weighing the same: sqrt of the mean squared 1-D W2 over random directions.

    projections: number of directions (the paper gives none), drawn evenly on the sphere from the seed. Raises TransportError: shape.
    """
    one, two = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or not (one.size and two.size) or projections < 1:
        sentence = f"Pixel vectors of shapes {one.shape} and {two.shape} cannot be compared along {projections} directions."
        raise TransportError("shape", sentence, "Give (n, d) and (m, d), neither empty, and one direction or more.")
    return float(_pot().sliced_wasserstein_distance(one, two, n_projections=projections, p=2, seed=seed))


def true_distance_agreement(ranking: Array, true: ArrayLike, query_patients: Sequence[str], draws: int = 1000, seed: int = 0) -> Figure:
    """Spearman correlation of distances with a true distance (q, c), per query over its candidates, then the mean.

    A query with fewer than 3 candidates, or where either side is constant, does not count.
    """
    from scipy.stats import rankdata

    wanted = np.asarray(true, dtype=np.float64)
    told = np.full(len(ranking), np.nan)
    for q, row in enumerate(ranking):
        there = ~np.isnan(row) & ~np.isnan(wanted[q])
        if there.sum() < 3:
            continue
        a, b = (rankdata(v) - (there.sum() + 1) / 2 for v in (row[there], wanted[q][there]))
        size = float(np.sqrt((a @ a) * (b @ b)))
        told[q] = a @ b / size if size else np.nan
    return figure(told, query_patients, draws, seed)


def mean_cosine(query_sets: Sequence[tuple[Array, Array]], sets: Sequence[tuple[Array, Array]]) -> Array:
    """Baseline: (q, c) cosine distances (1 - cosine) of weighted mean vectors; sets are (vectors (k, d), weights (k,))."""
    one, two = (np.array([w @ v / w.sum() for v, w in some]) for some in (query_sets, sets))
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(two, axis=1)[None, :]
    return 1 - np.divide(one @ two.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def histograms(values: Sequence[ArrayLike], edges: ArrayLike) -> Array:
    """(t, channels * bins) intensity histograms per channel and tissue, each channel summing to 1. values: (pixels, channels) per tissue;
    edges: (bins + 1,) of all channels; values outside of them count in the first or last bin.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    rows = []
    for one in values:
        pixels = np.clip(np.asarray(one, dtype=np.float64), bounds[0], bounds[-1])
        rows.append(np.concatenate([np.histogram(channel, bounds)[0] / len(pixels) for channel in pixels.T]))
    return np.array(rows)


def histogram_distance(query_histograms: Array, others: Array) -> Array:
    """Baseline: (q, c) L1 distances of histograms."""
    from scipy.spatial.distance import cdist

    distances: Array = cdist(query_histograms, others, "cityblock")
    return distances
