"""Biomarkers: the paper's estimate is inflated on noise, the nested one is not; a planted signal is found; p is valid and resumable."""

import numpy as np
import pytest

from ml.discovery import biomarkers
from ml.discovery.biomarkers import Null, discover, least_of_a_class, nested, permute, printed, select
from ml.discovery.config import BiomarkerConfig
from ml.discovery.errors import Cancelled, DiscoveryError
from ml.discovery.fingerprints import tertiles
from ml.discovery.screen import stratified_folds

QUICK = BiomarkerConfig(screen_repeats=2, joint_repeats=2, outer_repeats=1, permutations=19)


def cohort(n, m, seed, planted=0.0):
    """Shares of m clusters in n patients, half of them absent; cluster 0 is commoner in responders by `planted`, cluster 1 rarer."""
    rng = np.random.default_rng(seed)
    response = rng.permutation(np.arange(n) % 2 == 0)
    share = np.where(rng.random((n, m)) < 0.5, rng.random((n, m)) * 0.02, 0)
    share[:, 0] += planted * response * rng.random(n)
    share[:, 1] += planted * ~response * rng.random(n)
    return share, response, [f"patient {i}" for i in range(n)]


def test_on_noise_the_printed_estimate_is_inflated_and_the_nested_one_is_not():
    both = []
    for seed in range(6):
        noise = cohort(48, 120, seed)
        both.append((printed(*noise, QUICK)[1], nested(*noise, QUICK).auroc))
    inflated, honest = np.mean(both, axis=0)
    assert inflated > 0.7
    assert abs(honest - 0.5) < 0.08


def test_a_planted_pair_is_chosen_in_every_fold_and_has_a_small_p():
    share, response, patients = cohort(48, 60, 1, planted=0.5)
    found = discover(share, response, patients, QUICK)
    assert 0 in found.selection.columns[found.selection.direction == 1]
    assert 1 in found.selection.columns[found.selection.direction == -1]
    assert len(found.selection.columns) == 4
    assert found.nested.chosen[:2].tolist() == [1, 1] and found.nested.chosen[2:].max() < 1
    assert found.nested.auroc > 0.9 and found.printed > 0.9
    assert found.p == 1 / 20
    assert found.nested.out_of_fold[response].mean() > 0.7 and found.nested.out_of_fold[~response].mean() < 0.3
    assert all(note.endswith(".") for note in found.notes)


def test_p_is_valid_on_noise():
    """Under the null p is at most a in about a share a of cohorts: 20 cohorts, 9 shufflings, p <= 0.2 in 4 of them."""
    config = BiomarkerConfig(permutations=9, screen_repeats=1, joint_repeats=1, outer_repeats=1, folds=2, outer_folds=2)
    ps = []
    for seed in range(20):
        noise = cohort(20, 20, 100 + seed)
        ps.append(permute(*noise, config).p(nested(*noise, config).auroc))
    assert min(ps) >= 0.1
    assert sum(p <= 0.2 for p in ps) <= 8  # exceeded by chance in 1 of 100 such tests
    assert 0.35 < np.mean(ps) < 0.75


def test_p_counts_the_observed_cohort_among_the_shufflings():
    assert Null("", (0.5, 0.6, 0.7), (0, 0, 0)).p(0.6) == 3 / 4
    assert Null("", (0.5, 0.6, 0.7), (0, 0, 0)).p(0.9) == 1 / 4


def test_a_patients_own_outcome_never_enters_her_out_of_fold_probability(monkeypatch):
    """With folds that stay, turning the outcomes of one fold's patients leaves their own probabilities as they were."""
    share, response, patients = cohort(40, 30, 5, planted=0.1)
    outer = stratified_folds(patients, response, QUICK.outer_folds, 1, QUICK.seed)
    monkeypatch.setattr(biomarkers, "stratified_folds", lambda p, y, *rest: outer if len(p) == 40 else stratified_folds(p, y, *rest))
    before = nested(share, response, patients, QUICK)
    for held in outer:
        turned = nested(share, response ^ held, patients, QUICK)
        assert (turned.out_of_fold[held] == before.out_of_fold[held]).all()
        assert (turned.out_of_fold[~held] != before.out_of_fold[~held]).any()


