"""What goes into training: checked, in a stated unit, at the encoder's size, seen in many lights."""

import numpy as np
import pytest
import torch

from ml.hex.config import HexFitConfig
from ml.hex.data import dataset, label_scale, resize
from ml.hex.errors import HexDataError
from ml.hex.views import Batches, view_of


def test_labels_are_shares_of_the_99th_percentile():
    labels = np.random.default_rng(0).gamma(2, 0.1, (5000, 3)).astype(np.float32)
    scaled = label_scale(labels, "p99_global").apply(labels)
    assert scaled.min() >= 0 and scaled.max() == 1
    assert np.mean(scaled == 1, axis=0) == pytest.approx([0.01] * 3, abs=0.002)
    np.testing.assert_allclose(label_scale(labels, "divide_by_256").apply(labels), labels / 256)
    np.testing.assert_array_equal(label_scale(labels, "none").apply(labels), labels)


def test_a_marker_that_is_almost_nowhere_keeps_a_unit():
    labels = np.zeros((1000, 2), np.float32)
    labels[3, 0] = 0.4
    np.testing.assert_allclose(label_scale(labels, "p99_global").factor, [0.4, 1])


def test_the_configs_markers_are_picked_by_name(toy):
    data = dataset(
        toy.images, toy.labels, toy.patients, toy.slides, ("a", "b", "c"), HexFitConfig(markers=("c", "a"), label_scaling="none")
    )
    np.testing.assert_array_equal(data.labels, toy.labels[:, [2, 0]])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"images": np.zeros((4, 8, 9, 3), np.uint8)}, "images_shape"),
        ({"images": np.zeros((4, 8, 8, 3), np.float32)}, "images_shape"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "no_tiles"),
        ({"labels": np.zeros((4, 1))}, "labels_shape"),
        ({"labels": np.array([[0, 1], [0, np.nan], [0, 0], [0, 0]])}, "labels_not_finite"),
        ({"patients": ["p"]}, "ids_shape"),
        ({"markers": ("a", "z")}, "marker_absent"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_sentence(change, code):
    good = {
        "images": np.zeros((4, 8, 8, 3), np.uint8),
        "labels": np.zeros((4, 2)),
        "patients": ["p"] * 4,
        "slides": ["s"] * 4,
        "markers": ("a", "b"),
    }
    with pytest.raises(HexDataError) as caught:
        dataset(**{**good, **change}, config=HexFitConfig(markers=("a", "b")))
    assert caught.value.code == code and caught.value.sentence.endswith(".")


def test_resizing_is_antialiased():
    checks = np.indices((112, 112)).sum(axis=0) % 2 * 255
    small = resize(np.repeat(checks[None, :, :, None], 3, axis=3).astype(np.uint8), 64)
    assert small.shape == (1, 64, 64, 3) and np.abs(small.astype(int)[:, 4:-4, 4:-4] - 127).max() < 40


def test_without_jitter_a_view_is_the_tile_itself():
    config = HexFitConfig(flips=False, stain_jitter=0, hue_jitter=0, light_jitter=0)
    tiles = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    view = view_of(config, torch.Generator())(tiles)
    torch.testing.assert_close(view, tiles.permute(0, 3, 1, 2) / 255, atol=0.005, rtol=0)


def test_turning_and_mirroring_reach_all_eight_views_and_change_no_pixel():
    config = HexFitConfig(stain_jitter=0, hue_jitter=0, light_jitter=0)
    tile = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4, 1).expand(8, 4, 4, 3).contiguous()
    augment = view_of(config, torch.Generator().manual_seed(0))
    seen = {tuple((view[0] * 256).round().int().flatten().tolist()) for _ in range(20) for view in augment(tile)}
    assert len(seen) == 8 and len({tuple(sorted(view)) for view in seen}) == 1


def test_jitter_changes_the_light_and_not_the_shape():
    config = HexFitConfig(flips=False)
    tile = torch.full((64, 8, 8, 3), 230, dtype=torch.uint8)
    tile[:, 2:5, 2:5] = torch.tensor([90, 60, 150], dtype=torch.uint8)
    views = view_of(config, torch.Generator().manual_seed(0))(tile)
    assert views.shape == (64, 3, 8, 8) and views.min() >= 0 and views.max() <= 1
    ground, nucleus = views[:, :, 0, 0], views[:, :, 3, 3]
    assert nucleus.std(dim=0).min() > 0.02
    assert ((ground - nucleus).mean(dim=1) > 0.15).all()


def test_batches_pass_over_every_tile_and_repeat_with_their_seed(toy):
    config = HexFitConfig(markers=("a", "b", "c"), batch=16, label_scaling="none")
    rows = np.arange(len(toy.images), dtype=np.float32)[:, None]
    index = np.arange(0, 60)
    batches = Batches(toy.images, rows, index, config, seed=7)
    first = [labels for _, labels in batches(0)]
    assert set(torch.cat(first).flatten().tolist()) == set(index.tolist()) and len(first) == batches.steps() == 4
    assert all(torch.equal(a, b) for a, (_, b) in zip(first, batches(0)))
    assert not torch.equal(first[0], next(iter(batches(1)))[1])


def test_the_released_views_turn_by_any_angle_and_keep_the_range():
    config = HexFitConfig(augmentation="released")
    tile = torch.full((32, 24, 24, 3), 200, dtype=torch.uint8)
    views = view_of(config, torch.Generator().manual_seed(0))(tile)
    assert views.shape == (32, 3, 24, 24) and views.min() >= 0 and views.max() <= 1
    assert (views < 0.1).all(dim=1).any(dim=(1, 2)).float().mean() > 0.8, "corners turn black"
    assert views[:, :, 12, 12].std(dim=0).min() > 0.01
    again = view_of(config, torch.Generator().manual_seed(0))(tile)
    assert torch.equal(views, again)


@pytest.mark.parametrize(
    ("labels", "changes"),
    [
        ([[0.2, -0.1]] * 4, {}),
        ([[3.0, 500.0]] * 4, {"label_scaling": "divide_by_256"}),
    ],
)
def test_labels_outside_the_range_are_refused_with_marker_and_row(labels, changes):
    config = HexFitConfig(markers=("a", "b"), **changes)
    with pytest.raises(HexDataError, match=r"b is .* in row 0 \(4 such values\)") as caught:
        dataset(np.zeros((4, 8, 8, 3), np.uint8), np.array(labels), ["p"] * 4, ["s"] * 4, ("a", "b"), config)
    assert caught.value.code == "labels_range"


def test_features_that_are_no_numbers_are_refused():
    vectors = np.ones((5, 3), np.float32)
    vectors[2, 1] = np.nan
    with pytest.raises(HexDataError, match=r"1 of 5 tiles .* row 2"):
        dataset(vectors, np.zeros((5, 1)), ["p"] * 5, ["s"] * 5, ("a",), HexFitConfig(markers=("a",)))
