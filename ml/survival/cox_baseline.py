"""Baseline hazard of a Cox model and the survival it predicts for a covariate pattern (R survfit.coxph).

With Efron ties the baseline is Efron's too (R's default): lifelines and scikit-survival take Breslow's, which differs by
up to 4e-3 in S. A prediction is the step before the asked time, never interpolated.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ml.survival.cox import CoxFit
from ml.survival.data import Floats, SurvivalDataError
from ml.survival.kaplan_meier import Quantile, confidence_limits, crossing
from ml.survival.partial_likelihood import PartialLikelihood
from ml.survival.timeline import distinct


@dataclass(frozen=True)
class Baseline:
    """Of one stratum: time (m,), cumulative_hazard (m,) of a subject whose covariates are all 0."""

    time: Floats
    cumulative_hazard: Floats


@dataclass(frozen=True)
class PredictedCurve:
    """Predicted survival of one covariate pattern in one stratum; arrays (m,) over the stratum's distinct times."""

    time: Floats
    survival: Floats
    std_err_log: Floats
    conf_level: float
    conf_type: str

    def at(self, times: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
        """(survival, se of survival, lower, upper) at `times` (the step before each)."""
        step = np.searchsorted(self.time, np.atleast_1d(np.asarray(times, dtype=np.float64)), side="right")
        s, se = np.append(1.0, self.survival)[step], np.append(0.0, self.std_err_log)[step]
        lower, upper = confidence_limits(s, se, self.conf_level, self.conf_type)
        lower, upper = np.where(step > 0, lower, 1.0), np.where(step > 0, upper, 1.0)  # before the first time, as R
        return s, s * se, lower, upper

    @property
    def median(self) -> Quantile:
        """Median with limits from the band."""
        lower, upper = confidence_limits(self.survival, self.std_err_log, self.conf_level, self.conf_type)
        return Quantile(*(crossing(self.time, c, 0.5) for c in (self.survival, lower, upper)))


@dataclass(frozen=True)
class _Steps:
    """Cumulative sums over the terms of one stratum at its distinct times: hazard (m,), variance (m,), hazard x mean (p, m)."""

    time: Floats
    hazard: Floats
    variance: Floats
    moment: Floats


def baseline(fit: CoxFit, ties: str | None = None) -> dict[Hashable, Baseline]:
    """Cumulative baseline hazard at covariates 0, per stratum ("all" without strata). ties: of the baseline, the fit's own unless given."""
    centre = fit.problem.x.mean(axis=0)
    to_zero = float(np.exp(-(centre @ fit.beta)))
    with np.errstate(over="ignore"):  # as in _steps
        return {label: Baseline(s.time, s.hazard * to_zero) for label, s in _steps(fit, centre, ties).items()}


def predict(
    fit: CoxFit, pattern: ArrayLike, ties: str | None = None, conf_level: float = 0.95, conf_type: str = "log-log"
) -> dict[Hashable, PredictedCurve]:
    """Survival of a subject with covariates `pattern` (p,), per stratum, with the error of hazard and coefficients."""
    x = np.asarray(pattern, dtype=np.float64)
    if x.shape != (len(fit.names),) or not np.isfinite(x).all():
        raise SurvivalDataError("wrong_shape", f"A pattern needs one finite value for each of {', '.join(fit.names)}.", where="pattern")
    centre = fit.problem.x.mean(axis=0)
    here = x - centre
    risk = float(np.exp(here @ fit.beta))
    curves: dict[Hashable, PredictedCurve] = {}
    for label, s in _steps(fit, centre, ties).items():
        drift = np.outer(here, s.hazard) - s.moment
        variance = s.variance + np.einsum("im,ij,jm->m", drift, fit.covariance, drift)
        std_err = risk * np.sqrt(np.maximum(variance, 0.0))
        curves[label] = PredictedCurve(s.time, np.exp(-s.hazard * risk), std_err, conf_level, conf_type)
    return curves


def _steps(fit: CoxFit, centre: Floats, ties: str | None) -> dict[Hashable, _Steps]:
    p = fit.problem
    likelihood = PartialLikelihood(p.sample, p.x - centre, p.strata, ties or p.ties)
    terms = likelihood.terms(fit.beta)
    with np.errstate(over="ignore", invalid="ignore"):  # a coefficient that runs off takes the baseline with it; the fit says so
        hazard = terms.hazard * np.exp(-terms.shift)
        variance = hazard**2 / likelihood.term_weight
        moment = terms.mean * hazard
    steps: dict[Hashable, _Steps] = {}
    for code, label in enumerate(fit.strata or ("all",)):
        times = likelihood.time[likelihood.stratum == code]
        times = times[distinct(times)]
        mine = likelihood.group_stratum[likelihood.term_group] == code
        upto = np.searchsorted(likelihood.group_time[likelihood.term_group[mine]], times, side="right")
        sums = (
            np.concatenate((np.zeros((*v.shape[:-1], 1)), np.cumsum(v[..., mine], axis=-1)), axis=-1) for v in (hazard, variance, moment)
        )
        steps[label] = _Steps(times, *(v[..., upto] for v in sums))
    return steps
