"""View tiles are those of openslide.deepzoom; the cache of open slides survives threads, eviction and damaged files."""

import io
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from ml.slides.deepzoom import DeepZoom, SlideCache
from ml.slides.findings import FindingCode, SlideError
from ml.slides.reader import open_slide


def test_every_tile_is_openslides_tile(svs):
    with open_slide(svs) as slide, openslide.OpenSlide(str(svs)) as plain:
        own, reference = DeepZoom(slide), DeepZoomGenerator(plain, 254, 1, limit_bounds=True)
        assert own.level_count == reference.level_count
        for level, (cols, rows) in enumerate(reference.level_tiles):
            for col, row in {(0, 0), (cols - 1, rows - 1), (cols // 2, rows // 2)}:
                expected = io.BytesIO()
                reference.get_tile(level, (col, row)).save(expected, "JPEG", quality=80)
                tile = np.asarray(Image.open(io.BytesIO(own.tile(level, col, row))))
                assert np.array_equal(tile, np.asarray(Image.open(io.BytesIO(expected.getvalue()))))


def test_the_descriptor_states_the_size(pyramid):
    with open_slide(pyramid) as slide:
        root = ElementTree.fromstring(DeepZoom(slide).dzi())
        size = root.find("{*}Size")
    assert (size.get("Width"), size.get("Height")) == ("1400", "1100")
    assert (root.get("TileSize"), root.get("Overlap"), root.get("Format")) == ("254", "1", "jpeg")


@pytest.mark.parametrize("address", [(-1, 0, 0), (99, 0, 0), (11, 99, 0), (11, 0, 99), (11, -1, 0)])
def test_a_tile_that_is_not_there(pyramid, address):
    with open_slide(pyramid) as slide, pytest.raises(SlideError) as caught:
        DeepZoom(slide).tile(*address)
    assert caught.value.code == FindingCode.TILE_NOT_THERE


def test_the_cache_opens_a_slide_once_and_forgets_the_oldest(pyramid, svs):
    cache = SlideCache(capacity=1)
    first = cache(pyramid)
    assert cache(pyramid) is first
    second = cache(svs)
    assert len(cache) == 1 and cache(svs) is second
    assert first.tile(0, 0, 0)  # whoever still holds an evicted slide can go on reading
    assert cache(pyramid) is not first


def test_a_replaced_file_is_opened_anew(tmp_path, picture, make_pyramid):
    cache = SlideCache()
    path = make_pyramid(tmp_path / "a.tif", picture)
    before = cache(path)
    make_pyramid(path, np.ascontiguousarray(picture[:900, :1000]))
    assert cache(path) is not before
    assert cache(path).size == (1000, 900)


def test_many_threads_read_the_same_tiles(pyramid, svs):
    cache = SlideCache(capacity=1)

    def read(i):
        return cache((pyramid, svs)[i % 2]).tile(11, 1 + i % 3, 2)

    with ThreadPoolExecutor(8) as pool:
        tiles = list(pool.map(read, range(96)))
    assert len(set(tiles)) == 6
    assert tiles[:6] * 16 == tiles


def test_after_a_damaged_tile_the_others_can_still_be_read(tmp_path, picture, make_pyramid):
    path = make_pyramid(tmp_path / "hurt.tif", picture, factors=(1,), compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + count] = bytes(count)
    path.write_bytes(damaged)
    cache = SlideCache()
    top = cache(path).level_count - 1
    with pytest.raises(SlideError) as caught:
        cache(path).tile(top, 0, 0)
    assert caught.value.code == FindingCode.TILE_UNREADABLE
    assert cache(path).tile(top, 3, 3)


def test_a_missing_slide_is_named(tmp_path):
    with pytest.raises(SlideError) as caught:
        SlideCache()(tmp_path / "gone.tif")
    assert caught.value.code == FindingCode.FILE_MISSING
