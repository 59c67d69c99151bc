"""The family "cox_summary": a real effect is found out of fold, a shuffled one is not, nobody is judged by a fit that saw her."""

import json

import numpy as np
import pytest

from ml.families import config_schema, runner
from ml.survival.config import CoxSummaryConfig
from ml.survival.data import SurvivalDataError, prepare
from ml.survival.folds import assign_folds, patient_hash
from ml.survival.ridge import horizon_hazard, solve, solve_with_lifelines, standardise
from ml.survival.risk import fit, out_of_fold_c, permutation_p, predict
from ml.survival.risk_model import RiskModel
from ml.types import Outcomes

NAMES = ("CD8", "PD-L1", "Ki67", "PanCK", "CD31")
CONFIG = CoxSummaryConfig(bootstrap=60)


def cohort(seed=1, n=60, effect=1.0):
    """Patients whose hazard depends on the first summary alone."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(NAMES)))
    died, left = rng.exponential(900 * np.exp(-effect * x[:, 0])), rng.uniform(400, 3000, n)
    return x, Outcomes(tuple(f"patient-{i}" for i in range(n)), np.minimum(died, left), died <= left, "OS")


@pytest.fixture(scope="module")
def fitted():
    x, outcomes = cohort()
    return x, outcomes, fit(x, NAMES, outcomes, CONFIG)


def test_a_real_effect_is_found_out_of_fold(fitted):
    _, outcomes, model = fitted
    assert model.metrics["c"] > 0.65
    assert model.metrics["c_lower"] < model.metrics["c"] < model.metrics["c_upper"]
    assert abs(model.whole.coefficients[0]) == np.abs(model.whole.coefficients).max()
    assert model.metrics["n"] == 60
    assert model.metrics["events"] == outcomes.event.sum()


def test_shuffled_outcomes_give_a_coin():
    x, outcomes = cohort()
    rng, cs = np.random.default_rng(7), []
    for _ in range(30):
        order = rng.permutation(len(x))
        sample = prepare(outcomes.time[order], outcomes.event[order])
        cs.append(out_of_fold_c(x, sample, outcomes.patients, CONFIG))
    assert abs(np.mean(cs) - 0.5) < 0.06


def test_fit_on_shuffled_outcomes_says_so_too():
    x, outcomes = cohort(effect=1.5)
    order = np.random.default_rng(3).permutation(len(x))
    shuffled = Outcomes(outcomes.patients, outcomes.time[order], outcomes.event[order], "OS")
    metrics = fit(x, NAMES, shuffled, CoxSummaryConfig(bootstrap=20)).metrics
    assert metrics["c_lower"] < 0.5


def test_permutation_p_runs_the_whole_recipe():
    x, outcomes = cohort()
    found = permutation_p(x, NAMES, outcomes, CONFIG, n=39)
    assert found["p"] == pytest.approx(1 / 40)
    assert abs(found["null_mean"] - 0.5) < 0.06
    noise, outcomes = cohort(seed=5, effect=0.0)
    assert permutation_p(noise, NAMES, outcomes, CONFIG, n=39)["p"] > 0.05


def test_the_score_of_the_family_is_that_of_the_recipe(fitted):
    x, outcomes, model = fitted
    assert model.metrics["c"] == pytest.approx(
        out_of_fold_c(x, prepare(outcomes.time, outcomes.event), outcomes.patients, CONFIG), abs=1e-9
    )


def test_our_ridge_is_the_ridge_of_lifelines():
    for seed, penalizer in ((0, 0.01), (1, 0.1), (2, 1.0)):
        x, outcomes = cohort(seed, n=40)
        days = np.ceil(outcomes.time / 100) * 100  # ties
        for entry in (None, days * 0.3):
            sample = prepare(days, outcomes.event, entry)
            mean, scale = standardise(x)
            z = (x - mean) / scale
            np.testing.assert_allclose(solve(sample, z, penalizer), solve_with_lifelines(sample, z, penalizer), rtol=1e-5, atol=1e-7)


def test_a_constant_summary_gets_no_weight():
    x, outcomes = cohort(n=40)
    x[:, 2] = 0.25
    model = fit(x, NAMES, outcomes, CoxSummaryConfig(bootstrap=20))
    assert model.whole.coefficients[2] == 0
    assert all(0 <= r.lower <= r.upper <= 1 for r in model.reference)


def test_absolute_risk_is_a_probability_with_an_interval(fitted):
    x, outcomes, model = fitted
    sample = prepare(outcomes.time, outcomes.event)
    z = model.whole.standardised(x)
    assert model.whole.hazard == pytest.approx(horizon_hazard(sample, z, model.whole.coefficients, 730.5))
    risks = predict(model, x + 0.01, [f"new-{i}" for i in range(len(x))])
    assert all(0 <= r.lower <= r.upper <= 1 and 0 <= r.probability <= 1 for r in risks)
    assert np.mean([r.lower <= r.probability <= r.upper for r in risks]) > 0.9
    order = np.argsort([r.score for r in risks])
    assert (np.diff(np.array([r.probability for r in risks])[order]) >= 0).all()
    observed = 1 - np.exp(-model.whole.hazard * np.exp(z @ model.whole.coefficients)).mean()
    assert abs(observed - np.mean([r.probability for r in risks])) < 0.05


def test_a_reference_patient_is_judged_by_the_fold_that_left_her_out(fitted):
    x, outcomes, model = fitted
    again = predict(model, x[:5], outcomes.patients[:5])
    assert again == list(model.reference[:5])
    assert all("held out" in r.reference for r in again)
    stranger = predict(model, x[:1], ["someone-else"])[0]
    assert "held out" not in stranger.reference
    assert stranger.score == pytest.approx(float(model.whole.scores(x[:1])[0]))
    assert stranger.score != again[0].score


def test_her_own_outcome_does_not_move_her_risk(fitted):
    x, outcomes, model = fitted
    censored = int(np.flatnonzero(~outcomes.event)[0])
    time = outcomes.time.copy()
    time[censored] *= 0.5
    other = fit(x, NAMES, Outcomes(outcomes.patients, time, outcomes.event, "OS"), CONFIG)
    assert other.reference[censored].score == model.reference[censored].score
    assert other.reference[censored].probability == model.reference[censored].probability


def test_json_brings_the_same_model_back(fitted):
    x, outcomes, model = fitted
    back = RiskModel.from_json(model.to_json())
    assert predict(back, x, outcomes.patients) == predict(model, x, outcomes.patients)
    assert back.metrics == model.metrics
    assert back.folds == model.folds
    bare = model.to_json(with_reference=False)
    assert not any(p in bare for p in outcomes.patients)
    assert predict(RiskModel.from_json(bare), x[:1], outcomes.patients[:1]) == [model.reference[0]]
    with pytest.raises(ValueError, match="schema"):
        RiskModel.from_json(json.dumps({"schema": "other"}))


def test_folds_follow_the_patient_not_the_row(fitted):
    _, outcomes, model = fitted
    fold = assign_folds(outcomes.patients, outcomes.event, 5, 0)
    back = assign_folds(outcomes.patients[::-1], outcomes.event[::-1], 5, 0)[::-1]
    np.testing.assert_array_equal(fold, back)
    assert np.ptp(np.bincount(fold[outcomes.event], minlength=5)) <= 1
    assert np.ptp(np.bincount(fold, minlength=5)) <= 1
    assert model.folds == dict(zip(outcomes.patients, fold.tolist()))
    assert (assign_folds(outcomes.patients, outcomes.event, 5, 1) != fold).any()
    assert patient_hash("a", 0) != patient_hash("a", 1)


def test_the_median_cut_halves_the_reference(fitted):
    _, _, model = fitted
    assert sum(model.group(r) == "high" for r in model.reference) == 30


def test_the_same_seed_gives_the_same_model(fitted):
    x, outcomes, model = fitted
    assert fit(x, NAMES, outcomes, CONFIG).to_json() == model.to_json()


def test_markers_choose_the_summaries(fitted):
    x, outcomes, _ = fitted
    model = fit(x, NAMES, outcomes, CoxSummaryConfig(bootstrap=20, markers=("Ki67", "CD8")))
    assert model.names == ("Ki67", "CD8")
    assert model.whole.coefficients.shape == (2,)
    assert len(predict(model, x[:2], ["u", "v"])) == 2


def test_too_little_data_is_refused_with_a_sentence():
    x, outcomes = cohort(n=30)
    few = Outcomes(outcomes.patients, outcomes.time, np.arange(30) < 2, "OS")
    short = Outcomes(outcomes.patients, outcomes.time / 100, outcomes.event, "OS")
    twice = Outcomes(("same",) * 30, outcomes.time, outcomes.event, "OS")
    holes = x.copy()
    holes[3, 1] = np.nan
    for arguments, code in (
        ((x, NAMES, few, CONFIG), "too_few_events"),
        ((x, NAMES, short, CONFIG), "horizon_beyond_follow_up"),
        ((x, NAMES, twice, CONFIG), "patient_twice"),
        ((holes, NAMES, outcomes, CONFIG), "missing_covariate"),
        ((x[:, :2], NAMES, outcomes, CONFIG), "wrong_shape"),
        ((x, NAMES, outcomes, CoxSummaryConfig(markers=("CD99",))), "unknown_marker"),
    ):
        with pytest.raises(SurvivalDataError) as refused:
            fit(*arguments)
        assert refused.value.code == code
        assert refused.value.sentence.endswith(".")


def test_the_registry_finds_the_family():
    assert runner("cox_summary", "fit") is fit
    assert runner("cox_summary", "predict") is predict
    assert set(config_schema("cox_summary", "fit")["properties"]) >= {"penalizer", "markers", "folds", "horizon_days", "bootstrap", "seed"}


def test_a_summary_that_hardly_varies_in_some_draws_gives_finite_intervals():
    """Six patients, one of whom differs: many bootstrap draws hold only the five that are alike."""
    outcomes = Outcomes(tuple("abcdef"), np.array([100.0, 200, 300, 400, 500, 600]), np.ones(6, bool), "OS")
    values = [[1.0], [1.0 + 1e-12], [1.0], [1.0 - 1e-12], [1.0], [1.5]]
    config = CoxSummaryConfig(folds=2, horizon_days=300, min_events=2, bootstrap=200)
    model = fit(values, ["x"], outcomes, config)
    assert all(np.isfinite([r.probability, r.lower, r.upper]).all() for r in model.reference)
    model.to_json()


def test_a_score_of_risk_never_lowers_the_risk():
    """Turned round, the score moves nothing; as it is, it is fitted as without the limit."""
    x, outcomes = cohort()
    score, names = x[:, :1], ["score"]
    free, limited = (CoxSummaryConfig(bootstrap=60, non_negative=on) for on in (False, True))
    as_it_is = [fit(score, names, outcomes, config).whole for config in (free, limited)]
    np.testing.assert_allclose(as_it_is[0].coefficients, as_it_is[1].coefficients)
    turned = fit(-score, names, outcomes, limited)
    assert turned.whole.coefficients[0] == 0 and turned.whole.boot_coefficients.min() == 0
    assert len({round(r.probability, 9) for r in turned.reference}) <= limited.folds, "all of a fold have the cohort's own risk"
    with pytest.raises(SurvivalDataError, match="stands alone"):
        fit(x, NAMES, outcomes, limited)
