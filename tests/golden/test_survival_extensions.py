"""Weights, near ties and competing causes against R survival, survey and cmprsk (see test_survival.py)."""

import numpy as np
import pytest

from ml.survival.competing_risks import cumulative_incidence
from ml.survival.cox import cox
from ml.survival.cox_checks import robust_covariance
from ml.survival.kaplan_meier import kaplan_meier, kaplan_meier_by_group
from ml.survival.logrank import logrank
from tests.golden.survival_parity import CURVE, STAT, close, same_curve, same_fit, same_predictions
from tests.golden.survival_tables import REAL, WITH, labels, numbers, reference, table

pytestmark = pytest.mark.golden


@pytest.fixture
def case(request, golden):
    """(name, reference, table) of one set."""
    data = request.getfixturevalue("data") if request.param in REAL else None
    return request.param, reference(golden, request.param), table(golden, data, request.param)


@pytest.mark.parametrize("case", WITH["weighted"], indirect=True)
def test_weights(case):
    _, want, frame = case
    for kind, block in want["weighted"].items():
        turn = np.arange(len(frame))
        w = {"whole": 1.0 + turn % 3, "fractional": 0.5 + (turn % 5) / 4}[kind] if kind != "column_w" else frame["w"].to_numpy(float)
        assert w.sum() == pytest.approx(block["sum_of_weights"], rel=1e-12)
        groups = labels(frame[block["group"]]).astype(str)
        curves = kaplan_meier_by_group(frame["time"], frame["event"], groups, weights=w)
        whole = (w == np.round(w)).all()
        for level, wanted in [*block["km_greenwood"].items(), *(block["km_default"].items() if whole else ())]:
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


def causes_of(frame, rule: str) -> np.ndarray:
    """0 censored, 1 and 2: as cause_rule of the reference says."""
    if "column cause" in rule:
        return frame["cause"].to_numpy(int)
    died = frame["event"].to_numpy(int)
    if rule.startswith("synthetic"):
        return np.where(died == 0, 0, np.where(np.arange(len(frame)) % 3 == 0, 2, 1))
    return np.where(died == 0, 0, np.where(frame["censorship_dss"] == 0, 1, 2))


def same_incidence(time, cause, states: dict, cuminc: dict, group: str):
    at = numbers(states["time"])
    estimate, se, lower, upper = cumulative_incidence(time, cause).at(at)
    started = at >= np.min(time)  # before the first time R gives limits 0 to 0, also to an estimate of 1: not followed
    for i, state in enumerate(states["states"]):
        close(estimate[i], states["pstate"][state], **CURVE)
        close(se[i], states["se"][state], **CURVE)
        close(lower[i][started], numbers(states["lower"][state])[started].tolist(), **CURVE)
        close(upper[i][started], numbers(states["upper"][state])[started].tolist(), **CURVE)
        if i and f"{group} {i}" in cuminc:
            known = ~np.isnan(numbers(cuminc[f"{group} {i}"]["est"]))  # cmprsk gives none after the group's last time
            np.testing.assert_allclose(estimate[i][known], numbers(cuminc[f"{group} {i}"]["est"])[known], **CURVE)


@pytest.mark.parametrize("case", WITH["competing_risks"], indirect=True)
def test_competing_causes(case):
    name, want, frame = case
    block = want["competing_risks"]
    cause = causes_of(frame, block["cause_rule"])
    known = frame[block["group"]].notna().to_numpy()
    assert known.sum() == block["n_used"]
    assert np.bincount(cause[known], minlength=3).tolist() == list(block["counts"].values())
    time, groups = frame["time"].to_numpy(float), labels(frame[block["group"]]).astype(str)
    states = block["survival_multistate"]
    same_incidence(time[known], cause[known], states["overall"], block["cmprsk"]["overall"], "1")
    assert set(states["groups"]) == set(groups[known])
    for level, wanted in states["groups"].items():
        rows = groups == level
        same_incidence(time[rows], cause[rows], wanted, block["cmprsk"]["groups"], level)
    for k in (1, 2):
        same = block[f"cause_specific_cox_{k}"]
        columns = list(same["coef"])
        complete = known & frame[columns].notna().all(axis=1).to_numpy()
        fit = cox(time[complete], cause[complete] == k, frame[columns][complete].to_numpy(float), columns)
        assert (fit.n, fit.events) == (same["n"], same["events"])
        close(fit.loglik, same["loglik"], **STAT)
        if "infinite_coefficient" in {f.code for f in fit.findings}:
            assert name == "competing_risks_one_cause_absent"
            continue
        close(fit.coefficients, list(same["coef"].values()), **STAT)
        close(fit.se, list(same["se"].values()), **STAT)
