"""One token per marker: by DINOv2 where its weights are, else by descriptors that say so; maps on a wrong scale are refused."""

import numpy as np
import pytest

from ml.encoders.catalogue import WeightsMissing, architecture, build, encoder
from ml.mica.codex_bag import DINOV2, codex_bag, dino_input, map_images
from ml.mica.errors import MicaError
from ml.mica.map_descriptors import FIXED_MAP_DESCRIPTORS, NAMES
from ml.types import VirtualMap

MARKERS = ("flat", "half", "fine", "scattered")


@pytest.fixture
def tissue():
    """(24, 40, 4) in 0..1: constant; left against right; stripes of one cell; the same values in random places. A corner has no tissue."""
    maps = np.full((24, 40, 4), 0.3)
    maps[:, 20:, 1] = 0.9
    maps[:, ::2, 2] = 0.9
    maps[..., 3] = np.random.default_rng(0).permutation(maps[..., 2].ravel()).reshape(24, 40)
    maps[:6, :10] = np.nan
    return maps.astype(np.float32)


def described(maps):
    bag = codex_bag(maps, FIXED_MAP_DESCRIPTORS, MARKERS)
    assert bag.encoder == FIXED_MAP_DESCRIPTORS and bag.markers == MARKERS and bag.tokens.dtype == np.float32
    return {m: dict(zip(NAMES, bag.tokens[i].tolist())) for i, m in enumerate(MARKERS)}


def test_the_descriptors_say_how_much_how_patchy_and_where(tissue):
    d = described(tissue)
    assert d["flat"]["mean"] == pytest.approx(0.3) and d["flat"]["sd"] == pytest.approx(0, abs=1e-6)
    assert d["half"]["share_above_0.5"] == pytest.approx(480 / 900) and d["half"]["q99"] == pytest.approx(0.9)
    assert d["half"]["neighbour_correlation_4"] > 0.8 and abs(d["scattered"]["neighbour_correlation_1"]) < 0.2
    assert d["fine"]["sd_of_blocks_2"] == pytest.approx(0, abs=1e-6) and d["fine"]["sd_of_blocks_1"] == pytest.approx(0.3, abs=1e-2)
    assert [round(d["half"][f"grid_3{c}"], 3) for c in range(4)] == [0.3, 0.3, 0.9, 0.9]
    assert all(np.isfinite(list(values.values())).all() for values in d.values()) and len(NAMES) == 46


def test_cells_without_tissue_do_not_count_however_they_are_marked(tissue):
    zeros = np.nan_to_num(tissue)
    wide = np.pad(zeros, ((0, 50), (30, 0), (0, 0)))
    assert described(tissue) == described(zeros) == described(wide)


def test_a_virtual_map_and_its_array_give_the_same_bag(tissue):
    virtual = VirtualMap(np.moveaxis(tissue, -1, 0), MARKERS, 56.0, (0.0, 0.0), 224.0)
    ours, other = codex_bag(virtual, FIXED_MAP_DESCRIPTORS), codex_bag(tissue, FIXED_MAP_DESCRIPTORS, MARKERS)
    assert ours.markers == MARKERS
    np.testing.assert_array_equal(ours.tokens, other.tokens)


def test_dinov2_with_registers_gives_the_cls_token_of_every_marker(tissue, tmp_path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = architecture(DINOV2).state_dict()
    save_file({key: torch.randn(v.shape) * 0.05 for key, v in shapes.items()}, tmp_path / "w.safetensors")
    network = build(DINOV2, tmp_path / "w.safetensors").eval()
    bag = codex_bag(tissue[..., :2], markers=MARKERS[:2], weights=tmp_path / "w.safetensors")
    assert bag.tokens.shape == (2, 384) and bag.encoder == DINOV2 and len(bag.weights_sha256) == 64
    with torch.inference_mode():
        wanted = network.forward_features(dino_input(tissue[..., :2]))[:, 0]
    np.testing.assert_allclose(bag.tokens, wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert encoder(DINOV2).licence == "Apache-2.0"


def test_missing_weights_are_said_and_nothing_takes_their_place(tissue, tmp_path):
    with pytest.raises(WeightsMissing, match="vit_small_patch14_reg4_dinov2"):
        codex_bag(tissue, markers=MARKERS, root=tmp_path)
    with pytest.raises(MicaError, match="no encoder 'resnet50' of maps"):
        codex_bag(tissue, "resnet50", MARKERS)


def test_grey_levels_are_rounded_and_clipped():
    maps = np.zeros((224, 224, 2))  # the size of the images, so that resizing changes nothing
    maps[0, 0], maps[0, 1], maps[0, 2] = (0.5, 1.4), (np.nan, -0.2), (1 / 255, 0.5 / 255 + 1e-6)
    images = map_images(maps)
    assert images.shape == (2, 224, 224, 3) and images.dtype == np.uint8
    assert images[0, 0, :3, 1].tolist() == [128, 0, 1] and images[1, 0, :3, 1].tolist() == [255, 0, 1]


@pytest.mark.parametrize(
    ("factor", "says"),
    [(1 / 255**2, "all of it would be zero"), (255, r"reaches 2\d\d, and"), (2, "above 1"), (0, "all of it would be zero")],
)
def test_a_map_on_the_wrong_scale_is_refused(tissue, factor, says):
    with pytest.raises(MicaError, match=says) as caught:
        codex_bag(tissue * factor, FIXED_MAP_DESCRIPTORS, MARKERS)
    assert caught.value.code == "map_scale" and "0..1" in caught.value.hint


def test_a_few_values_above_one_are_clipped(tissue):
    tissue[-1, -1] = 1.6
    assert described(tissue)["flat"]["mean"] > 0.3


@pytest.mark.parametrize(
    ("change", "code"), [("names", "map_shape"), ("flat", "map_shape"), ("nothing", "map_scale"), ("infinite", "map_scale")]
)
def test_what_is_no_map_is_refused(tissue, change, code):
    maps = {"names": tissue[..., :3], "flat": tissue[0], "nothing": tissue * np.nan, "infinite": tissue + np.inf}[change]
    with pytest.raises(MicaError) as caught:
        codex_bag(maps, FIXED_MAP_DESCRIPTORS, MARKERS)
    assert caught.value.code == code and caught.value.sentence.endswith(".")
