"""Where the tissue is, and which tiles lie on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml.slides.grid import tile_grid, tissue_share
from ml.slides.masks import otsu
from ml.slides.reader import open_slide
from ml.slides.tissue import TissueMask, mask_of, tissue_mask


def test_the_drawn_tissue_is_found(pyramid):
    with open_slide(pyramid) as slide:
        mask = tissue_mask(slide)
    truth = np.pi * (1400 * 0.35 * 0.5e-3) * (1100 * 0.35 * 0.5e-3)
    assert mask.area_mm2 == pytest.approx(truth, rel=0.05)
    assert mask.cell_um == 8.0 and mask.cell_px0 == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize("grey", [0, 30, 128, 200, 255])
def test_a_picture_without_colour_has_no_tissue(grey):
    noise = np.random.default_rng(0).integers(-4, 5, (80, 80, 1))
    picture = np.clip(np.full((80, 80, 3), grey) + noise, 0, 255).astype(np.uint8)
    assert not mask_of(picture, 8.0).mask.any()


def test_tinted_glass_is_glass():
    picture = np.full((80, 80, 3), (238, 228, 216), np.uint8)
    picture[20:60, 20:60] = (205, 130, 170)
    mask = mask_of(picture, 8.0).mask
    assert mask[25:55, 25:55].all() and not mask[:15].any()


def test_a_slide_full_of_tissue_stays_whole():
    rng = np.random.default_rng(1)
    picture = (np.array([215, 150, 185]) + rng.integers(-15, 16, (60, 60, 3))).astype(np.uint8)
    assert mask_of(picture, 8.0).mask.mean() > 0.99


def test_specks_go_and_holes_are_filled():
    picture = np.full((120, 120, 3), 240, np.uint8)
    picture[20:80, 20:80] = (210, 140, 180)
    picture[45:50, 45:50] = 240
    picture[100:105, 100:105] = (210, 140, 180)
    mask = mask_of(picture, 8.0).mask
    assert mask[47, 47] and not mask[90:].any()


def test_otsu_parts_two_classes():
    values = np.concatenate([np.full(500, 20.0), np.full(300, 120.0)]).astype(np.float32)
    assert 20 < otsu(values) <= 120


def brute_share(mask, cell, x, y, side):
    """Sum over cells of overlap area, written as the definition says."""
    total = 0.0
    for r, c in zip(*np.nonzero(mask)):
        across = max(0.0, min(x + side, (c + 1) * cell) - max(x, c * cell))
        down = max(0.0, min(y + side, (r + 1) * cell) - max(y, r * cell))
        total += across * down
    return total / side**2


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    cell=st.floats(0.7, 30.0),
    side=st.floats(1.0, 60.0),
    xs=st.lists(st.integers(0, 200), min_size=1, max_size=4),
    ys=st.lists(st.integers(0, 200), min_size=1, max_size=4),
)
def test_the_summed_area_table_gives_the_exact_share(mask, cell, side, xs, ys):
    share = tissue_share(mask, cell, np.array(xs), np.array(ys), side)
    expected = [[brute_share(mask, cell, x, y, side) for x in xs] for y in ys]
    assert np.allclose(share, expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(50, 5000),
    height=st.integers(50, 5000),
    mpp=st.floats(0.1, 1.2),
    tile_um=st.floats(20, 130),
    overlap=st.floats(0.4, 1.5),
)
def test_tiles_lie_on_the_slide_row_by_row_and_touch(width, height, mpp, tile_um, overlap):
    slide = FakeSlide((width, height), mpp)
    mask = TissueMask(np.ones((-(-height // 16), -(-width // 16)), bool), 16 * mpp, 16.0, 20.0)
    grid = tile_grid(mask, slide, tile_um, tile_um * overlap)
    side, step = tile_um / mpp, tile_um * overlap / mpp
    assert grid.tile_um == pytest.approx(tile_um)
    assert (grid.xy >= 0).all() and (grid.xy + side <= np.array([width, height]) + 0.5).all()
    assert np.allclose(grid.tissue, 1.0)
    for axis, length in enumerate((width, height)):
        starts = np.unique(grid.xy[:, axis])
        assert np.abs(np.diff(starts) - step).max(initial=0) <= 1.0
        if len(starts):
            assert length - (starts[-1] + side) < step + 1
    order = np.lexsort((grid.xy[:, 0], grid.xy[:, 1]))
    assert (order == np.arange(len(grid))).all()


class FakeSlide:
    """Only what a grid needs of a slide: its size and its um per px0."""

    def __init__(self, size, mpp):
        self.size, self.mpp = size, mpp

    def need_mpp(self):
        return self.mpp


def test_only_tiles_with_enough_tissue_are_kept(pyramid):
    with open_slide(pyramid) as slide:
        mask = tissue_mask(slide)
        some, all_of_it = tile_grid(mask, slide, min_tissue=0.3), tile_grid(mask, slide, min_tissue=0.999)
    assert (some.tissue >= 0.3 - 1e-6).all() and some.tissue.min() < 0.9
    assert 0 < len(all_of_it) < len(some)


def test_a_slide_smaller_than_a_tile_gives_an_empty_grid():
    mask = TissueMask(np.ones((2, 2), bool), 8.0, 16.0, 20.0)
    assert len(tile_grid(mask, FakeSlide((32, 32), 0.5))) == 0
