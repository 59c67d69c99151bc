"""The published recipe, piece by piece, on a tissue small enough to train in a second."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.hex.checkpoint import load, save_fit
from ml.hex.config import HexFitConfig
from ml.hex.errors import CheckpointError, HexDataError
from ml.hex.predict import infer
from ml.hex.train import fit, fit_features
from ml.training.loop import Cancelled

MARKERS = ("nuclei", "eosin", "free matrix")
SMALL = {"markers": MARKERS, "epochs": 4, "batch": 32, "folds": 2, "seed": 3}
SMOOTH = {"fds": True, "fds_start_smooth": 1, "fds_until": 3, "fds_start_update": 0}


def test_the_released_recipe_is_the_papers_where_the_default_is_ours():
    recipe, default = HexFitConfig.released(), HexFitConfig()
    assert (recipe.epochs, recipe.lr, recipe.lr_decay, recipe.head_only_from, recipe.trained_layers) == (120, 1e-5, 0.95, 100, 4)
    assert recipe.fds and recipe.loss == "adaptive" and (recipe.fds_start_smooth, recipe.fds_until, recipe.fds_bins) == (10, 50, 50)
    assert not default.fds and default.loss == "mse"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fds": True, "epochs": 6}, "never act"),
        ({"fds": True, "epochs": 20, "fds_kernel": 8}, "odd"),
        ({"fds": True, "epochs": 20, "label_scaling": "none"}, "label scaling"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        HexFitConfig(**changes)


@pytest.mark.parametrize("changes", [{"loss": "adaptive"}, SMOOTH, {"loss": "adaptive", **SMOOTH, "fds_covariance": "full"}])
def test_loss_and_smoothing_can_be_switched_and_still_learn(toy, changes):
    fitted = fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, HexFitConfig(**{**SMALL, **changes}))
    assert min(f.r_within for f in fitted.figures) > 0.6


def test_phases_schedule_and_unfrozen_blocks_do_what_they_say(toy):
    settings = {"optimiser": "adam", "schedule": "exponential", "targets": "scaled", "augmentation": "released", "lr": 3e-3, "clip": None}
    config = HexFitConfig(**{**SMALL, **settings, "epochs": 2, "trained_layers": 1, "head_only_from": 1})
    fitted = fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config)
    one, other = (f.model.encoder.state_dict() for f in fitted.weights.folds)
    torch.manual_seed(config.seed * 1009)
    from ml.hex.model import make

    fresh = make(config).encoder.state_dict()
    assert torch.equal(one["conv1.0.weight"], fresh["conv1.0.weight"]), "the first block is never trained"
    last = next(key for key in one if key.startswith("layer4") and key.endswith("conv1.weight"))
    assert not torch.equal(one[last], fresh[last]) and not torch.equal(one[last], other[last])


def test_an_encoder_that_is_not_trained_is_shared_kept_apart_and_predicts_the_same(toy, tmp_path):
    config = HexFitConfig(**{**SMALL, "encoder": "he-descriptors", "trained_layers": 0, "epochs": 60, "lr": 3e-3})
    fitted = fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config)
    assert fitted.vectors.shape == (len(toy.images), 32) and min(f.r_within for f in fitted.figures) > 0.6
    save_fit(fitted, tmp_path / "m", salt="s", code_version="t", label="l", inputs={})
    again = load(tmp_path / "m")
    mine = np.array([fitted.fold_of[p] == 1 for p in toy.patients])
    np.testing.assert_allclose(infer(again, toy.images[mine], 1).values, fitted.held_out[mine], atol=1e-5)
    by_vectors = fit_features(fitted.vectors, toy.labels, toy.patients, toy.slides, MARKERS, config, folds=fitted.fold_of)
    np.testing.assert_allclose(by_vectors.held_out, fitted.held_out, atol=1e-4)
    with pytest.raises(HexDataError, match="no encoder"):
        infer(by_vectors.weights, toy.images[:2], 0)


def test_features_of_any_scale_teach_the_head_alike():
    """One feature is a thousand times another; the head sees both, and takes raw vectors afterwards."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 2)).astype(np.float32) * [1e-3, 1e3] + [5.0, -200.0]
    labels = (0.5 + 0.15 * (x - [5.0, -200.0]) / [1e-3, 1e3]).clip(0, 1)
    patients = [f"P{i % 6}" for i in range(240)]
    config = HexFitConfig(markers=("a", "b"), epochs=40, batch=32, folds=2, hidden=(32, 16), dropout=0.0)
    fitted = fit_features(x, labels, patients, patients, ("a", "b"), config)
    assert min(f.r_within for f in fitted.figures) > 0.95
    tuned = HexFitConfig(**{**config.model_dump(), "epochs": 0.01, "lr": 1e-9, "targets": "scaled"})
    start = {k: (fold.model, ("a", "b")) for k, fold in enumerate(fitted.weights.folds)}
    again = fit_features(x, labels, patients, patients, ("a", "b"), tuned, folds=fitted.fold_of, start=start)
    np.testing.assert_allclose(again.held_out, fitted.held_out, atol=0.01)


