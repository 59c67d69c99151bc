"""Cells, niches and tissue of an image; work that was stopped goes on as if it had not been."""

import numpy as np
import pytest
import torch

from ml.training.loop import Cancelled
from ml.types import MultiplexImage
from ml.virtues.cells import CellSums, crop_origins
from ml.virtues.config import VirtuesConfig
from ml.virtues.embed import central_origins, embed, niche_origins, retrieval_set
from ml.virtues.embed_config import VirtuesEmbedConfig
from ml.virtues.errors import VirtuesError
from ml.virtues.importance import attention_sums, importance
from ml.virtues.markers import MarkerBank
from ml.virtues.model import VirTues
from ml.virtues.panel import prepare
from ml.virtues.preprocess import Standard

NET = VirtuesConfig(
    patch_size=8, model_dim=16, feedforward_dim=16, encoder_pattern="hv", num_encoder_heads=2,
    decoder_pattern="f", num_decoder_heads=2, marker_embedding_dim=5,
)  # fmt: skip
SMALL = VirtuesEmbedConfig(batch=1, crop_px=32, cell_stride_px=21, cell_pad_px=12, max_medoids=3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VirTues(NET).eval()


def prepared(height, width, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.poisson(6, (3, height, width)).astype(np.float32)
    tissue = np.zeros((height, width), bool)
    tissue[:, : width * 3 // 4] = True
    bank = MarkerBank({f"P{i}": rng.normal(size=5) for i in range(3)})
    standard = Standard.of([("abc", values, tissue)])
    return prepare(MultiplexImage(values, ("a", "b", "c"), 1.0, tissue=tissue), ["P0", "P1", "P2"], bank, standard)


def cell_mask(height, width):
    mask = np.zeros((height, width), np.int32)
    mask[2:9, 3:11], mask[40:50, 20:30], mask[height - 5 :, width - 6 :] = 7, 900, 31
    return mask


def test_niches_are_the_means_of_their_patches(model):
    image = prepared(70, 130)
    found = embed(model, image, None, SMALL)
    assert found.cells is None
    assert found.boxes[:, 2:].tolist() == [[32.0, 32.0]] * len(found.boxes)
    assert (found.share >= 0.3).all()
    assert len(found.niches) < len(niche_origins(70, 130, 32))  # those without tissue are left out
    x, y = found.boxes[1, :2].astype(int)
    crop = torch.from_numpy(image.seen()[:, y : y + 32, x : x + 32])
    summaries = model.encode([crop], [torch.from_numpy(image.embeddings)])[0]
    np.testing.assert_allclose(found.niches[1], summaries.mean(dim=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(found.tissue, found.niches.mean(axis=0), atol=1e-6)
    assert importance(found.rho).shape == (3,)
    chosen, rows = retrieval_set(found, SMALL)
    assert len(chosen.weights) == 3
    np.testing.assert_array_equal(chosen.vectors, found.niches[rows])
    assert chosen.weights.sum() == pytest.approx(1)


def test_central_niches_of_the_paper(model):
    central = VirtuesEmbedConfig(**{**SMALL.model_dump(), "retrieval_set": "central"})
    found = embed(model, prepared(140, 131), None, central)
    chosen, _ = retrieval_set(found, central)
    assert len(chosen.weights) == 16
    assert chosen.boxes[0, :2].tolist() == [1.0, 6.0]
    assert chosen.boxes[-1, :2].tolist() == [97.0, 102.0]
    with pytest.raises(VirtuesError, match="smaller than 128 px"):
        retrieval_set(embed(model, prepared(70, 130), None, central), central)
    assert not len(central_origins(127, 500, 32))


def test_stopped_work_goes_on_where_it_was(model, tmp_path):
    image, mask = prepared(75, 90), cell_mask(75, 90)
    whole = embed(model, image, mask, SMALL)
    assert whole.cells.ids.tolist() == [7, 31, 900]
    told: list[float] = []
    for after in (3, 4):
        calls = iter(range(1000))
        with pytest.raises(Cancelled):
            embed(model, image, mask, SMALL, folder=tmp_path, stop=lambda calls=calls, after=after: next(calls) >= after)
    again = embed(model, image, mask, SMALL, folder=tmp_path, progress=lambda fraction, _: told.append(fraction))
    assert told[0] > 0.4  # most had been done
    assert told[-1] == 1
    np.testing.assert_array_equal(again.niches, whole.niches)
    np.testing.assert_array_equal(again.rho, whole.rho)
    np.testing.assert_array_equal(again.cells.tokens, whole.cells.tokens)


def test_an_image_of_exactly_one_crop_and_a_smaller_one(model):
    assert niche_origins(32, 32, 32).tolist() == [[0, 0]]
    assert len(embed(model, prepared(32, 32), None, SMALL).niches) == 1
    with pytest.raises(VirtuesError) as refused:
        embed(model, prepared(31, 64), None, SMALL)
    assert refused.value.code == "image_too_small"


def test_crops_end_flush_with_the_far_edge():
    assert crop_origins(128, 300).tolist() == [[0, 0], [0, 42], [0, 84], [0, 126], [0, 168], [0, 172]]
    assert crop_origins(170, 128)[:, 0].tolist() == [0, 42]


def test_a_cell_is_the_mean_of_its_patches_by_area():
    mask = np.zeros((16, 16), int)
    mask[4:10, 0:3] = 5
    sums = CellSums(mask, 2)
    sums.add(np.array([0, 0]), np.arange(8, dtype=np.float32).reshape(2, 2, 2), 8)
    np.testing.assert_allclose(sums.result().tokens, [[(12 * 0 + 6 * 4) / 18, (12 * 1 + 6 * 5) / 18]])
    with pytest.raises(VirtuesError, match="no cell"):
        CellSums(np.zeros((4, 4), int), 2)


def test_a_single_marker_has_no_importance_to_share():
    rho = attention_sums(np.ones((4, 2, 2, 2)))
    assert rho.shape == (1, 1, 2)
    assert importance(rho).tolist() == [0.0]
    assert importance(rho, "attended").tolist() == [0.0]
