"""Tiles in, vectors out: equal to the plain computation, in any batch, and with a sentence where it cannot be."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from ml.encoders.catalogue import build, encoder
from ml.encoders.runtime import HALVINGS, Encoder, load_encoder
from ml.encoders.spec import EncoderError, WeightsMissing


def tiles(n, px, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, px, px, 3), np.uint8)


@pytest.fixture
def weights(tmp_path):
    """A weight file of the compact encoder, with statistics that are not the identity."""
    torch.manual_seed(3)
    network = build("compact-resnet-48").train()
    with torch.no_grad():
        network(torch.randn(32, 3, 48, 48))
    torch.save(network.state_dict(), tmp_path / "compact.pth")
    return tmp_path / "compact.pth"


def test_vectors_are_those_of_the_network_on_normalised_pixels(weights):
    found = load_encoder("compact-resnet-48", weights)
    spec, images = encoder("compact-resnet-48"), tiles(21, 48)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    x = ((x - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)).float()
    with torch.inference_mode():
        wanted = build(spec.name, weights).eval()(x).numpy()
    vectors = found(images)
    assert vectors.dtype == np.float32 and vectors.shape == (21, spec.dim) and np.ptp(vectors) > 0.1
    np.testing.assert_allclose(vectors, wanted, rtol=1e-3, atol=1e-4)
    assert np.array_equal(vectors, found(images)), "the same tiles give the same vectors"
    assert (found.name, found.dim, found.input_px, found.tile_um, found.precision) == (spec.name, 128, 48, 56.0, "fp32")
    assert len(found.weights_sha256) == 64 and found(images[:0]).shape == (0, 128)


def test_half_precision_is_close_and_comes_back_as_float32(weights):
    images = tiles(4, 48)
    exact, half = load_encoder("compact-resnet-48", weights)(images), load_encoder("compact-resnet-48", weights, precision="bf16")
    assert half.precision == "bf16" and half(images).dtype == np.float32
    assert 0 < np.abs(half(images) - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(("shape", "kind"), [((2, 49, 49, 3), np.uint8), ((2, 48, 48, 3), np.float32), ((48, 48, 3), np.uint8)])
def test_tiles_of_another_size_or_type_are_refused(weights, shape, kind):
    with pytest.raises(EncoderError, match="takes tiles of 48 x 48 px") as caught:
        load_encoder("compact-resnet-48", weights)(np.zeros(shape, kind))
    assert caught.value.code == "tile_shape"


def test_without_a_file_nothing_is_computed_and_the_sentence_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.delenv("TISSUEBOARD_HUB", raising=False)
    with pytest.raises(WeightsMissing) as caught:
        load_encoder("uni", root=tmp_path)
    assert caught.value.hint.startswith(f"Accept the terms at MahmoodLab/UNI, then put pytorch_model.bin into {tmp_path}/uni/, or set ")


def test_a_file_in_the_weights_folder_is_found(weights, tmp_path):
    folder = tmp_path / "timm-resnet18.a1_in1k"
    folder.mkdir()
    import timm

    torch.save(timm.create_model("resnet18").state_dict(), folder / "any-name.pth")
    found = load_encoder("timm:resnet18.a1_in1k", root=tmp_path)
    assert found(tiles(1, 224)).shape == (1, 512) and found.tile_um == 112.0
    torch.save({}, folder / "another.bin")
    with pytest.raises(EncoderError, match=r"several weight files: another\.bin, any-name\.pth"):
        load_encoder("timm:resnet18.a1_in1k", root=tmp_path)


def test_a_device_that_is_not_there_is_named(weights):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EncoderError, match="no device cuda:7"):
        load_encoder("compact-resnet-48", weights, device="cuda:7")


def test_an_untrained_network_gives_no_vectors():
    with pytest.raises(EncoderError, match="would be noise") as caught:
        load_encoder("compact-resnet-48")
    assert caught.value.code == "untrained"


class Small(torch.nn.Module):
    """A device that holds so many tiles at a time, and then says what CUDA says."""

    def __init__(self, holds):
        super().__init__()
        self.holds, self.seen = holds, []

    def forward(self, x):
        if len(x) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.seen.append(len(x))
        return x.mean((2, 3)).repeat(1, 43)[:, :128]


def small_encoder(holds):
    from ml.encoders.runtime import INNER, _Forward

    spec = encoder("compact-resnet-48")
    run = _Forward(Small(holds), spec, torch.device("cpu"), "fp32")
    assert run.inner == INNER["cpu"]
    return Encoder(spec, run, "cpu", "fp32", ""), run


def test_a_full_device_gets_smaller_batches_and_the_log_says_so(caplog):
    found, run = small_encoder(holds=5)
    with caplog.at_level(logging.WARNING):
        vectors = found(tiles(20, 48))
    assert run.network.seen == [4] * 5 and run.halvings == HALVINGS
    assert [r.message for r in caplog.records][-1].endswith("going on with 4 tiles at a time.")
    whole, _ = small_encoder(holds=100)
    assert np.array_equal(vectors, whole(tiles(20, 48)))


def test_a_device_that_holds_hardly_a_tile_ends_with_a_sentence():
    with pytest.raises(EncoderError, match="does not hold 4 tiles") as caught:
        small_encoder(holds=1)[0](tiles(20, 48))
    assert caught.value.code == "device_memory"


def test_values_that_are_no_numbers_are_never_given_out():
    spec = encoder("compact-resnet-48")
    broken = np.zeros((3, 128), np.float32)
    broken[1, 5] = np.inf
    with pytest.raises(EncoderError, match="no numbers for 1 of 3 tiles in fp16"):
        Encoder(spec, lambda images: broken, "cuda", "fp16", "")(tiles(3, 48))


def test_the_declared_length_is_kept():
    spec = encoder("compact-resnet-48")
    with pytest.raises(EncoderError, match="its entry says 128"):
        Encoder(spec, lambda images: np.zeros((len(images), 64), np.float32), "cpu", "fp32", "")(tiles(3, 48))


def test_fixed_descriptors_need_neither_file_nor_torch():
    code = (
        "import sys, numpy as np; from ml.encoders.runtime import load_encoder; e = load_encoder('he-descriptors');"
        "v = e(np.full((2, 112, 112, 3), 200, np.uint8)); assert v.shape == (2, 32); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
