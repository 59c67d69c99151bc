"""Cox's proportional hazards model as R coxph fits it: Efron or Breslow ties, delayed entry, strata, weights, ridge penalty.

Newton's method with step halving on columns that are centred and scaled inside (as R), collinear columns found by the
same ordered Cholesky rule as R's coxph (tolerance eps^0.75) and given as NaN. Cox 1972; Therneau and Grambsch 2000.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, ndtr, ndtri

from ml.survival.concordance import Concordance, concordance
from ml.survival.data import Floats, SurvivalDataError, SurvivalFinding, SurvivalSample, prepare, require_events
from ml.survival.partial_likelihood import Derivatives, PartialLikelihood

SINGULAR = float(np.finfo(np.float64).eps ** 0.75)  # R's toler.chol
MAX_STEPS = 60
HALVINGS = 30
VANISHED = 1e-10  # share of the information at 0: coefficients that take it this low have no finite solution
NEGLIGIBLE = 1e-12  # change of the log likelihood, relative to 1 + its size


@dataclass(frozen=True)
class ChiSquare:
    """A test statistic ~ chi2(df) with its upper tail."""

    statistic: float
    df: int
    p: float


@dataclass(frozen=True)
class CoxFit:
    """A fitted model; arrays (p,) in the order of `names`, NaN for an aliased (collinear) column.

    covariance: (p, p), inverse of the (penalised) information, 0 for aliased columns. hr = exp(coefficients) with 95% limits.
    loglik: partial log likelihood without the penalty. means: as R (0 for columns that hold only -1, 0, 1).
    With a ridge penalty se, p and tests are those of the penalised fit and only orient.
    """

    names: tuple[str, ...]
    n: int
    events: int
    coefficients: Floats
    se: Floats
    z: Floats
    p: Floats
    hr: Floats
    hr_lower: Floats
    hr_upper: Floats
    covariance: Floats
    loglik_null: float
    loglik: float
    lr_test: ChiSquare
    wald_test: ChiSquare
    score_test: ChiSquare
    means: Floats
    aliased: NDArray[np.bool_]
    strata: tuple[Hashable, ...]
    ties: str
    ridge: float
    steps: int
    findings: tuple[SurvivalFinding, ...]
    problem: CoxProblem = field(repr=False)

    @property
    def beta(self) -> Floats:
        """Coefficients with 0 for the aliased columns."""
        return np.where(self.aliased, 0.0, self.coefficients)

    def concordance(self) -> Concordance:
        """Harrell's C of the linear predictor (within strata), se by the infinitesimal jackknife."""
        p = self.problem
        s = p.sample
        return concordance(s.time, s.event, p.x @ self.beta, s.entry, strata=p.strata, weights=s.weights, merge=False)


@dataclass(frozen=True)
class CoxProblem:
    """What a model was fitted to: the checked sample, x (n, p) and integer strata (n,) or None."""

    sample: SurvivalSample
    x: Floats
    strata: NDArray[np.intp] | None
    ties: str


def cox(
    time: ArrayLike,
    event: ArrayLike,
    x: ArrayLike,
    names: Sequence[str],
    entry: ArrayLike | None = None,
    strata: Sequence[Hashable] | np.ndarray | None = None,
    ties: str = "efron",
    ridge: float = 0.0,
    weights: ArrayLike | None = None,
    *,
    merge: bool = True,
) -> CoxFit:
    """Fit by maximum partial likelihood minus ridge/2 * sum(b^2).

    time, event, entry, weights: (n,); x: (n, p) float, complete; strata: (n,) labels.
    Raises SurvivalDataError: no_events, missing_covariate, wrong_shape, no_covariate, not_converged and those of `prepare`.
    """
    sample = prepare(time, event, entry, weights, merge=merge)
    require_events(sample, "Cox model")
    matrix = _matrix(x, names, len(sample.kept))[sample.kept]
    labels: tuple[Hashable, ...] = ()
    codes = None
    if strata is not None:
        found, codes = np.unique(np.asarray(strata)[sample.kept], return_inverse=True)
        labels = tuple(found.tolist())
    problem = CoxProblem(sample, matrix, codes, ties)
    centre, scale = centre_and_scale(matrix)
    likelihood = PartialLikelihood(sample, (matrix - centre) / scale, codes, ties)
    penalty = ridge / scale**2
    null = likelihood.evaluate(np.zeros(matrix.shape[1]))
    aliased = aliased_columns(null.information + np.diag(penalty))
    solution = newton(likelihood, ~aliased, penalty)
    return _summarise(problem, tuple(names), labels, ridge, null, aliased, solution, scale)


