"""Medoids are members, represent everybody, are the same every time and are good ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ml.transport.errors import TransportError
from ml.transport.medoids import DIRECT, k_medoids
from ml.transport.wasserstein import wasserstein2


@st.composite
def clouds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = rng.normal(size=(draw(st.integers(1, 40)), draw(st.integers(1, 5))))
    return np.round(points, draw(st.sampled_from([0, 6]))), draw(st.integers(1, 20))


@settings(max_examples=80, deadline=None)
@given(clouds())
def test_medoids_are_distinct_members_and_everybody_goes_to_the_nearest(cloud):
    points, k = cloud
    found = k_medoids(points, k)
    assert len(found.members) == min(k, len(np.unique(points, axis=0)))
    assert len(np.unique(points[found.members], axis=0)) == len(found.members)
    assert (np.diff(found.members) > 0).all() and found.members.max() < len(points)
    distance = cdist(points, points[found.members], "sqeuclidean")
    assert distance[np.arange(len(points)), found.label] == pytest.approx(distance.min(axis=1))
    assert found.weights.sum() == pytest.approx(1) and (found.weights > 0).all()
    assert found.weights * len(points) == pytest.approx(np.bincount(found.label))
    assert found.cost == pytest.approx(distance.min(axis=1).mean())


@settings(max_examples=40, deadline=None)
@given(clouds())
def test_no_single_exchange_improves_them(cloud):
    points, k = cloud
    found = k_medoids(points, k)
    distance = cdist(points, points, "sqeuclidean")
    for place, row in itertools.product(range(len(found.members)), range(len(points))):
        exchanged = found.members.copy()
        exchanged[place] = row
        assert distance[:, exchanged].min(axis=1).mean() >= found.cost - 1e-9


def test_they_find_separate_clumps_with_their_shares():
    rng = np.random.default_rng(0)
    sizes = (50, 30, 20)
    points = np.concatenate([rng.normal(size=(n, 3)) * 0.1 + centre for n, centre in zip(sizes, (0, 10, 20), strict=True)])
    found = k_medoids(points, 3)
    assert sorted(found.weights) == pytest.approx([0.2, 0.3, 0.5])


def test_their_cost_bounds_the_distance_from_the_whole_to_the_summary():
    points = np.random.default_rng(1).normal(size=(60, 4))
    found = k_medoids(points, 16)
    distance = wasserstein2(points, np.full(60, 1 / 60), points[found.members], found.weights)
    assert distance**2 <= found.cost + 1e-12


def test_a_large_tissue_is_summarised_from_samples_and_always_the_same():
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(16, 8)) * 20
    points = np.concatenate([centres, centres[rng.integers(0, 16, size=20_000)] + rng.normal(size=(20_000, 8))])
    assert len(points) > DIRECT
    found, again = k_medoids(points, 16, seed=7), k_medoids(points, 16, seed=7)
    assert np.array_equal(found.members, again.members) and np.array_equal(found.label, again.label)
    assert len(found.label) == len(points) and found.weights.sum() == pytest.approx(1)
    # within a clump of 8 dimensions with unit variance the mean squared distance to the best member is near 8
    assert found.cost < 11


@pytest.mark.parametrize(
    "points, k, code",
    [(np.zeros((0, 3)), 2, "empty"), (np.zeros(3), 2, "shape"), (np.full((3, 2), np.nan), 2, "not_finite"), (np.zeros((3, 2)), 0, "k")],
)
def test_what_cannot_be_summarised_is_refused(points, k, code):
    with pytest.raises(TransportError) as refused:
        k_medoids(points, k)
    assert refused.value.code == code
