"""What neighbours' outcomes add to age and stage: found where it is, not found where it is not, and blind to the patient's own outcome."""

import numpy as np
import pytest

from ml.survival.data import SurvivalDataError
from ml.survival.kaplan_meier import kaplan_meier
from ml.survival.neighbour_value import curve_at, neighbour_value


def world(n=90, tells=2.0, seed=0):
    """Patients on a line; hazard rises along it by `tells`; age and stage say nothing of it. Neighbours: the nearest on the line."""
    rng = np.random.default_rng(seed)
    place = rng.standard_normal(n)
    time = rng.exponential(900 * np.exp(-tells * place))
    censored = rng.uniform(300, 2500, n)
    base = np.column_stack([rng.normal(65, 8, n), rng.integers(1, 4, n)])
    near = np.argsort(np.abs(place[:, None] - place[None, :]), axis=1)[:, 1:]
    return np.minimum(time, censored), time <= censored, np.zeros(n), base, near


def test_the_curves_at_once_are_those_of_kaplan_meier():
    rng = np.random.default_rng(1)
    time = rng.integers(1, 12, (20, 9)).astype(float)
    entry = np.minimum(rng.integers(0, 6, (20, 9)), time - 1).astype(float)
    event = rng.random((20, 9)) < 0.6
    for at in (0.5, 4.0, 11.0):
        found = curve_at(time, event, entry, at)
        expected = [float(kaplan_meier(t, e, entry=s).at([at]).survival[0]) for t, e, s in zip(time, event, entry)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_value_that_is_there_is_found_and_its_interval_leaves_zero_out():
    found = neighbour_value(*world(tells=2.0), k=30, draws=100)
    assert found.shown and found.gain > 0.1 and found.gain_lower > 0 and found.c_with > 0.7
    assert (found.n, found.k, found.draws) == (90, 30, 100)


def test_where_neighbours_tell_nothing_no_value_is_shown():
    shown = [neighbour_value(*world(n=60, tells=0.0, seed=seed), k=30, draws=60).shown for seed in range(4)]
    assert not any(shown), "without the two guards, one in five"


def test_a_patients_own_outcome_changes_nothing_that_predicts_her(monkeypatch):
    import ml.survival.neighbour_value as module

    seen = []
    monkeypatch.setattr(module, "_gain", lambda t, e, entry, alone, joint, *_: seen.append((alone, joint)))
    time, event, entry, base, near = world(n=40)
    neighbour_value(time, event, entry, base, near, k=30)
    other_time, other_event = time.copy(), event.copy()
    other_time[7], other_event[7] = 5.0, not event[7]
    neighbour_value(other_time, other_event, entry, base, near, k=30)
    (alone, joint), (other_alone, other_joint) = seen
    assert alone[7] == pytest.approx(other_alone[7], abs=1e-9) and joint[7] == pytest.approx(other_joint[7], abs=1e-9)
    assert np.abs(np.delete(joint, 7) - np.delete(other_joint, 7)).max() > 1e-3


def test_too_few_is_refused_with_a_sentence():
    time, event, entry, base, near = world(n=31)
    with pytest.raises(SurvivalDataError, match="it takes 32 patients"):
        neighbour_value(time, event, entry, base, near, k=30)
    time, event, entry, base, near = world(n=40)
    with pytest.raises(SurvivalDataError, match="10 events"):
        neighbour_value(time, np.zeros(40, bool), entry, base, near, k=30)
    with pytest.raises(SurvivalDataError, match="not herself"):
        neighbour_value(time, event, entry, base, [np.arange(40)] * 40, k=30)