def test_thresholds_are_learned_on_the_training_patients_only():
    share, response, patients = cohort(40, 30, 5, planted=0.1)
    seen = ~stratified_folds(patients, response, QUICK.outer_folds, 1, QUICK.seed)[0]
    chosen = select(share[seen], response[seen], [p for p, s in zip(patients, seen) if s], QUICK)
    np.testing.assert_array_equal(chosen.thresholds, tertiles(share[seen])[:, chosen.columns])


def test_shufflings_go_on_from_a_kept_state_and_give_the_same():
    noise = cohort(24, 12, 3)
    config = BiomarkerConfig(permutations=25, screen_repeats=1, joint_repeats=1, outer_repeats=1, folds=2, outer_folds=2)
    kept = []
    whole = permute(*noise, config, keep=kept.append)
    assert [len(state.nested) for state in kept] == [10, 20, 25]
    stopped = []
    with pytest.raises(Cancelled):
        permute(*noise, config, keep=stopped.append, stop=lambda: len(stopped) == 1)
    assert permute(*noise, config, stopped[-1]) == whole
    told = []
    assert permute(*noise, config, kept[1], progress=lambda share, doing: told.append(share)) == whole
    assert told == [0.8, 1.0]
    with pytest.raises(DiscoveryError) as refused:
        permute(*cohort(24, 12, 4), config, kept[0])
    assert refused.value.code == "state_of_other_input"


def test_the_same_seed_gives_the_same_figures_and_the_order_of_patients_does_not_matter():
    share, response, patients = cohort(30, 15, 8, planted=0.2)
    first = nested(share, response, patients, QUICK)
    order = np.random.default_rng(0).permutation(30)
    second = nested(share[order], response[order], [patients[i] for i in order], QUICK)
    assert first.auroc == pytest.approx(second.auroc, abs=1e-9)
    np.testing.assert_allclose(first.out_of_fold[order], second.out_of_fold, atol=1e-4)


def test_the_least_number_of_a_class_fills_every_inner_fold():
    for folds, outer in ((4, 4), (2, 3), (5, 2)):
        least = least_of_a_class(BiomarkerConfig(folds=folds, outer_folds=outer))
        assert least >= outer and least - -(-least // outer) >= folds
        assert least == outer or (least - 1) - -(-(least - 1) // outer) < folds


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s, y, p: (s, np.ones_like(y), p), "single_class"),
        (lambda s, y, p: (s, np.arange(len(y)) < 3, p), "too_few_patients"),
        (lambda s, y, p: (s, y.astype(int), p), "wrong_shape"),
        (lambda s, y, p: (s, y, [p[0]] * len(p)), "patient_twice"),
        (lambda s, y, p: (s * np.nan, y, p), "not_finite"),
        (lambda s, y, p: (s[:, :0], y, p), "empty"),
        (lambda s, y, p: (s + 2, y, p), "not_a_share"),
        (lambda s, y, p: (s * 0, y, p), "no_cluster_left"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_in_words(change, code):
    with pytest.raises(DiscoveryError) as refused:
        discover(*change(*cohort(16, 3, 0)), QUICK)
    assert refused.value.code == code and refused.value.sentence.endswith(".")


def test_shuffled_outcomes_without_any_direction_count_as_one_half():
    """Every patient has the same share, so no cluster separates anybody: nothing is refused half way through."""
    share = np.full((16, 2), 0.1)
    null = permute(share, np.arange(16) < 8, [f"p{i}" for i in range(16)], QUICK.model_copy(update={"permutations": 3}))
    assert null.nested == (0.5, 0.5, 0.5) and null.printed == (0.5, 0.5, 0.5)
