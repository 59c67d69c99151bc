"""Plain RGB TIFFs become slides: read in parts, converted once, and nothing believed that the file only declares."""

import struct
import tracemalloc

import numpy as np
import pytest
import tifffile

from ml.slides.check import check_slide
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import SlideError
from ml.slides.flat import FlatTiff, NotConvertible, conversion_findings, open_source
from ml.slides.isolate import check_slide_isolated
from ml.slides.reader import open_slide
from ml.slides.scrub import make_working, residual_identifiers
from ml.slides.view_tiles import StoredTiles, stored_tiles

SIZE = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
LAYOUTS = {
    "uncompressed strips": {"rowsperstrip": 37},
    "one strip": {},
    "one deflated strip": {"compression": "deflate", "rowsperstrip": 1100},
    "LZW strips": {"compression": "lzw", "rowsperstrip": 16},
    "predicted deflate": {"compression": "deflate", "predictor": True, "rowsperstrip": 100},
    "PackBits": {"compression": "packbits", "rowsperstrip": 8},
    "BigTIFF": {"bigtiff": True, "rowsperstrip": 64},
    "big-endian": {"byteorder": ">", "compression": "deflate", "rowsperstrip": 50},
    "planar strips": {"planarconfig": "separate", "rowsperstrip": 90},
}


def write(path, picture, **options):
    options = {"photometric": "rgb", "metadata": None} | SIZE | options
    writer = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    if options.get("planarconfig") == "separate":
        picture = np.moveaxis(picture, 2, 0)
    tifffile.imwrite(path, np.ascontiguousarray(picture), **writer, **options)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_pixel_for_pixel(tmp_path, picture, layout):
    path = write(tmp_path / "a.tif", picture, **LAYOUTS[layout])
    with pytest.raises(SlideError):
        open_slide(path)
    with open_source(path) as slide:
        assert (slide.size, slide.levels, slide.mpp, slide.mpp_source) == ((1400, 1100), (1.0,), pytest.approx(0.5), "header")
        assert np.array_equal(slide.read_level(0, 0, 1400, 1100), picture)
        assert np.array_equal(slide.read_level(611, 333, 300, 200), picture[333:533, 611:911])
        beyond = slide.read_level(1300, -20, 200, 100)
        assert np.array_equal(beyond[20:, :100], picture[:80, 1300:]) and (beyond[:20] == 255).all() and (beyond[:, 100:] == 255).all()
        assert slide.overview(16).shape == (69, 88, 3)


@pytest.mark.parametrize("options", [{"planarconfig": "separate", "compression": "lzw"}, {"compression": "deflate"}, {}])
def test_tiles_are_read_pixel_for_pixel(tmp_path, picture, options):
    """OpenSlide opens these; what it refuses of their kind is read the same way."""
    path = write(tmp_path / "a.tif", picture, tile=(128, 128), **options)
    flat = FlatTiff(path)
    assert np.array_equal(np.asarray(flat.read_region((100, 200), 0, (1300, 900)).convert("RGB")), picture[200:1100, 100:1400])
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_level(100, 200, 1300, 900), picture[200:1100, 100:1400])


def test_jpeg_strips_are_decoded_as_tifffile_does(tmp_path, picture):
    path = write(tmp_path / "a.tif", picture, compression="jpeg", rowsperstrip=64)
    with open_source(path) as slide:
        assert np.array_equal(slide.read_level(0, 0, *slide.size), tifffile.imread(path))


