"""HEX as published gives what the authors' own code gives, at the tolerances of golden/hex/README.md. No array there is left out."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ml.encoders.catalogue import encoder
from ml.encoders.layouts import LAYOUTS, converted
from ml.encoders.musk import MuskTower, multiscale
from ml.encoders.networks import build_network
from ml.hex.adaptive_loss import AdaptiveLoss, general_loss, log_partition
from ml.hex.checkpoint import export_authors_head, load_authors_head
from ml.hex.fds import FeatureSmoothing, calibration, from_released, kernel_window, predict_smoothed, to_released
from ml.hex.model import HexHead

pytestmark = pytest.mark.golden

CHECKS: list[tuple[str, Callable]] = []


def check(file):
    """Declares a comparison with one file of references: a function of its `Arrays`."""

    def add(function):
        CHECKS.append((file, function))
        return function

    return add


class Arrays:
    """A file of references that remembers which of its arrays were looked at; a JSON file is one array, named by its file."""

    def __init__(self, path):
        if path.suffix == ".json":
            self.content = {path.name: json.loads(path.read_text())}
        else:
            with np.load(path) as file:
                self.content = {name: file[name] for name in file.files}
        self.folder, self.read = path.parent, set()

    def __getitem__(self, name):
        self.read.add(name)
        value = self.content[name]
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fi"
        return torch.from_numpy(value.copy()) if numbers else value

    def under(self, prefix):
        """All arrays whose names start so, without the prefix."""
        return {name.removeprefix(prefix): self[name] for name in self.content if name.startswith(prefix)}


def near(found, wanted, rtol=1e-4, atol=1e-5):
    torch.testing.assert_close(found.detach(), wanted, rtol=rtol, atol=atol, check_dtype=False)


def either(found, wanted, relative, absolute):
    """Within the one or the other, entry by entry."""
    apart = (found.detach() - wanted).abs()
    assert (torch.isfinite(apart) & ((apart <= absolute) | (apart <= relative * wanted.abs()))).all(), float(apart.max())


# -- head ------------------------------------------------------------------------------------------------------------------------------


@check("head.npz")
def predictions_and_features(arrays):
    state = arrays.under("sd.")
    head = load_authors_head(state)
    with torch.inference_mode():
        predictions, features = head(arrays["x"])
    near(predictions, arrays["preds"])
    near(features, arrays["features"])
    exported = export_authors_head(head)
    assert exported.keys() == state.keys() and all(torch.equal(exported[key], state[key]) for key in state)


@check("demo_checkpoint_head.npz")
def sizes_of_the_demo_checkpoint(arrays):
    """What holds without its weights, which are not distributed: the published sizes, and features after a ReLU."""
    with torch.inference_mode():
        predictions, features = HexHead(1024, 40).eval()(arrays["x"])
    assert predictions.shape == arrays["preds"].shape and features.shape == arrays["features"].shape
    assert (arrays["features"] >= 0).all() and (arrays["features"] == 0).any() and torch.isfinite(arrays["preds"]).all()


def test_the_demo_checkpoint_gives_the_authors_predictions(golden, data):
    path = data / "hex" / "checkpoint.pth"
    if not path.is_file():
        pytest.skip("The weights of the authors' demo checkpoint are not distributed (CC-BY-NC-ND 4.0); put them at hex/checkpoint.pth.")
    arrays = Arrays(golden / "hex" / "demo_checkpoint_head.npz")
    with torch.inference_mode():
        predictions, features = load_authors_head(torch.load(path, map_location="cpu", weights_only=True))(arrays["x"])
    near(predictions, arrays["preds"])
    near(features, arrays["features"])


# -- feature distribution smoothing ----------------------------------------------------------------------------------------------------

STATISTICS = ("running_mean", "running_var", "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked", "epoch")


def three_epochs(arrays, path):
    """A smoothing of one marker after the three epochs of the file, compared after each; path: "moments" or "persample"."""
    smoothing = FeatureSmoothing(markers=1, dim=8)
    for epoch in range(3):
        features, labels = arrays[f"e{epoch}.features"], arrays[f"e{epoch}.labels"].unsqueeze(1)
        assert torch.equal(smoothing.bins_of(labels)[:, 0], arrays[f"e{epoch}.buckets"])
        if path == "moments":
            for part in torch.arange(len(labels)).split(40):
                smoothing.collect(features[part], labels[part])
            smoothing.end_epoch(epoch)
        else:
            smoothing.update_running_stats(features, labels, epoch)
            smoothing.update_last_epoch_stats(epoch + 1)
        released = to_released(smoothing)
        for name in STATISTICS:
            near(released[f"FDS.0.{name}"], arrays[f"e{epoch}.{path}.{name}"], *((0, 0) if name == "epoch" else (1e-4, 1e-5)))
    return smoothing


@check("fds.npz")
def kernels(arrays):
    for kernel in ("gaussian", "triang", "laplace"):
        near(kernel_window(kernel, 9, 2.0), arrays[f"kernels.{kernel}"])
    near(kernel_window("gaussian", 9, 2.0), arrays["kernels.default_ks9_sigma2"])
    near(FeatureSmoothing(1, 8).kernel_window, arrays["kernel_window"])


@check("fds.npz")
def statistics_from_single_tiles(arrays):
    three_epochs(arrays, "persample")


@check("fds.npz")
def statistics_from_moments_and_the_smoothing_after_them(arrays):
    smoothing = three_epochs(arrays, "moments")
    features, labels, start = arrays["smooth.features"].requires_grad_(), arrays["smooth.labels"].unsqueeze(1), int(arrays["smooth.epoch"])
    assert smoothing.start_smooth == start
    smoothed = smoothing.smooth(features, labels, start)[:, 0]
    near(smoothed, arrays["smooth.out"], atol=2e-4)
    (smoothed * arrays["smooth.grad_weight"]).sum().backward()
    near(features.grad, arrays["smooth.grad_features"])
    before = smoothing.smooth(features, labels, start - 1)[:, 0]
    assert torch.equal(before, arrays["smooth.out_before_start"])


@check("fds.npz")
def four_cases_of_the_calibration(arrays):
    centre, factor, target = calibration(*(arrays[f"cal.{name}"].unsqueeze(1) for name in ("m1", "v1", "m2", "v2")))
    near((arrays["cal.x"] - centre) * factor + target, arrays["cal.out"])


@check("train_forward_fds.npz")
def training_forward_with_all_markers(arrays):
    state = arrays.under("sd.")
    state["visual.beit3.encoder.layers.0.ffn.A.fc1.weight"] = torch.zeros(2, 2)
    head, smoothing = load_authors_head(state), from_released(state, start_smooth=10)
    with torch.inference_mode():
        predictions, features = head(arrays["x"])
        near(features, arrays["features"])
        near(predictions, arrays["preds_epoch9"])
        for epoch in (9, 10):
            smoothed = smoothing.smooth(features, arrays["labels"], epoch)
            near(predict_smoothed(head.regression_head1[0], smoothed), arrays[f"preds_epoch{epoch}"])
    released = to_released(smoothing)
    assert all(torch.equal(released[key], value) for key, value in state.items() if key.startswith("FDS."))


@check("train_state_dict_keys.json")
def keys_of_a_training_checkpoint(arrays):
    wanted = arrays["train_state_dict_keys.json"]
    mine = {**export_authors_head(HexHead(48, 3)), **to_released(FeatureSmoothing(3, 128))}
    trained = {key: shape for key, shape in wanted.items() if key != "regression_head.0.weight"}
    assert {key: list(value.shape) for key, value in mine.items() if key in trained} == trained and mine.keys() == wanted.keys()
    assert wanted["regression_head.0.weight"][0] == 256, "its width is the encoder's"


# -- adaptive loss ---------------------------------------------------------------------------------------------------------------------


def on_the_grid(arrays, dtype):
    """nll, rho and the three derivatives of nll over all alphas, scales and residuals."""
    alpha, scale, residual = (arrays[name].to(dtype) for name in ("alpha", "scale", "residual"))
    shape = len(alpha), len(scale), len(residual)
    alpha, scale, residual = (part.expand(shape).clone().requires_grad_() for part in (alpha[:, None, None], scale[:, None], residual))
    rho = general_loss(residual, alpha, scale)
    nll = rho + scale.log() + log_partition(alpha)
    nll.sum().backward()
    return {"nll": nll, "rho": rho, "d_residual": residual.grad, "d_alpha": alpha.grad, "d_scale": scale.grad}


@check("alf.npz")
def loss_and_derivatives_in_float64(arrays):
    """One row of d/d alpha is apart: the released table's knots next to alpha = 0 are 1e-8 off, which is 1e-5 in its slope there."""
    assert float(arrays["alpha"][0]) == 0.001
    for name, found in on_the_grid(arrays, torch.float64).items():
        wanted = arrays[f"f64.{name}"]
        if name == "d_alpha":
            either(found[0], wanted[0], 1e-6, 2e-5)
            found, wanted = found[1:], wanted[1:]
        either(found, wanted, 1e-6, 1e-6)


