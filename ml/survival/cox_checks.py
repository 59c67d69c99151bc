"""Is a Cox model believable: proportional-hazards test, residuals, robust covariance.

The proportional-hazards test is the exact score test for x * g(t) (R cox.zph since survival 3.0), not the older
approximation by correlations that lifelines has (gbsg2, age, identity: 2.85, not 9.12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from ml.survival.cox import ChiSquare, CoxFit
from ml.survival.data import Floats, SurvivalDataError, SurvivalSample
from ml.survival.kaplan_meier import curve_of
from ml.survival.partial_likelihood import PartialLikelihood

SINGULAR = "The test of proportional hazards is singular for this model and transform."
TRANSFORMS = ("km", "identity", "rank", "log")


@dataclass(frozen=True)
class ProportionalHazards:
    """per_covariate: name -> test with 1 df (aliased columns are left out); whole: all of them together."""

    transform: str
    per_covariate: dict[str, ChiSquare]
    whole: ChiSquare


@dataclass(frozen=True)
class Residuals:
    """martingale, deviance: (n,); schoenfeld: (events, p) in the order of time; score: (n, p). Rows as kept in the fit."""

    martingale: Floats
    deviance: Floats
    schoenfeld: Floats
    score: Floats


def _likelihood(fit: CoxFit) -> tuple[PartialLikelihood, np.ndarray]:
    p = fit.problem
    keep = np.flatnonzero(~fit.aliased)
    x = p.x[:, keep]
    return PartialLikelihood(p.sample, x - x.mean(axis=0), p.strata, p.ties), keep


def proportional_hazards(fit: CoxFit, transform: str = "km") -> ProportionalHazards:
    """Score test of x * g(t) added to the model. g: "km" = 1 - KM(t-), "identity" = t, "rank", "log".

    Raises SurvivalDataError: constant_transform where g is the same at all events or not finite (log of time 0).
    """
    if any(f.code == "infinite_coefficient" for f in fit.findings):
        raise SurvivalDataError(
            "infinite_coefficient", "A coefficient of the model runs off, so hazards cannot be tested for proportionality."
        )
    if fit.aliased.all():
        raise SurvivalDataError("no_covariate", "No covariate of the model has a coefficient, so there is nothing to test.")
    likelihood, keep = _likelihood(fit)
    g = _transformed(likelihood, fit.problem.sample, transform)
    if not np.isfinite(g).all() or np.ptp(g) == 0:
        raise SurvivalDataError(
            "constant_transform",
            f"The time transform {transform} does not vary (or is not finite) over the events.",
            "Choose another transform.",
        )
    g = (g - g.mean()) / np.ptp(g)  # the test does not change with it, its arithmetic does
    terms = likelihood.terms(fit.beta[keep])
    g_terms = g[likelihood.term_group]
    plain, once, twice = (likelihood.information(terms, f) for f in (None, g_terms, g_terms**2))
    rows = likelihood.event_rows
    score = (likelihood.xt[:, rows] * likelihood.weights[rows]) @ g_terms - (terms.mean * likelihood.term_weight) @ g_terms
    if np.linalg.cond(plain) > 1 / np.finfo(np.float64).eps or (np.diag(plain) <= 0).any():
        raise SurvivalDataError("singular", SINGULAR, "Choose another transform.")
    scale = 1 / np.sqrt(np.diag(plain))
    plain, once, twice = (m * np.outer(scale, scale) for m in (plain, once, twice))
    conditional = twice - once.T @ np.linalg.solve(plain, once)
    score = score * scale
    names = [fit.names[i] for i in keep]
    # g may be constant wherever the risk set holds more than one subject: then only rounding is left
    empty = bool((np.diag(conditional) <= 1e-10 * np.diag(twice)).any())
    if empty or np.linalg.cond(conditional) > 1 / np.finfo(np.float64).eps:
        raise SurvivalDataError("singular", SINGULAR, "Choose another transform.")
    singles = {name: _test(score[i] ** 2 / conditional[i, i], 1) for i, name in enumerate(names)}
    return ProportionalHazards(transform, singles, _test(float(score @ np.linalg.solve(conditional, score)), len(keep)))


def _test(statistic: float, df: int) -> ChiSquare:
    return ChiSquare(float(statistic), df, float(chdtrc(df, max(float(statistic), 0.0))))


def _transformed(likelihood: PartialLikelihood, sample: SurvivalSample, transform: str) -> Floats:
    """(groups,) g at each event time."""
    times = likelihood.group_time

    def left_continuous_km(t: Floats) -> Floats:
        curve = curve_of(sample)
        return np.asarray(1 - np.append(1.0, curve.survival)[np.searchsorted(curve.time, t, side="left")])

    def rank(t: Floats) -> Floats:
        every = np.sort(sample.time)
        return np.asarray((np.searchsorted(every, t, side="left") + np.searchsorted(every, t, side="right") + 1) / 2)

    def log(t: Floats) -> Floats:
        with np.errstate(divide="ignore"):  # time 0 gives -inf, which the caller refuses with a sentence
            return np.asarray(np.log(t))

    table: dict[str, Callable[[Floats], Floats]] = {"km": left_continuous_km, "identity": lambda t: t, "rank": rank, "log": log}
    if transform not in table:
        raise SurvivalDataError(
            "unknown_transform", f"There is no time transform {transform!r}.", f"Choose one of {', '.join(TRANSFORMS)}."
        )
    return table[transform](times)


def residuals(fit: CoxFit) -> Residuals:
    """Martingale, deviance, Schoenfeld and score residuals (not weighted), in the units of the covariates."""
    likelihood, keep = _likelihood(fit)
    terms = likelihood.terms(fit.beta[keep])
    event = likelihood.event.astype(np.float64)
    rate = terms.r / likelihood.weights
    expected = rate * likelihood.exposure(terms.hazard)
    martingale = event - expected
    with np.errstate(divide="ignore", invalid="ignore"):  # no event: d log(d - m) is 0, not 0 * log
        logged = np.where(event > 0, np.log(event - martingale), 0.0)
    deviance = np.sign(martingale) * np.sqrt(np.maximum(0.0, -2 * (martingale + event * logged)))
    mean = np.add.reduceat(terms.mean, likelihood.group_first_event, axis=1) / likelihood.group_size
    rows = likelihood.event_rows
    schoenfeld = likelihood.xt[:, rows] - mean[:, likelihood.term_group]
    score = -(likelihood.xt * expected - rate * likelihood.exposure(terms.hazard * terms.mean))
    score[:, rows] += schoenfeld
    back = np.empty_like(likelihood.order)
    back[likelihood.order] = np.arange(len(back))
    return Residuals(martingale[back], deviance[back], schoenfeld.T, score.T[back])


def robust_covariance(fit: CoxFit) -> Floats:
    """(p, p) sandwich covariance by subject (Lin and Wei 1989), 0 for aliased columns."""
    keep = np.flatnonzero(~fit.aliased)
    block = np.ix_(keep, keep)
    weights = fit.problem.sample.weights
    dfbeta = residuals(fit).score @ fit.covariance[block]
    if weights is not None:
        dfbeta = dfbeta * weights[:, None]
    out = np.zeros_like(fit.covariance)
    out[block] = dfbeta.T @ dfbeta
    return out
