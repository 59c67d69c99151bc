"""How one of our survival results is held against a block of the reference values, at the tolerances of its README."""

import numpy as np
import pytest

from ml.survival.concordance import Concordance
from ml.survival.cox import CoxFit
from ml.survival.cox_baseline import baseline, predict
from ml.survival.cox_checks import proportional_hazards, residuals
from ml.survival.data import SurvivalDataError
from ml.survival.kaplan_meier import KaplanMeier, Quantile, rmst_difference
from ml.survival.logrank import trend
from tests.golden.survival_tables import number, numbers

CURVE = {"rtol": 1e-9, "atol": 1e-9}
STAT = {"rtol": 1e-6, "atol": 1e-9}
P = {"rtol": 1e-4, "atol": 1e-12}


def close(got, want, **tolerance):
    np.testing.assert_allclose(got, numbers(want) if isinstance(want, list) else number(want), equal_nan=True, **tolerance)


def same_quantile(got: Quantile, want: dict):
    for side in ("estimate", "lower", "upper"):
        if side in want:
            close(getattr(got, side), want[side], **CURVE)


def same_curve(got: KaplanMeier, want: dict):
    close(got.n, want["n"], **CURVE)
    close(got.events, want["events"], **CURVE)
    for ours, theirs in {
        "time": "time",
        "n_risk": "n_risk",
        "n_event": "n_event",
        "n_censor": "n_censor",
        "survival": "surv",
        "std_err_log": "std_err_log_surv",
        "lower": "lower",
        "upper": "upper",
        "cumulative_hazard": "cumhaz_nelson_aalen",
        "std_err_cumulative_hazard": "std_err_cumhaz",
    }.items():
        np.testing.assert_allclose(getattr(got, ours), numbers(want[theirs]), equal_nan=True, err_msg=theirs, **CURVE)
    same_quantile(got.median, want["median"])
    for ours, theirs in zip(got.quartiles, ("quartile_25", "quartile_75")):
        same_quantile(ours, want[theirs])
    mean = got.rmst(want["rmst"]["tau"])
    close(mean.estimate, want["rmst"]["estimate"], **STAT)
    close(mean.se, want["rmst"]["se"], **STAT)
    assert mean.tau_beyond_last_time == want["rmst"]["tau_beyond_last_time"]
    at = want["at_times"]
    ours = got.at(numbers(at["time"]))
    for mine, theirs in (("n_risk", "n_risk"), ("survival", "surv"), ("se", "se_surv"), ("lower", "lower"), ("upper", "upper")):
        np.testing.assert_allclose(getattr(ours, mine), numbers(at[theirs]), equal_nan=True, err_msg=theirs, **CURVE)
    for kind in ("log", "plain"):
        if f"limits_conf_{kind}" in want:
            lower, upper = got.limits(kind)
            close(lower, want[f"limits_conf_{kind}"]["lower"], **CURVE)
            close(upper, want[f"limits_conf_{kind}"]["upper"], **CURVE)
            same_quantile(got.median_by(kind), want[f"median_conf_{kind}"])


def same_test(got, want: dict, full: bool = True):
    close(got.statistic, want["chisq"], **STAT)
    assert got.df == want["df"]
    close(got.p, want["p"], **P)
    if full:
        close(got.observed, want["observed"], **STAT)
        close(got.expected, want["expected"], **STAT)
        np.testing.assert_allclose(got.covariance, np.array([numbers(row) for row in want["var"]]), **STAT)


def same_c(got: Concordance, want: dict):
    close(got.c, want["c"], **STAT)
    close(got.se, want["se"], **STAT)
    for ours, theirs in (
        ("concordant", "concordant"),
        ("discordant", "discordant"),
        ("tied_score", "tied.x"),
        ("tied_time", "tied.y"),
        ("tied_both", "tied.xy"),
    ):
        if "counts" in want:
            close(getattr(got, ours), want["counts"][theirs], **STAT)


