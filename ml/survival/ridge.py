"""One ridge Cox fit with its absolute risk at a horizon, and its patient bootstraps.

The fit that is kept comes from lifelines (CoxPHFitter, l1_ratio 0); the hundreds of refits behind intervals and
permutations come from our Newton solver, which maximises the same function: loglik/n - penalizer/2 sum(b^2) on columns
with mean 0 and standard deviation 1 (n - 1). The baseline is R's (Efron), read at the step before the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.survival.cox import newton
from ml.survival.data import Floats, SurvivalDataError, SurvivalSample
from ml.survival.partial_likelihood import PartialLikelihood


@dataclass(frozen=True)
class RidgeFit:
    """mean, scale, coefficients: (p,), coefficients per standard deviation. hazard: cumulative baseline hazard at the horizon
    of a patient with mean summaries. boot_coefficients (b, p), boot_hazards (b,): patient bootstrap refits on the same scale.
    """

    mean: Floats
    scale: Floats
    coefficients: Floats
    hazard: float
    boot_coefficients: Floats
    boot_hazards: Floats
    n: int
    events: int

    def standardised(self, x: Floats) -> Floats:
        """(n, p) on the scale of the fit."""
        return (x - self.mean) / self.scale

    def scores(self, x: Floats) -> Floats:
        """(n,) linear predictor: log hazard ratio against a patient with mean summaries."""
        return self.standardised(x) @ self.coefficients

    def risks(self, x: Floats) -> Floats:
        """(n,) probability of an event up to the horizon."""
        return event_probability(self.hazard, self.scores(x))

    def intervals(self, x: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
        """(lower, upper), each (n,): percentiles of the bootstrap refits' risks."""
        each = event_probability(self.boot_hazards[:, None], self.boot_coefficients @ self.standardised(x).T)
        tail = (1 - level) / 2
        lower, upper = np.quantile(each, [tail, 1 - tail], axis=0)
        return lower, upper


def event_probability(hazard: float | Floats, score: Floats) -> Floats:
    """1 - exp(-H0 exp(score)), in 0..1."""
    return np.asarray(-np.expm1(-hazard * np.exp(np.minimum(score, 500.0))))


def standardise(x: Floats, least: float = 0.0) -> tuple[Floats, Floats]:
    """(mean, standard deviation with n - 1, 1 where a column is constant). least: the smallest deviation that is believed."""
    scale = x.std(axis=0, ddof=1)
    return x.mean(axis=0), np.maximum(np.where(scale > 1e-12 * np.maximum(1.0, np.abs(x).max(axis=0)), scale, 1.0), least)


def solve(sample: SurvivalSample, z: Floats, penalizer: float) -> Floats:
    """(p,) ridge coefficients by our Newton solver; z: (n, p) standardised. A constant column gets 0."""
    likelihood = PartialLikelihood(sample, z)
    p = z.shape[1]
    return newton(likelihood, np.ones(p, dtype=np.bool_), np.full(p, penalizer * len(sample))).beta


def solve_with_lifelines(sample: SurvivalSample, z: Floats, penalizer: float) -> Floats:
    """(p,) ridge coefficients by lifelines' CoxPHFitter; constant columns, which it refuses, get 0."""
    import pandas as pd
    from lifelines import CoxPHFitter

    varies = np.flatnonzero(np.ptp(z, axis=0) > 0)
    beta = np.zeros(z.shape[1])
    if not len(varies):
        return beta
    columns = [f"x{i}" for i in varies]
    frame = pd.DataFrame(z[:, varies], columns=columns)
    frame["days"], frame["died"] = sample.time, sample.event
    entry = None
    if sample.entry is not None:
        frame["entered"], entry = sample.entry, "entered"
    fitter = CoxPHFitter(penalizer=penalizer, l1_ratio=0.0)
    fitter.fit(frame, "days", "died", entry_col=entry, fit_options={"precision": 1e-10})
    beta[varies] = fitter.params_[columns].to_numpy()
    return beta


def horizon_hazard(sample: SurvivalSample, z: Floats, beta: Floats, horizon: float) -> float:
    """Cumulative baseline hazard (Efron) of z = 0 up to the horizon, the step before it."""
    likelihood = PartialLikelihood(sample, z)
    terms = likelihood.terms(beta)
    before = likelihood.group_time[likelihood.term_group] <= horizon
    return float((terms.hazard[before] * np.exp(-terms.shift)).sum())


# Of a bootstrap draw, in units of the whole sample's standard deviation.
LEAST_SPREAD = 0.01


def fit_ridge(
    sample: SurvivalSample,
    x: Floats,
    penalizer: float,
    horizon: float,
    bootstrap: int,
    seed: int,
    least_scale: float = 0.0,
    non_negative: bool = False,
) -> RidgeFit:
    """Fit on all rows and refit on `bootstrap` draws of patients. x: (n, p). Data errors raise SurvivalDataError.

    non_negative: of one summary that can only raise the risk: the likelihood is concave, so its best value there is the larger of 0 and the
    free one.
    """
    mean, scale = standardise(x, least_scale)
    z = (x - mean) / scale
    beta = solve_with_lifelines(sample, z, penalizer)
    beta = np.maximum(beta, 0.0) if non_negative else beta
    rng = np.random.default_rng(seed)
    coefficients, hazards = np.empty((bootstrap, x.shape[1])), np.empty(bootstrap)
    for b in range(bootstrap):
        rows = _draw(rng, sample.event)
        part = take(sample, rows)
        centre, spread = standardise(z[rows])
        # A draw in which a summary hardly varies says nothing of it; dividing by that spread would make its coefficient boundless.
        spread = np.where(spread < LEAST_SPREAD, 1.0, spread)
        drawn = (z[rows] - centre) / spread
        own = solve(part, drawn, penalizer)
        own = np.maximum(own, 0.0) if non_negative else own
        coefficients[b] = own / spread
        hazards[b] = horizon_hazard(part, drawn, own, horizon) * np.exp(-(centre @ coefficients[b]))
    return RidgeFit(
        mean, scale, beta, horizon_hazard(sample, z, beta, horizon), coefficients, hazards, len(sample), int(sample.event.sum())
    )


def _draw(rng: np.random.Generator, event: np.ndarray) -> np.ndarray:
    """Rows of a bootstrap draw that holds an event (a draw without one has no likelihood and is drawn again)."""
    if not event.any():
        raise SurvivalDataError("no_events", "No event was observed, so there is no Cox model.", "Wait for longer follow-up.")
    while True:
        rows = rng.integers(0, len(event), len(event))
        if event[rows].any():
            return rows


def take(sample: SurvivalSample, rows: np.ndarray) -> SurvivalSample:
    """Rows of a checked sample (near ties were merged before, over all of them)."""
    entry = None if sample.entry is None else sample.entry[rows]
    return SurvivalSample(sample.time[rows], sample.event[rows], entry, None, np.ones(len(rows), dtype=np.bool_))
