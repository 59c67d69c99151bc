"""From tiles to values: the right fold, one space of vectors, and a warning outside the range."""

import numpy as np
import pytest

from ml.hex.config import HexPredictConfig
from ml.hex.errors import HexDataError
from ml.hex.predict import infer, predict
from ml.hex.ranges import fit_range
from ml.training.splits import patient_hash


@pytest.fixture(scope="module")
def weights(saved):
    from ml.hex.checkpoint import load

    return load(saved)


def test_a_patient_is_predicted_by_the_fold_that_never_saw_her(weights, toy, toy_fit):
    for patient in ("P0", "P5"):
        rows = np.flatnonzero(np.array(toy.patients) == patient)
        fold = weights.fold_for(patient_hash(patient, "salt"))
        assert fold == toy_fit.fold_of[patient]
        np.testing.assert_allclose(predict(weights, toy.images[rows], fold)[1], toy_fit.held_out[rows], atol=1e-5)


def test_a_stranger_is_predicted_by_the_mean_of_all_folds(weights, toy):
    assert weights.fold_for(patient_hash("a stranger", "salt")) is None
    features, values = predict(weights, toy.images[:9])
    each = [predict(weights, toy.images[:9], k)[1] for k in range(2)]
    assert features.shape == (9, 128) and features.dtype == values.dtype == np.float32
    assert values.min() >= 0
    raw = np.mean(each, axis=0)
    np.testing.assert_allclose(values[raw > 0.1], raw[raw > 0.1], atol=1e-5)


def test_vectors_of_all_patients_are_of_one_space_unless_asked_otherwise(weights, toy):
    tiles = toy.images[:5]
    first = infer(weights, tiles, fold=0).features
    np.testing.assert_array_equal(infer(weights, tiles, fold=1).features, first)
    assert np.abs(infer(weights, tiles, fold=1, features_fold=1).features - first).max() > 1e-2


def test_the_size_of_the_batch_changes_nothing_and_more_views_little(weights, toy):
    whole = predict(weights, toy.images[:40])[1]
    np.testing.assert_allclose(predict(weights, toy.images[:40], config=HexPredictConfig(batch=7))[1], whole, atol=1e-5)
    views = predict(weights, toy.images[:40], config=HexPredictConfig(views=4))[1]
    assert 0 < np.abs(views - whole).max() < 0.5
    turned = predict(weights, toy.images[:40, ::-1], config=HexPredictConfig(views=4))[1]
    np.testing.assert_allclose(turned, views, atol=1e-4)


@pytest.mark.parametrize(("fold", "images"), [(2, np.zeros((1, 64, 64, 3), np.uint8)), (None, np.zeros((64, 64, 3), np.uint8))])
def test_what_cannot_be_predicted_is_refused(weights, fold, images):
    with pytest.raises(HexDataError):
        predict(weights, images, fold)


def test_tiles_of_another_world_are_out_of_range(weights, toy):
    rng = np.random.default_rng(0)
    inside = infer(weights, toy.images).out_of_range
    noise = rng.integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
    black, green = np.zeros((3, 64, 64, 3), np.uint8), np.full((3, 64, 64, 3), (40, 200, 60), np.uint8)
    assert np.median(inside) < 1
    for strange in (noise, black, green, 255 - toy.images[:20]):
        assert infer(weights, strange).out_of_range.min() > inside.max() > 1


def test_by_definition_one_in_a_hundred_fitting_tiles_is_above_one():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) * 7 + 3).astype(np.float32)
    fitted = fit_range(vectors)
    assert np.mean(fitted.distance(vectors) > 1) == pytest.approx(0.01, abs=0.001)
    covariance = np.cov(vectors.T)
    centred = vectors[:50] - vectors.mean(axis=0)
    exact = np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred))
    assert np.corrcoef(fitted.distance(vectors[:50]), exact)[0, 1] > 0.999
    few = fit_range(vectors[:4])
    assert np.isfinite(few.distance(vectors)).all()
