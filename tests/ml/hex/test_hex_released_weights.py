"""Whole checkpoints of the released code: in, out, and kept as a model of ours."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml.encoders.catalogue import CATALOGUE
from ml.hex.checkpoint import load, save_weights
from ml.hex.config import HexFitConfig
from ml.hex.errors import CheckpointError
from ml.hex.fds import FeatureSmoothing
from ml.hex.model import make
from ml.hex.predict import infer
from ml.hex.released_weights import as_weights, export_released, load_released

MARKERS = ("A", "B", "C")


@pytest.fixture
def small_musk(monkeypatch):
    sizes = {"heads": 2, "hidden": 32, "layers": 3, "patch": 16}
    monkeypatch.setitem(CATALOGUE, "musk", replace(CATALOGUE["musk"], dim=16, input_px=32, timm_kwargs=sizes, needs_weights=False))


@pytest.fixture
def model(small_musk):
    torch.manual_seed(0)
    return make(HexFitConfig(encoder="musk", markers=MARKERS)).eval()


def tiles(n=5):
    return np.random.default_rng(0).integers(0, 255, (n, 32, 32, 3), dtype=np.uint8)


def test_a_training_checkpoint_comes_back_under_its_own_names(model, tmp_path):
    smoothing = FeatureSmoothing(3, 128)
    smoothing.running_mean.normal_()
    state = export_released(model, smoothing)
    assert "visual.beit3.encoder.layers.2.ffn.A.fc1.weight" in state and "FDS.2.running_mean_last_epoch" in state
    # the released file also holds the text expert and MUSK's own heads
    extra = {"visual.beit3.encoder.layers.2.ffn.B.fc1.weight": torch.zeros(3), "visual.vision_head.weight": torch.zeros(2, 2)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in (state | extra).items()}}, tmp_path / "checkpoint.pth")
    again, statistics = load_released(tmp_path / "checkpoint.pth", markers=MARKERS)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(x), model(x))
    torch.testing.assert_close(statistics.running_mean, smoothing.running_mean)


def test_a_head_alone_asks_for_its_encoder(model, tmp_path):
    state = export_released(model)
    torch.save({k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}, tmp_path / "musk.pth")
    head = {k: v for k, v in state.items() if not k.startswith("visual.")}
    with pytest.raises(CheckpointError) as caught:
        load_released(head, markers=MARKERS)
    assert caught.value.code == "encoder_weights_missing"
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_released(head, "musk", MARKERS, tmp_path / "musk.pth")[0](x), model(x))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"markers": ("A", "B")}, "panel_differs"),
        ({"encoder_name": "compact-resnet-48"}, "tensors_wrong"),
        ({"state": {"regression_head.0.weight": torch.zeros(2, 2)}}, "tensors_wrong"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_computed(model, change, code):
    with pytest.raises(CheckpointError) as caught:
        load_released(**{"state": export_released(model), "markers": MARKERS, **change})
    assert caught.value.code == code and caught.value.sentence.endswith(".")


def test_kept_as_a_model_of_ours_it_has_one_fold_and_knows_no_range(model, tmp_path):
    weights = as_weights(load_released(export_released(model), markers=MARKERS)[0], "musk", MARKERS)
    save_weights(weights, tmp_path / "m", [[]], {"label": "released", "code_version": "t", "inputs": {}})
    again = load(tmp_path / "m")
    found = infer(again, tiles(), again.fold_for("anybody"))
    assert found.out_of_range is None and found.values.shape == (5, 3) and again.label == "released"
    with torch.inference_mode():
        x = torch.from_numpy(tiles()).permute(0, 3, 1, 2).float() / 255
        np.testing.assert_allclose(found.values, np.maximum(model(x)[0].numpy(), 0), atol=1e-5)
