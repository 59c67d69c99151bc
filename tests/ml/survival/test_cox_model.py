"""The Cox model and concordance: against lifelines where it agrees with R, against brute force, at the corners."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter

from ml.survival.concordance import concordance
from ml.survival.cox import cox
from ml.survival.cox_baseline import baseline, predict
from ml.survival.cox_checks import proportional_hazards, residuals, robust_covariance
from ml.survival.data import SurvivalDataError, prepare
from ml.survival.dominance import weight_below
from ml.survival.partial_likelihood import PartialLikelihood

NAMES = ["age", "marker", "grade"]


def cohort(seed, n=120, tied=False, entry=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) * [10, 1, 0.1] + [60, 0, 2]
    time = rng.exponential(np.exp(-0.03 * x[:, 0] + 0.5 * x[:, 1])) * 20 + 0.01
    time = np.ceil(time) if tied else time
    return time, rng.random(n) < 0.6, x, rng.random(n) * time * 0.9 if entry else None


def near_within_errors(ours, theirs):
    """lifelines stops about 1e-6 standard errors before the solution."""
    assert (np.abs(ours.coefficients - theirs.params_[NAMES].to_numpy()) < 1e-5 * ours.se).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("entry", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_coefficients_equal_lifelines(seed, entry, tied):
    time, event, x, start = cohort(seed, tied=tied, entry=entry)
    frame = pd.DataFrame(x, columns=NAMES).assign(t=time, e=event)
    if entry:
        frame["s"] = start
    theirs = CoxPHFitter().fit(frame, "t", "e", entry_col="s" if entry else None, fit_options={"precision": 1e-12})
    ours = cox(time, event, x, NAMES, entry=start)
    near_within_errors(ours, theirs)
    np.testing.assert_allclose(ours.se, theirs.standard_errors_[NAMES], rtol=1e-5)
    assert ours.loglik == pytest.approx(theirs.log_likelihood_, rel=1e-9)


def test_strata_equal_lifelines():
    time, event, x, _ = cohort(9, tied=True)
    strata = np.random.default_rng(1).integers(0, 3, len(time))
    frame = pd.DataFrame(x, columns=NAMES).assign(t=time, e=event, site=strata)
    theirs = CoxPHFitter(strata=["site"]).fit(frame, "t", "e", fit_options={"precision": 1e-12})
    ours = cox(time, event, x, NAMES, strata=strata)
    near_within_errors(ours, theirs)
    assert set(baseline(ours)) == {0, 1, 2}


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_score_and_information_are_the_derivatives(ties):
    time, event, x, start = cohort(3, n=40, tied=True, entry=True)
    weights = np.random.default_rng(0).uniform(0.5, 2, 40)
    sample = prepare(time, event, start, weights)
    likelihood = PartialLikelihood(sample, x / [10, 1, 0.1], np.arange(40) % 2, ties)
    beta, step = np.array([0.2, -0.3, 0.1]), 1e-5
    here = likelihood.evaluate(beta)
    for i in range(3):
        nudge = np.eye(3)[i] * step
        up, down = likelihood.evaluate(beta + nudge), likelihood.evaluate(beta - nudge)
        assert (up.loglik - down.loglik) / (2 * step) == pytest.approx(here.score[i], rel=1e-5, abs=1e-5)
        np.testing.assert_allclose((down.score - up.score) / (2 * step), here.information[i], rtol=1e-5, atol=1e-5)


def test_collinear_columns_are_named_and_the_rest_is_fitted():
    time, event, x, _ = cohort(2)
    both = np.column_stack((x[:, 1], 2 * x[:, 1], np.ones(len(x))))
    fit = cox(time, event, both, ["marker", "twice", "constant"])
    assert fit.aliased.tolist() == [False, True, True]
    assert [f.where for f in fit.findings if f.code == "collinear"] == ["twice", "constant"]
    assert fit.coefficients[0] == pytest.approx(cox(time, event, x[:, [1]], ["marker"]).coefficients[0])


def test_a_perfect_predictor_is_said_to_run_off():
    fit = cox(np.arange(1, 9), [1, 1, 1, 1, 0, 1, 1, 0], [[1.0]] * 4 + [[0.0]] * 4, ["x"])
    assert "infinite_coefficient" in {f.code for f in fit.findings}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event": [0, 0, 0]}, "no_events"),
        ({"x": [[1.0], [np.nan], [0.0]]}, "missing_covariate"),
        ({"names": ["a", "b"]}, "wrong_shape"),
        ({"x": np.empty((3, 0)), "names": []}, "no_covariate"),
        ({"ties": "exact"}, "unknown_ties"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, code):
    arguments = {"time": [1, 2, 3], "event": [1, 0, 1], "x": [[1.0], [2.0], [0.0]], "names": ["a"]} | change
    with pytest.raises(SurvivalDataError) as refused:
        cox(**arguments)
    assert refused.value.code == code
    assert refused.value.sentence.endswith(".")


def test_ridge_pulls_coefficients_towards_zero():
    time, event, x, _ = cohort(5)
    sizes = [np.abs(cox(time, event, x, NAMES, ridge=r).coefficients).sum() for r in (0, 1, 100, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-3


def test_martingale_residuals_sum_to_zero_and_score_residuals_too():
    time, event, x, start = cohort(6, tied=True, entry=True)
    left = residuals(cox(time, event, x, NAMES, entry=start))
    assert abs(left.martingale.sum()) < 1e-8
    np.testing.assert_allclose(left.score.sum(axis=0), 0, atol=1e-6)


def test_robust_errors_are_near_the_naive_ones_when_the_model_holds():
    time, event, x, _ = cohort(7, n=2000)
    fit = cox(time, event, x, NAMES)
    np.testing.assert_allclose(np.sqrt(np.diag(robust_covariance(fit))), fit.se, rtol=0.1)


def test_crossing_hazards_fail_the_proportional_hazards_test():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 800).astype(float)
    time = np.where(x == 1, rng.weibull(3.0, 800), rng.weibull(0.7, 800))
    fit = cox(time, np.ones(800), x[:, None], ["x"])
    assert proportional_hazards(fit).per_covariate["x"].p < 1e-6
    held = cox(rng.exponential(np.exp(-x)), np.ones(800), x[:, None], ["x"])
    assert proportional_hazards(held).whole.p > 0.01


def test_prediction_at_the_mean_follows_the_baseline():
    time, event, x, _ = cohort(8)
    fit = cox(time, event, x, NAMES)
    pattern = x.mean(axis=0)
    curve = predict(fit, pattern)["all"]
    hazard = baseline(fit)["all"].cumulative_hazard * np.exp(pattern @ fit.beta)
    np.testing.assert_allclose(curve.survival, np.exp(-hazard), rtol=1e-10)
    between = (curve.time[3] + curve.time[4]) / 2
    assert curve.at([between])[0][0] == curve.survival[3]


subjects = st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 4), st.integers(0, 5)), min_size=2, max_size=25)


def pairs_one_by_one(time, event, score, entry):
    concordant = discordant = tied = 0
    for i in range(len(time)):
        for j in range(len(time)):
            longer = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if i == j or not event[i] or not longer or entry[j] >= time[i]:
                continue
            concordant += score[i] > score[j]
            discordant += score[i] < score[j]
            tied += score[i] == score[j]
    return concordant, discordant, tied


@settings(deadline=None, max_examples=80)
@given(subjects)
def test_concordance_counts_every_pair_once(rows):
    time, event, score, entry = (np.array(c, dtype=float) for c in zip(*rows))
    entry = np.minimum(entry, time - 1)
    wanted = pairs_one_by_one(time, event, score, entry)
    if not sum(wanted):
        with pytest.raises(SurvivalDataError) as refused:
            concordance(time, event, score, entry)
        assert refused.value.code == "no_pairs"
        return
    got = concordance(time, event, score, entry)
    assert (got.concordant, got.discordant, got.tied_score) == wanted
    assert got.c + concordance(time, event, -score, entry).c == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 12))
def test_weight_below_is_a_plain_sum(ranks, start, stop, bound):
    rank, weights = np.array(ranks), np.arange(1.0, len(ranks) + 1)
    start, stop = min(start, len(ranks)), min(stop, len(ranks))
    got = weight_below(rank, weights, np.array([start]), np.array([stop]), np.array([bound]))[0]
    inside = rank[start:stop] < bound if stop > start else np.zeros(0, dtype=bool)
    assert got == (weights[start:stop][inside].sum() if stop > start else 0)


@pytest.mark.filterwarnings("error")
def test_tiny_tables_are_fitted_or_refused_never_a_traceback():
    rng = np.random.default_rng(0)
    fitted = 0
    for _ in range(150):
        n = int(rng.integers(1, 14))
        time, event = rng.integers(0, 6, n).astype(float), rng.random(n) < rng.random()
        x = rng.integers(0, 3, (n, int(rng.integers(1, 4)))).astype(float)
        try:
            fit = cox(time, event, x, NAMES[: x.shape[1]], strata=rng.integers(0, 2, n) if rng.random() < 0.5 else None)
            fitted += 1
            residuals(fit), robust_covariance(fit), baseline(fit), predict(fit, np.ones(x.shape[1]))
            proportional_hazards(fit, "identity")
        except SurvivalDataError as refused:
            assert refused.sentence.endswith(".")
    assert fitted > 50
