"""Signatures: found in a new cohort, ranked by stated thresholds, and a risk score whose groups leave no gap."""

import numpy as np
import pytest

from ml.discovery.config import SignatureConfig
from ml.discovery.errors import DiscoveryError
from ml.discovery.signatures import Signature, apply_signatures, fit_signatures, risk_group
from ml.types import Outcomes

# Two signatures that everybody has some cells of reach R = -2 to 2; the paper's four reach -4 to 4.
QUICK = SignatureConfig(trees=15, depth=6, high_above=1.0)


def cohort(patients, cells, seed):
    """Cells of three kinds in 8 columns; a patient's level (0..1) sets how many are of kind 1 and, the other way, of kind 2."""
    rng = np.random.default_rng(seed)
    level = np.linspace(0.05, 0.95, patients)
    kind = np.concatenate([rng.choice(3, cells, p=(0.6, 0.4 * v, 0.4 * (1 - v))) for v in level])
    tokens = (np.eye(3, 8)[kind] * 4 + rng.normal(size=(len(kind), 8))).astype(np.float32)
    return tokens, np.repeat([f"p{i:02d}" for i in range(patients)], cells), kind, level


@pytest.fixture(scope="module")
def carried():
    tokens, patients, kind, _ = cohort(15, 60, 0)
    signatures = [Signature("with response", 1, kind == 1), Signature("against it", -1, kind == 2)]
    return fit_signatures(tokens, patients, signatures, QUICK)


def test_forests_find_the_cells_of_patients_they_never_saw(carried):
    for held in carried.held_out:
        assert len(held.patients) == 3 and held.members > 10
        assert held.recall > 0.8 and held.precision > 0.6 and 0.7 < held.f1 <= 1


def test_a_new_cohort_is_ranked_and_scored(carried):
    tokens, patients, kind, level = cohort(12, 80, 1)
    scores = apply_signatures(carried, tokens, patients, QUICK)
    truth = np.array([[np.mean(kind[patients == p] == k) for k in (1, 2)] for p in scores.patients])
    assert np.abs(scores.shares - truth).max() < 0.12
    assert set(scores.ranks.ravel().tolist()) <= {0, 1, 2, 3}
    assert (scores.r == scores.ranks[:, 0].astype(int) - scores.ranks[:, 1]).all()
    assert (scores.risk == -scores.r).all()
    assert np.corrcoef(level, scores.r)[0, 1] > 0.8


def test_whose_thresholds_is_an_explicit_choice(carried):
    tokens, patients, _, _ = cohort(12, 80, 1)
    high_only = np.isin(patients, [f"p{i:02d}" for i in (9, 10, 11)])
    learned = apply_signatures(carried, tokens[high_only], patients[high_only], QUICK)
    own = apply_signatures(carried, tokens[high_only], patients[high_only], QUICK.model_copy(update={"thresholds": "new"}))
    assert learned.ranks[:, 0].tolist() == [3, 3, 3]
    assert sorted(own.ranks[:, 0].tolist()) == [1, 2, 3]


def test_the_sign_says_which_side_is_high_risk_and_every_score_has_a_group(carried):
    tokens, patients, _, _ = cohort(12, 80, 1)
    printed = apply_signatures(carried, tokens, patients, QUICK.model_copy(update={"sign": 1}))
    ours = apply_signatures(carried, tokens, patients, QUICK)
    assert (printed.risk == -ours.risk).all()
    assert ours.group[np.argmax(ours.r)] == "low" and printed.group[np.argmax(printed.r)] == "high"
    assert risk_group(np.arange(-6, 7), SignatureConfig()).tolist() == ["low"] * 5 + ["medium"] * 4 + ["high"] * 4


def test_survival_of_the_groups_is_by_the_houses_statistics(carried):
    tokens, patients, _, level = cohort(20, 60, 2)
    scores = apply_signatures(carried, tokens, patients, QUICK)
    time = 100 + 900 * level
    outcomes = Outcomes(scores.patients[1:], time[1:], np.ones(19, dtype=bool), "OS")
    survival = scores.survival(outcomes)
    assert survival.left_out == ("p00",)
    assert sum(curve.n for curve in survival.curves.values()) == 19
    assert survival.test.levels == ("low", "high") and survival.test.p < 0.01
    assert survival.c.concordant > 10 * survival.c.discordant
    with pytest.raises(DiscoveryError) as refused:
        scores.survival(Outcomes(("nobody",), time[:1], np.ones(1, dtype=bool), "OS"))
    assert refused.value.code == "no_outcome"


def test_groups_that_cannot_be_compared_have_curves_but_no_test(carried):
    tokens, patients, _, _ = cohort(12, 80, 1)
    scores = apply_signatures(carried, tokens, patients, QUICK.model_copy(update={"high_above": 100.0}))
    time = np.arange(1.0, 13.0)
    survival = scores.survival(Outcomes(scores.patients, time, time > 3, "OS"))
    assert survival.test is None and "high" not in survival.curves and survival.curves


def few(cells):
    return [Signature("s", 1, np.array(cells, dtype=bool))]


@pytest.mark.parametrize(
    ("signatures", "code"),
    [
        ([], "no_signature"),
        (few([0] * 8), "no_member"),
        (few([1] * 8), "no_other_cell"),
        (few([1] * 7), "wrong_length"),
        (few([1, 0] * 4) * 2, "name_twice"),
        ([Signature("s", 0, np.ones(8, dtype=bool))], "wrong_direction"),
    ],
)
def test_signatures_that_cannot_be_carried_are_refused(signatures, code):
    with pytest.raises(DiscoveryError) as refused:
        fit_signatures(np.zeros((8, 2), dtype=np.float32), ["a", "b"] * 4, signatures, QUICK)
    assert refused.value.code == code and refused.value.sentence.endswith(".")


def test_one_patient_no_cells_and_another_width_are_refused(carried):
    for call, code in (
        (lambda: fit_signatures(np.zeros((4, 2)), ["a"] * 4, few([1, 0, 1, 0]), QUICK), "too_few_patients"),
        (lambda: apply_signatures(carried, np.zeros((0, 8)), [], QUICK), "empty"),
        (lambda: apply_signatures(carried, np.full((1, 8), np.inf), ["a"], QUICK), "not_finite"),
        (lambda: apply_signatures(carried, np.zeros((1, 3)), ["a"], QUICK), "wrong_width"),
    ):
        with pytest.raises(DiscoveryError) as refused:
            call()
        assert refused.value.code == code


def test_thresholds_that_cross_are_refused():
    with pytest.raises(ValueError, match="both low and high"):
        SignatureConfig(low_below=3, high_above=2)
