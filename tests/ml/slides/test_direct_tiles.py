"""Tiles decoded straight from the file are OpenSlide's pixels, tile by tile and level by level; in doubt OpenSlide reads."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jpeg_slides import encode, tissue_like, write_jpeg_slide

from ml.slides import direct
from ml.slides.direct import DirectTiles, Undecodable, direct_tiles
from ml.slides.findings import FindingCode, SlideError
from ml.slides.reader import Slide, on_white, open_slide
from ml.slides.tiff_index import tiled_levels
from ml.types import TileGrid

WIDTH, HEIGHT = 1000, 732
several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = [
    *({"ycbcr": True, "subsampling": s, "tables": t} for s, t in product(("444", "422", "420"), (False, True))),
    *({"ycbcr": False, "tables": t} for t in (False, True)),
]


def name(kind):
    return "-".join(f"{key}={value}" for key, value in kind.items())


@pytest.fixture(scope="module")
def drawn():
    return tissue_like(WIDTH, HEIGHT, seed=5)


def reference(osr, x, y, width, height, level):
    """OpenSlide's own pixels on white; x, y in px0."""
    return np.asarray(on_white(osr.read_region((x, y), level, (width, height))))


def assert_same(path, places, how="direct JPEG"):
    """places: (level, x, y, width, height), x and y in level pixels that lie on whole px0."""
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as osr:
        assert slide.reading.how == how, slide.reading.why
        for level, x, y, width, height in places:
            x0, y0 = round(x * slide.levels[level]), round(y * slide.levels[level])
            own = slide.read_level(x0, y0, width, height, level)
            assert np.array_equal(own, reference(osr, x0, y0, width, height, level)), (level, x, y)


def everywhere(slide_sizes, side, step, shift):
    return [
        (level, x, y, side, side)
        for level, (width, height) in enumerate(slide_sizes)
        for y in range(shift - step, height, step)
        for x in range(shift - step, width, step)
    ]