@check("alf.npz")
def loss_and_derivatives_in_float32(arrays):
    for name, found in on_the_grid(arrays, torch.float32).items():
        assert found.dtype == torch.float32
        either(found, arrays[f"f32.{name}"], 2e-4, 2e-5)


@check("alf.npz")
def partition_function(arrays):
    near(log_partition(arrays["alpha"]), arrays["log_partition"], 0, 1e-6)
    near(log_partition(arrays["alpha"]), arrays["log_partition_quadrature"], 0, 1e-6)


@check("alf.npz")
def module_at_its_start_and_after_a_while(arrays):
    residual = arrays["mod.residual"]
    loss = AdaptiveLoss(residual.shape[1])
    for name, wanted in arrays.under("init.").items():
        value = getattr(loss, name)
        either(value if name.startswith("latent") else value(), wanted, 2e-4, 2e-5)
    either(loss.elementwise(residual), arrays["mod.init_loss"], 2e-4, 2e-5)
    loss.load_state_dict({name: arrays[f"mod.{name}"] for name in ("latent_alpha", "latent_scale")})
    either(loss.alpha(), arrays["mod.alpha"], 2e-4, 2e-5)
    either(loss.scale(), arrays["mod.scale"], 2e-4, 2e-5)
    either(loss.elementwise(residual), arrays["mod.loss"], 2e-4, 2e-5)
    mean = loss(residual)
    mean.backward()
    either(mean, arrays["mod.mean_loss"], 2e-4, 2e-5)
    either(loss.latent_alpha.grad, arrays["mod.grad_latent_alpha"], 2e-4, 2e-5)
    either(loss.latent_scale.grad, arrays["mod.grad_latent_scale"], 2e-4, 2e-5)


