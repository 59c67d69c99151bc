"""Splits are by patient, balanced, and the same everywhere; weights remember whom they saw by hash."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.training.splits import SplitError, fold_without, membership, patient_folds, patient_hash, split_of

names = st.lists(st.text(min_size=1, max_size=8), min_size=5, max_size=60, unique=True)


@given(names, st.integers(2, 5), st.integers(0, 99), st.randoms(use_true_random=False))
def test_folds_are_balanced_and_do_not_depend_on_order_or_repeats(patients, k, seed, random):
    folds = patient_folds(patients, k, seed)
    again = patients * 2
    random.shuffle(again)
    assert patient_folds(again, k, seed) == folds
    sizes = Counter(folds.values())
    assert set(folds) == set(patients) and len(sizes) == k and max(sizes.values()) - min(sizes.values()) <= 1


@given(names, st.integers(2, 5))
def test_the_folds_hold_out_each_patient_once(patients, k):
    folds = patient_folds(patients, k, 0)
    splits = [split_of(folds, fold) for fold in range(k)]
    assert sorted(p for s in splits for p in s.held_out) == sorted(patients)
    assert all(sorted(s.fit + s.held_out) == sorted(patients) and not set(s.fit) & set(s.held_out) for s in splits)


def test_each_fold_gets_its_share_of_each_site():
    sites = {f"p{i}": "A" if i < 9 else "B" for i in range(20)}
    folds = patient_folds(sites, 2, 0, strata=sites)
    for site, most in (("A", 5), ("B", 6)):
        sizes = Counter(folds[p] for p in sites if sites[p] == site)
        assert max(sizes.values()) - min(sizes.values()) <= 1 and max(sizes.values()) <= most


def test_another_seed_is_another_split():
    patients = [f"p{i}" for i in range(40)]
    assert patient_folds(patients, 2, 0) != patient_folds(patients, 2, 1)


def test_a_split_that_holds_nobody_out_is_refused():
    with pytest.raises(SplitError) as caught:
        patient_folds(["a", "b", "c"], 1, 0)
    assert caught.value.code == "folds_too_few"
    with pytest.raises(SplitError, match="2 patients cannot be split into 3 folds"):
        patient_folds(["a", "b", "b"], 3, 0)


def test_a_hash_is_64_hex_digits_that_depend_on_code_and_salt():
    assert len(patient_hash("p1", "salt")) == 64 and int(patient_hash("p1", "salt"), 16)
    assert len({patient_hash("p1", "salt"), patient_hash("p2", "salt"), patient_hash("p1", "other")}) == 3


def test_the_fold_that_may_predict_a_patient():
    folds = patient_folds([f"p{i}" for i in range(7)], 2, 0)
    lists = membership(folds, "salt")
    for patient, fold in folds.items():
        assert fold_without(patient_hash(patient, "salt"), lists) == fold
    assert fold_without(patient_hash("a stranger", "salt"), lists) is None
    with pytest.raises(SplitError) as caught:
        fold_without("seen", [["seen"], ["seen", "other"]])
    assert caught.value.code == "in_sample"
