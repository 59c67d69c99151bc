"""What must hold of bags, outcomes and folds; each that does not is one sentence, before anything is computed."""

from dataclasses import replace

import numpy as np
import pytest

from ml.mica.cohort import make_cohort, shuffled
from ml.mica.data import Batches, MicaBag, MicaInputs, check_bags, scaling
from ml.mica.errors import MicaError
from ml.training.splits import SplitError
from ml.types import Outcomes


def changed(bag, **what):
    """The bag with another array, e.g. tiles[1, 2] = NaN."""
    return replace(bag, **what)


def with_nan(array):
    array = array.copy()
    array[1, 2] = np.nan
    return array


BAD_BAGS = {
    "features_not_finite": (lambda b: changed(b, tiles=with_nan(b.tiles)), "has 1 rows that are no numbers, the first is row 1"),
    "empty_bag": (lambda b: changed(b, tiles=b.tiles[:0]), "The H&E bag of S3 is empty"),
    "dims_differ": (lambda b: changed(b, tiles=b.tiles[:, :4]), "has 4 features where 6 were expected"),
    "bag_shape": (lambda b: changed(b, tiles=b.tiles[0]), "one vector per tile was expected"),
    "tiles_absent": (lambda b: changed(b, tiles=None), "has no H&E bag"),
    "codex_absent": (lambda b: changed(b, codex=None), "has no CODEX bag"),
    "panel_mismatch": (lambda b: changed(b, markers=("CD8", "CD31", "HLA-A")), "1 markers are absent and 1 are not known"),
    "encoder_differs": (lambda b: changed(b, codex_encoder="fixed-map-descriptors"), "not by toy map"),
    "slide_twice": (lambda b: changed(b, slide="S0"), "The slide S0 is there twice"),
}


@pytest.mark.parametrize("code", BAD_BAGS)
def test_a_bad_bag_is_named(few, brief, code):
    spoil, says = BAD_BAGS[code]
    bags = [spoil(bag) if bag.slide == "S3" else bag for bag in few.bags]
    with pytest.raises(MicaError, match=says) as caught:
        make_cohort(bags, few.outcomes, brief)
    assert caught.value.code == code and caught.value.sentence.endswith(".") and caught.value.hint.endswith(".") and caught.value.where


def test_a_token_that_is_no_number_is_named_too(few):
    with pytest.raises(MicaError, match="The CODEX bag of S0 has 1 rows"):
        check_bags([changed(few.bags[0], codex=with_nan(few.bags[0].codex))], "both")


def test_there_must_be_a_bag():
    with pytest.raises(MicaError, match="no bag"):
        check_bags([], "both")


def test_a_branch_that_is_not_read_is_not_asked_for(few):
    inputs, _ = check_bags([changed(b, codex=None, markers=()) for b in few.bags], "he")
    assert inputs == MicaInputs(6, None, (), "toy", "")
    inputs, _ = check_bags([changed(b, tiles=None) for b in few.bags], "codex")
    assert (inputs.tile_dim, inputs.codex_dim, inputs.encoder) == (None, 5, "")


def test_markers_in_another_order_are_put_in_order_by_name(few):
    first = few.bags[0]
    turned = changed(first, markers=first.markers[::-1], codex=first.codex[::-1])
    np.testing.assert_array_equal(turned.tokens(first.markers), first.codex)
    assert check_bags([turned], "both", check_bags([first], "both")[0])[1] == check_bags([first], "both")[1]


def test_bags_may_be_read_when_they_are_needed(few):
    lazy = [changed(b, tiles=lambda b=b: b.tiles) for b in few.bags]
    assert check_bags(lazy, "both") == check_bags(few.bags, "both")


def outcomes(few, **what):
    return replace(few.outcomes, **what)


def folds_of(few, held_out):
    return {p: int(held_out(i)) for i, p in enumerate(few.outcomes.patients)}


def test_outcomes_and_bags_must_be_of_the_same_patients(few, brief):
    o = few.outcomes
    with pytest.raises(MicaError, match=r"1 patients have an outcome and no bag, e\.g\. P0"):
        make_cohort(few.bags[1:], o, brief)
    with pytest.raises(MicaError, match=r"1 patients have bags and no outcome, e\.g\. P0"):
        make_cohort(few.bags, Outcomes(o.patients[1:], o.time[1:], o.event[1:], "OS"), brief)
    with pytest.raises(MicaError, match="A patient appears twice"):
        make_cohort(few.bags, outcomes(few, patients=("P1", *o.patients[1:])), brief)
    with pytest.raises(MicaError, match="no finite time"):
        make_cohort(few.bags, outcomes(few, time=o.time * np.nan), brief)


