"""Masks hide exactly as many patches as their ratio says; symmetries are the eight of the square; channels are dropped, not doubled."""

import math

import numpy as np

from ml.virtues.augment import kept_channels, symmetry
from ml.virtues.masking import independent, marker, niche


def test_each_channel_has_its_own_ratio_and_exactly_its_ceiling():
    ratios = np.random.default_rng(3).uniform(0.6, 1.0, 5)
    mask = independent(np.random.default_rng(3), 5, (4, 6))
    assert mask.sum(axis=(1, 2)).tolist() == [math.ceil(r * 24) for r in ratios]
    whole = independent(np.random.default_rng(0), 3, (4, 4), (1.0, 1.0))
    assert whole.all() and not independent(np.random.default_rng(0), 3, (4, 4), (0.0, 0.0)).any()


def test_any_patch_may_be_hidden():
    often = np.mean([independent(np.random.default_rng(i), 1, (3, 3), (0.5, 0.5))[0] for i in range(600)], axis=0)
    assert np.abs(often - 5 / 9).max() < 0.08


def test_a_niche_is_the_same_in_all_channels_and_a_marker_is_whole():
    hidden = niche(np.random.default_rng(1), 4, (5, 5))
    assert (hidden == hidden[0]).all() and hidden[0].sum() >= math.ceil(0.6 * 25)
    one = marker(3, (2, 2), 1)
    assert one[1].all() and one.sum() == 4


def test_the_eight_symmetries_differ_and_keep_the_channels_apart():
    crop = np.arange(2 * 16, dtype=np.float32).reshape(2, 4, 4)
    turned = [symmetry(crop, which) for which in range(8)]
    assert len({one.tobytes() for one in turned}) == 8 and np.array_equal(turned[0], crop)
    assert all(np.array_equal(np.sort(one[0].ravel()), crop[0].ravel()) for one in turned)
    assert np.array_equal(turned[4], crop[:, :, ::-1])


def test_three_quarters_to_all_channels_are_kept_once_each():
    rng, counts = np.random.default_rng(0), set()
    for _ in range(200):
        chosen = kept_channels(rng, 8)
        assert len(set(chosen.tolist())) == len(chosen)
        counts.add(len(chosen))
    assert counts == {7, 8}, "ceil(f 8) with f in 0.75..1: six only at exactly 0.75"