def test_a_model_on_an_encoders_file_asks_for_that_very_file(toy, tmp_path):
    config = HexFitConfig(**{**SMALL, "trained_layers": 0, "epochs": 1})
    from ml.encoders.catalogue import architecture

    torch.manual_seed(0)
    for name in ("a", "b"):
        torch.save(architecture(config.encoder).state_dict(), tmp_path / f"{name}.pt")
    fitted = fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config, encoder_weights=str(tmp_path / "a.pt"))
    save_fit(fitted, tmp_path / "m", salt="s", code_version="t", label="l", inputs={}, encoder_weights=tmp_path / "a.pt")
    assert (tmp_path / "m" / "fold0.safetensors").stat().st_size < (tmp_path / "a.pt").stat().st_size
    for file, code in ((None, "encoder_weights_missing"), (tmp_path / "b.pt", "encoder_weights_differ")):
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path / "m", file)
        assert caught.value.code == code
    mine = np.array([fitted.fold_of[p] == 0 for p in toy.patients])
    values = infer(load(tmp_path / "m", tmp_path / "a.pt"), toy.images[mine], 0).values
    np.testing.assert_allclose(values, fitted.held_out[mine], atol=1e-5)


def test_killed_inside_a_fold_it_goes_on_from_the_last_checkpoint_and_ends_the_same(toy, tmp_path):
    config = HexFitConfig(**{**SMALL, "loss": "adaptive", **SMOOTH, "checkpoint_every": 1})
    arguments = (toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config)
    whole, asked = fit(*arguments), []
    with pytest.raises(Cancelled):
        fit(*arguments, checkpoint_dir=tmp_path, stop=lambda: asked.append(1) or len(asked) > 17)
    heard = []
    resumed = fit(*arguments, checkpoint_dir=tmp_path, progress=lambda fraction, text: heard.append(fraction))
    assert heard[0] > 0.2, "three of four epochs of the first fold are not done again"
    np.testing.assert_allclose(resumed.held_out, whole.held_out, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fold0.safetensors", "fold1.safetensors"]


def test_curves_tell_of_training_and_of_held_out_tiles(toy):
    points = []
    config = HexFitConfig(**{**SMALL, "epochs": 8})
    fitted = fit(toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config, record=lambda *p: points.append(p))
    assert {name for name, *_ in points} == {f"fold {k} {what}" for k in (1, 2) for what in ("training", "held-out")}
    held = [y for name, _, y in points if name == "fold 1 held-out"]
    assert len(held) == 8 and held[-1] < held[0]
    curves = fitted.metrics()["curves"]
    assert curves["fold 2 training"][-1][0] == 8 and "curve" not in fitted.metrics()["folds"][0]


def test_fine_tuning_starts_from_the_proteins_that_both_predict(toy, toy_fit):
    config = HexFitConfig(markers=("eosin", "free matrix"), epochs=0.1, batch=32, folds=2, seed=3, lr=1e-8)
    start = {k: (fold.model, MARKERS) for k, fold in enumerate(toy_fit.weights.folds)}
    arguments = (toy.images, toy.labels, toy.patients, toy.slides, MARKERS, config)
    raw = HexFitConfig(**{**config.model_dump(), "targets": "scaled"})
    tuned = fit(*arguments[:-1], raw, start=start, folds=toy_fit.fold_of)
    np.testing.assert_allclose(tuned.held_out, toy_fit.held_out[:, 1:], atol=0.03)
    other = HexFitConfig(**{**config.model_dump(), "hidden": (32, 16)})
    with pytest.raises(HexDataError, match="another encoder or head"):
        fit(*arguments[:-1], other, start=start)


DDP = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from ml.hex.config import HexFitConfig
from ml.hex.train import fit_features
rng = np.random.default_rng(0)
x = rng.normal(size=(96, 8)).astype("float32")
y = np.clip(0.5 + 0.2 * x[:, :2], 0, 1).astype("float32")
patients = [f"P{i % 4}" for i in range(96)]
config = HexFitConfig(markers=("a", "b"), epochs=4, batch=12, folds=2, loss="adaptive", fds=True, fds_start_smooth=1,
    fds_until=3, dropout=0.0)
found = fit_features(x, y, patients, patients, ("a", "b"), config, devices=int(sys.argv[1]))
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
open(f"{sys.argv[2]}/rank{rank}.json", "w").write(json.dumps(found.held_out[:5].round(6).tolist()))
"""


def test_two_processes_share_the_batches_and_end_with_one_model(tmp_path):
    """DDP over gloo: both ranks hold the same model, statistics of smoothing included, and it is the model of the doubled batch."""
    (tmp_path / "run.py").write_text(DDP)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "run.py"),
        "2",
        str(tmp_path),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    told = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rank*.json"))]
    assert len(told) == 2, done.stderr[-2000:]
    assert told[0] == told[1] and np.isfinite(told[0]).all()


def test_small_tiles_are_enlarged_batch_by_batch_and_judged_as_they_are(toy, tmp_path):
    """Tiles of fewer pixels than the encoder takes stay on disk; in training as when applied the same road is taken."""
    half = toy.images[:, ::2, ::2][:, :24, :24]
    path = tmp_path / "tiles.npy"
    np.save(path, half)
    config = HexFitConfig(**{**SMALL, "epochs": 3})
    on_disk = fit(np.load(path, mmap_mode="c"), toy.labels, toy.patients, toy.slides, MARKERS, config)
    in_memory = fit(half, toy.labels, toy.patients, toy.slides, MARKERS, config)
    np.testing.assert_array_equal(on_disk.held_out, in_memory.held_out)
    mine = np.array([on_disk.fold_of[p] == 0 for p in toy.patients])
    found = infer(on_disk.weights, half[mine], 0)
    np.testing.assert_allclose(found.values, on_disk.held_out[mine], atol=1e-5)
    assert np.mean(infer(on_disk.weights, half[~mine], 0).out_of_range > 1) < 0.03, "its own fitting tiles are inside its range"
