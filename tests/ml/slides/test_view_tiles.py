"""A tile that the viewer gets from the file as it is shows OpenSlide's pixels; what the file does not hold is made once and kept."""

import io
import shutil
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from ml.slides.deepzoom import DeepZoom, SlideCache
from ml.slides.findings import FindingCode, SlideError
from ml.slides.jpeg import clean_jpeg, whole_jpeg
from ml.slides.pyramid import halve
from ml.slides.reader import open_slide
from ml.slides.scrub import make_working
from ml.slides.view_tiles import StoredTiles, kept_file, level_sizes, stored_tiles


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def split(jpeg: bytes) -> tuple[bytes, bytes]:
    """(tables-only stream, abbreviated stream) of a whole JPEG."""
    tables, rest, position = b"", b"", 2
    while jpeg[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        if jpeg[position + 1] in (0xDB, 0xC4):
            tables += jpeg[position:end]
        else:
            rest += jpeg[position:end]
        position = end
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + jpeg[position:]


def write_jpeg_tiles(path, picture, colour, abbreviated, side=256, level=85):
    """A one-level TIFF of JPEG tiles with RGB or YCbCr samples, with the tables in the TIFF's tag or in each tile."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    squares = [padded[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side)]
    subsampling = "420" if colour == "ycbcr" else "444"
    encode = {"level": level, "colorspace": "rgb", "outcolorspace": colour, "subsampling": subsampling}
    tiles = [bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(square), **encode)) for square in squares]
    options = {"subsampling": (2, 2) if colour == "ycbcr" else (1, 1)}
    if abbreviated:
        tables, tiles = split(tiles[0])[0], [split(tile)[1] for tile in tiles]
        options["jpegtables"] = tables
    common = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"outcolorspace": colour}, "metadata": None}
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, iter(tiles), shape=picture.shape, dtype="uint8", tile=(side, side), **common, **options, **size)
    return path


def all_places(tiles: StoredTiles):
    for level, (width, height) in enumerate(level_sizes(tiles.size)):
        for row in range(-(-height // tiles.tile_side)):
            for col in range(-(-width // tiles.tile_side)):
                yield level, col, row


@pytest.mark.parametrize("colour", ["rgb", "ycbcr"])
@pytest.mark.parametrize("abbreviated", [True, False])
@pytest.mark.parametrize("side", [240, 256])
def test_a_stored_tile_shows_openslides_pixels(tmp_path, make_picture, colour, abbreviated, side):
    original = write_jpeg_tiles(tmp_path / "a.tif", make_picture(1131, 777), colour, abbreviated, side)
    with tifffile.TiffFile(original) as tif:
        page = tif.pages[0]
        assert (page.photometric == 2, page.jpegtables is not None) == (colour == "rgb", abbreviated)
    assert make_working(original, tmp_path / "w.tif").lossless
    tiles = stored_tiles(tmp_path / "w.tif")
    smallest_stored = tiles.level_count - 3
    with openslide.OpenSlide(str(tmp_path / "w.tif")) as plain:
        reference = DeepZoomGenerator(plain, side, 0)
        assert (tiles.level_count, tiles.tile_side) == (reference.level_count, side)
        assert level_sizes(tiles.size) == list(reference.level_dimensions)
        # Read from its first pixel on: elsewhere OpenSlide's place in a level is a fraction, and its tile is blended.
        whole = [np.asarray(plain.read_region((0, 0), n, size).convert("RGB")) for n, size in enumerate(plain.level_dimensions)]
        compared = 0
        for level, col, row in all_places(tiles):
            shown = decoded(tiles.tile(level, col, row))
            if level < smallest_stored:
                width, height = level_sizes(tiles.size)[level]
                assert shown.shape == (min(side, height - row * side), min(side, width - col * side), 3)
                continue
            expected = whole[tiles.level_count - 1 - level][row * side : (row + 1) * side, col * side : (col + 1) * side]
            if level == tiles.level_count - 1:
                assert np.array_equal(expected, np.asarray(reference.get_tile(level, (col, row))))
            assert shown.shape == (side, side, 3)
            assert np.array_equal(shown[: expected.shape[0], : expected.shape[1]], expected), (level, col, row)
            compared += 1
    assert compared == sum(-(-w // side) * -(-h // side) for w, h in level_sizes(tiles.size)[smallest_stored:])
    with open_slide(original) as before:
        top = decoded(tiles.tile(tiles.level_count - 1, 1, 1))
        assert np.array_equal(top, before.read_level(side, side, side, side)), "and so the original's"


@pytest.mark.parametrize("colour", ["rgb", "ycbcr"])
@pytest.mark.parametrize("abbreviated", [True, False])
def test_the_colour_space_is_the_tiffs_whatever_the_stream_says(colour, abbreviated):
    """Browsers and PIL guess from JFIF, Adobe's marker and the names of the components; here the guess would be wrong half the time."""
    pixels = np.full((32, 32, 3), (200, 30, 90), np.uint8)
    data = bytes(imagecodecs.jpeg8_encode(pixels, level=95, colorspace="rgb", outcolorspace=colour, subsampling="444"))
    tables, stream = split(data) if abbreviated else (None, data)
    marked = stream[:2] + b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + b"\xff\xfe\x00\x06NAME" + stream[2:]
    told = whole_jpeg(marked, tables, rgb=colour == "rgb")
    assert np.abs(decoded(told).astype(int) - pixels).max() <= 4
    wrong = whole_jpeg(marked, tables, rgb=colour != "rgb")
    assert np.abs(decoded(wrong).astype(int) - pixels).max() > 30
    assert b"JFIF" not in told and b"NAME" not in told and told.count(b"Adobe") == 1


def test_what_is_no_jpeg_is_not_passed_on():
    whole = bytes(imagecodecs.jpeg8_encode(np.zeros((16, 16, 3), np.uint8)))
    assert whole_jpeg(b"", None, True) is None and whole_jpeg(bytes(100), None, True) is None
    assert whole_jpeg(b"\xff\xd8\xff", None, True) is None and whole_jpeg(whole, b"junk", True) is None
    assert clean_jpeg(whole_jpeg(whole, None, False)) is not None


def test_small_levels_are_halved_from_the_smallest_stored_one(svs, tmp_path):
    make_working(svs, tmp_path / "w.tif")
    tiles = stored_tiles(tmp_path / "w.tif")
    with open_slide(tmp_path / "w.tif") as slide:
        smallest = len(slide.levels) - 1
        picture = slide.read_level(0, 0, *slide.osr.level_dimensions[smallest], smallest)
    for level in range(tiles.level_count - len(slide.levels) - 1, -1, -1):
        picture = halve(picture)
        assert (picture.shape[1], picture.shape[0]) == level_sizes(tiles.size)[level]
        expected = io.BytesIO()
        Image.fromarray(picture[: tiles.tile_side, : tiles.tile_side]).save(expected, "JPEG", quality=90, subsampling=0)
        assert np.array_equal(decoded(tiles.tile(level, 0, 0)), decoded(expected.getvalue()))


def test_small_levels_are_made_once_and_kept(svs, tmp_path, monkeypatch):
    working = tmp_path / "w.tif"
    make_working(svs, working)
    first = stored_tiles(working).tile(0, 0, 0)
    kept = kept_file(working)
    assert kept.stat().st_size < 300_000 and sorted(p.name for p in tmp_path.iterdir()) == ["w.tif", kept.name]

    def refused(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(StoredTiles, "_make", refused)
    assert stored_tiles(working).tile(0, 0, 0) == first
    for damage in (b"", b"{}\n", kept.read_bytes()[:-9], kept.read_bytes().replace(b'"of": [', b'"of": [1')):
        kept.write_bytes(damage)
        with pytest.raises(AssertionError, match="made again"):
            stored_tiles(working).tile(0, 0, 0)
    monkeypatch.undo()
    assert stored_tiles(working).tile(0, 0, 0) == first
    shutil.copystat(working, kept)
    make_working(svs, working)
    again = stored_tiles(working)
    assert again._kept() is None and again.tile(0, 0, 0) == first, "of a slide that was made again they are made again"


def test_a_folder_that_cannot_be_written_costs_no_tile(svs, tmp_path, monkeypatch):
    make_working(svs, tmp_path / "w.tif")

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("ml.slides.view_tiles.whole_file", full)
    assert decoded(stored_tiles(tmp_path / "w.tif").tile(0, 0, 0)).shape == (1, 1, 3)


def test_the_descriptor_says_which_grid(tmp_path, pyramid, svs):
    make_working(svs, tmp_path / "w.tif")
    cache = SlideCache()
    grids = []
    for path in (tmp_path / "w.tif", pyramid):
        root = ElementTree.fromstring(cache(path).dzi())
        size = root.find("{*}Size")
        grids.append((root.get("TileSize"), root.get("Overlap"), root.get("Format"), size.get("Width"), size.get("Height")))
    assert grids == [("256", "0", "jpeg", "1400", "1100"), ("254", "1", "jpeg", "1400", "1100")]
    assert isinstance(cache(pyramid), DeepZoom) and isinstance(cache(tmp_path / "w.tif"), StoredTiles)


def test_another_grid_goes_through_openslide(tmp_path, picture, make_pyramid):
    """Levels that are not halves, other codecs, tiles that no viewer wants, label pictures between the levels."""
    jpeg = {"compression": "jpeg"}
    assert stored_tiles(make_pyramid(tmp_path / "good.tif", picture, factors=(1, 2, 4), **jpeg)) is not None
    assert stored_tiles(make_pyramid(tmp_path / "thirds.tif", picture, factors=(1, 3), **jpeg)) is None
    assert stored_tiles(make_pyramid(tmp_path / "deflate.tif", picture)) is None
    with tifffile.TiffWriter(tmp_path / "label.tif") as writer:
        for page in (picture, picture[::2, ::2]):
            writer.write(page, tile=(256, 256), photometric="rgb", metadata=None, **jpeg)
    assert stored_tiles(tmp_path / "label.tif") is None, "a second picture that is not declared a level"
    tifffile.imwrite(tmp_path / "tiny.tif", picture, tile=(64, 64), photometric="rgb", **jpeg)
    assert stored_tiles(tmp_path / "tiny.tif") is None
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((16, 3000, 3), np.uint8), tile=(256, 256), photometric="rgb", **jpeg)
    assert stored_tiles(tmp_path / "large.tif") is None, "nothing small enough to make the small levels from"
    (tmp_path / "no.tif").write_bytes(b"II*\x00" + bytes(40))
    assert stored_tiles(tmp_path / "no.tif") is None and stored_tiles(tmp_path / "absent.tif") is None


@pytest.mark.parametrize("place", [(-1, 0, 0), (99, 0, 0), (11, 6, 0), (11, 0, 5), (11, -1, 0), (8, 1, 0), (0, 0, -1)])
def test_a_tile_that_is_not_there(svs, tmp_path, place):
    make_working(svs, tmp_path / "w.tif")
    tiles = stored_tiles(tmp_path / "w.tif")
    assert tiles.level_count == 12
    with pytest.raises(SlideError) as caught:
        tiles.tile(*place)
    assert caught.value.code == FindingCode.TILE_NOT_THERE and caught.value.hint


def test_a_damaged_tile_is_named_and_the_others_are_shown(svs, tmp_path):
    path = tmp_path / "w.tif"
    make_working(svs, path)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[7], tif.pages[0].databytecounts[7]
    hurt = bytearray(path.read_bytes())
    hurt[offset : offset + count] = bytes(count)
    path.write_bytes(hurt)
    tiles = stored_tiles(path)
    with pytest.raises(SlideError) as caught:
        tiles.tile(11, 1, 1)
    assert caught.value.code == FindingCode.TILE_UNREADABLE and "column 1, row 1" in caught.value.where
    assert decoded(tiles.tile(11, 2, 1)).shape == (256, 256, 3)


def test_damage_in_the_smallest_level_is_named_when_it_is_needed(svs, tmp_path):
    path = tmp_path / "w.tif"
    make_working(svs, path)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[2].dataoffsets[1], tif.pages[2].databytecounts[1]
    hurt = bytearray(path.read_bytes())
    hurt[offset + 2 : offset + count] = bytes(count - 2)
    path.write_bytes(hurt)
    tiles = stored_tiles(path)
    assert decoded(tiles.tile(9, 0, 0)).shape == (256, 256, 3)
    with pytest.raises(SlideError) as caught:
        tiles.tile(4, 0, 0)
    assert caught.value.code == FindingCode.TILE_UNREADABLE and not kept_file(path).exists()


def test_a_slide_smaller_than_a_tile(tmp_path, make_picture):
    original = write_jpeg_tiles(tmp_path / "a.tif", make_picture(130, 90), "ycbcr", False)
    make_working(original, tmp_path / "w.tif")
    tiles = stored_tiles(tmp_path / "w.tif")
    assert tiles.level_count == 9 and [decoded(tiles.tile(level, 0, 0)).shape[:2] for level in (0, 4, 7)] == [(1, 1), (6, 9), (45, 65)]
