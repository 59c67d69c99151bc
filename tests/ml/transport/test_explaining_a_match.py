"""What two tissues share and differ in, and a distance against distances between pieces of one tumour."""

import numpy as np
import pytest

from ml.transport.config import NicheConfig
from ml.transport.errors import TransportError
from ml.transport.explain import explain_match, halves, percentile_within_tumour, self_distances, within_tumour

NAMES = ("CD8", "CD20", "Ki67", "FAP", "DAPI")
MEAN, SD = np.full(5, 0.2), np.array([0.1, 0.1, 0.1, 0.1, 0.0])


def test_high_in_both_matches_and_far_apart_differs():
    a = np.array([0.40, 0.30, 0.20, 0.00, 0.9])  # z: 2, 1, 0, -2, constant
    b = np.array([0.43, 0.28, 0.45, 0.07, 0.1])  # z: 2.3, 0.8, 2.5, -1.3, constant
    told = explain_match(a, b, NAMES, (MEAN, SD))
    assert [m.marker for m in told.matches] == ["CD8", "CD20"]
    assert [m.marker for m in told.differs] == ["Ki67", "FAP"]
    assert told.differs[0].difference_sd == pytest.approx(2.5)
    assert (told.matches[0].a, told.matches[0].z_b) == (pytest.approx(0.40), pytest.approx(2.3))


def test_a_constant_marker_says_nothing_and_top_limits_both_lists():
    told = explain_match(MEAN + 5 * 0.1, MEAN + 5 * 0.1, NAMES, (MEAN, SD), top=2)
    assert [m.marker for m in told.matches] == ["CD8", "CD20"] and told.differs == ()
    swapped = explain_match(MEAN, MEAN + 0.1, NAMES, (MEAN, SD), top=1)
    assert len(swapped.differs) == 1 and swapped.matches == ()


@pytest.mark.parametrize("a, code", [(np.zeros(4), "shape"), (np.full(5, np.nan), "not_finite")])
def test_values_that_do_not_fit_the_names_are_refused(a, code):
    with pytest.raises(TransportError) as refused:
        explain_match(a, MEAN, NAMES, (MEAN, SD))
    assert refused.value.code == code


def boxes_of(columns, rows, side=256.0):
    x, y = (v.ravel() for v in np.meshgrid(np.arange(columns) * side, np.arange(rows) * side))
    return np.stack([x, y, np.full_like(x, side), np.full_like(x, side)], axis=1)


def test_halves_are_left_right_and_upper_lower():
    boxes = boxes_of(6, 4)
    (left, right), (upper, lower) = halves(boxes)
    assert boxes[left, 0].max() < boxes[right, 0].min()
    assert boxes[upper, 1].max() < boxes[lower, 1].min()
    for one, other in halves(boxes_of(1, 7)):  # one column: the median line is everywhere
        assert (len(one), len(other)) == (3, 4)
        assert sorted([*one, *other]) == list(range(7))


def test_pieces_of_an_even_tissue_are_near_and_of_a_two_sided_one_far():
    rng = np.random.default_rng(0)
    boxes = boxes_of(8, 8)
    even = rng.normal(size=(64, 5)).astype(np.float32)
    two_sided = even + np.where(boxes[:, :1] < 4 * 256, 0, 10).astype(np.float32)
    across, along = self_distances(two_sided, boxes)
    assert across > 3 * self_distances(even, boxes).max()
    assert along < across / 3


def test_the_reference_lists_tissues_that_are_too_small():
    rng = np.random.default_rng(1)
    tissues = [(rng.normal(size=(n * n, 3)).astype(np.float32), boxes_of(n, n)) for n in (5, 1, 6)]
    found = within_tumour(tissues, NicheConfig(max_medoids=4))
    assert found.n_tissues == 2 and found.left_out == (1,)
    assert len(found.distances) == 4 and (np.diff(found.distances) >= 0).all()
    with pytest.raises(TransportError) as refused:
        within_tumour(tissues[1:2])
    assert refused.value.code == "no_reference"
    with pytest.raises(TransportError) as refused:
        self_distances(*tissues[1])
    assert refused.value.code == "too_few_niches"
    with pytest.raises(TransportError) as refused:
        self_distances(tissues[0][0], tissues[2][1])
    assert refused.value.code == "shape"


def test_a_percentile_counts_distances_at_most_as_large():
    reference = [1.0, 2.0, 3.0, 4.0]
    assert [percentile_within_tumour(reference, d) for d in (0.5, 1.0, 2.5, 9.0)] == [0, 25, 50, 100]
    for distances, d, code in (([], 1.0, "no_reference"), (reference, np.nan, "not_finite")):
        with pytest.raises(TransportError) as refused:
            percentile_within_tumour(distances, d)
        assert refused.value.code == code