def test_outcomes_that_cannot_be_fitted(few, brief):
    o = few.outcomes
    with pytest.raises(MicaError, match="All 24 patients of the cohort are censored") as caught:
        make_cohort(few.bags, outcomes(few, event=np.zeros(24, bool)), brief)
    assert caught.value.code == "all_censored"
    with pytest.raises(MicaError, match="have 2 distinct times") as caught:
        make_cohort(few.bags, outcomes(few, time=np.where(np.arange(24) % 2, 5.0, 900.0)), brief)
    assert caught.value.code == "too_few_event_times"
    with pytest.raises(MicaError, match="Nobody of the fitting patients was followed beyond") as caught:
        make_cohort(few.bags, o, brief.model_copy(update={"horizon_days": 1e5}))
    assert caught.value.code == "horizon_beyond_follow_up"


def test_folds_that_cannot_be_fitted_or_measured(few, brief):
    event = few.outcomes.event
    censored = np.flatnonzero(~event)[:3]
    with pytest.raises(MicaError, match="All 3 patients that fold 2 holds out are censored") as caught:
        make_cohort(few.bags, few.outcomes, brief, folds_of(few, lambda i: i in censored))
    assert (caught.value.code, caught.value.where) == ("fold_all_censored", "fold 2")
    few_events = np.flatnonzero(event)[:3]
    with pytest.raises(MicaError, match="the patients that fold 1 is fitted on have 3 distinct times") as caught:
        make_cohort(few.bags, few.outcomes, brief, folds_of(few, lambda i: i in few_events))
    assert (caught.value.code, caught.value.where) == ("too_few_event_times", "the patients that fold 1 is fitted on")
    with pytest.raises(MicaError, match="in one fold"):
        make_cohort(few.bags, few.outcomes, brief, folds_of(few, lambda i: 0))
    with pytest.raises(MicaError, match="There is no patient in fold 1"):
        make_cohort(few.bags, few.outcomes, brief, folds_of(few, lambda i: 1 + i % 2))
    with pytest.raises(MicaError, match="23 patients are in no fold"):
        make_cohort(few.bags, few.outcomes, brief, {"P0": 0})
    with pytest.raises(SplitError, match="cannot be split into 5 folds"):
        make_cohort(
            few.bags[:4],
            Outcomes(("P0", "P1", "P2", "P3"), np.arange(1.0, 5) * 300, np.ones(4, bool), "OS"),
            brief.model_copy(update={"folds": 5}),
        )


def test_intervals_come_from_the_fitting_patients_alone_unless_asked_for(few, brief):
    cohort = make_cohort(few.bags, few.outcomes, brief)
    for k, bins in enumerate(cohort.bins):
        seen = cohort.fold != k
        assert bins.edges[-1] == pytest.approx(few.outcomes.time[seen].max() + 1e-6)
    whole = make_cohort(few.bags, few.outcomes, brief.model_copy(update={"bins_from": "whole_table"}))
    np.testing.assert_array_equal(whole.bins[0].edges, whole.bins[1].edges)


def test_outcomes_are_shuffled_within_folds(few, brief):
    cohort = make_cohort(few.bags, few.outcomes, brief)
    other = shuffled(cohort, brief, np.random.default_rng(0))
    assert (other.outcomes.time != few.outcomes.time).any()
    for k in range(2):
        rows = cohort.fold == k
        assert sorted(other.outcomes.time[rows]) == sorted(few.outcomes.time[rows])
        assert other.outcomes.event[rows].sum() == few.outcomes.event[rows].sum()


def batches(few, config, **changes):
    config = config.model_copy(update=changes)
    cohort = make_cohort(few.bags, few.outcomes, config)
    classes = np.repeat([0, 1], [20, 4])
    return Batches(cohort.bags, cohort.inputs, cohort.targets(0), classes, config, None, seed=1)


def test_each_epoch_sees_every_slide_once_in_an_order_of_its_own(few, brief):
    def first_values(epoch):
        return [float(tiles[0, 0]) for tiles, *_ in batches(few, brief)(epoch)]

    assert sorted(first_values(0)) == sorted(float(b.tiles[0, 0]) for b in few.bags)
    assert first_values(0) == first_values(0) != first_values(1)


def test_balanced_drawing_makes_rare_classes_as_frequent(few, brief):
    rare = {float(b.tiles[0, 0]) for b in few.bags[20:]}
    drawn = [float(t[0, 0]) in rare for epoch in range(20) for t, *_ in batches(few, brief, balanced_sampler=True)(epoch)]
    assert len(drawn) == 480 and 0.4 < np.mean(drawn) < 0.6


def test_tiles_may_be_drawn_anew(few, brief):
    bags = batches(few, brief, max_tiles=3)
    assert {len(tiles) for tiles, *_ in bags(0)} == {3}
    assert [t.tolist() for t, *_ in bags(0)] == [t.tolist() for t, *_ in bags(0)]


def test_scaling_is_over_all_tiles(few):
    inputs, _ = check_bags(few.bags, "both")
    mean, sd = scaling(few.bags, inputs).tiles
    every = np.concatenate([b.tiles for b in few.bags])
    np.testing.assert_allclose(mean.numpy(), every.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sd.numpy(), every.std(axis=0), rtol=1e-4)
    constant = [MicaBag("P", "S", np.full((3, 2), 7.0, np.float32))]
    assert scaling(constant, MicaInputs(2, None, (), "", "")).tiles[1].tolist() == [1, 1]
