"""A forest of arrays answers exactly as scikit-learn's, travels without a pickle, and a damaged one is refused."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from ml.discovery.errors import Cancelled, DiscoveryError
from ml.discovery.forest import Forest, balanced_rows, grow


@pytest.fixture(scope="module")
def grown():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    labels = np.array(["a", "b", "c"])[(x[:, 0] > 0).astype(int) + (x[:, 1] + rng.normal(size=300) > 0.5)]
    return x, labels, grow(x, labels, 12, 6, 4)


def test_it_answers_exactly_as_scikit_learn(grown):
    x, labels, forest = grown
    theirs = RandomForestClassifier(12, max_depth=6, random_state=4).fit(x, labels)
    new = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    np.testing.assert_allclose(forest.probabilities(new), theirs.predict_proba(new), rtol=0, atol=1e-12)
    assert (forest.predict(new) == theirs.predict(new)).all()


def test_it_comes_back_from_its_arrays(grown):
    x, _, forest = grown
    back = Forest.from_arrays(forest.classes, forest.width, forest.arrays())
    assert (back.probabilities(x) == forest.probabilities(x)).all()


@pytest.mark.parametrize("part", ["roots", "left", "right", "feature", "threshold", "share"])
def test_damaged_arrays_are_refused(grown, part):
    _, _, forest = grown
    whole = forest.arrays()
    shortened = {**whole, part: whole[part][:-1] if part != "roots" else whole[part][:0]}
    absent = {k: v for k, v in whole.items() if k != part}
    for arrays in (shortened, absent):
        with pytest.raises(DiscoveryError) as refused:
            Forest.from_arrays(forest.classes, forest.width, arrays)
        assert refused.value.code == "forest_damaged"


def test_arrays_that_would_walk_in_a_circle_or_out_of_the_tokens_are_refused(grown):
    _, _, forest = grown
    whole = forest.arrays()
    circle, outside = whole["right"].copy(), whole["feature"].copy()
    circle[forest.roots[0]] = forest.roots[0]
    outside[forest.roots[0]] = 6
    for arrays in ({**whole, "right": circle}, {**whole, "feature": outside}):
        with pytest.raises(DiscoveryError):
            Forest.from_arrays(forest.classes, forest.width, arrays)


def test_tokens_of_another_width_are_refused_and_a_stop_is_obeyed(grown):
    x, _, forest = grown
    with pytest.raises(DiscoveryError) as refused:
        forest.predict(x[:, :5])
    assert refused.value.code == "wrong_width"
    with pytest.raises(Cancelled):
        forest.predict(x, stop=lambda: True)


def test_rows_are_balanced_to_the_smallest_class_among_those_given():
    labels = np.array(["a"] * 50 + ["b"] * 9 + ["c"] * 30)
    rows = balanced_rows(labels, np.arange(5, 89), 0)
    assert dict(zip(*np.unique(labels[rows], return_counts=True))) == {"a": 9, "b": 9, "c": 9}
    assert rows.min() >= 5 and len(set(rows.tolist())) == 27