def same_fit(fit: CoxFit, want: dict, finite: bool = True):
    close(fit.loglik_null, want["loglik_null"], **STAT)
    close(fit.loglik, want["loglik"], **STAT)
    for ours in ("lr_test", "score_test") + (("wald_test",) if finite else ()):
        got = getattr(fit, ours)
        close(got.statistic, want[ours]["chisq"], **STAT)
        assert got.df == want[ours]["df"]
        close(got.p, want[ours]["p"], **P)
    close(2 * (fit.coefficients.size - fit.aliased.sum()) - 2 * fit.loglik, want["aic"], **STAT)
    close(fit.means, list(want["means"].values()), **STAT)
    assert (fit.n, fit.events) == (want["n"], want["events"])
    if not finite:
        assert "infinite_coefficient" in {f.code for f in fit.findings}
        return
    same_coefficients(fit, want)
    same_c(fit.concordance(), want["concordance"])
    left = residuals(fit)
    weights = fit.problem.sample.weights
    assert abs(left.martingale @ (np.ones(fit.n) if weights is None else weights)) < 1e-8
    close(left.martingale.sum(), want["martingale"]["sum"], rtol=1e-6, atol=1e-8)
    close((left.martingale**2).sum(), want["martingale"]["sum_of_squares"], **STAT)
    close((left.deviance**2).sum(), want["martingale"]["deviance_sum_of_squares"], **STAT)
    close([left.martingale.min(), left.martingale.max()], [want["martingale"]["min"], want["martingale"]["max"]], **STAT)
    squares = want["schoenfeld_sum_of_squares"]
    squares = numbers(list(squares.values()) if isinstance(squares, dict) else squares)
    np.testing.assert_allclose((left.schoenfeld**2).sum(axis=0), squares[~fit.aliased], **STAT)
    for stratum, curve in want["baseline_cumhaz"].items():
        ours = baseline(fit)[stratum.split("=")[-1]]  # R writes "sex=1" where the label is a number
        at = np.searchsorted(ours.time, numbers(curve["time"]), side="right") - 1
        close(ours.cumulative_hazard[at], curve["cumhaz"], **STAT)


def same_coefficients(fit: CoxFit, want: dict):
    known = ~fit.aliased
    assert [v is None for v in want["coef"].values()] == fit.aliased.tolist()
    assert np.isnan(fit.coefficients[fit.aliased]).all()
    for ours, theirs in (
        ("coefficients", "coef"),
        ("se", "se"),
        ("z", "z"),
        ("hr", "hr"),
        ("hr_lower", "hr_lower"),
        ("hr_upper", "hr_upper"),
    ):
        np.testing.assert_allclose(getattr(fit, ours)[known], numbers(list(want[theirs].values()))[known], err_msg=theirs, **STAT)
    np.testing.assert_allclose(fit.p[known], numbers(list(want["p"].values()))[known], **P)
    np.testing.assert_allclose(fit.covariance, np.array([numbers(row) for row in want["vcov"]]), **STAT)
    assert fit.aliased.sum() == sum(f.code == "collinear" for f in fit.findings)


def same_proportionality(fit: CoxFit, want: dict):
    compared = 0
    for transform, tests in want.get("cox_zph", {}).items():
        if "error" in tests:
            with pytest.raises(SurvivalDataError):
                proportional_hazards(fit, transform)
            continue
        got = proportional_hazards(fit, transform)
        for name, test in tests.items():
            if name in ("r_warnings",):
                continue
            ours = got.whole if name == "GLOBAL" else got.per_covariate[name.strip("`")]
            close(ours.statistic, test["chisq"], **STAT)
            assert ours.df == test["df"]
            close(ours.p, test["p"], **P)
            compared += 1
    return compared


def same_predictions(fit: CoxFit, want: dict):
    for prediction in want.get("predicted") or ():
        pattern = [prediction["pattern"][name] for name in fit.names]
        close(np.array(pattern, dtype=float) @ fit.beta, prediction["linear_predictor_uncentred"], **STAT)
        for kind in ("log-log", "log", "breslow_baseline_ctype1"):
            ties = "breslow" if kind == "breslow_baseline_ctype1" else None
            curves = predict(fit, pattern, ties, conf_type="log-log" if ties else kind)
            r = prediction[kind]
            parts = [c.at(np.unique(numbers(r["time"]))) for c in curves.values()]
            for i, key in enumerate(("surv", "se_surv", "lower", "upper")):
                np.testing.assert_allclose(
                    np.concatenate([part[i] for part in parts]), numbers(r[key]), equal_nan=True, err_msg=f"{kind} {key}", **STAT
                )
        if "median_log_log" in prediction and len(curves) == 1:
            same_quantile(next(iter(predict(fit, pattern).values())).median, prediction["median_log_log"])


def same_difference(curves: dict, want: dict):
    got = rmst_difference(curves[want["of"]], curves[want["minus"]], want["tau"])
    for key in ("estimate", "se", "z", "lower", "upper"):
        close(getattr(got, key), want[key], **STAT)
    close(got.p, want["p"], **P)


def same_trend(test, want: dict):
    got = trend(test)
    for ours, theirs in (("scores", "scores"), ("contrast", "statistic"), ("variance", "variance"), ("z", "z"), ("statistic", "chisq")):
        close(getattr(got, ours), want[theirs], **STAT)
    close(got.p, want["p"], **P)