@pytest.mark.parametrize(
    ("kind", "expected"), [("unassalpha", (200, 60, 120)), ("assocalpha", (200, 60, 120)), ("unspecified", (200, 60, 120))]
)
def test_transparency_is_laid_on_white(tmp_path, kind, expected):
    alpha = np.zeros((400, 500, 1), np.uint8)
    alpha[100:300] = 255
    alpha[300:350] = 128
    colour = np.broadcast_to(np.uint8(expected), (400, 500, 3))
    stored = (colour.astype(int) * alpha // 255).astype(np.uint8) if kind == "assocalpha" else colour
    path = write(tmp_path / "a.tif", np.concatenate([stored, alpha], axis=2), extrasamples=[kind], rowsperstrip=20)
    with open_source(path) as slide:
        seen = slide.read_level(0, 0, 500, 400).astype(int)
    assert np.abs(seen[200, 10] - expected).max() <= 1
    if kind == "unspecified":  # a fourth channel that is not declared as transparency says nothing
        assert np.abs(seen[5, 5] - expected).max() <= 1
    else:
        assert (seen[5, 5] == 255).all() and np.abs(seen[320, 5] - (np.array(expected) + 255) / 2).max() <= 3


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        (SIZE, 0.5),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
        ({"resolution": (4, 4), "resolutionunit": "NONE", "description": "ImageJ=1.53\nunit=micron\n"}, 0.25),
        (
            {
                "description": '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
                'DimensionOrder="XYCZT" Type="uint8" SizeX="1400" SizeY="1100" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="250" '
                'PhysicalSizeXUnit="nm" PhysicalSizeY="250" PhysicalSizeYUnit="nm"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
                '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
            },
            0.25,
        ),
    ],
)
def test_only_a_plausible_pixel_size_is_believed(tmp_path, picture, options, mpp):
    path = write(tmp_path / "a.tif", picture, **options)
    with open_source(path) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))
    report = check_slide(path)
    assert (Code.MPP_MISSING in report.codes) == (mpp is None) and report.state == ("ready" if mpp else "needs attention")
    assert check_slide(path, mpp=0.5).state == "ready"


def test_a_plain_tiff_is_ready_and_says_what_happens_to_it(tmp_path, picture, patient):
    path = write(tmp_path / "a.tif", picture, compression="lzw", rowsperstrip=16, description=f"name {patient}", software="x")
    report = check_slide_isolated(path)
    assert report.state == "ready" and {f.code: f.severity for f in report.findings} == {Code.NOT_A_PYRAMID: "info"}
    assert "strips, LZW" in report.findings[0].sentence and report.facts["vendor"] == "generic-tiff"
    facts = make_working(path, tmp_path / "w.tif")
    assert not facts.lossless and facts.mpp == pytest.approx(0.5) and "tiff.ImageDescription" in facts.removed
    assert residual_identifiers(tmp_path / "w.tif", [patient]) == []
    assert isinstance(stored_tiles(tmp_path / "w.tif"), StoredTiles)
    with open_slide(tmp_path / "w.tif") as slide:
        assert len(slide.levels) == 3 and np.abs(slide.read_level(0, 0, *slide.size).astype(int) - picture).mean() < 4
        assert conversion_findings(slide) == []


def test_a_broken_ome_header_is_told_and_its_size_not_used(tmp_path, picture):
    path = write(tmp_path / "a.tif", picture, description="<OME><Image")
    report = check_slide(path)
    assert {Code.METADATA_BROKEN, Code.MPP_MISSING} <= report.codes and report.state == "needs attention"


def test_of_a_stack_the_first_picture_is_taken_and_it_is_said(tmp_path, picture):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture[::8, ::8], photometric="rgb", metadata=None)
        for brightness in (0, 40):
            writer.write(picture - np.uint8(brightness), photometric="rgb", metadata=None, **SIZE)
    report = check_slide(tmp_path / "a.tif", mpp=0.5)
    told = [f for f in report.findings if f.code == Code.NOT_A_PYRAMID]
    assert [f.severity for f in told] == ["info", "warning"] and told[1].where == "IFD 1" and "2 pictures" in told[1].sentence
    assert report.facts["associated_images"] == ["page 0", "page 2"]
    with open_source(tmp_path / "a.tif") as slide:
        assert np.array_equal(slide.read_level(0, 0, *slide.size), picture)
    assert {"page 0 image", "page 2 image"} <= set(make_working(tmp_path / "a.tif", tmp_path / "w.tif", mpp=0.5).removed)


def test_strips_are_decoded_once_while_the_picture_streams_past(tmp_path, make_picture, monkeypatch):
    picture = make_picture(900, 2100)
    path = write(tmp_path / "a.tif", picture, compression="deflate", rowsperstrip=100)
    decoded = []
    original = FlatTiff._decoded
    monkeypatch.setattr(FlatTiff, "_decoded", lambda self, index, data: (decoded.append(index), original(self, index, data))[1])
    monkeypatch.setattr("ml.slides.flat.KEPT_PARTS_BYTES", 3 * 900 * 100 * 2)
    make_working(path, tmp_path / "w.tif")
    assert decoded == list(range(21))


