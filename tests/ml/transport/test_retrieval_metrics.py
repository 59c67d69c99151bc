"""The figures of a retrieval, each against a plain count or a library, and with the patient's own tissues left out."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cosine

from ml.transport import metrics
from ml.transport.errors import TransportError
from ml.transport.metrics import (
    against_random,
    chance_precision,
    histogram_distance,
    histograms,
    majority_accuracy,
    mcnemar,
    mean_cosine,
    mean_precision,
    nearest,
    patient_bootstrap,
    precision_per_query,
    proportion_gap,
    random_ranking,
    same_site,
    sliced_wasserstein2,
    true_distance_agreement,
    without_own,
)
from ml.transport.wasserstein import wasserstein2

PATIENTS = ("p1", "p1", "p2", "p3", "p4")
LABELS = ("a", "a", "a", "b", None)


def ranking():
    """Five tissues asked of themselves; on a line at 0, 1, 2, 4, 8."""
    place = np.array([0.0, 1, 2, 4, 8])
    return without_own(np.abs(place[:, None] - place[None, :]), PATIENTS, PATIENTS)


def test_the_own_patients_tissues_are_left_out():
    found = nearest(ranking(), 4)
    assert found[0].tolist() == [2, 3, 4, -1] and found[1].tolist() == [2, 3, 4, -1]
    assert found[2].tolist() == [1, 0, 3, 4]


def test_ties_go_to_the_first_and_fewer_candidates_are_marked():
    assert nearest(np.array([[1.0, 0.0, 1.0, np.nan]]), 5).tolist() == [[1, 0, 2, -1, -1]]


def test_precision_counts_labelled_tissues_only():
    found = precision_per_query(ranking(), LABELS, LABELS, 2)
    # query 0: tissues 2 (a), 3 (b); 2: 1, 0 (a, a); 3: 2, 1 (a, a); 4 has no label
    assert found[:4].tolist() == [0.5, 0.5, 1.0, 0.0] and np.isnan(found[4])
    told = mean_precision(ranking(), LABELS, LABELS, PATIENTS, k=2)
    assert told.value == pytest.approx(0.5) and told.n == 4 and told.low <= told.value <= told.high
    assert chance_precision(ranking(), LABELS, LABELS)[:4].tolist() == [0.5, 0.5, pytest.approx(2 / 3), 0.0]


def test_precision_of_random_orders_is_chance_on_average():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 60, p=[0.5, 0.3, 0.2]).tolist()
    patients = [str(i // 2) for i in range(60)]
    base = without_own(rng.random((60, 60)), patients, patients)
    drawn = [np.nanmean(precision_per_query(random_ranking(base, s), labels, labels, 3)) for s in range(60)]
    assert np.mean(drawn) == pytest.approx(np.nanmean(chance_precision(base, labels, labels)), abs=0.01)
    assert np.isnan(random_ranking(base, 0)[0, :2]).all()


def test_the_interval_redraws_patients_not_tissues():
    values = np.repeat([0.0, 1.0], 50)
    two = patient_bootstrap(values, ["a"] * 50 + ["b"] * 50)
    assert two == (0.0, 1.0)  # two patients: anything is possible
    many = patient_bootstrap(values, [str(i) for i in range(100)])
    assert 0.35 < many[0] < 0.5 < many[1] < 0.65
    assert np.isnan(patient_bootstrap(np.full(3, np.nan), ["a", "b", "c"])).all()


def test_mcnemar_is_the_printed_formula():
    one, two = np.array([1] * 30 + [0] * 10 + [1] * 5, bool), np.array([0] * 30 + [1] * 10 + [1] * 5, bool)
    told = mcnemar(one, two)
    assert (told.only_first, told.only_second, told.chi2) == (30, 10, 10.0)
    assert told.p == pytest.approx(stats.chi2.sf(10, 1))
    assert (mcnemar(one, one).chi2, mcnemar(one, one).p) == (0.0, 1.0)


def test_a_good_retrieval_differs_from_three_random_draws_and_a_random_one_does_not():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 12, 120).tolist()
    patients = [str(i) for i in range(120)]
    place = np.array(labels) + rng.normal(size=120) * 0.1
    good = without_own(np.abs(place[:, None] - place[None, :]), patients, patients)
    told = against_random(good, labels, labels)
    assert len(told) == 3 and all(t.p < 1e-6 for t in told)
    assert told == against_random(good, labels, labels) and len({t.only_first for t in told} | {t.only_second for t in told}) > 1
    assert min(t.p for t in against_random(random_ranking(good, 99), labels, labels)) > 0.01


def test_the_majority_of_k_decides_and_the_nearest_breaks_ties():
    row = without_own(np.array([[0, 1.0, 2, 3, 4]]), ["q"], ["q", "1", "2", "3", "4"])
    of = lambda k, labels: majority_accuracy(row, ["a"], labels, ["q"], k=k)["a"].value  # noqa: E731
    assert of(3, ["-", "a", "b", "b", "a"]) == 0 and of(4, ["-", "a", "b", "b", "a"]) == 1
    assert of(2, ["-", "b", "a", "a", "a"]) == 0
    told = majority_accuracy(ranking(), LABELS, LABELS, PATIENTS, k=1)
    assert (told["a"].value, told["a"].n, told["b"].value) == (1.0, 3, 0.0) and None not in told


def test_the_share_of_the_own_site_stands_beside_its_own_chance():
    sites = ["x", "x", "x", "y", "y"]
    told = same_site(ranking(), sites, sites, PATIENTS, k=2)
    # candidates from the own site: 1 of 3, 1 of 3, 2 of 4, 1 of 4, 1 of 4; among the two nearest: 1, 1, 2, 0, 1 of 2
    assert told.chance.per_query.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2, 1 / 4, 1 / 4])
    assert told.share.per_query.tolist() == pytest.approx([0.5, 0.5, 1.0, 0.0, 0.5])
    assert told.excess.value == pytest.approx(told.share.value - told.chance.value)


def test_proportions_are_compared_with_the_best_match():
    kinds = np.array([[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0.2, 0.8]])
    told = proportion_gap(ranking(), kinds, kinds, PATIENTS)
    assert told.per_query.tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.4])
    alone = without_own(np.zeros((1, 1)), ["p"], ["p"])
    assert np.isnan(proportion_gap(alone, kinds[:1], kinds[:1], ["p"]).value)


def test_sliced_distances_bound_the_distance_from_below_and_find_a_shift():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(50, 3)) + 1
    told = sliced_wasserstein2(x, y, projections=500)
    assert 0 < told <= wasserstein2(x, np.full(40, 1 / 40), y, np.full(50, 1 / 50))
    assert sliced_wasserstein2(x, x + [2, 0, 0], projections=2000) == pytest.approx(2 / np.sqrt(3), rel=0.03)
    assert sliced_wasserstein2(x, y, 16, seed=1) == sliced_wasserstein2(x, y, 16, seed=1) != sliced_wasserstein2(x, y, 16, seed=2)
    with pytest.raises(TransportError) as refused:
        sliced_wasserstein2(x, y[:, :2])
    assert refused.value.code == "shape"


def test_agreement_is_spearman_per_query():
    rng = np.random.default_rng(3)
    base = without_own(rng.random((8, 8)).round(1), [str(i // 2) for i in range(8)], [str(i // 2) for i in range(8)])
    true = rng.random((8, 8)).round(1)
    told = true_distance_agreement(base, true, [str(i // 2) for i in range(8)])
    for q in range(8):
        there = ~np.isnan(base[q])
        assert told.per_query[q] == pytest.approx(stats.spearmanr(base[q][there], true[q][there]).statistic)
    assert true_distance_agreement(base, np.ones((8, 8)), ["p"] * 8).n == 0
    assert true_distance_agreement(base, np.where(np.isnan(base), 0, base), ["p"] * 8).value == pytest.approx(1)


def test_baselines_are_what_their_names_say():
    rng = np.random.default_rng(4)
    sets = [(rng.normal(size=(k, 3)), rng.dirichlet(np.ones(k))) for k in (4, 5)]
    found = mean_cosine(sets[:1], sets)
    assert found[0] == pytest.approx([0, cosine(sets[0][1] @ sets[0][0], sets[1][1] @ sets[1][0])], abs=1e-12)
    pixels = [np.array([[0.1, 5.0], [0.6, -1.0]]), np.array([[0.1, 0.9], [0.2, 0.9]])]
    bars = histograms(pixels, [0, 0.5, 1])
    assert bars.tolist() == [[0.5, 0.5, 0.5, 0.5], [1, 0, 0, 1]]
    assert histogram_distance(bars, bars).tolist() == [[0, 2], [2, 0]]


def test_distances_that_fit_nothing_are_refused():
    for distances, code in ((np.zeros((2, 2)), "shape"), (np.full((1, 2), np.inf), "not_finite")):
        with pytest.raises(TransportError) as refused:
            without_own(distances, ["a"], ["b", "c"])
        assert refused.value.code == code
    assert metrics.nearest(np.full((1, 2), np.nan), 1).tolist() == [[-1]]
