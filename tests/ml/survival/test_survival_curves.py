"""Kaplan-Meier and log-rank as a specification: against brute force, under reordering, at the corners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.survival.competing_risks import cumulative_incidence
from ml.survival.data import SurvivalDataError, build_outcomes, merge_near_ties, prepare
from ml.survival.kaplan_meier import kaplan_meier, kaplan_meier_by_group
from ml.survival.logrank import adjust, logrank, pairwise_logrank, trend

subjects = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40)


def columns(rows):
    time, event, other = (np.array(c, dtype=float) for c in zip(*rows))
    return time, event, other


def product_limit(time, event, entry=None):
    """S at each distinct time, one subject at a time."""
    s, out = 1.0, []
    for t in sorted(set(time)):
        at_risk = sum(1 for i in range(len(time)) if time[i] >= t and (entry is None or entry[i] < t))
        died = sum(1 for i in range(len(time)) if time[i] == t and event[i])
        s *= 1 - died / at_risk
        out.append(s)
    return out


@settings(deadline=None, max_examples=60)
@given(subjects)
def test_the_curve_is_the_product_limit(rows):
    time, event, _ = columns(rows)
    curve = kaplan_meier(time, event)
    np.testing.assert_allclose(curve.survival, product_limit(time, event), atol=1e-12)
    assert (np.diff(np.append(1.0, curve.survival)) <= 0).all()
    known = ~np.isnan(curve.lower)
    assert (curve.lower[known] <= curve.survival[known] + 1e-12).all()
    assert (curve.upper[known] >= curve.survival[known] - 1e-12).all()
    assert curve.n_event.sum() + curve.n_censor.sum() == len(time)


@settings(deadline=None, max_examples=60)
@given(subjects)
def test_late_entry_counts_only_those_who_have_entered(rows):
    time, event, entry = columns(rows)
    kept = entry < time
    if not kept.any():
        with pytest.raises(SurvivalDataError) as refused:
            kaplan_meier(time, event, entry)
        assert refused.value.code == "no_time_at_risk"
        return
    curve = kaplan_meier(time, event, entry)
    np.testing.assert_allclose(curve.survival, product_limit(time[kept], event[kept], entry[kept]), atol=1e-12)
    assert bool(curve.findings) == (not kept.all())


@settings(deadline=None, max_examples=40)
@given(subjects, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, two = kaplan_meier(*columns(rows)[:2]), kaplan_meier(*columns(shuffled)[:2])
    for name in ("time", "n_risk", "survival", "std_err_log", "lower", "upper"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.rmst(5.0) == two.rmst(5.0)


def test_whole_weights_count_as_repeated_subjects():
    time, event, weight = np.array([2.0, 3, 3, 5, 8]), np.array([1, 1, 0, 1, 0]), np.array([1, 2, 3, 1, 4])
    weighted, repeated = kaplan_meier(time, event, weights=weight), kaplan_meier(np.repeat(time, weight), np.repeat(event, weight))
    np.testing.assert_allclose(weighted.survival, repeated.survival)
    np.testing.assert_allclose(weighted.lower, repeated.lower)


def test_the_step_before_is_read_never_a_line_between():
    curve = kaplan_meier([1, 2, 4], [1, 1, 1])
    np.testing.assert_allclose(curve.at([0.5, 1.9, 3.9, 9]).survival, [1, 2 / 3, 1 / 3, 0], atol=1e-12)
    assert curve.at([9]).beyond_last_time.all()


def test_the_median_of_a_flat_half_is_its_middle():
    assert kaplan_meier([1, 2, 3, 4], [1, 1, 1, 1]).median.estimate == 2.5


def test_a_curve_that_stays_above_one_half_has_no_median():
    median = kaplan_meier([1, 2, 3, 4], [1, 0, 0, 0]).median
    assert np.isnan([median.estimate, median.upper]).all()


@settings(deadline=None, max_examples=40)
@given(subjects)
def test_identical_groups_do_not_differ(rows):
    time, event, _ = columns(rows)
    if not event.any():
        return
    groups = ["a"] * len(time) + ["b"] * len(time)
    try:
        test = logrank(np.tile(time, 2), np.tile(event, 2), groups)
    except SurvivalDataError as refused:
        assert refused.code == "no_variance"
        assert all(event[time == t].all() and t == time.max() for t in time[event == 1])
        return
    assert test.statistic == pytest.approx(0, abs=1e-12)
    assert test.p == pytest.approx(1)
    assert test.observed.sum() == pytest.approx(test.expected.sum())


@settings(deadline=None, max_examples=40)
@given(subjects)
def test_log_rank_does_not_know_which_group_comes_first(rows):
    time, event, group = columns(rows)
    if len(set(group)) < 2 or not event.any():
        return
    try:
        there = logrank(time, event, group)
    except SurvivalDataError as refused:
        assert refused.code in ("one_group", "no_variance")
        return
    levels = sorted(set(group), reverse=True)
    back = logrank(time, event, group, levels)
    assert there.statistic == pytest.approx(back.statistic, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(there.expected, back.expected[::-1], rtol=1e-9)


def test_delayed_entry_goes_to_the_score_test():
    time, event = [3.0, 5, 6, 8, 9, 11], [1, 0, 1, 1, 0, 1]
    groups, entry = list("ababab"), [0, 0, 1, 2, 0, 1]
    test = logrank(time, event, groups, entry=entry)
    assert "delayed entry" in test.method
    assert test.observed.tolist() == [2, 2]
    with pytest.raises(SurvivalDataError) as refused:
        logrank(time, event, groups, entry=entry, rho=1)
    assert refused.value.code == "rho_with_entry"


def test_score_test_without_ties_is_the_log_rank_test():
    from ml.survival.logrank import group_score_test

    rng = np.random.default_rng(4)
    time, event, codes = rng.random(60), rng.random(60) < 0.6, rng.integers(0, 3, 60)
    score = group_score_test(prepare(time, event), codes, (0, 1, 2))
    assert score.statistic == pytest.approx(logrank(time, event, codes).statistic, rel=1e-9)


def test_trend_and_pairs():
    time, event, group = np.arange(1.0, 13), np.ones(12), np.repeat([0, 1, 2], 4)
    assert trend(logrank(time, event, group)).p < 0.01
    pairs = pairwise_logrank(time, event, group)
    assert [(p.a, p.b) for p in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert all(p.p <= p.p_bh <= p.p_holm <= p.p_bonferroni <= 1 for p in pairs)


def test_corrections_skip_missing_p():
    np.testing.assert_allclose(adjust([0.01, np.nan, 0.04], "bonferroni"), [0.02, np.nan, 0.08])
    np.testing.assert_allclose(adjust([0.01, np.nan, 0.04], "holm"), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(adjust([0.03, np.nan, 0.04], "bh"), [0.04, np.nan, 0.04])


@pytest.mark.parametrize(
    ("time", "event", "entry", "code"),
    [
        ([], [], None, "no_rows"),
        ([1, -2], [1, 0], None, "negative_time"),
        ([1, 2], [1, 2], None, "event_not_binary"),
        ([1, np.nan], [1, 0], None, "missing_value"),
        ([1, 2], [1], None, "wrong_shape"),
        (["one", 2], [1, 0], None, "not_a_number"),
        ([1, 2], [1, 0], [1, 2], "no_time_at_risk"),
    ],
)
def test_bad_columns_are_refused_with_a_sentence(time, event, entry, code):
    with pytest.raises(SurvivalDataError) as refused:
        kaplan_meier(time, event, entry)
    assert refused.value.code == code
    assert refused.value.sentence.endswith(".")


def test_no_events_and_one_group_are_refused():
    with pytest.raises(SurvivalDataError, match="No event"):
        logrank([1, 2], [0, 0], ["a", "b"])
    with pytest.raises(SurvivalDataError, match="two groups"):
        logrank([1, 2], [1, 0], ["a", "a"])


def test_months_by_two_roads_are_one_time():
    months = np.array([1.1, 2.2, 3.3])
    there, back = merge_near_ties(months * 30.4375, months * 365.25 / 12)
    np.testing.assert_array_equal(there, back)
    assert len(kaplan_meier(np.concatenate((months * 30.4375, months * 365.25 / 12)), np.ones(6)).time) == 3


def test_groups_come_in_sorted_order_unless_stated():
    curves = kaplan_meier_by_group([1, 2, 3], [1, 1, 1], ["low", "high", "low"])
    assert list(curves) == ["high", "low"]
    assert list(kaplan_meier_by_group([1, 2, 3], [1, 1, 1], ["low", "high", "low"], ["low", "mid", "high"])) == ["low", "high"]


def test_outcomes_leave_out_what_is_missing_and_say_so():
    outcomes, findings = build_outcomes(["p1", "p2", "p3"], [100, None, 300], [1, 0, float("nan")], "OS")
    assert outcomes.patients == ("p1",)
    assert outcomes.event.tolist() == [True]
    assert [f.code for f in findings] == ["missing_outcome"]
    outcomes, findings = build_outcomes(["p1", "p2"], [100, 200], [1, 0], "OS", [0, 200])
    assert outcomes.patients == ("p1",)
    assert [f.code for f in findings] == ["entry_not_before_time"]
    with pytest.raises(SurvivalDataError) as refused:
        build_outcomes(["p1", "p1"], [1, 2], [1, 0], "OS")
    assert refused.value.code == "patient_twice"


@settings(deadline=None, max_examples=40)
@given(subjects)
def test_incidences_and_survival_share_out_the_whole(rows):
    time, event, other = columns(rows)
    cause = event * (1 + other % 2)
    found = cumulative_incidence(time, cause)
    np.testing.assert_allclose(found.event_free + found.incidence.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(found.event_free, kaplan_meier(time, event).survival, atol=1e-12)
    assert (np.diff(found.incidence, axis=1) >= 0).all()


def test_a_single_cause_is_one_minus_the_curve():
    time, event = [1, 2, 2, 3, 5], [1, 0, 1, 1, 0]
    found = cumulative_incidence(time, event)
    curve = kaplan_meier(time, event)
    np.testing.assert_allclose(found.incidence[0], 1 - curve.survival)
    assert (found.incidence[1] == 0).all()
    with pytest.raises(SurvivalDataError) as refused:
        cumulative_incidence([1, 2], [1, 3])
    assert refused.value.code == "unknown_cause"