def test_a_large_uncompressed_strip_is_read_in_parts(tmp_path):
    width, height = 4000, 6000
    head = {"shape": (height, width, 3), "dtype": np.uint8, "photometric": "rgb", "rowsperstrip": height, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", iter([np.full((height, width, 3), 200, np.uint8)]), **head, **SIZE)
    with open_source(tmp_path / "a.tif") as slide:
        tracemalloc.start()
        seen = slide.read_level(0, 5000, width, 256)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (seen == 200).all() and peak < 0.5 * width * height * 3


def hostile(path, width, height, rows_per_strip, strips=1, compression=1, data=b"\x00" * 64, samples=3):
    """A TIFF of a few bytes that declares what it likes."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 2),
        (273, 4, strips, 8 if strips == 1 else 400),
        (277, 3, 1, samples),
        (278, 4, 1, rows_per_strip),
        (279, 4, strips, len(data) if strips == 1 else 400),
    ]
    body = struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    path.write_bytes(body.ljust(4096, b"\x01"))
    return path


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        ({"width": 10**6, "height": 10**6, "rows_per_strip": 10**6}, Code.NOT_A_PYRAMID),
        ({"width": 400_000, "height": 100_000, "rows_per_strip": 100_000, "compression": 8}, Code.NOT_A_PYRAMID),
        ({"width": 400_000, "height": 100_000, "rows_per_strip": 100_000}, Code.TILE_UNREADABLE),
        ({"width": 100_000, "height": 100_000, "rows_per_strip": 1}, Code.NOT_A_PYRAMID),
        ({"width": 20_000, "height": 5_000, "rows_per_strip": 5_000, "compression": 7}, Code.TILE_UNREADABLE),
        ({"width": 20_000, "height": 5_000, "rows_per_strip": 5_000, "compression": 5}, Code.TILE_UNREADABLE),
        ({"width": 5_000, "height": 5_000, "rows_per_strip": 5_000, "compression": 99}, Code.TIFF_BROKEN),
    ],
)
def test_nothing_is_allocated_for_what_a_tiny_file_declares(tmp_path, declared, code):
    path = hostile(tmp_path / "a.tif", **declared)
    tracemalloc.start()
    report = check_slide(path, mpp=0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.state != "ready" and code in report.codes, [f.to_dict() for f in report.findings]
    assert peak < 400e6, f"{peak / 1e6:.0f} MB"


def test_a_jpeg_strip_that_declares_a_larger_picture_is_not_decoded(tmp_path, picture):
    path = write(tmp_path / "a.tif", picture, compression="jpeg", rowsperstrip=64)
    with tifffile.TiffFile(path) as tif:
        first = tif.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    frame = data.index(b"\xff\xc0", first)
    data[frame + 5 : frame + 9] = b"\xff\x00\xff\x00"
    path.write_bytes(data)
    with open_source(path) as slide, pytest.raises(SlideError) as caught:
        slide.read_level(0, 0, 100, 100)
    assert caught.value.code == Code.TILE_UNREADABLE and caught.value.where.startswith("strip 0")
    with open_source(path) as slide:
        assert slide.read_level(0, 64, 100, 100).shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("pixels", "options", "word"),
    [
        (np.zeros((300, 300, 3), np.uint16), {}, "8 bits"),
        (np.zeros((300, 300, 4), np.uint8), {"photometric": "separated"}, "not RGB"),
        (np.zeros((300, 300), np.uint8), {"photometric": "minisblack"}, "8 bits"),
        (np.zeros((300, 300, 3), np.uint8), {"compression": "png", "rowsperstrip": 300}, "compression"),
    ],
)
def test_what_cannot_be_converted_says_why(tmp_path, pixels, options, word):
    path = write(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(NotConvertible, match=word):
        FlatTiff(path)
    with pytest.raises(SlideError):
        open_source(path)
    report = check_slide(path)
    assert report.state != "ready" and all(f.sentence.endswith(".") and f.hint for f in report.findings)
    if Code.NOT_A_PYRAMID in report.codes:
        assert word in next(f.sentence for f in report.findings if f.code == Code.NOT_A_PYRAMID)


def test_what_is_no_tiff_stays_what_it_was(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no slide at all, but some text\nin two lines\n")
    with pytest.raises(SlideError) as caught:
        open_source(tmp_path / "a.tif")
    assert caught.value.code == Code.UNSUPPORTED_FORMAT
    with pytest.raises(SlideError) as caught:
        open_source(tmp_path / "absent.tif")
    assert caught.value.code == Code.FILE_MISSING
