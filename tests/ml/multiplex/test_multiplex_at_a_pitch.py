"""What models get of an image: means over area at the pitch they ask for; never a picture blown up, never a lost part read as zero."""

import shutil

import numpy as np
import pytest

from ml.multiplex.read import read_image
from ml.multiplex.zarr_pyramid import write_pyramid
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError
from ml.types import MultiplexImage

HEIGHT, WIDTH, MPP = 1100, 700, 0.5


@pytest.fixture(scope="module", params=["uint16", "float32"])
def image(request, tmp_path_factory):
    """(folder, the picture): two channels, the second of sparse counts, with more rows than a shard has."""
    rng = np.random.default_rng(3)
    picture = np.stack([rng.gamma(2, 50, (HEIGHT, WIDTH)), rng.random((HEIGHT, WIDTH)) < 0.02]).astype(request.param)
    folder = tmp_path_factory.mktemp("pitch") / "image.zarr"
    write_pyramid(folder, picture.shape, picture.dtype, lambda c: iter(np.array_split(picture[c], 5)), ["CD3", "CD8"], MPP)
    return folder, picture


def boxes(plane, factor):
    """Means of whole boxes, in the open."""
    rows, cols = plane.shape[0] // factor, plane.shape[1] // factor
    return plane[: rows * factor, : cols * factor].astype(np.float64).reshape(rows, factor, cols, factor).mean((1, 3))


def exact_mean(plane, y0, y1, x0, x1):
    """The mean over a rectangle with fractional edges, by summing every pixel's share."""
    rows, cols = np.arange(plane.shape[0]), np.arange(plane.shape[1])
    wy = np.clip(np.minimum(rows + 1, y1) - np.maximum(rows, y0), 0, None)
    wx = np.clip(np.minimum(cols + 1, x1) - np.maximum(cols, x0), 0, None)
    return float(wy @ plane.astype(np.float64) @ wx / (wy.sum() * wx.sum()))


def test_the_image_itself_at_its_own_pitch(image):
    folder, picture = image
    found = read_image(folder, um_per_px=MPP)
    assert isinstance(found, MultiplexImage) and found.markers == ("CD3", "CD8") and found.um_per_px == MPP
    assert found.values.dtype == np.float32 and np.array_equal(found.values, picture.astype(np.float32))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_coarser_pitch_is_the_mean_over_area_and_sparse_counts_do_not_vanish(image, factor):
    folder, picture = image
    found = read_image(folder, um_per_px=MPP * factor)
    for plane, source in zip(found.values, picture):
        np.testing.assert_allclose(plane, boxes(source, factor), rtol=2e-5, atol=1e-4)
    assert found.values[1].mean() == pytest.approx(picture[1].mean(), rel=1e-3)


def test_a_pitch_that_is_no_multiple_counts_every_pixel_by_its_share(image):
    folder, picture = image
    found = read_image(folder, um_per_px=0.8, channels=[1, 0])
    step = 0.8 / MPP
    assert found.markers == ("CD8", "CD3") and found.values.shape[1:] == (round(HEIGHT / step), round(WIDTH / step))
    rng = np.random.default_rng(0)
    for row, col in zip(rng.integers(0, found.values.shape[1] - 1, 20), rng.integers(0, found.values.shape[2] - 1, 20)):
        where = (row * step, (row + 1) * step, col * step, (col + 1) * step)
        for plane, source in zip(found.values, picture[::-1]):
            assert plane[row, col] == pytest.approx(exact_mean(source, *where), rel=1e-4, abs=1e-4)


def test_masks_come_at_the_same_pitch(image):
    folder, _ = image
    mask = np.zeros((HEIGHT, WIDTH), np.uint32)
    mask[100:140, 200:240], mask[0:1, 0:1] = 70_001, 5
    tissue = np.zeros((HEIGHT, WIDTH), bool)
    tissue[:, 350:] = True
    found = read_image(folder, um_per_px=1.0, mask=mask, tissue=tissue)
    assert found.mask.dtype == np.int32 and found.mask.shape == found.tissue.shape == found.values.shape[1:]
    assert (found.mask[50:70, 100:120] == 70_001).all() and np.count_nonzero(found.mask == 70_001) == 400
    assert found.tissue[:, 175:].all() and not found.tissue[:, :175].any()
    with pytest.raises(SlideError) as wrong:
        read_image(folder, mask=mask[:-1])
    assert wrong.value.code == Code.MASK_SIZE_DIFFERS and "700 x 1099" in wrong.value.sentence and "700 x 1100" in wrong.value.sentence


def test_up_to_a_tenth_finer_is_resampled_and_more_is_refused(image):
    folder, picture = image
    found = read_image(folder, um_per_px=MPP / 1.09)
    assert found.values.shape[1:] == (1199, 763) and found.values[0].mean() == pytest.approx(picture[0].mean(), rel=1e-3)
    with pytest.raises(SlideError) as fine:
        read_image(folder, um_per_px=0.4)
    assert fine.value.code == Code.PITCH_TOO_FINE and "0.5" in fine.value.sentence and "0.4" in fine.value.sentence


def test_what_is_not_there_is_said(image, tmp_path):
    folder, _ = image
    with pytest.raises(SlideError) as unknown:
        read_image(folder, channels=[2])
    assert unknown.value.code == Code.CHANNEL_NOT_THERE
    broken = tmp_path / "broken.zarr"
    shutil.copytree(folder, broken)
    shutil.rmtree(broken / "0" / "c" / "1")
    with pytest.raises(SlideError) as lost:
        read_image(broken, um_per_px=0.5)
    assert lost.value.code == Code.MULTIPLEX_UNREADABLE
    assert read_image(broken, um_per_px=0.5, channels=[0]).values.max() > 0


def test_values_that_are_no_numbers_are_left_out_of_the_mean(tmp_path):
    picture = np.ones((1, 8, 8), np.float32)
    picture[0, 0, 0], picture[0, 4:6, 4:6] = np.nan, np.inf
    write_pyramid(tmp_path / "a.zarr", picture.shape, picture.dtype, lambda _: iter([picture[0]]), ["CD3"], 0.5)
    halved = read_image(tmp_path / "a.zarr", um_per_px=1.0).values[0]
    expected = np.ones((4, 4))
    expected[2, 2] = 0
    assert np.array_equal(halved, expected)
