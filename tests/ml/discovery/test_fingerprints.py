"""Fingerprints: shares, tertiles of the positive shares, ranks, risk ratios."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml.discovery.errors import DiscoveryError
from ml.discovery.fingerprints import checked_shares, directions, ranks, risk_ratios, shares, tertiles
from ml.discovery.leiden import Cluster


def cluster(*cells):
    return Cluster(4.0, 0, np.array(cells, dtype=np.int32))


def test_a_share_is_of_all_cells_of_the_patient():
    ids, share = shares([cluster(0, 1, 4), cluster(3)], ["eva", "ada", "ada", "ada", "eva"], 5)
    assert ids == ("ada", "eva")
    np.testing.assert_allclose(share, [[1 / 3, 1 / 3], [1, 0]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays(np.float64, (9, 4), elements=st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.25, 0.4, 0.9])))
def test_tertiles_are_numpys_quantiles_of_the_positive_shares(share):
    thresholds = tertiles(share)
    for column, pair in zip(share.T, thresholds.T):
        positive = column[column > 0]
        expected = np.quantile(positive, (1 / 3, 2 / 3)) if len(positive) else (np.inf, np.inf)
        np.testing.assert_allclose(pair, expected, rtol=0, atol=1e-12)


def test_ranks_are_0_where_absent_and_thirds_of_the_others():
    share = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.0]])
    assert ranks(share, tertiles(share))[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 3, 0]
    assert ranks(np.zeros((3, 1)), tertiles(np.zeros((3, 1))))[:, 0].tolist() == [0, 0, 0]


def test_thresholds_of_some_patients_rank_others():
    learned = tertiles(np.array([[0.1], [0.2], [0.3]]))
    assert ranks(np.array([[0.05], [0.2], [0.9], [0.0]]), learned)[:, 0].tolist() == [1, 2, 3, 0]


def test_the_risk_ratio_compares_rank_above_1_with_all_others():
    rank = np.array([[3, 0, 2, 0], [2, 0, 2, 0], [1, 3, 2, 0], [0, 3, 2, 0]], dtype=np.int8)
    response = np.array([True, True, True, False])
    ratio = risk_ratios(rank, response)
    np.testing.assert_allclose(ratio[:2], [1 / 0.5, 0.5 / 1])
    assert np.isnan(ratio[2:]).all()  # everybody, or nobody, has a high share
    assert directions(ratio).tolist() == [1, -1, 0, 0]
    alone = risk_ratios(np.array([[2], [0]], dtype=np.int8), np.array([True, False]))
    assert np.isinf(alone[0]) and directions(alone)[0] == 1


@pytest.mark.parametrize(
    ("share", "code"),
    [
        (np.zeros((2, 3)), "wrong_shape"),
        (np.zeros((4, 0)), "empty"),
        (np.full((4, 2), np.nan), "not_finite"),
        (np.full((4, 2), 1.5), "not_a_share"),
    ],
)
def test_shares_that_are_none_are_refused(share, code):
    with pytest.raises(DiscoveryError) as refused:
        checked_shares(share, 4)
    assert refused.value.code == code


def test_no_cluster_and_a_patient_too_few_are_refused():
    with pytest.raises(DiscoveryError) as refused:
        shares([], ["ada"], 1)
    assert refused.value.code == "no_cluster_left"
    with pytest.raises(DiscoveryError) as refused:
        shares([cluster(0)], ["ada"], 2)
    assert refused.value.code == "wrong_length"
