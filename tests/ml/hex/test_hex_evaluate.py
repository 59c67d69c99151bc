"""Figures within slides, against plain loops and against predictions whose merit is known."""

import math

import numpy as np
import pytest

from ml.hex.baselines import cross_fit_ridge, nuclear_density, slide_mean
from ml.hex.evaluate import bootstrap_median, evaluate, predictability_card, slide_figures


@pytest.fixture
def tiles():
    """Four slides of three patients with their own levels; the second marker does not vary on slide s3."""
    rng = np.random.default_rng(0)
    slides = np.repeat(["s1", "s2", "s3", "s4"], [30, 40, 20, 25])
    patients = np.repeat(["p1", "p1", "p2", "p3"], [30, 40, 20, 25])
    labels = rng.random((115, 2)) + np.repeat([0.0, 1.0, 2.0, 3.0], [30, 40, 20, 25])[:, None]
    labels[slides == "s3", 1] = 2.0
    values = labels + rng.normal(0, 0.3, labels.shape) + 0.2
    order = rng.permutation(115)
    return values[order], labels[order], slides[order].tolist(), patients[order].tolist()


def test_figures_are_those_of_a_plain_loop(tiles):
    values, labels, slides, patients = tiles
    figures = slide_figures(values, labels, slides, patients)
    assert figures.slides == ("s1", "s2", "s3", "s4") and figures.patients == ("p1", "p1", "p2", "p3")
    for i, slide in enumerate(figures.slides):
        rows = np.array(slides) == slide
        for j in range(2):
            y, p = labels[rows, j], values[rows, j]
            if slide == "s3" and j == 1:
                assert math.isnan(figures.r[i, j]) and math.isnan(figures.r2[i, j])
                continue
            total = ((y - y.mean()) ** 2).sum()
            assert figures.r[i, j] == pytest.approx(np.corrcoef(y, p)[0, 1])
            assert figures.r2_raw[i, j] == pytest.approx(1 - ((y - p) ** 2).sum() / total)
            assert figures.r2[i, j] == pytest.approx(1 - ((y - y.mean() - p + p.mean()) ** 2).sum() / total)


def test_the_slide_mean_knows_nothing_within_slides_however_well_it_pools(tiles):
    _, labels, slides, patients = tiles
    first, _ = evaluate(slide_mean(labels, slides), labels, slides, patients, ("a", "b"))
    assert first.r_within == 0 and first.r2_within == pytest.approx(0) and first.r2_within_raw == pytest.approx(0)
    assert first.r_pooled > 0.9 and first.r_between == pytest.approx(1)


def test_an_error_of_level_costs_the_raw_figure_only(tiles):
    _, labels, slides, patients = tiles
    first, _ = evaluate(labels + 5, labels, slides, patients, ("a", "b"))
    assert first.r_within == pytest.approx(1) and first.r2_within == pytest.approx(1) and first.r2_within_raw < -10


def test_a_slide_of_few_tiles_is_not_counted():
    rng = np.random.default_rng(0)
    slides = ["long"] * 12 + ["short"] * 9
    figure = evaluate(rng.random((21, 1)), rng.random((21, 1)), slides, slides, ("a",))[0]
    assert (figure.slides, figure.patients) == (1, 1)


def test_the_bootstrap_redraws_patients_not_slides():
    one_patient = bootstrap_median(np.array([[0.1], [0.5], [0.9]]), ["p", "p", "p"])
    assert one_patient[0] == one_patient[1] == 0.5
    rng = np.random.default_rng(0)
    many = rng.normal(0.5, 0.1, (200, 1))
    lower, upper = bootstrap_median(many, [f"p{i}" for i in range(200)])
    error = 1.2533 * 0.1 / np.sqrt(200)
    assert float(upper[0] - lower[0]) == pytest.approx(2 * 1.96 * error, rel=0.25)
    assert lower[0] < np.median(many) < upper[0]


def test_a_marker_below_a_tenth_is_locked_and_says_why():
    rng = np.random.default_rng(1)
    labels = rng.random((400, 3))
    labels[:, 2] = 0.5
    values = np.stack([labels[:, 0] + rng.normal(0, 0.1, 400), rng.normal(0.5, 0.01, 400), rng.random(400)], axis=1)
    slides = [f"s{i % 4}" for i in range(400)]
    good, bad, constant = predictability_card(evaluate(values, labels, slides, slides, ("good", "bad", "constant")))
    assert not good.locked and good.reason == "" and good.patients == 4 and good.external_patients == 0
    assert bad.locked and "below 0.10" in bad.reason
    assert constant.locked and constant.patients == 0 and "varied on no" in constant.reason


def test_the_ridge_never_sees_whom_it_predicts():
    rng = np.random.default_rng(0)
    x, patients = rng.normal(size=(200, 3)), [f"p{i % 4}" for i in range(200)]
    folds = {"p0": 0, "p1": 1, "p2": 0, "p3": 1}
    labels = (x @ [1.0, -2, 0.5])[:, None]
    np.testing.assert_allclose(cross_fit_ridge(x, labels, patients, folds, penalty=1e-6), labels, atol=1e-4)
    own = np.array([folds[p] for p in patients])[:, None].astype(float)
    assert np.allclose(cross_fit_ridge(x, own, patients, folds), 1 - own)


def test_nuclear_density_follows_nuclei_more_than_eosin(toy):
    density = nuclear_density(toy.images)[:, None].repeat(2, axis=1)
    nuclei, eosin = evaluate(density, toy.labels[:, :2], toy.slides, toy.patients, ("nuclei", "eosin"))
    assert nuclei.r_within > 0.7 and nuclei.r_within > abs(eosin.r_within) + 0.2
