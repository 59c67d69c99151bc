"""k-sample log-rank tests (R survdiff): rho = 0 log-rank, rho = 1 Peto-Prentice weight S(t-); stratified, trend, pairwise.

Observed minus expected has the hypergeometric covariance, summed over event times and strata (Harrington and Fleming 1982).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from ml.survival.data import Floats, SurvivalDataError, SurvivalFinding, SurvivalSample, prepare, require_events
from ml.survival.timeline import distinct

NO_VARIANCE = "The groups cannot be compared: at each event everyone at risk failed, or some groups never shared a risk set."


@dataclass(frozen=True)
class LogRank:
    """statistic ~ chi2(df). observed, expected: (k,) per level; covariance: (k, k) of observed - expected."""

    levels: tuple[Hashable, ...]
    statistic: float
    df: int
    p: float
    observed: Floats
    expected: Floats
    covariance: Floats
    method: str
    findings: tuple[SurvivalFinding, ...] = field(default=())


@dataclass(frozen=True)
class TrendTest:
    """Scores s = 1..k: statistic = (s'(O-E))^2 / s'Vs with one degree of freedom."""

    scores: Floats
    contrast: float
    variance: float
    z: float
    statistic: float
    p: float
    df: int = 1


@dataclass(frozen=True)
class PairTest:
    """Log-rank of two of the levels; p as it is and corrected for the number of pairs."""

    a: Hashable
    b: Hashable
    statistic: float
    p: float
    p_holm: float
    p_bh: float
    p_bonferroni: float
    df: int = 1


def logrank(
    time: ArrayLike,
    event: ArrayLike,
    groups: Sequence[Hashable] | np.ndarray,
    levels: Sequence[Hashable] | None = None,
    strata: Sequence[Hashable] | np.ndarray | None = None,
    rho: float = 0.0,
    entry: ArrayLike | None = None,
    *,
    merge: bool = True,
) -> LogRank:
    """Do the curves of the groups differ? Two-sided; levels are sorted unless given (those without a subject are left out).

    Delayed entry: there is no survdiff for it; the score test of the Cox model on the groups is given (Efron, rho 0 only).
    Raises SurvivalDataError: no_events, one_group, and those of `prepare`.
    """
    sample = prepare(time, event, entry, merge=merge)
    codes, order = _codes(np.asarray(groups)[sample.kept], levels)
    require_events(sample, "log-rank test")
    if len(order) < 2:
        raise SurvivalDataError("one_group", "A log-rank test needs two groups with subjects.", "Choose another grouping.", "groups")
    blocks = None if strata is None else _codes(np.asarray(strata)[sample.kept], None)[0]
    if sample.entry is not None:
        if rho != 0:
            raise SurvivalDataError("rho_with_entry", "With delayed entry only rho 0 is defined here.", where="rho")
        return group_score_test(sample, codes, order, blocks)
    k = len(order)
    observed, expected, covariance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for block in (0,) if blocks is None else np.unique(blocks):
        rows = slice(None) if blocks is None else blocks == block
        o, e, v = _counts(sample.time[rows], sample.event[rows], codes[rows], k, rho)
        observed, expected, covariance = observed + o, expected + e, covariance + v
    statistic, df = _chi2(observed, expected, covariance)
    name = ("log-rank" if rho == 0 else f"weight S(t-)^{rho:g}") + ("" if strata is None else ", stratified")
    return LogRank(order, statistic, df, float(chdtrc(df, statistic)), observed, expected, covariance, name, sample.findings)


def group_score_test(
    sample: SurvivalSample, codes: np.ndarray, levels: tuple[Hashable, ...], strata: np.ndarray | None = None, ties: str = "efron"
) -> LogRank:
    """Score test of the Cox model on the groups: the log-rank test where subjects enter late (equal to it without ties)."""
    from ml.survival.partial_likelihood import PartialLikelihood

    dummies = (codes[:, None] == np.arange(len(levels))).astype(np.float64)
    at_zero = PartialLikelihood(sample, dummies, strata, ties).evaluate(np.zeros(len(levels)))
    weights = np.ones(len(sample)) if sample.weights is None else sample.weights
    observed = dummies.T @ (weights * sample.event)
    expected = observed - at_zero.score
    statistic, df = _chi2(observed, expected, at_zero.information)
    name = f"Cox score test ({ties.capitalize()}), delayed entry" if sample.entry is not None else f"Cox score test ({ties.capitalize()})"
    return LogRank(levels, statistic, df, float(chdtrc(df, statistic)), observed, expected, at_zero.information, name, sample.findings)


def trend(test: LogRank) -> TrendTest:
    """Test for trend over the levels in their order, from an ordinary (or stratified) log-rank result."""
    scores = np.arange(1.0, len(test.levels) + 1)
    contrast = float(scores @ (test.observed - test.expected))
    variance = float(scores @ test.covariance @ scores)
    if variance <= 0:
        raise SurvivalDataError("no_variance", NO_VARIANCE, "Merge small groups.", "groups")
    statistic = contrast**2 / variance
    return TrendTest(scores, contrast, variance, contrast / variance**0.5, statistic, float(chdtrc(1, statistic)))


def pairwise_logrank(
    time: ArrayLike, event: ArrayLike, groups: Sequence[Hashable] | np.ndarray, levels: Sequence[Hashable] | None = None
) -> list[PairTest]:
    """Log-rank of every pair of levels, with Holm, Benjamini-Hochberg and Bonferroni p. A pair that cannot be
    compared (no events, no variance) has p NaN and is not counted in the correction."""
    t, e, labels = np.asarray(time), np.asarray(event), np.asarray(groups)
    _, order = _codes(labels, levels)
    pairs, statistics, ps = list(combinations(order, 2)), [], []
    for a, b in pairs:
        rows = (labels == a) | (labels == b)
        try:
            test = logrank(t[rows], e[rows], labels[rows], (a, b))
            statistics.append(test.statistic)
            ps.append(test.p)
        except SurvivalDataError as refused:
            if refused.code not in ("no_events", "one_group", "no_variance"):
                raise
            statistics.append(float("nan"))
            ps.append(float("nan"))
    adjusted = (adjust(ps, "holm"), adjust(ps, "bh"), adjust(ps, "bonferroni"))
    return [PairTest(a, b, statistics[i], ps[i], *(float(q[i]) for q in adjusted)) for i, (a, b) in enumerate(pairs)]


def adjust(p: ArrayLike, method: str) -> Floats:
    """p-values corrected for their number ("holm", "bh", "bonferroni"), as R's p.adjust; NaN stays and is not counted."""
    values = np.asarray(p, dtype=np.float64)
    out, there = np.full_like(values, np.nan), ~np.isnan(values)
    q = values[there]
    m, order = len(q), np.argsort(q, kind="stable")
    if method == "bonferroni":
        out[there] = np.minimum(1.0, q * m)
        return out
    ranked = q[order]
    if method == "holm":
        stepped = np.maximum.accumulate(ranked * (m - np.arange(m)))
    elif method == "bh":
        stepped = np.minimum.accumulate((ranked * m / np.arange(1, m + 1))[::-1])[::-1]
    else:
        raise ValueError(f"There is no correction {method!r}; there are holm, bh, bonferroni.")
    back = np.empty(m)
    back[order] = np.minimum(1.0, stepped)
    out[there] = back
    return out


def _codes(labels: np.ndarray, levels: Sequence[Hashable] | None) -> tuple[np.ndarray, tuple[Hashable, ...]]:
    found, codes = np.unique(labels, return_inverse=True)
    present = found.tolist()
    if levels is None:
        return codes, tuple(present)
    unknown = [g for g in present if g not in levels]
    if unknown:
        raise SurvivalDataError("unknown_level", f"The group {unknown[0]!r} is not among the levels given.", where="groups")
    order = tuple(g for g in levels if g in present)
    return np.array([order.index(g) for g in present], dtype=np.intp)[codes], order


def _counts(time: Floats, event: np.ndarray, codes: np.ndarray, k: int, rho: float) -> tuple[Floats, Floats, Floats]:
    """(observed, expected, covariance) of one stratum, vectorised over the distinct event times."""
    order = np.argsort(time)
    t, e, g = time[order], event[order], codes[order]
    starts = distinct(t)
    at_risk = np.empty((k, len(starts)))
    died = np.empty((k, len(starts)))
    for level in range(k):
        member = g == level
        gone = np.cumsum(member)
        at_risk[level] = gone[-1] - gone[starts] + member[starts]
        died[level] = np.add.reduceat(member & e, starts, dtype=np.float64)
    n, d = (len(t) - starts).astype(np.float64), died.sum(axis=0)
    weight = np.ones_like(d) if rho == 0 else np.append(1.0, np.cumprod(1 - d / n)[:-1]) ** rho
    share = at_risk / n
    spread = weight**2 * np.divide(d * (n - d), n - 1, out=np.zeros_like(d), where=n > 1)
    scaled = share * spread
    covariance = np.diag(scaled.sum(axis=1)) - scaled @ share.T
    return died @ weight, share @ (d * weight), covariance


def _chi2(observed: Floats, expected: Floats, covariance: Floats) -> tuple[float, int]:
    """Quadratic form over the groups with an expectation, all but the first of them (their sum is 0)."""
    used = np.flatnonzero(expected > 0)[1:]
    if not len(used):
        raise SurvivalDataError("one_group", "Only one group was ever at risk when events happened.", "Choose another grouping.", "groups")
    difference = (observed - expected)[used]
    block = covariance[np.ix_(used, used)]
    if np.linalg.cond(block) > 1 / np.finfo(np.float64).eps:
        raise SurvivalDataError("no_variance", NO_VARIANCE, "Merge small groups.", "groups")
    return float(difference @ np.linalg.solve(block, difference)), len(used)
