"""C within folds with its bootstrap, and paired differences; the matrices give what the concordance gives."""

import numpy as np
import pytest

from ml.mica.errors import MicaError
from ml.mica.evaluate import bootstrap_c, c_figures, compare
from ml.survival.concordance import concordance
from ml.types import Outcomes


def cohort(n, seed, entry=False):
    rng = np.random.default_rng(seed)
    time = rng.integers(2, 30, n).astype(float)
    return (
        Outcomes(tuple(f"P{i}" for i in range(n)), time, rng.random(n) < 0.6, "OS", rng.integers(0, 2, n) * 1.0 if entry else None),
        rng.integers(0, 3, n),
        np.round(rng.normal(0, 0.5, n) - time / 10, 1),
    )


@pytest.mark.parametrize("entry", [False, True])
def test_a_draw_is_the_concordance_of_the_patients_drawn(entry):
    outcomes, fold, risk = cohort(60, 1, entry)
    drawn = bootstrap_c(outcomes, fold, [risk], draws=20, seed=3)[0]
    rng = np.random.default_rng(3)
    for c, weight in zip(drawn, rng.multinomial(60, np.full(60, 1 / 60), size=20)):
        rows = np.repeat(np.arange(60), weight)
        late = None if outcomes.entry is None else outcomes.entry[rows]
        wanted = concordance(outcomes.time[rows], outcomes.event[rows], risk[rows], late, strata=fold[rows], merge=False)
        assert c == pytest.approx(wanted.c, rel=1e-12)


def test_only_pairs_of_one_fold_count():
    """Each fold orders its patients perfectly, on a level that is all wrong against the other's."""
    outcomes = Outcomes(tuple("abcdef"), np.array([1.0, 2, 3, 4, 5, 6]), np.ones(6, bool), "OS")
    figures = c_figures("x", outcomes, np.array([0, 0, 0, 1, 1, 1]), np.array([-1.0, -2, -3, 9, 8, 7]))
    assert figures.c == 1 and figures.c_by_fold == (1, 1) and figures.c_pooled == pytest.approx(6 / 15)
    assert (figures.n, figures.events, figures.lower, figures.upper) == (6, 6, 1, 1)


def test_a_paired_difference_is_narrower_than_of_two_cohorts():
    outcomes, fold, risk = cohort(200, 2)
    worse = risk + np.random.default_rng(0).normal(0, 0.8, 200)
    fold_of = dict(zip(outcomes.patients, fold.tolist()))
    table = compare(outcomes, fold_of, {"a": risk, "b": dict(zip(outcomes.patients, worse))}, draws=300)
    (d,) = table.differences
    assert (d.name, d.against) == ("b", "a") and d.lower < d.difference < d.upper and d.upper < 0
    unpaired = np.hypot(*(row.upper - row.lower for row in table.rows))
    assert d.upper - d.lower < 0.9 * unpaired
    assert compare(outcomes, fold_of, {"a": risk, "b": worse}, against="b", draws=300).differences[0].difference == -d.difference


def test_patients_without_a_risk_are_not_left_out_silently():
    outcomes, fold, risk = cohort(30, 4)
    fold_of = dict(zip(outcomes.patients, fold.tolist()))
    with pytest.raises(MicaError, match="1 patients have no risk by b"):
        compare(outcomes, fold_of, {"a": risk, "b": dict(zip(outcomes.patients[1:], risk[1:]))})


def test_nothing_to_order_is_said():
    outcomes = Outcomes(("a", "b"), np.array([1.0, 2.0]), np.array([False, False]), "OS")
    with pytest.raises(MicaError) as caught:
        c_figures("x", outcomes, np.zeros(2, int), np.zeros(2))
    assert caught.value.code == "no_pairs" and caught.value.sentence.endswith(".")
