"""TME risk groups: a planted difference is found out of fold; on noise the merge's own p is too small and the corrected one is not."""

import numpy as np
import pytest
from scipy.stats.contingency import relative_risk

from ml.discovery.config import RiskGroupConfig
from ml.discovery.errors import Cancelled, DiscoveryError
from ml.discovery.risk_groups import PatientGroups, patient_groups, risk_groups, structure_risk_ratios
from ml.survival.data import SurvivalDataError
from ml.survival.logrank import logrank
from ml.types import Outcomes

QUICK = RiskGroupConfig(permutations=39, folds=3)


def groups_of(n, seed=0):
    number = np.random.default_rng(seed).choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
    return PatientGroups(tuple(f"p{i:03d}" for i in range(n)), np.zeros((n, 1)), number, np.zeros(n, dtype=int))


def outcomes_of(groups, hazards, seed=0, entry=None):
    rng = np.random.default_rng(seed)
    time = 50 + rng.exponential(1000, len(groups.group)) / np.asarray(hazards)[groups.group]
    return Outcomes(groups.patients, np.minimum(time, 2000), time < 2000, "OS", entry)


def test_patients_with_like_cells_are_one_group_numbered_by_size():
    rng = np.random.default_rng(0)
    home = np.repeat([0, 1, 2, 3], (9, 6, 4, 3))
    kind = np.concatenate([rng.choice(4, 30, p=np.where(np.arange(4) == h, 0.85, 0.05)) for h in home])
    tokens = (np.eye(4, 6)[kind] * 9 + rng.normal(size=(len(kind), 6))).astype(np.float32)
    patients = np.repeat([f"p{i:02d}" for i in range(22)], 30)
    found = patient_groups(tokens, patients, RiskGroupConfig(cell_clusters=4))
    assert found.group.tolist() == home.tolist()
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)


def test_a_planted_difference_is_found_in_sample_and_out_of_fold():
    groups = groups_of(120)
    found = risk_groups(groups, outcomes_of(groups, (1, 6, 1, 6)), QUICK)
    assert found.high_groups == (1, 3)
    assert found.ratio[[1, 3]].min() > 1 > found.ratio[[0, 2]].max()
    assert found.p == found.p_out_of_fold == 1 / 40
    assert (found.out_of_fold == found.high).mean() > 0.95 and found.z_out_of_fold > 3
    again = logrank(outcomes_of(groups, (1, 6, 1, 6)).time, outcomes_of(groups, (1, 6, 1, 6)).event, found.high)
    assert found.p_printed == pytest.approx(again.p, rel=1e-9)
    assert set(found.survival.curves) == {"low", "high"} and found.survival.c.c > 0.6


def test_on_noise_the_printed_p_is_too_small_and_the_corrected_and_nested_ones_are_not():
    few = QUICK.model_copy(update={"permutations": 19})
    results = [risk_groups(g := groups_of(60, s), outcomes_of(g, (1, 1, 1, 1), 50 + s), few) for s in range(12)]
    assert np.mean([r.p_printed for r in results]) < 0.35
    assert np.mean([r.p_printed <= 0.25 for r in results]) >= 0.4  # a quarter would be right
    assert 0.35 < np.mean([r.p for r in results]) < 0.7
    assert 0.3 < np.mean([r.p_out_of_fold for r in results]) < 0.75


def test_groups_declared_beforehand_are_not_chosen_by_survival():
    groups = groups_of(80)
    declared = QUICK.model_copy(update={"merge": "declared", "declared_high": (0,)})
    found = risk_groups(groups, outcomes_of(groups, (1, 5, 5, 5)), declared)
    assert found.high_groups == (0,) and (found.high == (groups.group == 0)).all()
    assert (found.out_of_fold == found.high).all()
    assert found.z_out_of_fold < -2 and found.p_out_of_fold > 0.9 and found.p < 0.05  # two-sided, and one-sided the wrong way


