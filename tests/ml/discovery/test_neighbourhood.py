"""The neighbourhood of a cluster's cells: who is in it, and the proportions z-test of each cell type."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from ml.discovery.config import NeighbourhoodConfig
from ml.discovery.errors import DiscoveryError
from ml.discovery.neighbourhood import neighbourhood

NEAR = NeighbourhoodConfig(radius_um=10.0)


def test_neighbours_lie_within_the_radius_in_the_same_tissue_and_are_no_members():
    xy = np.array([[0, 0], [10, 0], [10.01, 0], [0, 5], [0, 1], [0, 2], [50, 50]], dtype=float)
    tissues = ["t1", "t1", "t1", "t1", "t1", "t2", "t1"]
    members = np.array([True, False, False, False, True, False, False])
    found = neighbourhood(xy, tissues, ["a", "a", "b", "a", "b", "a", "b"], members, NEAR)
    assert found.near.tolist() == [False, True, False, True, False, False, False]
    assert found.tissues == 1
    assert {t.name: (t.inside, t.outside) for t in found.types} == {"a": ((2, 2), (0, 2)), "b": ((0, 2), (2, 2))}


def test_the_z_test_is_the_chi_square_of_the_two_by_two_table():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 300, size=(900, 2))
    members = np.hypot(*(xy - 150).T) < 20
    close = np.hypot(*(xy - 150).T) < 60
    types = np.where(rng.random(900) < np.where(close, 0.6, 0.3), "T", np.where(rng.random(900) < 0.5, "B", "tumour"))
    found = neighbourhood(xy, ["t"] * 900, types, members, NeighbourhoodConfig(radius_um=35))
    for share in found.types:
        (a, n1), (b, n0) = share.inside, share.outside
        table = chi2_contingency([[a, n1 - a], [b, n0 - b]], correction=False)
        assert share.z**2 == pytest.approx(table.statistic) and share.p == pytest.approx(table.pvalue)
        assert share.p_bh >= share.p
    by_name = {t.name: t for t in found.types}
    assert by_name["T"].z > 3 and by_name["T"].p_bh < 0.01 and found.note.endswith(".")


def test_a_type_that_all_cells_are_of_has_no_z():
    found = neighbourhood([[0, 0], [1, 0], [99, 0]], ["t"] * 3, ["a"] * 3, np.array([True, False, False]), NEAR)
    assert np.isnan(found.types[0].z) and np.isnan(found.types[0].p)


@pytest.mark.parametrize(
    ("xy", "members", "code"),
    [
        (np.zeros((0, 2)), np.zeros(0, dtype=bool), "empty"),
        (np.zeros((3, 3)), np.zeros(3, dtype=bool), "wrong_shape"),
        (np.full((3, 2), np.nan), np.ones(3, dtype=bool), "not_finite"),
        (np.zeros((3, 2)), np.zeros(3, dtype=bool), "no_member"),
        (np.zeros((3, 2)), np.array([True, False, False]), "no_neighbour"),
        (np.array([[0, 0], [90, 0], [99, 0]]), np.array([True, False, False]), "no_neighbour"),
    ],
)
def test_cells_without_a_neighbourhood_are_refused(xy, members, code):
    with pytest.raises(DiscoveryError) as refused:
        neighbourhood(xy, ["t"] * len(xy), ["a"] * len(xy), members, NEAR)
    assert refused.value.code == code and refused.value.sentence.endswith(".")
