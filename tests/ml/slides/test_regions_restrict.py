"""Regions restrict a tissue mask by exact area: holes respected, overlaps once, exclusions win."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, Polygon, box

from ml.slides.regions import Region, coverage, from_json, repaired, restrict, to_json
from ml.slides.tissue import TissueMask

CELL = 4.5
ROWS, COLS = 14, 17


def mask(full: bool = True) -> TissueMask:
    cells = np.ones((ROWS, COLS), bool)
    if not full:
        cells[::2] = False
    return TissueMask(cells, cell_um=8.0, cell_px0=CELL, threshold=20.0)


def area_by_cell(geometry) -> np.ndarray:
    """The same by cutting out every cell: slow and plain."""
    y, x = np.mgrid[0:ROWS, 0:COLS] * CELL
    return shapely.area(shapely.intersection(shapely.box(x, y, x + CELL, y + CELL), geometry)) / CELL**2


hundredths = st.integers(-1500, 9000).map(lambda n: n / 100)
coordinates = st.tuples(hundredths, hundredths)
outlines = st.lists(coordinates, min_size=3, max_size=9).map(lambda p: repaired(Polygon(p))).filter(lambda g: g.area > 0.01)


@settings(max_examples=40)
@given(outlines, outlines)
def test_coverage_is_the_exact_area(outline, hole):
    # On a fine grid of coordinates: cutting out a cell from a sliver of 1e-16 px0 gives GEOS the whole cell.
    made = (outline, shapely.difference(outline, hole), shapely.union(outline, hole))
    for geometry in shapely.set_precision(made, 1e-4):
        assert np.abs(coverage(geometry, (ROWS, COLS), CELL) - area_by_cell(geometry)).max() < 1e-4


def test_coverage_of_outlines_on_the_borders_of_cells():
    assert coverage(box(0, 0, COLS * CELL, ROWS * CELL), (ROWS, COLS), CELL).min() == pytest.approx(1)
    one = coverage(box(2 * CELL, 3 * CELL, 3 * CELL, 4 * CELL), (ROWS, COLS), CELL)
    assert one[3, 2] == pytest.approx(1) and one.sum() == pytest.approx(1)
    assert coverage(box(500, 500, 600, 600), (ROWS, COLS), CELL).sum() == 0
    last = coverage(box((COLS - 0.5) * CELL, 0, 1000, CELL), (ROWS, COLS), CELL)
    assert last[0, -1] == pytest.approx(0.5) and last.sum() == pytest.approx(0.5)


def test_a_hole_and_an_exclusion_take_tissue_away():
    ground = Region(box(0, 0, 60, 60).difference(box(18, 18, 36, 36)))
    kept = restrict(mask(), [ground]).mask
    assert kept[1, 1] and not kept[5, 5]
    without = restrict(mask(), [ground], [Region(box(0, 0, 12, 60))]).mask
    assert not without[:, :2].any() and without[1, 5]


def test_only_exclusions_leave_the_rest():
    kept = restrict(mask(), [], [Region(box(0, 0, 9, 9))]).mask
    assert kept.sum() == ROWS * COLS - 4


def test_overlapping_regions_count_once_and_no_region_brings_back_glass():
    twice = [Region(box(0, 0, 40, 40)), Region(box(20, 20, 50, 50))]
    kept = restrict(mask(full=False), twice).mask
    assert kept.any() and not kept[::2].any()
    assert np.array_equal(kept, restrict(mask(full=False), twice[::-1]).mask)


def test_lines_and_points_restrict_nothing():
    marks = [Region(LineString([(0, 0), (30, 30)])), Region(Point(3, 3))]
    assert restrict(mask(), marks, marks).mask.all()


def test_a_region_off_the_tissue_leaves_nothing():
    assert not restrict(mask(), [Region(box(1000, 1000, 1100, 1100))]).mask.any()


@settings(max_examples=40)
@given(outlines)
def test_the_area_that_is_left_is_the_area_of_the_region(outline):
    """A cell is in or out as a whole, so the difference is at most half of the cells on the border."""
    whole = mask()
    inside = shapely.intersection(outline, box(0, 0, COLS * CELL, ROWS * CELL))
    kept = restrict(whole, [Region(outline)]).mask
    border = ((area_by_cell(inside) > 1e-6) & (area_by_cell(inside) < 1 - 1e-6)).sum()
    assert abs(kept.sum() - inside.area / CELL**2) <= border / 2 + 1e-3


def test_a_geometry_goes_through_json():
    ground = box(0, 0, 60.123, 60).difference(Point(20, 20).buffer(5))
    assert from_json(to_json(ground)).hausdorff_distance(ground) < 0.01
    assert Region(ground).area_mm2(0.5) == pytest.approx(ground.area * 0.25e-6)
