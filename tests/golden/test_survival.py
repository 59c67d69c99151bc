"""Our survival statistics against R survival 3.5-3 (values and tolerances: golden/survival/README.md).

Every edge set, and the real sets where the table is there. Parts of the reference that have no counterpart here are in
NOT_COVERED with the reason; a test holds that list against the keys in the files, so that nothing is left out silently.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.survival.concordance import Concordance, concordance
from ml.survival.cox import CoxFit, cox
from ml.survival.cox_baseline import baseline, predict
from ml.survival.cox_checks import proportional_hazards, residuals, robust_covariance
from ml.survival.data import SurvivalDataError, prepare
from ml.survival.kaplan_meier import KaplanMeier, Quantile, kaplan_meier, kaplan_meier_by_group
from ml.survival.logrank import group_score_test, logrank, pairwise_logrank, trend
from tests.golden.survival_tables import EDGE, REAL, labels, number, numbers, reference, table

pytestmark = pytest.mark.golden

CURVE = dict(rtol=1e-9, atol=1e-9)
STAT = dict(rtol=1e-6, atol=1e-9)
P = dict(rtol=1e-4, atol=1e-12)

NOT_COVERED = {}


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


def cox_blocks(name: str, want: dict, frame: pd.DataFrame, **extra):
    """(kind, reference block, our fit) of the ordinary Cox part of a set."""
    block = want["cox"]
    rows = frame[frame[block["rows_complete_on"]].notna().all(axis=1)]
    assert len(rows) == block["n_used"]
    for kind in ("efron", "breslow", "stratified_efron", "stratified_breslow"):
        if kind not in block:
            continue
        strata = labels(rows[block[kind]["strata"]]).astype(str) if kind.startswith("stratified") else None
        columns = block[kind]["covariates"] if strata is not None else block["covariates"]
        fit = cox(rows["time"], rows["event"], rows[columns].to_numpy(float), columns, strata=strata, ties=kind.split("_")[-1])
        yield kind, block[kind], fit


@pytest.fixture(params=EDGE + REAL)
def case(request, golden):
    """(name, reference, table) of one set."""
    data = request.getfixturevalue("data") if request.param in REAL else None
    return request.param, reference(golden, request.param), table(golden, data, request.param)


def test_every_reference_file_is_compared(golden: Path):
    assert {p.stem for p in (golden / "survival").glob("*.json")} == set(REAL)
    assert {p.stem for p in (golden / "survival" / "edge").glob("*.json")} == set(EDGE)


def test_the_table_is_the_one_that_r_saw(case):
    _, want, frame = case
    assert len(frame) == want["input"]["n"]
    assert frame["event"].sum() == want["input"]["events"]
    if "sum_time" in want["input"]:
        assert frame["time"].sum() == pytest.approx(want["input"]["sum_time"], rel=1e-12)


def test_kaplan_meier_overall(case):
    _, want, frame = case
    if "km_overall" in want:
        same_curve(kaplan_meier(frame["time"], frame["event"]), want["km_overall"])


def test_kaplan_meier_by_group(case):
    _, want, frame = case
    for column, block in (want.get("km") or {}).items():
        rows = frame[frame[column].notna()]
        groups = labels(rows[column])
        inside = np.isin(groups, block["levels"] if isinstance(block["levels"], list) else [block["levels"]])
        rows, groups = rows[inside], groups[inside].astype(str)
        curves = kaplan_meier_by_group(rows["time"], rows["event"], groups, block["levels"])
        assert len(rows) == block["n_used"]
        wanted = {k: v for k, v in block["groups"].items() if k != "r_warnings"}
        assert list(curves) == list(wanted)
        for level, curve in wanted.items():
            same_curve(curves[level], curve)
        if "rmst_difference" in block:
            same_difference(curves, block["rmst_difference"])


def same_difference(curves: dict, want: dict):
    from ml.survival.kaplan_meier import rmst_difference

    got = rmst_difference(curves[want["of"]], curves[want["minus"]], want["tau"])
    for key in ("estimate", "se", "z", "lower", "upper"):
        close(getattr(got, key), want[key], **STAT)
    close(got.p, want["p"], **P)


def test_log_rank(case):
    _, want, frame = case
    for column, block in (want.get("km") or {}).items():
        if "logrank" not in block:
            continue
        rows = frame[frame[column].notna()]
        groups = labels(rows[column])
        inside = np.isin(groups, block["levels"])
        rows, groups = rows[inside], groups[inside].astype(str)
        levels = block["levels"]
        if not rows["event"].any():
            assert block["logrank"]["df"] == -1
            with pytest.raises(SurvivalDataError, match="No event"):
                logrank(rows["time"], rows["event"], groups, levels)
            continue
        tests = {
            f"{'logrank' if rho == 0 else 'peto_rho1'}": logrank(rows["time"], rows["event"], groups, levels, rho=rho) for rho in (0, 1)
        }
        for key, got in tests.items():
            same_test(got, block[key])
        for rho, key in ((0, "trend_rho0"), (1, "trend_rho1")):
            if key in block:
                same_trend(list(tests.values())[rho], block[key])
        for got, pair in zip(pairwise_logrank(rows["time"], rows["event"], groups, levels), block.get("pairwise_logrank", ())):
            assert (got.a, got.b) == (pair["a"], pair["b"])
            close(got.statistic, pair["chisq"], **STAT)
            for ours, theirs in (("p", "p"), ("p_holm", "p_holm"), ("p_bh", "p_bh"), ("p_bonferroni", "p_bonferroni")):
                close(getattr(got, ours), pair[theirs], **P)
        if "stratified" in block:
            same_stratified(rows, groups, levels, block["stratified"])


def same_trend(test, want: dict):
    got = trend(test)
    for ours, theirs in (("scores", "scores"), ("contrast", "statistic"), ("variance", "variance"), ("z", "z"), ("statistic", "chisq")):
        close(getattr(got, ours), want[theirs], **STAT)
    close(got.p, want["p"], **P)


def same_stratified(rows, groups, levels, want: dict):
    known = rows[want["by"]].notna().to_numpy()
    assert known.sum() == want["n_used"]
    args = (rows["time"][known], rows["event"][known], groups[known], levels)
    strata = labels(rows[want["by"]][known]).astype(str)
    for rho, key in ((0, "logrank"), (1, "peto_rho1")):
        got = logrank(*args, strata=strata, rho=rho)
        same_test(got, want[key])
        if rho == 0 and "trend_rho0" in want:
            same_trend(got, want["trend_rho0"])


RUNS_OFF = ("no_events_in_group", "separation")


def test_cox_models(case):
    name, want, frame = case
    if "cox" not in want:
        return
    for _, block, fit in cox_blocks(name, want, frame):
        same_fit(fit, block, finite=name not in RUNS_OFF)


def test_cox_predictions(case):
    name, want, frame = case
    if "cox" not in want or name in RUNS_OFF:
        return
    for _, block, fit in cox_blocks(name, want, frame):
        same_predictions(fit, block)


def test_proportional_hazards(case):
    name, want, frame = case
    if "cox" not in want or name in RUNS_OFF:
        return
    assert sum(same_proportionality(fit, block) for _, block, fit in cox_blocks(name, want, frame)) > 0


def test_robust_standard_errors(case):
    name, want, frame = case
    if "cox" not in want or name in RUNS_OFF:
        return
    kind, _, fit = next(iter(cox_blocks(name, want, frame)))
    robust = want["cox"]["robust_efron"]
    known = ~fit.aliased
    assert kind == "efron"
    np.testing.assert_allclose(np.sqrt(np.diag(robust_covariance(fit)))[known], numbers(list(robust["robust_se"].values()))[known], **STAT)


def test_concordance(case):
    name, want, frame = case
    block = want.get("cox") or {}
    if "concordance" not in block:
        return
    _, _, fit = next(iter(cox_blocks(name, want, frame)))
    s = fit.problem.sample
    single = fit.problem.x[:, fit.names.index(block["concordance_single"]["column"])]
    for part, score in (("concordance", fit.problem.x @ fit.beta), ("concordance_single", single)):
        for kind, weight in (
            ("harrell_n", "n"),
            ("uno_n_G2", "n/G2"),
            ("uno_n_G2_ymax", "n/G2"),
            ("harrell_n_ymax", "n"),
            ("S", "S"),
            ("S_over_G", "S/G"),
        ):
            r = block[part][kind]
            same_c(concordance(s.time, s.event, score, time_weight=weight, until=r.get("ymax")), r)


def delayed_rows(name: str, kind: str, block: dict, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """(rows, entry) as entry_rule of the reference says; entry >= time is left in for our own code to drop."""
    rows = frame[frame[block["group"]].notna()] if block["group"] in frame else frame
    turn = np.arange(len(frame)) % 4
    if kind == "file":
        entry = frame["entry"].to_numpy(float)
    elif kind == "age_scale":
        entry = frame["age"].to_numpy(float)
        rows = rows.assign(time=rows["age"] + rows["time"] / 365.25)
    else:
        entry = frame["time"].to_numpy(float) * turn / 8
        if "floor" in block["entry_rule"]:
            entry = np.floor(entry)
    return rows, entry[rows.index]


def test_delayed_entry(case):
    name, want, frame = case
    for kind, block in (want.get("delayed_entry") or {}).items():
        rows, entry = delayed_rows(name, kind, block, frame)
        groups = labels(rows[block["group"]]).astype(str)
        curve = kaplan_meier(rows["time"], rows["event"], entry)
        same_curve(curve, block["km_overall"]["all"])
        dropped = block["n_dropped_entry_not_before_time"]
        assert ("entry_not_before_time" in {f.code for f in curve.findings}) == (dropped > 0)
        curves = kaplan_meier_by_group(rows["time"], rows["event"], groups, entry=entry)
        for level, wanted in block["km"].items():
            if level != "r_warnings":
                same_curve(curves[level], wanted)
        if "timefix_false" in block:
            loose = kaplan_meier(rows["time"], rows["event"], entry, merge=False)
            for ours, theirs in (("time", "time"), ("n_risk", "n_risk"), ("n_event", "n_event"), ("survival", "surv")):
                close(getattr(loose, ours), block["timefix_false"][theirs], **CURVE)
        same_delayed_models(block, rows, entry, groups)


def same_delayed_models(block: dict, rows: pd.DataFrame, entry: np.ndarray, groups: np.ndarray):
    columns = list(block["cox_efron"]["coef"])
    complete = rows[columns].notna().all(axis=1).to_numpy()
    args = (rows["time"][complete], rows["event"][complete], rows[columns][complete].to_numpy(float), columns, entry[complete])
    for ties in ("efron", "breslow"):
        fit = cox(*args, ties=ties)
        same_fit(fit, block[f"cox_{ties}"])
        same_proportionality(fit, block[f"cox_{ties}"])
        same_predictions(fit, block[f"cox_{ties}"])
        sample = prepare(rows["time"], rows["event"], entry)
        levels, codes = np.unique(groups[sample.kept], return_inverse=True)
        same_test(group_score_test(sample, codes, tuple(levels), ties=ties), block[f"group_score_test_{ties}"], full=False)
        if ties == "efron":
            same_test(logrank(rows["time"], rows["event"], groups, entry=entry), block["group_score_test_efron"], full=False)
            same_c(fit.concordance(), block["concordance_harrell"])
    if "timefix_false" in block:
        loose = cox(*args, merge=False)
        same = block["timefix_false"]["cox_efron"]
        close(loose.coefficients, list(same["coef"].values()), **STAT)
        close(loose.se, list(same["se"].values()), **STAT)
        close(loose.loglik, same["loglik"], **STAT)


def test_weights(case):
    _, want, frame = case
    for kind, block in (want.get("weighted") or {}).items():
        turn = np.arange(len(frame))
        w = {"whole": 1.0 + turn % 3, "fractional": 0.5 + (turn % 5) / 4}[kind] if kind != "column_w" else frame["w"].to_numpy(float)
        assert w.sum() == pytest.approx(block["sum_of_weights"], rel=1e-12)
        groups = labels(frame[block["group"]]).astype(str)
        curves = kaplan_meier_by_group(frame["time"], frame["event"], groups, weights=w)
        for level, wanted in block["km_greenwood"].items():
            same_curve(curves[level], wanted)
        columns = list(block["cox_efron"]["coef"])
        x = frame[columns].to_numpy(float)
        for ties in ("efron", "breslow"):
            fit = cox(frame["time"], frame["event"], x, columns, weights=w, ties=ties)
            same_fit(fit, block[f"cox_{ties}"])
            same_predictions(fit, block[f"cox_{ties}"])
            if ties == "efron":
                robust = np.sqrt(np.diag(robust_covariance(fit)))
                close(robust, list(block["cox_efron_robust"]["robust_se"].values()), **STAT)
                n = len(frame)  # the survey package divides by n - 1
                svy = numbers(list(block["svycoxph"]["se"].values()))
                np.testing.assert_allclose(robust * np.sqrt(n / (n - 1)), svy, rtol=1e-6)


@pytest.mark.parametrize("merge", [True, False])
def test_near_ties_are_merged_as_r_does(golden, merge):
    want = reference(golden, "months_to_days")["timefix_true" if merge else "timefix_false"]
    frame = table(golden, None, "months_to_days")
    curve = kaplan_meier(frame["time"], frame["event"], merge=merge)
    assert len(curve.time) == want["distinct_times"]
    for ours, theirs in (("time", "time"), ("n_risk", "n_risk"), ("n_event", "n_event"), ("survival", "surv")):
        close(getattr(curve, ours), want[theirs], **CURVE)
    fit = cox(frame["time"], frame["event"], frame[["x"]].to_numpy(float), ["x"], merge=merge)
    close([fit.coefficients[0], fit.se[0], fit.loglik], [want["cox_efron_coef"], want["cox_efron_se"], want["cox_loglik"]], **STAT)
    test = logrank(frame["time"], frame["event"], frame["group"], merge=merge)
    close(test.statistic, want["logrank_chisq"], **STAT)
