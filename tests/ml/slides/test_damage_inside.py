"""Damage deep inside a slide, levels that are no whole multiples: found, named with their place, and nothing is shifted."""

import numpy as np
import pytest
import tifffile

from ml.slides.check import check_slide
from ml.slides.findings import FindingCode as Code
from ml.slides.grid import tile_grid
from ml.slides.reader import open_slide
from ml.slides.tissue import tissue_mask

JPEG = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}, "metadata": None}


@pytest.fixture(scope="module")
def wide(tmp_path_factory, make_picture):
    """A JPEG pyramid of 16 x 12 tiles of 256 px."""
    path = tmp_path_factory.mktemp("wide") / "wide.tif"
    picture = make_picture(4096, 3072)
    with tifffile.TiffWriter(path) as writer:
        for factor in (1, 2):
            resolution = {"resolution": (1e4 / (0.5 * factor),) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(
                np.ascontiguousarray(picture[::factor, ::factor]), tile=(256, 256), subfiletype=int(factor > 1), **resolution, **JPEG
            )
    return path


def damaged(path, target, index, level=0):
    """A copy with one tile's bytes zeroed."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[level]
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(("col", "row"), [(2, 1), (7, 6), (13, 10)])
def test_a_damaged_tile_that_no_probe_meets_waits_with_its_place(wide, tmp_path, col, row):
    assert check_slide(wide).state == "ready"
    report = check_slide(damaged(wide, tmp_path / "a.tif", row * 16 + col))
    found = next(f for f in report.findings if f.severity == "error")
    assert (report.state, found.code) == ("needs attention", Code.TILE_DAMAGED)
    assert found.sentence.startswith("1 of 192 tiles") and f"x {col * 256}, y {row * 256} px0" in found.where


def test_a_damaged_tile_of_a_lower_level_is_found_too(wide, tmp_path):
    report = check_slide(damaged(wide, tmp_path / "a.tif", 2 * 8 + 1, level=1))
    assert Code.TILE_DAMAGED in report.codes and "IFD 1, x 512, y 1024 px0" in {f.where for f in report.findings}


def test_a_level_that_is_no_whole_multiple_is_named_and_read_at_the_right_place(tmp_path, make_picture):
    """Level 1 is 2.5 times smaller: a square of known um on it is found where it is."""
    from PIL import Image

    picture = np.full((1000, 1500, 3), (240, 238, 241), np.uint8)
    picture[400:640, 600:840] = (90, 50, 130)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for factor in (1.0, 2.5):
            size = (round(1500 / factor), round(1000 / factor))
            small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            resolution = {"resolution": (1e4 / (0.5 * factor),) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(
                small, tile=(256, 256), photometric="rgb", subfiletype=int(factor > 1), metadata=None, compression="deflate", **resolution
            )
    report = check_slide(path)
    found = next(f for f in report.findings if f.code == Code.LEVEL_NOT_INTEGER)
    assert report.state == "ready" and (found.severity, found.where) == ("info", "level 1") and "2.5 times" in found.sentence
    with open_slide(path) as slide:
        assert slide.best_level(1.25 / 0.5) == 1
        seen = slide.read(0, 0, 600, 1.25, 400)
        rows, cols = np.nonzero(seen[..., 1] < 140)
        assert (rows.min() * 1.25, cols.min() * 1.25) == pytest.approx((200.0, 300.0), abs=1.3)
        assert ((rows.max() + 1) * 1.25, (cols.max() + 1) * 1.25) == pytest.approx((320.0, 420.0), abs=1.3)
        mask = tissue_mask(slide)
        assert mask.area_mm2 == pytest.approx(0.12**2, rel=0.2)
        grid = tile_grid(mask, slide, 24.0, 24.0, min_tissue=0.9)
        assert (grid.xy * 0.5 >= [290, 190]).all() and (grid.xy * 0.5 + 24 <= [430, 330]).all() and len(grid) >= 9


def test_rounded_level_sizes_are_no_finding(tmp_path, make_pyramid, make_picture):
    report = check_slide(make_pyramid(tmp_path / "a.tif", make_picture(1403, 1101), factors=(1, 2, 4, 8)))
    assert Code.LEVEL_NOT_INTEGER not in report.codes