def test_patients_without_an_outcome_are_named_and_delayed_entry_is_used():
    groups = groups_of(60)
    known = outcomes_of(groups, (1, 4, 1, 4), entry=np.full(60, 10.0))
    some = Outcomes(known.patients[5:], known.time[5:], known.event[5:], "OS", known.entry[5:])
    found = risk_groups(groups, some, QUICK.model_copy(update={"permutations": 3}))
    assert found.survival.left_out == groups.patients[:5] and len(found.high) == 55
    assert "delayed entry" in found.survival.test.method


def test_progress_and_stop():
    groups = groups_of(40)
    told = []
    risk_groups(groups, outcomes_of(groups, (1, 1, 1, 1)), QUICK, lambda share, doing: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0
    with pytest.raises(Cancelled):
        risk_groups(groups, outcomes_of(groups, (1, 1, 1, 1)), QUICK, stop=lambda: True)


def test_risk_ratios_of_structures_are_scipys_and_have_no_interval_at_a_count_of_0():
    high = np.arange(40) < 15
    present = np.stack((np.arange(40) % 3 == 0, high, np.zeros(40, dtype=bool)), axis=1)
    first, only_high, absent = structure_risk_ratios(present, ["follicle", "niche", "scar"], high)
    theirs = relative_risk(5, 15, 9, 25)
    assert (first.high, first.low) == ((5, 15), (9, 25)) and first.ratio == pytest.approx(theirs.relative_risk)
    log_se = np.sqrt(1 / 5 - 1 / 15 + 1 / 9 - 1 / 25)
    assert first.lower == pytest.approx(first.ratio * np.exp(-1.959964 * log_se), rel=1e-6)
    assert first.upper == pytest.approx(first.ratio * np.exp(1.959964 * log_se), rel=1e-6)
    assert np.isinf(only_high.ratio) and np.isnan(only_high.lower) and np.isnan(absent.ratio) and np.isnan(absent.upper)


def test_what_has_no_groups_is_refused_in_words():
    one = PatientGroups(("a", "b", "c", "d"), np.zeros((4, 1)), np.zeros(4, dtype=int), np.zeros(4, dtype=int))
    four = Outcomes(one.patients, np.arange(1.0, 5), np.ones(4, dtype=bool), "OS")
    twice = Outcomes(("a", "a"), np.ones(2), np.ones(2, dtype=bool), "OS")
    for call, code in (
        (lambda: patient_groups(np.zeros((50, 2)), ["a"] * 50, QUICK), "too_few_cells"),
        (lambda: patient_groups(np.zeros((0, 2)), [], QUICK), "empty"),
        (lambda: patient_groups(np.full((50, 2), np.nan), ["a"] * 50, QUICK), "not_finite"),
        (
            lambda: patient_groups(np.arange(60.0).reshape(30, 2), ["a", "b", "c"] * 10, RiskGroupConfig(cell_clusters=3)),
            "too_few_patients",
        ),
        (lambda: risk_groups(one, four, QUICK), "one_side"),
        (lambda: risk_groups(one, twice, QUICK), "patient_twice"),
        (lambda: structure_risk_ratios(np.zeros((4, 1), dtype=bool), ["x"], np.ones(4, dtype=bool)), "one_side"),
        (lambda: structure_risk_ratios(np.zeros((3, 1), dtype=bool), ["x"], np.ones(4, dtype=bool)), "wrong_shape"),
    ):
        with pytest.raises(DiscoveryError) as refused:
            call()
        assert refused.value.code == code
    groups = groups_of(30)
    with pytest.raises(SurvivalDataError) as refused:
        risk_groups(groups, Outcomes(groups.patients, np.ones(30), np.zeros(30, dtype=bool), "OS"), QUICK)
    assert refused.value.code == "no_events"


@pytest.mark.parametrize("declared", [(), (0, 1, 2, 3), (4,)])
def test_a_declaration_that_names_none_or_all_is_refused(declared):
    with pytest.raises(ValueError, match="declared_high"):
        RiskGroupConfig(merge="declared", declared_high=declared)
