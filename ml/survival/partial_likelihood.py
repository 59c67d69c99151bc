"""The partial likelihood of the Cox model with its derivatives, vectorised: ties (Efron, Breslow), delayed entry, strata, weights.

Every event is one term. The l-th of d events at a time (l = 0..d-1) sees the risk set less l/d of the d events (Efron);
Breslow takes the whole risk set each time. With r = w exp(eta), a term's mean covariate is m = S1/S0 and its hazard is
wbar/S0, wbar being the mean weight of the d events.

The second moments S2 are never built: the sum of S2/S0 over terms is X' diag(r h) X, where h is each row's
cumulative hazard over the terms that it is at risk in. The same h gives the score and the martingale residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.survival.data import Floats, SurvivalDataError, SurvivalSample
from ml.survival.timeline import distinct

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Derivatives:
    """loglik; score (p,); information (p, p), minus the second derivative."""

    loglik: float
    score: Floats
    information: Floats


@dataclass(frozen=True)
class Terms:
    """One entry per event, in the order of the events. hazard = wbar/S0 (m,); mean = S1/S0 (p, m).

    r: (n,) = w exp(eta - shift); hazard is larger than the true one by exp(shift).
    """

    loglik: float
    shift: float
    r: Floats
    hazard: Floats
    mean: Floats


class PartialLikelihood:
    """Risk sets of a sample, sorted once. x: (n, p) float64, rows as in the sample. strata: (n,) integer codes or None."""

    def __init__(self, sample: SurvivalSample, x: Floats, strata: NDArray[np.integer] | None = None, ties: str = "efron") -> None:
        if ties not in ("efron", "breslow"):
            raise SurvivalDataError("unknown_ties", f"There is no tie method {ties!r}.", "Choose efron or breslow.", "ties")
        n = len(sample)
        stratum = np.zeros(n, dtype=np.intp) if strata is None else np.asarray(strata, dtype=np.intp)
        # (stratum, time) as one integer key, so that one search serves all strata
        if sample.entry is None:
            _, rank = np.unique(sample.time, return_inverse=True)
            entry_rank = None
        else:
            _, both = np.unique(np.concatenate((sample.time, sample.entry)), return_inverse=True)
            rank, entry_rank = both[:n], both[n:]
        span = int(max(rank.max(), 0 if entry_rank is None else entry_rank.max())) + 1
        key = stratum * span + rank
        self.order: Index = np.argsort(key, kind="stable")
        self.key = key[self.order]
        self.event = sample.event[self.order]
        self.time = sample.time[self.order]
        self.stratum = stratum[self.order]
        self.weights = (np.ones(n) if sample.weights is None else sample.weights)[self.order]
        self.xt = np.ascontiguousarray(x[self.order].T)
        self._set_groups(span, None if entry_rank is None else (stratum * span + entry_rank)[self.order])
        self._set_terms(ties)

    def _set_groups(self, span: int, entry_key: Index | None) -> None:
        """Distinct event times per stratum, where their risk sets begin and end, which of them each row is at risk in."""
        self.event_rows: Index = np.flatnonzero(self.event)
        keys = self.key[self.event_rows]
        first = distinct(keys) if len(keys) else np.zeros(0, dtype=np.intp)
        self.group_key = keys[first]
        self.group_first_event = first
        self.group_size = np.diff(np.append(first, len(keys)))
        self.risk_from = np.searchsorted(self.key, self.group_key, side="left")
        stratum_end = (self.group_key // span + 1) * span
        self.risk_to = np.searchsorted(self.key, stratum_end, side="left")
        self.last_group = np.searchsorted(self.group_key, self.key, side="right")
        start_key = (self.key // span) * span
        if entry_key is None:
            self.entry_order = None
            self.first_group = np.searchsorted(self.group_key, start_key, side="left")
        else:
            self.entry_order = np.argsort(entry_key, kind="stable")
            sorted_entry = entry_key[self.entry_order]
            self.late_from = np.searchsorted(sorted_entry, self.group_key, side="left")
            self.late_to = np.searchsorted(sorted_entry, stratum_end, side="left")
            self.first_group = np.searchsorted(self.group_key, entry_key, side="right")
        self.group_stratum = self.group_key // span
        self.group_time = self.time[self.event_rows[first]]
        self.group_of_row = np.searchsorted(self.group_key, self.key, side="left")  # right for event rows only

    def _set_terms(self, ties: str) -> None:
        """One term per event: its group, the share l/d of the tied events that it leaves out, its mean weight."""
        groups = len(self.group_key)
        self.term_group = np.repeat(np.arange(groups), self.group_size)
        size = self.group_size[self.term_group]
        self.tied = bool((self.group_size > 1).any())
        place = np.arange(len(self.term_group)) - self.group_first_event[self.term_group]
        self.share = place / size if ties == "efron" else np.zeros(len(size))
        total = np.add.reduceat(self.weights[self.event_rows], self.group_first_event) if groups else np.zeros(0)
        self.group_weight = total
        self.term_weight = total[self.term_group] / size
        self.leaves_out = self.tied and ties == "efron"

    def risk_sum(self, values: Floats) -> Floats:
        """Sum over each group's risk set. values: (..., n) in sorted order; gives (..., groups)."""
        tail = _tail_sums(values)
        total = tail[..., self.risk_from] - tail[..., self.risk_to]
        if self.entry_order is not None:
            late = _tail_sums(values[..., self.entry_order])
            total = total - (late[..., self.late_from] - late[..., self.late_to])
        return total

    def event_sum(self, values: Floats) -> Floats:
        """Sum over the events of each group. values: (..., n) in sorted order."""
        return np.add.reduceat(values[..., self.event_rows], self.group_first_event, axis=-1)

    def terms(self, beta: Floats) -> Terms:
        """All terms at beta."""
        eta = beta @ self.xt
        shift = float(eta.max()) if len(eta) else 0.0  # exp() must not overflow; the shift cancels in every ratio
        r = self.weights * np.exp(eta - shift)
        rx = self.xt * r
        s0, s1 = self.risk_sum(r)[self.term_group], self.risk_sum(rx)[:, self.term_group]
        own = self.event_sum(r)[self.term_group]
        # a risk set holds at least its own events: what differences of sums lose to rounding is put back
        s0 = np.maximum(s0, own) - self.share * own
        if self.leaves_out:
            s1 = s1 - self.share * self.event_sum(rx)[:, self.term_group]
        rows = self.event_rows
        with np.errstate(
            divide="ignore", invalid="ignore", over="ignore"
        ):  # a step too far underflows a risk set: it has no likelihood and is halved
            loglik = float(self.weights[rows] @ eta[rows] - self.term_weight @ (np.log(s0) + shift))
            return Terms(loglik, shift, r, self.term_weight / s0, s1 / s0)

    def exposure(self, per_term: Floats) -> Floats:
        """Sum of a per-term quantity over the terms each row is at risk in: (..., terms) -> (..., n), in sorted order.

        A row with an event is only partly in the terms of its own time (Efron): l/d of each is taken back.
        """
        if not len(self.group_key):
            return np.zeros(per_term.shape[:-1] + (len(self.key),))
        grouped = per_term if not self.tied else np.add.reduceat(per_term, self.group_first_event, axis=-1)
        running = np.zeros(per_term.shape[:-1] + (len(self.group_key) + 1,))
        np.cumsum(grouped, axis=-1, out=running[..., 1:])
        out = running[..., self.last_group] - running[..., self.first_group]
        if self.leaves_out:
            back = np.add.reduceat(per_term * self.share, self.group_first_event, axis=-1)
            out[..., self.event_rows] -= back[..., self.term_group]
        return out

    def information(self, terms: Terms, factor: Floats | None = None) -> Floats:
        """(p, p) sum over terms of factor x wbar x (S2/S0 - m m'); factor: (terms,), 1 unless given."""
        weight = self.term_weight if factor is None else self.term_weight * factor
        hazard = terms.hazard if factor is None else terms.hazard * factor
        second = (self.xt * (terms.r * self.exposure(hazard))) @ self.xt.T
        return second - (terms.mean * weight) @ terms.mean.T

    def evaluate(self, beta: Floats) -> Derivatives:
        """Log partial likelihood, score and information at beta (p,); -inf and zeros where beta is beyond all numbers."""
        terms = self.terms(beta)
        if not np.isfinite(terms.loglik):
            p = len(beta)
            return Derivatives(-np.inf, np.zeros(p), np.zeros((p, p)))
        score = self.xt @ (self.weights * self.event - terms.r * self.exposure(terms.hazard))
        return Derivatives(terms.loglik, score, self.information(terms))


def _tail_sums(values: Floats) -> Floats:
    """(..., n + 1): sum of values[..., i:] for each i, accumulated from the far end, so that small tails keep their digits."""
    out = np.zeros(values.shape[:-1] + (values.shape[-1] + 1,))
    np.cumsum(values[..., ::-1], axis=-1, out=out[..., -2::-1])
    return out
