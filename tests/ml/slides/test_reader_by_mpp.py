"""A slide is read by physical size: right place, right scale, right level, and never finer than it was scanned."""

import math

import numpy as np
import openslide
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.slides.findings import FindingCode, SlideError
from ml.slides.reader import on_white, open_slide
from ml.types import TileGrid

several = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_facts_of_an_open_slide(pyramid):
    with open_slide(pyramid) as slide:
        assert slide.size == (1400, 1100)
        assert slide.mpp == pytest.approx(0.5, rel=1e-4)
        assert (slide.mpp_source, slide.vendor) == ("header", "generic-tiff")
        assert slide.levels == pytest.approx((1, 2, 4), rel=0.01)


def test_an_override_wins_over_the_header(pyramid):
    with open_slide(pyramid, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "override")


@several
@given(x=st.integers(-50, 1390), y=st.integers(-50, 1090), side=st.integers(1, 200))
def test_at_the_scanned_resolution_pixels_are_openslides_own(pyramid, x, y, side):
    with open_slide(pyramid) as slide, openslide.OpenSlide(str(pyramid)) as reference:
        own = slide.read(x, y, side, slide.mpp)
        assert np.array_equal(own, np.asarray(on_white(reference.read_region((x, y), 0, (side, side)))))


@several
@given(x=st.integers(0, 900), y=st.integers(0, 600), out=st.integers(8, 64), downsample=st.floats(1.0, 7.0))
def test_coarser_reads_agree_with_a_resize_of_the_base(make_picture, flat_slide, x, y, out, downsample):
    """The base read by OpenSlide and resized by Pillow is the reference; only level 0 exists, so both filter the same pixels."""
    path, base = flat_slide
    with open_slide(path) as slide:
        own = slide.read(x, y, out, slide.mpp * downsample)
    box = (x, y, x + out * downsample, y + out * downsample)
    if box[2] > base.shape[1] or box[3] > base.shape[0]:
        return
    reference = np.asarray(Image.fromarray(base).resize((out, out), Image.Resampling.BILINEAR, box=box))
    inner = slice(2, -2)
    assert np.abs(own[inner, inner].astype(int) - reference[inner, inner]).max() <= 2


@pytest.fixture(scope="module")
def flat_slide(tmp_path_factory, make_picture, make_pyramid):
    picture = make_picture(1400, 1100, seed=3)
    return make_pyramid(tmp_path_factory.mktemp("flat") / "flat.tif", picture, factors=(1,)), picture


@several
@given(x=st.floats(0, 800), y=st.floats(0, 500), downsample=st.floats(2.1, 6.0))
def test_a_ramp_keeps_its_place_on_every_level(ramp, x, y, downsample):
    """The red channel of the ramp is x / 6: the mean of a read tells where it was, to within a level-0 pixel or two."""
    with open_slide(ramp) as slide:
        own = slide.read(x, y, 20, slide.mpp * downsample)
    centre = x + 20 * downsample / 2
    assert own[..., 0].mean() == pytest.approx((centre - 0.5) / 6, abs=0.6)


@several
@given(x=st.floats(-300, 1600), y=st.floats(-300, 1300), out=st.integers(1, 40), downsample=st.floats(0.8, 30.0))
def test_any_place_can_be_read(ramp, x, y, out, downsample):
    with open_slide(ramp) as slide:
        own = slide.read(x, y, out, slide.mpp * downsample, height_out=out + 3)
        right, bottom = x + out * downsample, y + (out + 3) * downsample
        inside = x >= 0 and y >= 0 and right <= slide.size[0] - 8 and bottom <= slide.size[1] - 8
    assert own.shape == (out + 3, out, 3)
    if inside:  # no white from beyond the edge is mixed in
        assert own[..., 0].max() <= right / 6 + 1


@pytest.fixture(scope="module")
def ramp(tmp_path_factory, make_pyramid):
    x = np.arange(1400) / 6
    picture = np.repeat(np.repeat(np.rint(x).astype(np.uint8)[None, :, None], 1100, 0), 3, 2)
    return make_pyramid(tmp_path_factory.mktemp("ramp") / "ramp.tif", np.ascontiguousarray(picture))


@given(downsample=st.floats(0.8, 40.0))
def test_the_level_is_never_coarser_than_asked(pyramid, downsample):
    with open_slide(pyramid) as slide:
        chosen = slide.levels[slide.best_level(downsample)]
        assert chosen <= max(1.0, downsample * 1.01)
        assert not any(chosen < level <= downsample for level in slide.levels)


def test_detail_is_never_invented(pyramid):
    with open_slide(pyramid, mpp=28.97) as slide:
        with pytest.raises(SlideError) as caught:
            slide.read(0, 0, 224, 0.5)
        assert caught.value.code == FindingCode.LEVEL_TOO_LOW
        assert "28.97" in str(caught.value)
        assert str(caught.value).endswith(".")
    with open_slide(pyramid, mpp=0.62) as slide:
        assert slide.read(0, 0, 32, 0.5).shape == (32, 32, 3)


def test_without_mpp_nothing_is_guessed(tmp_path, picture, make_pyramid):
    path = make_pyramid(tmp_path / "no_mpp.tif", picture, mpp=None)
    with open_slide(path) as slide:
        if slide.mpp is None:
            with pytest.raises(SlideError) as caught:
                slide.read(0, 0, 8, 0.5)
            assert caught.value.code == FindingCode.MPP_MISSING
        else:
            assert slide.mpp > 100  # a default dpi tag; the check refuses it


def test_beyond_the_slide_is_white(pyramid):
    with open_slide(pyramid) as slide:
        assert (slide.read(-500, -500, 64, 1.0) == 255).all()


@several
@given(
    corners=st.lists(st.tuples(st.integers(0, 1270), st.integers(0, 970)), min_size=1, max_size=30),
    side=st.floats(60.0, 128.0),
    batch=st.integers(1, 12),
)
def test_batched_tiles_are_the_single_reads(pyramid, corners, side, batch):
    with open_slide(pyramid) as slide:
        grid = TileGrid(np.array(corners, np.int64), side, slide.mpp, slide.size)
        batches = list(slide.tiles(grid, 56, batch))
        assert [len(b) for b in batches] == [min(batch, len(corners) - i) for i in range(0, len(corners), batch)]
        together = np.concatenate(batches)
        single = np.stack([slide.read(x, y, 56, grid.tile_um / 56) for x, y in corners])
        assert np.abs(together.astype(int) - single).max() <= 1
        assert np.array_equal(slide.tile_array(grid, 56).shape, together.shape)


def test_an_overview_covers_the_whole_slide(pyramid, picture):
    with open_slide(pyramid) as slide:
        overview = slide.overview(16.0)
    assert overview.shape == (math.ceil(1100 / 16), math.ceil(1400 / 16), 3)
    means = picture[:1088, :1392].reshape(68, 16, 87, 16, 3).mean((1, 3))
    assert np.abs(overview[2:66, 2:85].astype(float) - means[2:66, 2:85]).mean() < 6


def test_a_missing_file_is_named_without_its_folder(tmp_path):
    with pytest.raises(SlideError) as caught:
        open_slide(tmp_path / "gone.svs")
    assert caught.value.code == FindingCode.FILE_MISSING
    assert "gone.svs" in str(caught.value) and str(tmp_path) not in str(caught.value)