# -- MUSK ------------------------------------------------------------------------------------------------------------------------------


@check("musk_mini_vision.npz")
def vision_tower(arrays):
    sizes, image = json.loads(str(arrays["config"])), arrays["image"]
    tower = MuskTower(
        sizes["img_size"], sizes["patch_size"], sizes["embed"], sizes["heads"], sizes["ffn"], sizes["layers"], with_head=True
    ).eval()
    tower.load_state_dict(converted(arrays.under("sd."), LAYOUTS["musk"], tower.state_dict()))
    with torch.inference_mode():
        near(tower.tokens(image), arrays["tokens"])
        near(tower(image), arrays["cls_no_head"])
        near(tower.projected(image), arrays["cls_head_norm"])
        near(multiscale(tower, image), arrays["cls_multiscale"])


@check("musk_mini_all_keys.json")
def a_whole_released_file_loads_without_its_texts(arrays):
    keys, vision = arrays["musk_mini_all_keys.json"], Arrays(arrays.folder / "musk_mini_vision.npz")
    state = {key: torch.full(shape, torch.nan) for key, shape in keys.items()} | vision.under("sd.")
    spec = encoder("musk")
    assert spec.timm_kwargs == {}, "its own sizes are the tower's defaults"
    spec = replace(spec, dim=32, input_px=32, timm_kwargs={"patch": 8, "heads": 4, "hidden": 64, "layers": 2})
    with TemporaryDirectory() as folder, torch.inference_mode():
        save_file({key: value.contiguous() for key, value in state.items()}, Path(folder) / "model.safetensors")
        near(build_network(spec, Path(folder) / "model.safetensors").eval()(vision["image"]), vision["cls_no_head"])


@check("musk_large_keys_layer0_only.json")
def published_sizes(arrays):
    released = arrays["musk_large_keys_layer0_only.json"]
    with torch.device("meta"):
        tower = MuskTower()
        state = {key: torch.empty(shape) for key, shape in released.items()}
    wanted = {key: list(value.shape) for key, value in tower.state_dict().items() if ".layers." not in key or ".layers.0." in key}
    found = converted(state, LAYOUTS["musk"], tower.state_dict())
    assert {key: list(value.shape) for key, value in found.items()} == wanted


# -- all of them -----------------------------------------------------------------------------------------------------------------------


@cache
def names_read(folder, file, function):
    """Runs a comparison, and gives the arrays that it looked at; once per run of the tests."""
    arrays = Arrays(folder / file)
    function(arrays)
    return frozenset(arrays.read)


@pytest.mark.parametrize(("file", "function"), CHECKS, ids=[f"{file.partition('.')[0]}-{function.__name__}" for file, function in CHECKS])
def test_parity(golden, file, function):
    assert names_read(golden / "hex", file, function)


def test_every_array_of_the_folder_is_read(golden):
    for path in sorted((golden / "hex").iterdir()):
        if path.name == "README.md":
            continue
        read = frozenset().union(*(names_read(golden / "hex", path.name, function) for file, function in CHECKS if file == path.name))
        assert set(Arrays(path).content) == read, path.name
