"""A map by physical size: the right cell at any stride, the mean where tiles overlap, and one half-width per cell or none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.hex.errors import HexDataError
from ml.hex.maps import to_map
from ml.types import TileGrid


def lattice(rows, cols, random, share=0.5):
    """Places (k, 2) row, col of a grid with holes; the corners that fix its origin and step are kept."""
    keep = sorted({0, 1, cols, rows * cols - 1, *random.sample(range(rows * cols), int(rows * cols * share))})
    return np.stack(np.divmod(np.array(keep), cols), axis=1)


@given(
    st.integers(2, 12),
    st.integers(2, 12),
    st.floats(20, 500),
    st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    st.randoms(use_true_random=False),
)
def test_side_by_side_every_tile_is_its_own_cell(rows, cols, side, origin, random):
    row, col = lattice(rows, cols, random).T
    xy = np.floor(np.stack([col, row], axis=1) * side + np.array(origin)).astype(np.int64)
    grid = TileGrid(xy, side, 0.25, (20000, 20000))
    values = np.arange(len(xy), dtype=np.float32)[:, None]
    for step_um in (None, side * 0.25):
        laid = to_map(values, grid, ("a",), out_of_range=values[:, 0], step_um=step_um)
        assert laid.pitch_um == pytest.approx(side * 0.25) and laid.step_px0 == pytest.approx(side)
        np.testing.assert_array_equal(laid.values[0, row - row.min(), col - col.min()], values[:, 0])
        assert np.isfinite(laid.values).sum() == np.isfinite(laid.out_of_range).sum() == len(xy)
        assert laid.origin_px0 == (float(xy[:, 0].min()), float(xy[:, 1].min()))


def mean_over_centres(values, xy, tile, step, shape):
    """The definition, cell by cell: the mean of the tiles that cover its centre."""
    found = np.full((values.shape[1], *shape), np.nan)
    for row, col in np.ndindex(*shape):
        x, y = (np.array([col, row]) + 0.5) * step
        over = (xy[:, 0] <= x) & (x < xy[:, 0] + tile - 1e-6) & (xy[:, 1] <= y) & (y < xy[:, 1] + tile - 1e-6)
        if over.any():
            found[:, row, col] = values[over].mean(axis=0)
    return found


@given(
    st.integers(2, 9),
    st.integers(2, 9),
    st.floats(3, 60),
    st.one_of(st.sampled_from([1.5, 2.0, 2.5, 4.0, 16.0]), st.floats(1.1, 8)),
    st.randoms(use_true_random=False),
)
def test_overlapping_a_cell_is_the_mean_of_the_tiles_over_its_centre(rows, cols, step, tiles, random):
    places = lattice(rows, cols, random)
    exact = places[:, ::-1] * step
    grid = TileGrid(np.rint(exact).astype(np.int64), tiles * step, 0.5, (9000, 9000))
    values = np.random.default_rng(len(places)).random((len(places), 2)).astype(np.float32)
    laid = to_map(values, grid, ("a", "b"), out_of_range=values[:, 1] * 9, step_um=step * 0.5)
    expected = mean_over_centres(values, exact, tiles * step, step, laid.values.shape[1:])
    np.testing.assert_allclose(laid.values, expected, atol=1e-6)
    np.testing.assert_allclose(laid.out_of_range, expected[1] * 9, atol=1e-5)
    last = (np.array(laid.values.shape[:0:-1]) - 1 + 0.5) * step
    assert (last <= exact.max(axis=0) + tiles * step).all(), "no row or column of cells lies beyond every tile"


def test_14_px_of_a_40x_slide_is_a_pitch_of_3_5_um():
    xy = np.array([(x, y) for y in range(0, 140, 14) for x in range(0, 280, 14)])
    values = np.linspace(0, 1, len(xy), dtype=np.float32)[:, None]
    laid = to_map(values, TileGrid(xy, 224.0, 0.25, (900, 900)), ("a",), effective_resolution_um=112.0)
    assert laid.pitch_um == 3.5 and laid.step_px0 == 14 and laid.values.shape == (1, 10 + 15, 20 + 15)
    assert laid.effective_resolution_um == 112, "a finer pitch is no finer resolution"
    assert laid.values[0, 0, 0] == values[0, 0] and laid.values[0, 24, 34] == values[-1, 0]
    assert laid.values[0, 12, 17] == pytest.approx(values[:, 0].reshape(10, 20)[:, 2:18].mean(), abs=1e-6)


@pytest.mark.parametrize("mpp", [0.25, 0.2527, 0.5047])
def test_the_physical_size_decides_and_is_not_truncated(mpp):
    """The released code steps by whole 224 px whatever the um per pixel; over 150 tiles that is several cells off."""
    from ml.slides.grid import tile_grid
    from ml.slides.tissue import TissueMask

    class Scan:
        size = (int(150 * 56 / mpp) + 40, 2 * 300)

        def need_mpp(self):
            return mpp

    mask = TissueMask(np.ones((600 // 8, Scan.size[0] // 8 + 1), bool), 8 * mpp, 8.0, 10.0)
    grid = tile_grid(mask, Scan(), 56.0, 56.0)
    laid = to_map(np.arange(len(grid), dtype=np.float32)[:, None], grid, ("a",), step_um=56.0)
    assert laid.pitch_um == 56.0 and laid.values.shape[2] == 150 and np.isfinite(laid.values).all()
    measured = to_map(np.arange(len(grid), dtype=np.float32)[:, None], grid, ("a",))
    np.testing.assert_array_equal(measured.values, laid.values)
    assert measured.pitch_um == pytest.approx(56.0, rel=1e-4)


def test_two_tiles_in_one_cell_are_averaged():
    xy = np.array([(0, 0), (100, 0), (101, 1), (200, 0), (0, 100)])
    laid = to_map(np.array([[1], [2], [4], [5], [6]], np.float32), TileGrid(xy, 100.0, 0.5, (900, 900)), ("a",), step_um=50.0)
    np.testing.assert_array_equal(laid.values, [[[1, 3, 5], [6, np.nan, np.nan]]])


def test_a_cell_has_no_interval_where_one_of_its_tiles_has_none():
    xy = np.array([(x, 0) for x in range(0, 300, 100)])
    spread = np.array([[0.1, 0.2], [0.1, np.nan], [0.1, 0.2]], np.float32)
    values = np.ones((3, 2), np.float32)
    plain = to_map(values, TileGrid(xy, 100.0, 0.5, (900, 900)), ("a", "b"), spread=spread)
    np.testing.assert_array_equal(plain.spread[:, 0], spread.T)
    over = to_map(values, TileGrid(xy, 200.0, 0.5, (900, 900)), ("a", "b"), spread=spread, step_um=50.0)
    np.testing.assert_allclose(over.spread[:, 0], [[0.1] * 4, [0.2, np.nan, np.nan, 0.2]])
    np.testing.assert_array_equal(over.values, 1)


@pytest.mark.parametrize(
    ("values", "step_um", "said"),
    [
        (np.ones((2, 1), np.float32), None, "one row per tile"),
        (np.ones((3, 2), np.float32), None, "one row per tile"),
        (np.array([[1], [np.nan], [1]], np.float32), None, "The prediction of a in row 1 is no number."),
        (np.ones((3, 1), np.float32), 33.0, "px off the grid of 33 um."),
    ],
)
def test_what_does_not_fit_is_refused(values, step_um, said):
    grid = TileGrid(np.array([(0, 0), (100, 0), (0, 100)]), 100.0, 0.5, (900, 900))
    with pytest.raises(HexDataError, match=said):
        to_map(values, grid, ("a",), step_um=step_um)
