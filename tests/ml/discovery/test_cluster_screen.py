"""The vectorised screen gives what a loop of scikit-learn's logistic regressions gives, ties, turned signs and empty classes included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ml.discovery.errors import DiscoveryError
from ml.discovery.screen import fold_aurocs, screen, stratified_folds


def loop_of_sklearn(rank, response, held):
    """(f, m). A slope of exactly 0 comes out of L-BFGS as 1e-9 or so: scores are rounded to 1e-5."""
    out = np.full((len(held), rank.shape[1]), np.nan)
    for f, h in enumerate(held):
        for j in range(rank.shape[1]):
            if len(set(response[h])) < 2 or len(set(response[~h])) < 2:
                continue
            x = rank[:, j : j + 1].astype(float)
            fit = LogisticRegression(tol=1e-10, max_iter=1000).fit(x[~h], response[~h])
            out[f, j] = roc_auc_score(response[h], np.round(fit.predict_proba(x[h])[:, 1], 5))
    return out


def test_equal_to_a_loop_of_sklearn():
    rng = np.random.default_rng(1)
    rank = rng.integers(0, 4, size=(37, 9)).astype(np.int8)
    rank[:, 0], rank[:, 1], rank[:, 2] = 0, 2, (rng.random(37) < 0.1) * 3  # constant ones, and one that few patients have
    response = rng.random(37) < 0.4
    held = stratified_folds([f"p{i}" for i in range(37)], response, 4, 3, 0)
    areas = fold_aurocs(rank, response, held)
    np.testing.assert_allclose(areas, loop_of_sklearn(rank, response, held), rtol=0, atol=1e-12)
    np.testing.assert_allclose(screen(rank, response, held), areas.mean(axis=0), rtol=0, atol=1e-12)
    assert (areas[:, :2] == 0.5).all()
    up = np.array([((rank[response].astype(float).mean(axis=0) - rank[~response].mean(axis=0)) > 0)])
    assert up.any() and not up.all()  # both signs were compared


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_equal_on_few_patients_where_ties_and_empty_classes_are_common(seed):
    rng = np.random.default_rng(seed)
    rank = rng.integers(0, 4, size=(8, 4)).astype(np.int8)
    response = rng.random(8) < 0.5
    held = rng.random((4, 8)) < 0.4
    np.testing.assert_allclose(fold_aurocs(rank, response, held), loop_of_sklearn(rank, response, held), rtol=0, atol=1e-12)


def test_a_sign_turned_between_training_and_held_out_patients_counts_against_the_cluster():
    rank = np.array([[0], [3], [3], [0]], dtype=np.int8)
    response = np.array([False, True, False, True])
    assert fold_aurocs(rank, response, np.array([[False, False, True, True]]))[0, 0] == 0.0


def test_folds_of_one_class_are_left_out_of_the_mean():
    rank = np.array([[0], [3], [0], [3]], dtype=np.int8)
    response = np.array([False, True, False, True])
    held = np.array([[True, True, False, False], [True, False, False, False], [True, True, True, False]])
    areas = fold_aurocs(rank, response, held)[:, 0]
    assert areas[0] == 1.0 and np.isnan(areas[1:]).all()  # one held-out class; one training class
    assert screen(rank, response, held)[0] == 1.0
    assert np.isnan(screen(rank, response, held[1:])[0])


def test_folds_hold_out_each_patient_once_a_repeat_and_share_out_both_classes():
    response = np.arange(22) < 9
    held = stratified_folds([f"p{i}" for i in range(22)], response, 4, 5, 7)
    assert held.shape == (20, 22)
    assert (held.reshape(5, 4, 22).sum(axis=1) == 1).all()
    assert set(held[:, response].sum(axis=1).tolist()) == {2, 3}
    assert len({row.tobytes() for row in held}) == 20


@pytest.mark.parametrize(
    ("rank", "response", "held", "code"),
    [
        (np.zeros((4, 2), dtype=np.int8), np.zeros(3, dtype=bool), np.zeros((1, 4), dtype=bool), "wrong_shape"),
        (np.zeros((4, 0), dtype=np.int8), np.zeros(4, dtype=bool), np.zeros((1, 4), dtype=bool), "empty"),
        (np.full((4, 2), 4, dtype=np.int8), np.zeros(4, dtype=bool), np.zeros((1, 4), dtype=bool), "not_a_rank"),
    ],
)
def test_what_cannot_be_screened_is_refused(rank, response, held, code):
    with pytest.raises(DiscoveryError) as refused:
        screen(rank, response, held)
    assert refused.value.code == code
