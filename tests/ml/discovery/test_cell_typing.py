"""The linear probe of cell types: scikit-learn's coefficients, a split by patient, F1 with a bootstrap of patients."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from ml.discovery.cell_typing import fit_cell_types
from ml.discovery.config import CellTypingConfig
from ml.discovery.errors import DiscoveryError
from ml.discovery.scores import f1_scores

QUICK = CellTypingConfig(bootstrap=200)


def cells(kinds=("B", "T", "tumour"), n=600, seed=0):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, len(kinds), n)
    tokens = (np.eye(len(kinds), 6)[code] * 2 + rng.normal(size=(n, 6))).astype(np.float32)
    return tokens, np.array(kinds)[code], np.array([f"p{i}" for i in rng.integers(0, 10, n)])


@pytest.mark.parametrize("kinds", [("B", "T", "tumour"), ("B", "T")])
def test_the_probe_is_scikit_learns_on_the_patients_that_are_not_held_out(kinds):
    tokens, labels, patients = cells(kinds)
    found = fit_cell_types(tokens, labels, patients, QUICK)
    assert len(found.held_out) == 2 and set(found.held_out) | set(found.fitted) == set(patients) and found.converged
    out = np.isin(patients, found.held_out)
    theirs = LogisticRegression(max_iter=1000).fit(tokens[~out].astype(np.float64), labels[~out])
    np.testing.assert_allclose(found.typer.probabilities(tokens), theirs.predict_proba(tokens.astype(np.float64)), atol=1e-9)
    called = found.typer.predict(tokens[out])
    np.testing.assert_allclose(found.scores.f1, f1_score(labels[out], called, average=None))
    assert found.scores.macro[0] == pytest.approx(f1_score(labels[out], called, average="macro"))
    assert found.scores.cells.sum() == out.sum()


def test_scaling_is_an_option_that_is_learned_on_the_fitted_patients():
    tokens, labels, patients = cells()
    tokens[:, 0] *= 1000
    scaled = fit_cell_types(tokens, labels, patients, QUICK.model_copy(update={"scaling": "standard"}))
    out = np.isin(patients, scaled.held_out)
    np.testing.assert_allclose(scaled.typer.scale, tokens[~out].std(axis=0), rtol=1e-4)
    plain = fit_cell_types(tokens, labels, patients, QUICK)
    assert (plain.typer.scale == 1).all() and (plain.typer.mean == 0).all()


def test_a_split_kept_elsewhere_is_used_and_an_end_without_convergence_is_said():
    tokens, labels, patients = cells()
    found = fit_cell_types(tokens, labels, patients, QUICK.model_copy(update={"iterations": 1}), held_out=("p3", "p7"))
    assert found.held_out == ("p3", "p7") and not found.converged


def test_a_class_that_only_held_out_patients_have_counts_as_0_and_is_named():
    tokens, labels, patients = cells()
    labels = np.where((patients == "p1") & (labels == "B"), "NK", labels)
    found = fit_cell_types(tokens, labels, patients, QUICK, held_out=("p1",))
    assert found.only_held_out == ("NK",)
    assert found.scores.f1[found.scores.classes.index("NK")] == 0


def test_intervals_draw_patients_not_cells():
    """One patient is called wholly right, another wholly wrong: the interval reaches from one to the other, whatever the cells."""
    truth = np.array(["a", "b"] * 400)
    who = np.repeat(["ada", "eva"], 400)
    called = np.where(who == "ada", truth, np.where(truth == "a", "b", "a"))
    scores = f1_scores(truth, called, who, 300, 0)
    assert scores.macro == (0.5, 0.0, 1.0) and scores.patients == 2
    alone = f1_scores(truth, called, ["ada"] * 800, 300, 0)
    assert alone.macro[0] == 0.5 and np.isnan(alone.macro[1:]).all() and np.isnan(alone.lower).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t, y, p: (t[:0], y[:0], p[:0]), "empty"),
        (lambda t, y, p: (t * np.nan, y, p), "not_finite"),
        (lambda t, y, p: (t, y[:-1], p), "wrong_length"),
        (lambda t, y, p: (t, y, ["one"] * len(p)), "too_few_patients"),
        (lambda t, y, p: (t, ["B"] * len(y), p), "single_class"),
    ],
)
def test_cells_that_no_probe_can_be_fitted_on_are_refused(change, code):
    with pytest.raises(DiscoveryError) as refused:
        fit_cell_types(*change(*cells(n=60)), QUICK)
    assert refused.value.code == code


@pytest.mark.parametrize("held", [(), ("nobody",), tuple(f"p{i}" for i in range(10))])
def test_a_split_that_leaves_nothing_is_refused(held):
    with pytest.raises(DiscoveryError) as refused:
        fit_cell_types(*cells(), QUICK, held_out=held)
    assert refused.value.code == "too_few_patients"


def test_tokens_of_another_width_are_refused():
    with pytest.raises(DiscoveryError) as refused:
        fit_cell_types(*cells(), QUICK).typer.predict(np.zeros((1, 3)))
    assert refused.value.code == "wrong_width"