def _matrix(x: ArrayLike, names: Sequence[str], n: int) -> Floats:
    matrix = np.asarray(x, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape != (n, len(names)):
        raise SurvivalDataError("wrong_shape", f"The covariates are {matrix.shape}, not {n} subjects x {len(names)} names.", where="x")
    if matrix.shape[1] == 0:
        raise SurvivalDataError("no_covariate", "A Cox model needs a covariate.", where="x")
    bad = ~np.isfinite(matrix).all(axis=0)
    if bad.any():
        raise SurvivalDataError(
            "missing_covariate",
            f"The covariate {names[int(np.argmax(bad))]} has missing values.",
            "Leave such rows out first and say so.",
            "x",
        )
    return matrix


def centre_and_scale(matrix: Floats) -> tuple[Floats, Floats]:
    """Column means and mean absolute deviations (1 for a constant column), as R's coxph.fit uses inside."""
    centre = matrix.mean(axis=0)
    scale = np.abs(matrix - centre).mean(axis=0)
    return centre, np.where(scale > 0, scale, 1.0)


def aliased_columns(information: Floats) -> NDArray[np.bool_]:
    """(p,) True where a column is a combination of earlier ones: its Cholesky pivot is nothing beside the largest diagonal."""
    a = information.copy()
    limit = SINGULAR * max(float(np.diag(a).max()), 0.0)
    aliased = np.zeros(len(a), dtype=np.bool_)
    for i in range(len(a)):
        if a[i, i] <= limit:
            aliased[i] = True
            continue
        a[i + 1 :, i + 1 :] -= np.outer(a[i + 1 :, i], a[i, i + 1 :]) / a[i, i]
    return aliased


@dataclass(frozen=True)
class Solution:
    """Where Newton's method ended, on the scale of the likelihood's columns.

    information: of the columns that are free (penalty included); covariance: (p, p) its inverse, NaN where it has none.
    runaway: the likelihood stopped rising while a coefficient still runs off (a covariate predicts perfectly).
    """

    beta: Floats
    information: Floats
    covariance: Floats
    loglik: float
    steps: int
    runaway: bool


def newton(likelihood: PartialLikelihood, free: NDArray[np.bool_], penalty: Floats) -> Solution:
    """Maximise loglik - sum(penalty b^2)/2 over the columns that are free; the others stay 0. penalty: (p,)."""
    keep = np.flatnonzero(free)
    block = np.ix_(keep, keep)
    ridge = np.diag(penalty[keep])
    beta, covariance = np.zeros(len(free)), np.zeros((len(free), len(free)))
    here = likelihood.evaluate(beta)
    if not len(keep):
        return Solution(beta, covariance[block], covariance, here.loglik, 0, False)
    value, steps, done = here.loglik, 0, False
    start = here.information[block] + ridge
    while not done:
        if steps == MAX_STEPS:
            sentence = f"The Cox model did not converge in {MAX_STEPS} steps."
            raise SurvivalDataError("not_converged", sentence, "Use fewer covariates or a ridge penalty.")
        steps += 1
        step = _solve(here.information[block] + ridge, (here.score - penalty * beta)[keep])
        allowed = NEGLIGIBLE * (1 + abs(value))
        for halvings in range(HALVINGS):
            trial = beta.copy()
            trial[keep] += step / 2**halvings
            here = likelihood.evaluate(trial)
            new = here.loglik - 0.5 * float(penalty @ trial**2)
            if new >= value - allowed:
                break
        information = here.information[block] + ridge
        vanished = not penalty.any() and _vanished(information, start)
        done = vanished or (abs(new - value) <= allowed and halvings in (0, HALVINGS - 1))
        beta, value = trial, new
    covariance[block] = _inverse(information)
    runaway = vanished or bool(np.isnan(covariance).any()) or float(np.abs(step).max()) > 1e-3
    return Solution(beta, information, covariance, here.loglik, steps, runaway)


def _vanished(information: Floats, start: Floats) -> bool:
    """Is there a direction in which nothing is left of the information at 0? Then the likelihood has no finite maximum."""
    if not np.isfinite(information).all():
        return True
    return float(np.linalg.eigvals(np.linalg.solve(start, information)).real.min()) < VANISHED


def _inverse(information: Floats) -> Floats:
    """The covariance, NaN where the information has none."""
    try:
        inverse = np.linalg.inv(information)
    except np.linalg.LinAlgError:
        return np.full_like(information, np.nan)
    return inverse if (np.diag(inverse) > 0).all() else np.full_like(information, np.nan)


def _solve(information: Floats, gradient: Floats) -> Floats:
    try:
        return np.linalg.solve(information, gradient)
    except np.linalg.LinAlgError as problem:
        raise SurvivalDataError(
            "singular", "The Cox model's information matrix is singular.", "Use fewer covariates or a ridge penalty."
        ) from problem


def _summarise(
    problem: CoxProblem,
    names: tuple[str, ...],
    labels: tuple[Hashable, ...],
    ridge: float,
    null: Derivatives,
    aliased: NDArray[np.bool_],
    solution: Solution,
    scale: Floats,
) -> CoxFit:
    """Back to the units of the covariates, with the three tests."""
    scaled_beta, scaled_covariance = solution.beta, solution.covariance
    coefficients = np.where(aliased, np.nan, scaled_beta / scale)
    covariance = scaled_covariance / np.outer(scale, scale)
    se = np.where(aliased, np.nan, np.sqrt(np.diag(covariance)))
    z, reach = coefficients / se, float(ndtri(0.975)) * se
    keep = np.flatnonzero(~aliased)
    df = len(keep)
    penalty = np.diag(ridge / scale**2)
    lr = 2 * (solution.loglik - null.loglik)
    block = np.ix_(keep, keep)
    inverse = null.information[block] + penalty[block]
    score = float(null.score[keep] @ np.linalg.solve(inverse, null.score[keep])) if df else 0.0
    wald = float(scaled_beta[keep] @ solution.information @ scaled_beta[keep])
    weights = problem.sample.weights
    with np.errstate(over="ignore"):  # a coefficient that runs off has an infinite limit, and a finding that says so
        hr, lower, upper = np.exp(coefficients), np.exp(coefficients - reach), np.exp(coefficients + reach)
    return CoxFit(
        names=names,
        n=len(problem.sample),
        events=int(problem.sample.event.sum()),
        coefficients=coefficients,
        se=se,
        z=z,
        p=2 * ndtr(-np.abs(z)),
        hr=hr,
        hr_lower=lower,
        hr_upper=upper,
        covariance=covariance,
        loglik_null=null.loglik,
        loglik=solution.loglik,
        lr_test=_chi_square(lr, df),
        wald_test=_chi_square(wald, df),
        score_test=_chi_square(score, df),
        means=reference_means(problem.x, weights),
        aliased=aliased,
        strata=labels,
        ties=problem.ties,
        ridge=ridge,
        steps=solution.steps,
        findings=problem.sample.findings + _findings(names, aliased, solution.runaway),
        problem=problem,
    )


def _chi_square(statistic: float, df: int) -> ChiSquare:
    return ChiSquare(statistic, df, float(chdtrc(df, max(statistic, 0.0))) if df else float("nan"))


def _findings(names: tuple[str, ...], aliased: NDArray[np.bool_], runaway: bool) -> tuple[SurvivalFinding, ...]:
    findings = tuple(
        SurvivalFinding(
            "collinear", "warning", f"{name} is constant or a combination of the columns before it; it has no coefficient.", where=name
        )
        for name, gone in zip(names, aliased)
        if gone
    )
    if runaway:
        findings += (
            SurvivalFinding(
                "infinite_coefficient",
                "warning",
                "A covariate predicts the events perfectly and its coefficient runs off: read only the likelihood-ratio and score tests.",
                "Merge the group without events with another, or use a ridge penalty.",
            ),
        )
    return findings


def reference_means(x: Floats, weights: Floats | None = None) -> Floats:
    """(p,) column means, 0 for columns that hold only -1, 0 and 1, as R's coxph keeps them."""
    indicator = np.isin(x, (-1.0, 0.0, 1.0)).all(axis=0)
    return np.where(indicator, 0.0, np.average(x, axis=0, weights=weights))
