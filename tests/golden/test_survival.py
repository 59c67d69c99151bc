"""Our survival statistics against R survival 3.5-3 (values and tolerances: golden/survival/README.md).

Every edge set, and the real sets where the table is there: curves, limits, medians, restricted means, log-rank tests, Cox
models, predictions, proportional hazards, concordance, delayed entry. Weights, near ties and competing causes are in
test_survival_extensions.py. What is left out is in survival_tables.NOT_COVERED with the reason, held against the files' keys.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.survival.concordance import concordance
from ml.survival.cox import cox
from ml.survival.cox_checks import robust_covariance
from ml.survival.data import SurvivalDataError, prepare
from ml.survival.kaplan_meier import kaplan_meier, kaplan_meier_by_group
from ml.survival.logrank import group_score_test, logrank, pairwise_logrank
from tests.golden.survival_parity import (
    CURVE,
    STAT,
    P,
    close,
    same_c,
    same_curve,
    same_difference,
    same_fit,
    same_predictions,
    same_proportionality,
    same_test,
    same_trend,
)
from tests.golden.survival_tables import COX_FINITE, EDGE, NOT_COVERED, REAL, RUNS_OFF, WITH, labels, numbers, reference, table

pytestmark = pytest.mark.golden


def cox_blocks(want: dict, frame: pd.DataFrame):
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


@pytest.fixture
def case(request, golden):
    """(name, reference, table) of one set."""
    data = request.getfixturevalue("data") if request.param in REAL else None
    return request.param, reference(golden, request.param), table(golden, data, request.param)


def test_every_reference_file_is_compared(golden: Path):
    assert {p.stem for p in (golden / "survival").glob("*.json")} == set(REAL)
    assert {p.stem for p in (golden / "survival" / "edge").glob("*.json")} == set(EDGE)


def test_the_lists_agree_with_the_files(golden: Path):
    for part, names in WITH.items():
        assert {name for name in EDGE + REAL if reference(golden, name).get(part)} == set(names), part


# Keys that say what a block is about; everything else in a block is compared or in NOT_COVERED.
SAID = {
    "file": "schema dataset made_with input tau at_times",
    "km": "column ordinal events n_dropped r_warnings",
    "cox": "events n_dropped",
    "fit": "formula ties iterations newton_step_left_over_se r_warnings strata covariates",
    "delayed": "entry_rule events group near_ties_merged_by_timefix",
    "weighted": "weight_rule group n_used",
    "cr": "cause_rule group",
    "csc": "ties",
}
COMPARED = {
    "file": "km_overall km cox delayed_entry weighted competing_risks timefix_true timefix_false",
    "km": "levels n_used groups logrank peto_rho1 pairwise_logrank rmst_difference stratified trend_rho0 trend_rho1",
    "cox": "covariates n_used rows_complete_on efron breslow stratified_efron stratified_breslow robust_efron concordance "
    "concordance_single",
    "fit": "n events coef se z p hr hr_lower hr_upper vcov loglik_null loglik aic lr_test wald_test score_test means concordance "
    "martingale schoenfeld_sum_of_squares cox_zph baseline_cumhaz predicted",
    "delayed": "n_used n_dropped_entry_not_before_time km_overall km timefix_false cox_efron cox_breslow group_score_test_efron "
    "group_score_test_breslow concordance_harrell",
    "weighted": "sum_of_weights km_greenwood cox_efron cox_breslow cox_efron_robust svycoxph",
    "cr": "counts n_used survival_multistate cmprsk cause_specific_cox_1 cause_specific_cox_2",
    "cmprsk": "overall groups",
    "csc": "n events coef se loglik",
}


def test_nothing_of_the_reference_is_left_out_silently(golden: Path):
    seen: dict[str, set[str]] = {level: set() for level in COMPARED}
    for name in EDGE + REAL:
        want = reference(golden, name)
        seen["file"] |= set(want)
        for block in (want.get("km") or {}).values():
            seen["km"] |= set(block)
        seen["cox"] |= set(want.get("cox") or {})
        for kind in ("efron", "breslow", "stratified_efron", "stratified_breslow"):
            seen["fit"] |= set((want.get("cox") or {}).get(kind) or {})
        for part, level in (("delayed_entry", "delayed"), ("weighted", "weighted")):
            for block in (want.get(part) or {}).values():
                seen[level] |= set(block)
        causes = want.get("competing_risks") or {}
        seen["cr"] |= set(causes)
        seen["cmprsk"] |= set(causes.get("cmprsk") or {})
        seen["csc"] |= set(causes.get("cause_specific_cox_1") or {})
    for level, keys in seen.items():
        left_out = {key.partition(": ")[2] for key in NOT_COVERED if key.startswith(level)}
        assert keys <= set((SAID.get(level, "") + " " + COMPARED[level]).split()) | left_out, level


@pytest.mark.parametrize("case", EDGE + REAL, indirect=True)
def test_the_table_is_the_one_that_r_saw(case):
    _, want, frame = case
    assert len(frame) == want["input"]["n"]
    assert frame["event"].sum() == want["input"]["events"]
    if "sum_time" in want["input"]:
        assert frame["time"].sum() == pytest.approx(want["input"]["sum_time"], rel=1e-12)


@pytest.mark.parametrize("case", WITH["km_overall"], indirect=True)
def test_kaplan_meier_overall(case):
    _, want, frame = case
    same_curve(kaplan_meier(frame["time"], frame["event"]), want["km_overall"])


@pytest.mark.parametrize("case", WITH["km"], indirect=True)
def test_kaplan_meier_by_group(case):
    _, want, frame = case
    for column, block in want["km"].items():
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


@pytest.mark.parametrize("case", WITH["km"], indirect=True)
def test_log_rank(case):
    _, want, frame = case
    for column, block in want["km"].items():
        rows = frame[frame[column].notna()]
        groups = labels(rows[column])
        inside = np.isin(groups, block["levels"])
        rows, groups = rows[inside], groups[inside].astype(str)
        levels = block["levels"]
        if "logrank" not in block:
            assert len(set(groups)) == 1
            with pytest.raises(SurvivalDataError, match="two groups"):
                logrank(rows["time"], rows["event"], groups, levels)
            continue
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


@pytest.mark.parametrize("case", WITH["cox"], indirect=True)
def test_cox_models(case):
    name, want, frame = case
    for _, block, fit in cox_blocks(want, frame):
        same_fit(fit, block, finite=name not in RUNS_OFF)


@pytest.mark.parametrize("case", COX_FINITE, indirect=True)
def test_cox_predictions(case):
    _, want, frame = case
    for _, block, fit in cox_blocks(want, frame):
        same_predictions(fit, block)


@pytest.mark.parametrize("case", COX_FINITE, indirect=True)
def test_proportional_hazards(case):
    _, want, frame = case
    assert sum(same_proportionality(fit, block) for _, block, fit in cox_blocks(want, frame)) > 0


@pytest.mark.parametrize("case", COX_FINITE, indirect=True)
def test_robust_standard_errors(case):
    _, want, frame = case
    kind, _, fit = next(iter(cox_blocks(want, frame)))
    robust = want["cox"]["robust_efron"]
    known = ~fit.aliased
    assert kind == "efron"
    np.testing.assert_allclose(np.sqrt(np.diag(robust_covariance(fit)))[known], numbers(list(robust["robust_se"].values()))[known], **STAT)


@pytest.mark.parametrize("case", COX_FINITE, indirect=True)
def test_concordance(case):
    _, want, frame = case
    block = want["cox"]
    _, _, fit = next(iter(cox_blocks(want, frame)))
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


def delayed_rows(kind: str, block: dict, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
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


@pytest.mark.parametrize("case", WITH["delayed_entry"], indirect=True)
def test_delayed_entry(case):
    _, want, frame = case
    for kind, block in want["delayed_entry"].items():
        rows, entry = delayed_rows(kind, block, frame)
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
