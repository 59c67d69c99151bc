"""A small HEX learns what is in the tiles, for patients that it never saw; can be stopped, and goes on where it was."""

import numpy as np
import pytest
import torch

from ml.hex.baselines import baselines
from ml.hex.data import resize
from ml.hex.evaluate import evaluate
from ml.hex.train import fit
from ml.training.loop import Cancelled

MARKERS = ("nuclei", "eosin", "free matrix")


def test_it_beats_the_slide_mean_within_held_out_slides(toy_fit):
    for figure, row in zip(toy_fit.figures, toy_fit.card):
        assert figure.r_within > 0.8 and figure.r2_within > 0.3, figure
        assert figure.patients == 6 and not row.locked
        assert figure.r_within_lower <= figure.r_within <= figure.r_within_upper


def test_it_beats_nuclear_density_where_counting_is_not_enough(toy, toy_fit):
    labels = toy_fit.weights.scale.apply(toy.labels)
    density = evaluate(
        baselines(toy.images, labels, toy.patients, toy.slides, toy_fit.fold_of)["nuclear density"],
        labels,
        toy.slides,
        toy.patients,
        MARKERS,
    )
    assert all(mine.r_within > other.r_within for mine, other in zip(toy_fit.figures, density))


def test_labels_of_a_held_out_patient_do_not_reach_her_prediction(toy, toy_config, toy_fit):
    """Her labels are exchanged for others of the same values: predictions of all patients in her fold stay exactly the same."""
    patients = np.array(toy.patients)
    hers = np.flatnonzero(patients == "P0")
    labels = toy.labels.copy()
    labels[hers] = labels[hers[::-1]]
    again = fit(toy.images, labels, toy.patients, toy.slides, MARKERS, toy_config)
    same_fold = np.array([again.fold_of[p] == again.fold_of["P0"] for p in patients])
    np.testing.assert_array_equal(again.held_out[same_fold], toy_fit.held_out[same_fold])
    assert np.abs(again.held_out[~same_fold] - toy_fit.held_out[~same_fold]).max() > 1e-3


def test_the_record_says_what_was_done(toy_fit):
    metrics = toy_fit.metrics()
    assert [f["stopped_by"] for f in metrics["folds"]] == ["steps", "steps"] and all(
        f["patients"] == 3 and f["tiles"] == 144 for f in metrics["folds"]
    )
    assert {m["marker"] for m in metrics["markers"]} == set(MARKERS) and metrics["median_r_within"] > 0.8
    assert toy_fit.held_out.dtype == np.float32 and toy_fit.held_out.min() >= 0


def test_progress_rises_to_one_and_the_callers_random_state_is_left_alone(toy, toy_config):
    torch.manual_seed(5)
    before, heard = torch.get_rng_state(), []
    config = toy_config.model_copy(update={"epochs": 0.25})
    fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config, progress=lambda fraction, text: heard.append((fraction, text)))
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and heard[0][1].startswith("Fold 1 of 2: step ")
    assert torch.equal(torch.get_rng_state(), before)


def test_stopped_between_folds_it_goes_on_and_gives_the_same(toy, toy_config, tmp_path):
    config = toy_config.model_copy(update={"epochs": 0.5})
    arguments = (toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config)
    whole = fit(*arguments)
    texts = []
    with pytest.raises(Cancelled):
        fit(
            *arguments, progress=lambda _, text: texts.append(text), checkpoint_dir=tmp_path, stop=lambda: any("Fold 2" in t for t in texts)
        )
    assert [p.name for p in tmp_path.iterdir()] == ["fold0.safetensors"]
    texts.clear()
    resumed = fit(*arguments, progress=lambda _, text: texts.append(text), checkpoint_dir=tmp_path)
    assert not any("Fold 1" in t for t in texts) and any("Fold 2" in t for t in texts)
    np.testing.assert_allclose(resumed.held_out, whole.held_out, atol=1e-6)
    fit(*arguments[:-1], config.model_copy(update={"lr": 1e-4}), progress=lambda _, text: texts.append(text), checkpoint_dir=tmp_path)
    assert any("Fold 1" in t for t in texts), "a fold of another config must not be taken for this one's"


def test_tiles_of_any_size_are_brought_to_the_encoders(toy, toy_config):
    large = resize(toy.images[:96], 112)
    fitted = fit(large, toy.labels[:96], toy.patients[:96], toy.slides[:96], MARKERS, toy_config.model_copy(update={"epochs": 0.5}))
    assert fitted.held_out.shape == (96, 3)