@pytest.mark.parametrize("aperio", [False, True], ids=["generic", "aperio"])
@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_every_kind_of_jpeg_tile_has_openslides_pixels(tmp_path, drawn, kind, aperio):
    """On the file's own grid, on a shifted one and across all edges."""
    path = write_jpeg_slide(tmp_path / ("s.svs" if aperio else "s.tif"), drawn, aperio=aperio, **kind)
    sizes = [(WIDTH, HEIGHT), (WIDTH // 4, -(-HEIGHT // 4))]
    assert_same(path, everywhere(sizes, 256, 256, 0) + everywhere(sizes, 224, 224, 57) + everywhere(sizes, 256, 256, 100))


def test_tiles_need_not_be_square(tmp_path, drawn):
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, tile=(128, 240))
    assert_same(path, everywhere([(WIDTH, HEIGHT), (250, 183)], 240, 240, 0) + everywhere([(WIDTH, HEIGHT)], 100, 91, 13))


def test_jpeg_2000_of_aperio_has_openslides_pixels(tmp_path, drawn):
    path = write_jpeg_slide(tmp_path / "s.svs", drawn[:512, :600], aperio=True, j2k=True)
    assert_same(path, everywhere([(600, 512), (150, 128)], 256, 256, 100), how="direct JPEG 2000")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, drawn):
    """4:2:0, shared tables, a tile of the base left out."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.tif"
    return write_jpeg_slide(path, drawn, tables=True, left_out=((0, 5),))


@several
@given(
    x=st.integers(-300, WIDTH + 50),
    y=st.integers(-300, HEIGHT + 50),
    width=st.integers(1, 600),
    height=st.integers(1, 600),
    level=st.integers(0, 1),
)
def test_any_region_is_openslides(mixed, x, y, width, height, level):
    assert_same(mixed, [(level, x >> 2 * level, y >> 2 * level, width, height)])


@pytest.mark.parametrize("aperio", [False, True], ids=["generic", "aperio"])
@pytest.mark.parametrize("left_out", [((0, 0),), ((1, 0),), ((0, 0), (0, 7), (1, 0))])
def test_tiles_that_the_scanner_left_out(tmp_path, drawn, aperio, left_out):
    """A generic TIFF is white there. Of an Aperio slide OpenSlide draws coarser levels from finer ones: those levels stay with it."""
    path = write_jpeg_slide(tmp_path / ("s.svs" if aperio else "s.tif"), drawn, aperio=aperio, left_out=left_out)
    assert_same(path, everywhere([(WIDTH, HEIGHT), (250, 183)], 128, 128, 0))
    with open_slide(path) as slide:
        if (0, 0) in left_out:
            assert (slide.read(10, 10, 64, 0.5) == 255).all()
        assert ("level 1: tiles that the scanner left out" in slide.reading.why) == aperio


def test_a_level_whose_downsample_is_no_integer(tmp_path, drawn):
    """Levels of 1000 x 732 and 334 x 244: 2.997 times. The first pixels can be compared exactly, the rest by their place."""
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, factors=(1, 3))
    with open_slide(path) as slide, Slide(path, direct=False) as slow:
        assert slide.levels[1] != round(slide.levels[1])
        assert slide.reading.how == "direct JPEG"
        assert np.array_equal(slide.read_level(0, 0, 334, 244, 1), slow.read_level(0, 0, 334, 244, 1))
        xy = np.stack(np.meshgrid(np.arange(0, 800, 101), np.arange(0, 500, 97)), -1).reshape(-1, 2)
        grid = TileGrid(xy, 180.0, slide.mpp, slide.size)
        fast, reference_tiles = (s.tile_array(grid, 56).astype(int) for s in (slide, slow))
    assert np.abs(fast - reference_tiles).mean() < 2.5  # OpenSlide interpolates the fraction of a pixel once more


@several
@given(side=st.sampled_from([64.0, 75.5, 128.0, 256.0]), out=st.sampled_from([56, 64]), seed=st.integers(0, 99))
def test_tiles_of_a_grid_are_those_read_through_openslide(mixed, side, out, seed):
    rng = np.random.default_rng(seed)
    xy = np.stack([rng.integers(-100, WIDTH, 7), rng.integers(-100, HEIGHT, 7)], 1) // 4 * 4
    with open_slide(mixed) as fast, Slide(mixed, direct=False) as slow:
        grid = TileGrid(xy, side, fast.mpp, fast.size)
        if side < out / 1.25:
            return
        assert np.array_equal(fast.tile_array(grid, out), slow.tile_array(grid, out))
        assert np.array_equal(fast.overview(16.0), slow.overview(16.0))


# --- what is damaged is told, as strictly as OpenSlide does, and hurts nothing else


DAMAGE = {
    "second half zero": lambda d: d[: len(d) // 2] + bytes(len(d) - len(d) // 2),
    "no end marker": lambda d: d[:-2] + b"\0\0",
    "ends early": lambda d: d[: len(d) // 2] + b"\xff\xd9" + d[len(d) // 2 + 2 :],
    "a marker inside": lambda d: d[: len(d) // 2] + b"\xff\xc0" + d[len(d) // 2 + 2 :],
    "no start": lambda d: b"\0\0" + d[2:],
    "restart markers out of place": lambda d: d[: len(d) // 2] + b"\xff\xd3" + d[len(d) // 2 + 2 :],
    "all zero": lambda d: bytes(len(d)),
    "other size": lambda d: encode(np.zeros((512, 512, 3), np.uint8), True, "420")[: len(d)].ljust(len(d), b"\0"),
}


def damage(path, tile, how):
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[tile], tif.pages[0].databytecounts[tile]
    with path.open("r+b") as stream:
        stream.seek(offset)
        data = how(stream.read(count))
        assert len(data) == count
        stream.seek(offset)
        stream.write(data)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_tile_is_judged_as_openslide_judges_it(tmp_path, drawn, how):
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, factors=(1,))
    damage(path, 5, DAMAGE[how])
    x, y = 256, 256
    with openslide.OpenSlide(str(path)) as osr:
        try:
            expected = reference(osr, x, y, 256, 256, 0)
        except openslide.OpenSlideError:
            expected = None
    with open_slide(path) as slide, openslide.OpenSlide(str(path)) as osr:
        assert slide.reading.how == "direct JPEG"
        if expected is None:
            with pytest.raises(SlideError) as caught:
                slide.read_level(x, y, 256, 256)
            assert caught.value.code == FindingCode.TILE_UNREADABLE
            assert caught.value.where == "level 0, x 256, y 256 px0"
        else:
            assert np.array_equal(slide.read_level(x, y, 256, 256), expected)
        assert np.array_equal(slide.read_level(0, 0, 512, 256), reference(osr, 0, 0, 512, 256, 0))


def test_a_cut_file_keeps_the_tiles_that_are_there(tmp_path, drawn):
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, factors=(1,))
    with tifffile.TiffFile(path) as tif:
        end = tif.pages[0].dataoffsets[9] + 10
    whole = reference(openslide.OpenSlide(str(path)), 0, 0, 512, 512, 0)
    with path.open("r+b") as stream:
        stream.truncate(end)
    try:
        slide = open_slide(path)
    except SlideError:
        return  # the directory stood behind the tiles
    with slide:
        assert np.array_equal(slide.read_level(0, 0, 512, 512), whole)
        with pytest.raises(SlideError):
            slide.read_level(256, 512, 256, 200)


# --- when in doubt, OpenSlide


def test_a_slide_of_another_codec_stays_with_openslide(pyramid):
    with open_slide(pyramid) as slide:
        assert slide.reading.how == "OpenSlide"
        assert "DEFLATE" in slide.reading.why and slide.reading.why.endswith(".")


def test_openslide_can_be_asked_for(mixed):
    with Slide(mixed, direct=False) as slide:
        slide.read(0, 0, 64, 0.5)
        assert slide.reading.how == "OpenSlide"


def test_other_pixels_than_openslides_take_the_slide_back(mixed):
    with openslide.OpenSlide(str(mixed)) as osr:
        sizes, scales = tuple(osr.level_dimensions), tuple(osr.level_downsamples)
        agreed, reading = direct_tiles(mixed, "generic-tiff", sizes, scales, lambda *a: reference(osr, *a))
        assert agreed is not None and reading.how == "direct JPEG"

        def one_grey_level_off(*place):
            return reference(osr, *place) ^ np.uint8(place[4] == 1)

        refused, reading = direct_tiles(mixed, "generic-tiff", sizes, scales, one_grey_level_off)
    assert refused is None and reading.how == "OpenSlide" and "level 1" in reading.why


@pytest.mark.parametrize("vendor", ["philips", "ventana", "hamamatsu", "dicom"])
def test_formats_whose_levels_are_no_plain_grids_stay_with_openslide(mixed, vendor):
    tiles, reading = direct_tiles(mixed, vendor, ((WIDTH, HEIGHT),), (1.0,), lambda *a: pytest.fail("nothing is to be compared"))
    assert tiles is None and vendor in reading.why


def test_two_pages_of_one_size_are_not_guessed_between(tmp_path, drawn):
    path = tmp_path / "twice.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(drawn, tile=(256, 256), photometric="rgb", compression="jpeg", metadata=None)
    levels, why = tiled_levels(path, ((WIDTH, HEIGHT),))
    assert not levels and "several pages" in why


def test_a_file_that_is_no_tiff_has_no_index(tmp_path):
    path = tmp_path / "page.svs"
    path.write_text("<html></html>")
    levels, why = tiled_levels(path, ((10, 10),))
    assert not levels and "cannot be read" in why


def test_a_stream_larger_than_its_tile_is_not_decoded(tmp_path, drawn):
    """What a stream claims about its size must not decide how much memory is taken."""
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, factors=(1,))
    levels, _ = tiled_levels(path, ((WIDTH, HEIGHT),))
    with pytest.raises(Undecodable):
        direct._decode_jpeg(encode(np.zeros((4096, 4096, 3), np.uint8), True, "420"), levels[0], np.empty((256, 256, 3), np.uint8))


# --- memory and threads


def test_a_grid_of_224_px_decodes_each_tile_once(mixed):
    xy = np.array([(x, y) for y in range(0, HEIGHT, 224) for x in range(0, WIDTH, 224)])
    with open_slide(mixed) as slide:
        assert slide.reading.how == "direct JPEG"
        before = slide._tiles.decoded
        for _ in slide.tiles(TileGrid(xy, 224.0, slide.mpp, slide.size), 224, batch=4):
            pass
        assert slide._tiles.decoded - before <= 4 * 3 - 1  # one of the twelve is left out


def test_the_cache_is_bounded_and_safe_between_threads(mixed):
    levels, _ = tiled_levels(mixed, ((WIDTH, HEIGHT), (250, 183)))
    with openslide.OpenSlide(str(mixed)) as osr:
        expected = [reference(osr, 0, 0, *size, level) for level, size in enumerate(((WIDTH, HEIGHT), (250, 183)))]
    tiles = DirectTiles(mixed, levels, cache_bytes=0)
    tiles.caches[0].slots = 2  # smaller than what the threads read at a time

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            level = int(rng.random() < 0.3)
            width, height = levels[level].size
            x, y, side = int(rng.integers(0, width)), int(rng.integers(0, height)), int(rng.integers(1, 400))
            own = tiles.region(level, x, y, side, side)
            part = expected[level][y : y + side, x : x + side]
            assert np.array_equal(own[: part.shape[0], : part.shape[1]], part)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))
    assert tiles.caches[0].held_bytes <= 32 * levels[0].tile_bytes
    assert len(tiles.caches[0]._kept) <= 32


def test_threads_that_meet_a_bad_tile_do_not_hurt_each_other(tmp_path, drawn):
    """OpenSlide refuses everything after a failed read; a read of another thread on the same handle must not fail with it."""
    path = write_jpeg_slide(tmp_path / "s.tif", drawn, factors=(1,))
    damage(path, 5, DAMAGE["ends early"])
    with Slide(path, direct=False) as slide, openslide.OpenSlide(str(path)) as osr:
        good = reference(osr, 0, 0, 256, 256, 0)

        def read(i):
            if i % 3 == 0:
                with pytest.raises(SlideError):
                    slide.read_level(256, 256, 100, 100)
                return True
            return np.array_equal(slide.read_level(0, 0, 256, 256), good)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(60)))


def test_a_closed_slide_keeps_no_file_open(mixed):
    def handles():
        gc.collect()
        return sum(os.path.realpath(f"/proc/self/fd/{n}") == str(mixed.resolve()) for n in os.listdir("/proc/self/fd"))

    before = handles()
    slide = open_slide(mixed)
    slide.read(0, 0, 64, 0.5)
    assert handles() > before
    slide.close()
    assert handles() == before


# --- real slides


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "how"),
    [("cmu-1-small-region.svs", "direct JPEG"), ("tcga-cr-7395-01a-01-ts1.svs", "direct JPEG 2000"), ("small.svs", "direct JPEG")],
)
def test_all_of_a_real_slide_is_openslides(data, file, how):
    with open_slide(data / "wsi" / file) as slide:
        places = everywhere([slide.size], 256, 256, 0) + everywhere([slide.size], 448, 448, 31)
        width, height = slide._level_sizes[-1]
        places.append((len(slide.levels) - 1, 0, 0, min(width, 700), min(height, 700)))
    assert_same(data / "wsi" / file, places, how)


@pytest.mark.realdata
def test_how_the_other_real_slides_are_read(data):
    for file in ("boxes.tiff", "no_dzi.tif", "yb10kx5k.zstd.tiff", "multiframe_camelyon_challenge_image.dcm"):
        with open_slide(data / "wsi" / file) as slide:
            assert slide.reading.how == "OpenSlide" and slide.reading.why.endswith(".")
