"""Intervals of survival time: equal events, whom they come from, and data of which none can be made."""

import numpy as np
import pytest

from ml.mica.errors import MicaError
from ml.mica.labels import Bins, make_bins, sampler_class


def test_each_interval_has_a_quarter_of_the_events_and_times_outside_belong_to_the_ends():
    time = np.arange(1.0, 101)
    bins = make_bins(time, np.ones(100))
    assert np.bincount(bins.of(time)).tolist() == [25, 25, 25, 25]
    assert bins.of(np.array([-5.0, 0.0, 1e6])).tolist() == [0, 0, 3]


def test_an_edge_belongs_to_the_interval_that_it_begins():
    assert Bins(np.array([0.0, 10, 20, 30, 40])).of(np.array([9.999, 10.0, 30.0])).tolist() == [0, 1, 3]


def test_the_ends_lie_around_the_censored_too():
    bins = make_bins(np.array([0.5, 1, 2, 3, 4, 9.0]), np.array([0, 1, 1, 1, 1, 0]))
    assert bins.edges[0] == 0.5 - 1e-6 and bins.edges[-1] == 9 + 1e-6
    assert bins.edges[1:-1].tolist() == [1.75, 2.5, 3.25]


def test_classes_of_the_balanced_sampler():
    assert sampler_class(np.array([0, 0, 3, 3]), np.array([True, False, True, False])).tolist() == [0, 1, 6, 7]


@pytest.mark.parametrize(
    ("time", "event", "code", "says"),
    [
        ([1, 2, 3], [0, 0, 0], "all_censored", "All 3 patients of fold 2 are censored"),
        ([1, 1, 2, 3, 9], [1, 1, 1, 1, 0], "too_few_event_times", "have 3 distinct times; 4 intervals need"),
        ([1, 2, 2, 2, 2, 2, 3, 4], [1] * 8, "intervals_tied", "have the same time"),
        ([1, np.nan], [1, 1], "bad_outcomes", "1 rows have no finite time"),
        ([1, 2], [1, 3], "bad_outcomes", "other than 0 and 1"),
    ],
)
def test_data_of_which_no_intervals_can_be_made(time, event, code, says):
    with pytest.raises(MicaError, match=says) as caught:
        make_bins(np.array(time, float), np.array(event), where="fold 2")
    assert (caught.value.code, caught.value.where) == (code, "fold 2")
    assert caught.value.sentence.endswith(".") and caught.value.hint.endswith(".")
