"""Concordance of a risk score with survival (R `concordance(..., reverse=TRUE)`): Harrell's C, Uno's and other time weights.

A pair counts where one is seen to fail first. Two events at one time are no pair; an event and a censoring at one time
are (the censored one lives longer); a tie in the score counts one half. Higher score = earlier event. The standard error
is the infinitesimal jackknife.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ml.survival.data import Floats, SurvivalDataError, SurvivalSample, prepare
from ml.survival.dominance import weight_below
from ml.survival.timeline import timeline

TIME_WEIGHTS = ("n", "n/G2", "S", "S/G")


@dataclass(frozen=True)
class Concordance:
    """c with its standard error and the (time-weighted) numbers of pairs."""

    c: float
    se: float
    concordant: float
    discordant: float
    tied_score: float
    tied_time: float
    tied_both: float
    time_weight: str


def concordance(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    entry: ArrayLike | None = None,
    time_weight: str = "n",
    until: float | None = None,
    strata: Sequence[Hashable] | np.ndarray | None = None,
    weights: ArrayLike | None = None,
    *,
    merge: bool = True,
) -> Concordance:
    """C of `score` (n,). time_weight: "n" Harrell, "n/G2" Uno (G at t-), "S", "S/G". until: events after it are not used.

    Raises SurvivalDataError: no_pairs, unknown_time_weight, weight_with_entry (only "n" is defined with delayed entry).
    """
    if time_weight not in TIME_WEIGHTS:
        raise SurvivalDataError(
            "unknown_time_weight", f"There is no time weight {time_weight!r}.", f"Choose one of {', '.join(TIME_WEIGHTS)}."
        )
    sample = prepare(time, event, entry, weights, merge=merge)
    if sample.entry is not None and time_weight != "n":
        raise SurvivalDataError("weight_with_entry", "With delayed entry only the time weight n is defined here.", where="time_weight")
    values = np.asarray(score, dtype=np.float64)[sample.kept]
    if not np.isfinite(values).all():
        raise SurvivalDataError("missing_value", "Some subjects have no finite score.", "Leave such rows out first and say so.", "score")
    _, rank = np.unique(values, return_inverse=True)
    blocks = np.zeros(len(sample), dtype=np.intp) if strata is None else np.unique(np.asarray(strata)[sample.kept], return_inverse=True)[1]
    totals, per_subject = np.zeros(5), np.zeros((3, len(sample)))
    for block in range(int(blocks.max()) + 1):
        rows = np.flatnonzero(blocks == block)
        part = SurvivalSample(
            sample.time[rows],
            sample.event[rows],
            None if sample.entry is None else sample.entry[rows],
            None if sample.weights is None else sample.weights[rows],
            np.ones(len(rows), dtype=np.bool_),
        )
        counts, shares = _pairs(part, rank[rows], time_weight, until)
        totals += counts
        per_subject[:, rows] = shares
    return _summary(totals, per_subject, sample.weights, time_weight)


def _summary(totals: Floats, per_subject: Floats, weights: Floats | None, time_weight: str) -> Concordance:
    concordant, discordant, tied = totals[:3]
    pairs = concordant + discordant + tied
    if not pairs > 0:
        raise SurvivalDataError(
            "no_pairs", "No two subjects can be compared, so there is no concordance.", "More events or longer follow-up are needed."
        )
    c = (concordant + tied / 2) / pairs
    w = 1.0 if weights is None else weights
    influence = w * (per_subject[0] + per_subject[2] / 2 - c * per_subject.sum(axis=0)) / pairs
    return Concordance(float(c), float(np.sqrt((influence**2).sum())), *(float(v) for v in totals), time_weight)


def _pairs(sample: SurvivalSample, rank: np.ndarray, time_weight: str, until: float | None) -> tuple[Floats, Floats]:
    """((concordant, discordant, tied score, tied time, tied both), the first three per subject (3, n))."""
    n = len(sample)
    w = np.ones(n) if sample.weights is None else sample.weights
    # censored subjects outlive events at their own time: sort by time, events first
    order = np.lexsort((~sample.event, sample.time))
    time, event, rank_s, w_s = sample.time[order], sample.event[order], rank[order], w[order]
    factor = _factor(sample, time, time_weight)
    if until is not None:
        factor = np.where(time <= until, factor, 0.0)
    place = 2 * np.unique(time, return_inverse=True)[1] + ~event  # (time, events before censorings) as one number
    failed = np.flatnonzero(event)
    per = np.zeros((3, n))
    # each event against those who live longer
    after = np.searchsorted(place, place[failed], side="right")
    longer = _split(rank_s, w_s, after, np.full(len(failed), n), rank_s[failed])
    if sample.entry is not None:  # less those who had not entered yet (they all live longer)
        by_entry = np.argsort(sample.entry, kind="stable")
        late = np.searchsorted(sample.entry[by_entry], time[failed], side="left")
        longer = longer - _split(rank[by_entry], w[by_entry], late, np.full(len(failed), n), rank_s[failed])
    longer = longer * factor[failed]
    per[:, failed] += longer
    # each subject against the events before it, while it was at risk
    first = np.zeros(n, dtype=np.intp)
    if sample.entry is not None:
        first = np.searchsorted(time[failed], sample.entry[order], side="right")
    before = np.searchsorted(place[failed], place, side="left")
    earlier = _split(rank_s[failed], (w_s * factor)[failed], first, before, rank_s)
    per += earlier[[1, 0, 2]]  # seen from the other side: a higher score of the earlier one is concordant
    tied_time, tied_both = _tied_events(time[failed], rank_s[failed], w_s[failed], factor[failed])
    totals = np.append(longer @ w_s[failed], (tied_time, tied_both))
    out = np.empty((3, n))
    out[:, order] = per
    return totals, out


def _split(rank: np.ndarray, w: Floats, start: np.ndarray, stop: np.ndarray, against: np.ndarray) -> Floats:
    """(3, q): weight in [start, stop) with a rank below, above, equal to `against`."""
    stop = np.maximum(start, stop)
    tail = np.append(0.0, np.cumsum(w))
    everything = tail[stop] - tail[start]
    below = weight_below(rank, w, start, stop, against)
    not_above = weight_below(rank, w, start, stop, against + 1)
    return np.stack((below, everything - not_above, not_above - below))


def _tied_events(time: Floats, rank: np.ndarray, w: Floats, factor: Floats) -> tuple[float, float]:
    """Weighted pairs of events at one time: (scores differ, scores equal)."""

    def pairs(key: np.ndarray) -> float:
        total, squares = np.bincount(key, w), np.bincount(key, w**2)
        scale = np.zeros(len(total))
        scale[key] = factor
        return float((scale * (total**2 - squares)).sum() / 2)

    at = np.unique(time, return_inverse=True)[1]
    both = np.unique(at * (int(rank.max(initial=0)) + 1) + rank, return_inverse=True)[1]
    equal = pairs(both)
    return pairs(at) - equal, equal


def _factor(sample: SurvivalSample, at: Floats, time_weight: str) -> Floats:
    """Weight of an event at each time of `at`. Events leave before censorings in G; both curves are taken just before t."""
    if time_weight == "n":
        return np.ones(len(at))
    line = timeline(sample)
    where = np.searchsorted(line.time, at)
    still = line.n_risk - line.n_event
    g = np.cumprod(1 - np.divide(line.n_censor, still, out=np.zeros_like(still), where=still > 0))
    g_before, s_before = np.append(1.0, g[:-1])[where], np.append(1.0, np.cumprod(1 - line.n_event / line.n_risk)[:-1])[where]
    if time_weight == "n/G2":
        return np.divide(1.0, g_before**2, out=np.zeros_like(g_before), where=g_before > 0)
    total = len(sample) if sample.weights is None else sample.weights.sum()
    s_weight = total * s_before / line.n_risk[where]
    if time_weight == "S":
        return s_weight
    return np.divide(s_weight, g_before, out=np.zeros_like(g_before), where=g_before > 0)
