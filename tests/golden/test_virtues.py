"""VirTues against the authors' own code: every array of golden/virtues, at the tolerances of its README.

Model 3e-5 (losses 1e-5, importance 1e-3), rotary 2e-6 (1e-4 at the last row of the tables), preprocessing and ABMIL 1e-5. Sizes, seeds and
configuration are those of the files. An array that no test here reads fails `test_every_array_is_read`.
"""

import json
from collections import defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ml.nn.gated_abmil import GatedAbmil
from ml.nn.rotary import grid_tables, rotary_tables, rotate
from ml.virtues.cells import cell_tokens, crop_origins
from ml.virtues.checkpoint import load_released, load_weights, released_state, save_weights
from ml.virtues.config import VirtuesConfig
from ml.virtues.importance import attention_sums, importance
from ml.virtues.model import MAX_GRID, VirTues, reconstruction_loss
from ml.virtues.preprocess import Standard, blur, preprocess, upper_quantiles

pytestmark = pytest.mark.golden

MODEL = {"atol": 3e-5, "rtol": 0}
READ: dict[str, set[str]] = defaultdict(set)
FILES = ("model.npz", "rope.npz", "preprocess.npz", "abmil.npz")


class Arrays:
    """The arrays of one file; remembers which were read."""

    def __init__(self, folder, name):
        with np.load(folder / "virtues" / name) as file:
            self.values = {key: file[key] for key in file.files}
        self.name = name

    def __getitem__(self, key):
        READ[self.name].add(key)
        return self.values[key]

    def tensor(self, key):
        return torch.from_numpy(np.array(self[key]))


@pytest.fixture(scope="module")
def facts(golden):
    return json.loads((golden / "virtues" / "config.json").read_text())


@pytest.fixture(scope="module")
def config(facts):
    return VirtuesConfig(**{name: facts[name] for name in VirtuesConfig.model_fields if name in facts})


@pytest.fixture(scope="module")
def model(golden, config):
    return load_released(load_file(golden / "virtues" / "state_dict.safetensors"), config)


@pytest.fixture(scope="module")
def arrays(golden):
    return Arrays(golden, "model.npz")


@pytest.fixture(scope="module")
def samples(arrays, facts):
    numbers = range(len(facts["channels"]))
    bank = arrays.tensor("marker_bank")
    return (
        [arrays.tensor(f"image_{i}") for i in numbers],
        [bank[arrays.tensor(f"marker_ids_{i}")] for i in numbers],
        [arrays.tensor(f"mask_{i}") for i in numbers],
    )


@pytest.mark.parametrize("way", ["unmasked", "masked"])
def test_encoder_decoder_and_loss(way, model, samples, arrays, config):
    images, markers, masks = samples
    blocks = range(1, len(config.encoder_pattern) + 1)
    with torch.no_grad():
        encoded = model.encoder(images, markers, masks if way == "masked" else None, after=blocks)
        pixels = model.decoder(encoded)
    for i in range(len(images)):
        np.testing.assert_allclose(encoded.summaries[i], arrays[f"{way}_patch_summary_{i}"], **MODEL)
        np.testing.assert_allclose(encoded.tokens[i], arrays[f"{way}_image_tokens_{i}"], **MODEL)
        np.testing.assert_allclose(pixels[i], arrays[f"{way}_reconstruction_{i}"], **MODEL)
    for block in blocks:
        np.testing.assert_allclose(encoded.after_blocks[block], arrays[f"{way}_patch_summary_after_block_{block}_prenorm"], **MODEL)
    assert reconstruction_loss(pixels, images).item() == pytest.approx(arrays[f"{way}_mse_loss"].item(), abs=1e-5)


def test_masks_are_what_the_readme_says(samples):
    _, _, masks = samples
    assert masks[0][0].all()
    assert not masks[0][1].any()
    assert masks[-1][:, 0].all()


def test_summaries_alone_are_the_same(model, samples, arrays):
    images, markers, _ = samples
    for i, summaries in enumerate(model.encode(images, markers)):
        np.testing.assert_allclose(summaries, arrays[f"unmasked_patch_summary_{i}"], **MODEL)


