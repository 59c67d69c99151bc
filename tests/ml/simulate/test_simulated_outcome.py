"""Survival, treatments and measured markers of simulated patients."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from ml.simulate import HAZARD_NICHES, SimulatorConfig, simulate_cohort, simulate_outcome
from ml.simulate.assay import label_fractions
from ml.simulate.clinical import draw_clinical
from ml.simulate.course import draw_measurements, draw_treatments
from ml.simulate.niches import draw_niches

CONFIG = SimulatorConfig()


@pytest.fixture(scope="module")
def table():
    rows = []
    for k in range(300):
        rng = np.random.default_rng([41, k])
        clinical = draw_clinical(rng)
        fractions = label_fractions(draw_niches(rng, CONFIG)[1])
        outcome = simulate_outcome(fractions, clinical, rng, CONFIG)
        rows.append({**fractions, "age": clinical.age, "lp": outcome.linear_predictor, "time": outcome.time_days, "event": outcome.event})
    return pd.DataFrame(rows)


def test_cox_on_the_true_fractions_recovers_the_directions(table):
    fitted = CoxPHFitter(penalizer=0.01).fit(table[[*HAZARD_NICHES, "time", "event"]], "time", "event").summary
    for name in HAZARD_NICHES:
        assert np.sign(fitted.loc[name, "coef"]) == np.sign(getattr(CONFIG.hazard, name)), name
        assert abs(fitted.loc[name, "z"]) > 3, name


def test_share_of_deaths_and_strength_of_the_truth(table):
    assert 0.5 < table["event"].mean() < 0.7
    assert concordance_index(table["time"], -table["lp"], table["event"]) > 0.75
    assert table["time"].between(1, CONFIG.hazard.administrative_days).all()


def test_no_niche_effect_leaves_no_signal(table):
    flat = CONFIG.model_copy(update={"hazard": CONFIG.hazard.model_copy(update={"tls": 0.0, "necrosis": 0.0, "invasive_margin": 0.0})})
    clinical = draw_clinical(np.random.default_rng(0))
    outcomes = [simulate_outcome(row, clinical, np.random.default_rng([1, k]), flat) for k, row in enumerate(table.to_dict("records"))]
    assert len({o.linear_predictor for o in outcomes}) == 1
    c = concordance_index([o.time_days for o in outcomes], -table["lp"], [o.event for o in outcomes])
    assert abs(c - 0.5) < 0.07


def test_a_summary_without_a_named_niche_is_refused():
    clinical = draw_clinical(np.random.default_rng(0))
    with pytest.raises(KeyError, match="necrosis"):
        simulate_outcome({"tls": 0.1, "invasive_margin": 0.1}, clinical, np.random.default_rng(0), CONFIG)


def test_out_of_fold_ridge_cox_finds_the_hazard_in_cohorts_of_20(table):
    concordances = []
    for first in range(0, 300, 20):
        part = table.iloc[first : first + 20].reset_index(drop=True)
        columns = list(HAZARD_NICHES)
        part[columns] = (part[columns] - part[columns].mean()) / (part[columns].std() + 1e-9)
        fold = np.random.default_rng(first).permutation(20) % 5
        score = np.zeros(20)
        for k in range(5):
            model = CoxPHFitter(penalizer=0.3).fit(part[fold != k][[*columns, "time", "event"]], "time", "event")
            score[fold == k] = model.predict_log_partial_hazard(part.loc[fold == k, columns])
        concordances.append(concordance_index(part["time"], -score, part["event"]))
    assert np.mean(concordances) > 0.7


def test_treatments_and_progression_fit_the_follow_up():
    config = SimulatorConfig(size_px=512)
    kinds, states = set(), set()
    for p in simulate_cohort(60, seed=9, config=config):
        assert p.treatments[0].kind == "surgery" and p.treatments[0].day == 0
        assert all(t.day <= p.outcome.time_days for t in p.treatments)
        assert all(t.end_day is None or t.day <= t.end_day <= p.outcome.time_days for t in p.treatments)
        if p.outcome.progression_days is not None:
            assert 0 < p.outcome.progression_days < p.outcome.time_days
            assert p.outcome.pfs_event and p.outcome.pfs_days == p.outcome.progression_days
        kinds |= {t.kind for t in p.treatments}
        states |= {m.state for m in p.markers}
        assert [m.name for m in p.markers] == ["PD-L1 TPS", "Ki-67", "EGFR", "KRAS", "ALK", "TP53"]
        assert all((m.value is not None) == (m.state == "done") for m in p.markers)
        assert sum(str(m.value).startswith("detected") for m in p.markers if m.name in ("EGFR", "KRAS", "ALK")) <= 1
    assert {"surgery", "chemotherapy", "immunotherapy"} <= kinds
    assert states == {"done", "failed", "pending"}


def test_measured_pd_l1_follows_the_truth_but_not_exactly():
    rng = np.random.default_rng(2)
    clinical = draw_clinical(rng)
    truth = np.linspace(0, 0.9, 60)
    read = [draw_measurements(rng, clinical, {"pd_l1_positive": t, "ki67_positive": 0.3})[0].value for t in truth]
    done = np.array([v is not None for v in read])
    values = np.array([v for v in read if v is not None])
    assert np.corrcoef(truth[done], values)[0, 1] > 0.85
    assert np.abs(values - 100 * truth[done]).max() > 2


def test_no_treatment_starts_after_the_end():
    rng = np.random.default_rng(4)
    clinical = draw_clinical(rng)
    early = simulate_outcome({"tls": 0.0, "necrosis": 0.6, "invasive_margin": 0.4}, clinical, rng, CONFIG)
    assert early.event and early.time_days < 200
    assert all(t.day < early.time_days for t in draw_treatments(rng, clinical, early, []))
