"""Intervals with the patient as the unit: what they promise holds on exchangeable patients, and where they cannot promise they abstain."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.hex.conformal import Conformal, calibrate, least_patients
from ml.hex.errors import HexDataError


def patients_of(rng, n, tiles=40, markers=2):
    """Exchangeable patients whose errors have a size and a bias of their own, as stains and scanners give them."""
    sizes = rng.integers(tiles // 2, tiles * 2, n)
    ids = np.repeat([f"P{i:03}" for i in range(n)], sizes)
    level = np.repeat(rng.gamma(2, 0.05, (n, markers)), sizes, axis=0)
    bias = np.repeat(rng.normal(0, 0.1, (n, markers)), sizes, axis=0)
    labels = rng.random((len(ids), markers))
    return labels + bias + level * rng.normal(size=labels.shape), labels, ids.tolist()


def by_definition(errors, ids, alpha):
    """Scores and half-width with plain loops: (patients,), float."""
    scores = []
    for one in sorted(set(ids)):
        mine = sorted(errors[np.array(ids) == one])
        scores.append(next(e for e in mine if np.mean(np.array(mine) <= e) >= 1 - alpha - 1e-12))
    k = math.ceil(round((len(scores) + 1) * (1 - alpha), 9))
    return np.array(scores), sorted(scores)[k - 1] if k <= len(scores) else np.nan


@settings(max_examples=40)
@given(st.integers(3, 25), st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5]), st.integers(0, 10_000))
def test_half_widths_and_left_out_coverage_are_those_of_the_definition(n, alpha, seed):
    predicted, labels, ids = patients_of(np.random.default_rng(seed), n, tiles=12)
    found = calibrate(predicted, labels, ids, ("a", "b"), alpha)
    errors, people = np.abs(labels - predicted), sorted(set(ids))
    for j in range(2):
        scores, half = by_definition(errors[:, j], ids, alpha)
        np.testing.assert_allclose(found.half_width[j], half)
        if n <= least_patients(alpha):
            assert np.isnan(found.coverage[j]) and np.isnan(found.coverage_patients[j])
            continue
        inside, covered = [], []
        for i, one in enumerate(people):
            others = np.array(ids) != one
            _, width = by_definition(errors[others, j], [p for p in ids if p != one], alpha)
            inside.append(np.mean(errors[~others, j] <= width))
            covered.append(scores[i] <= width)
        assert found.coverage[j] == pytest.approx(np.mean(inside)) and found.coverage_patients[j] == pytest.approx(np.mean(covered))
    assert found.patients == n and (found.why_none == "") == (n >= least_patients(alpha)) == np.isfinite(found.half_width).all()


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 9), (0.1, 24), (0.2, 14)])
def test_of_new_patients_at_least_the_promised_share_is_covered(alpha, n):
    """400 draws of n calibration patients and one new one: she is covered if 1 - alpha of her tiles lie within."""
    rng = np.random.default_rng(5)
    covered, shares = [], []
    for _ in range(400):
        predicted, labels, ids = patients_of(rng, n + 1, tiles=20, markers=1)
        new = np.array(ids) == f"P{n:03}"
        found = calibrate(predicted[~new], labels[~new], [i for i in ids if i != f"P{n:03}"], ("a",), alpha)
        lower, upper = found.interval(predicted[new], np.zeros(new.sum()))
        share = np.mean((labels[new] >= lower) & (labels[new] <= upper))
        shares.append(share)
        covered.append(share >= 1 - alpha)
    error = 3 * math.sqrt(alpha * (1 - alpha) / 400)
    exact = math.ceil(round((n + 1) * (1 - alpha), 9)) / (n + 1)
    assert exact - error < np.mean(covered) < exact + error, "no less than promised, and no wider than it takes"
    assert np.mean(shares) > 1 - alpha


def test_tiles_as_the_unit_would_promise_too_much():
    """Why patients: the quantile over all tiles covers fewer than 90% of new patients."""
    rng, covered = np.random.default_rng(1), []
    for _ in range(200):
        predicted, labels, ids = patients_of(rng, 13, tiles=20, markers=1)
        new = np.array(ids) == "P012"
        errors = np.abs(labels - predicted)[:, 0]
        covered.append(np.mean(errors[new] <= np.quantile(errors[~new], 0.9)) >= 0.9)
    assert np.mean(covered) < 0.75


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.5, 1), (0.3, 3)])
def test_too_few_patients_give_no_interval_and_a_sentence(alpha, least):
    assert least_patients(alpha) == least
    predicted, labels, ids = patients_of(np.random.default_rng(0), least)
    assert np.isfinite(calibrate(predicted, labels, ids, ("a", "b"), alpha).half_width).all()
    few = np.array(ids) != ids[0]
    if few.any():
        found = calibrate(predicted[few], labels[few], [i for i in ids if i != ids[0]], ("a", "b"), alpha)
        assert np.isnan(found.half_width).all() and found.why_none == f"fewer than {least} calibration patients"
        assert np.isnan(found.spread(np.zeros(3))).all()


def test_it_abstains_outside_the_models_range_and_never_goes_below_zero():
    found = Conformal(("a", "b"), 0.1, np.array([0.2, np.nan]), 12, np.array([0.9, 0.9]), np.array([0.9, 0.9]))
    far = np.array([0.0, 1.0, 1.001, np.nan])
    spread = found.spread(far)
    assert spread.shape == (4, 2) and spread.dtype == np.float32 and np.isnan(spread[:, 1]).all()
    np.testing.assert_array_equal(np.isfinite(spread[:, 0]), [True, True, False, False])
    lower, upper = found.interval(np.array([[0.5, 0.5], [0.1, 0.1], [0.5, 0.5], [0.5, 0.5]]), far)
    np.testing.assert_allclose(lower[:, 0], [0.3, 0.0, np.nan, np.nan], atol=1e-6)
    np.testing.assert_allclose(upper[:, 0], [0.7, 0.3, np.nan, np.nan], atol=1e-6)


@pytest.mark.parametrize("n", [5, 9, 20])
def test_it_goes_through_json_and_back(n):
    predicted, labels, ids = patients_of(np.random.default_rng(n), n)
    found = calibrate(predicted, labels, ids, ("a", "b"))
    again = Conformal.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert (again.markers, again.alpha, again.patients, again.why_none, again.percent) == (("a", "b"), 0.1, n, found.why_none, 90)
    for name in ("half_width", "coverage", "coverage_patients"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"patients": ["P"]}, "calibration_shape"),
        ({"markers": ("a",)}, "calibration_shape"),
        ({"labels": np.full((4, 2), np.nan)}, "calibration_not_finite"),
        ({"alpha": 0.0}, "alpha_invalid"),
        ({"alpha": 1.0}, "alpha_invalid"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(change, code):
    given = {"held_out": np.ones((4, 2)), "labels": np.ones((4, 2)), "patients": list("PQRS"), "markers": ("a", "b")}
    with pytest.raises(HexDataError) as refused:
        calibrate(**given | change)
    assert refused.value.code == code and refused.value.sentence.endswith(".")