def test_first_marker_attention_and_importance(model, samples, arrays, config):
    images, markers, _ = samples
    assert config.first_marker_block == arrays["marker_attention_block_index"]
    with torch.no_grad():
        attention = model.encoder.first_marker_attention(images[0], markers[0]).numpy()
    np.testing.assert_allclose(attention, arrays["marker_attention_first_block_0"], **MODEL)
    rho = attention_sums(attention)
    np.testing.assert_allclose(importance(rho), arrays["importance_formula_as_printed_0"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(importance(rho, "attended"), arrays["importance_normalised_over_keys_0"], atol=1e-3, rtol=0)


def test_cell_tokens(model, arrays, facts, config):
    told = facts["cell_tokens"]
    image, segmentation = arrays["cell_image"], arrays["cell_segmentation"]
    embeddings = arrays.tensor("marker_bank")[arrays.tensor("cell_marker_ids")]
    origins = crop_origins(*image.shape[1:], told["tile_size"], told["stride"])
    np.testing.assert_array_equal(origins, arrays["cell_crop_origins"])

    def encode(crops):
        return model.encode(list(torch.from_numpy(crops)), [embeddings] * len(crops)).numpy()

    found = cell_tokens(
        encode, image, segmentation, tile=told["tile_size"], patch=config.patch_size, dim=config.model_dim, stride=told["stride"]
    )
    assert len(found.ids) == told["n_cells"]
    np.testing.assert_array_equal(found.ids, arrays["cell_ids"])
    np.testing.assert_allclose(found.tokens, arrays["cell_tokens"], **MODEL)


def test_rotary(golden, facts):
    file = Arrays(golden, "rope.npz")
    for dim in facts["rope_head_dims"]:
        cos, sin = rotary_tables(dim, MAX_GRID)
        positions = file.tensor(f"positions_{dim}")
        turned = [grid_tables(cos, sin, *one.T) for one in positions]
        got = torch.stack([rotate(q, *angles) for q, angles in zip(file.tensor(f"q_{dim}"), turned)]).numpy()
        wanted = file[f"q_rot_{dim}"]
        far = (positions == MAX_GRID - 1).any(dim=-1).numpy()[:, None, :, None]
        assert far.sum() > 0
        difference = np.abs(got - wanted)
        assert (difference * ~far).max() <= 2e-6
        assert (difference * far).max() <= 1e-4


def test_preprocessing(golden, facts):
    file = Arrays(golden, "preprocess.npz")
    exact = {"atol": 1e-5, "rtol": 0}
    raw, tissue = file["raw"], file["tissue_mask"]
    assert list(raw.shape) == [facts["preprocess"]["channels"], *facts["preprocess"]["image"]]
    upper = upper_quantiles(raw, tissue)
    standard = Standard.of([([str(i) for i in range(len(raw))], raw, tissue)])
    np.testing.assert_allclose(upper, file["upper_quantile"], **exact)
    np.testing.assert_allclose(standard.mean, file["mean"], **exact)
    np.testing.assert_allclose(standard.std, file["std"], **exact)
    done = preprocess(raw, upper, standard.mean, standard.std)
    np.testing.assert_allclose(done, file["preprocessed"], **exact)
    np.testing.assert_allclose(done, file["preprocessed_legacy"], **exact)
    pad = int(file["pad"])
    padded = np.pad(raw, ((0, 0), (pad, pad), (pad, pad)))
    np.testing.assert_allclose(preprocess(padded, upper, standard.mean, standard.std), file["preprocessed_zero_padded"], **exact)
    (row, col), size = file["tile_origin"], int(file["tile_size"])
    tile = preprocess(raw[:, row : row + size, col : col + size], upper, standard.mean, standard.std)
    np.testing.assert_allclose(tile, file["preprocessed_tile"], **exact)
    whole = done[:, row : row + size, col : col + size]
    np.testing.assert_allclose(tile[:, 1:-1, 1:-1], whole[:, 1:-1, 1:-1], **exact)
    assert np.abs(tile - whole).max() > 0.1  # the rim of a crop that is preprocessed alone
    impulse = np.zeros_like(file["blur_impulse"])
    impulse[0, impulse.shape[1] // 2, impulse.shape[2] // 2] = 1
    np.testing.assert_allclose(blur(impulse), file["blur_impulse"], **exact)


def test_gated_abmil(golden, facts):
    file, told = Arrays(golden, "abmil.npz"), facts["abmil"]
    net = GatedAbmil(told["dim"], told["classes"], told["hidden"], told["heads"])
    with torch.no_grad():
        for name, layer in (("V", net.pooling.v), ("U", net.pooling.u), ("W", net.pooling.w), ("classifier", net.classifier)):
            layer.weight.copy_(file.tensor(f"w_{name}_weight"))
            layer.bias.copy_(file.tensor(f"w_{name}_bias"))
        bag, padding = file.tensor("bag"), file.tensor("padding_mask")
        assert list(bag.shape) == [told["batch"], told["bag"], told["dim"]]
        logits, attention = net(bag, padding)
        pooled, _ = net.pooling(bag, padding)
    for got, name in ((logits, "logits"), (attention, "attention"), (pooled, "pooled")):
        np.testing.assert_allclose(got, file[name], atol=1e-5, rtol=0)


def test_the_released_layout_name_by_name(golden):
    wanted = [
        (name, tuple(shape), kind) for name, shape, kind in json.loads((golden / "virtues" / "default_state_dict_layout.json").read_text())
    ]
    with torch.device("meta"):
        model = VirTues()
    model.to_empty(device="cpu")
    ours = {name: (tuple(value.shape), str(value.dtype)) for name, value in released_state(model).items()}
    assert sorted(ours) == sorted(name for name, _, _ in wanted)
    assert all(ours[name] == (shape, kind) for name, shape, kind in wanted)


def test_a_file_that_was_read_is_written_the_same(golden, model, config, tmp_path):
    theirs = load_file(golden / "virtues" / "state_dict.safetensors")
    again = load_file(save_weights(model, tmp_path) / "model.safetensors")
    assert again.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert load_weights(tmp_path).config == config


def test_float64_reference_is_as_near_as_the_readme_says(arrays):
    assert arrays["worst_abs_diff_vs_dense_float64"] < 3e-5


def test_every_array_is_read(golden):
    for name in FILES:
        with np.load(golden / "virtues" / name) as file:
            assert set(file.files) == READ[name], name
