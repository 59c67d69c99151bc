"""The working slide holds the pixels and the um per pixel of its original, and nothing that tells who the patient is."""

import hashlib
import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.slides.check import check_slide
from ml.slides.files import sha256_file
from ml.slides.findings import FindingCode, SlideError
from ml.slides.jpeg import clean_jpeg
from ml.slides.pyramid import PyramidLevel, halve
from ml.slides.reader import open_slide
from ml.slides.scrub import make_working, residual_identifiers


@pytest.fixture(scope="module")
def working(svs, tmp_path_factory):
    path = tmp_path_factory.mktemp("working") / "working.tif"
    return path, make_working(svs, path)


def test_the_planted_name_is_everywhere_in_the_original(svs, patient):
    """Otherwise the next test would prove nothing."""
    found = residual_identifiers(svs, [patient, "2024:02:01"])
    assert {f"file name: {patient}", f"bytes: {patient}", "bytes: 2024:02:01", "picture: label", "picture: macro"} <= set(found)


def test_nothing_of_the_patient_is_left(working, patient):
    path, facts = working
    assert residual_identifiers(path, [patient, "2024:02:01", "01/02/24", "Aperio", "ScanScope"]) == []
    with tifffile.TiffFile(path) as tif:
        names = {tag.name for page in tif.pages for tag in page.tags}
    assert not names & {
        "ImageDescription",
        "DateTime",
        "Artist",
        "Software",
        "HostComputer",
        "DocumentName",
        "Make",
        "Model",
        "InterColorProfile",
    }
    assert {"label image", "macro image", "thumbnail image", "aperio.Filename", "tiff.ImageDescription"} <= set(facts.removed)
    assert patient not in str(facts.to_dict())


def test_jpeg_tiles_are_copied_so_that_every_pixel_is_the_originals(svs, working):
    path, facts = working
    assert facts.lossless and "copied" in facts.pixels
    with open_slide(svs) as original, open_slide(path) as copy:
        assert copy.size == original.size and copy.mpp == pytest.approx(original.mpp, rel=1e-6)
        assert np.array_equal(original.read_level(0, 0, *original.size), copy.read_level(0, 0, *copy.size))


def test_the_working_slide_is_a_sound_pyramid(working):
    path, facts = working
    report = check_slide(path)
    assert (report.state, report.findings) == ("ready", [])
    assert facts.levels == pytest.approx([1, 2, 4], rel=0.01) and report.facts["levels"] == facts.levels
    with open_slide(path) as slide:
        coarse, fine = (slide.osr.read_region((0, 0), level, slide.osr.level_dimensions[level]).convert("RGB") for level in (1, 0))
    assert (
        np.abs(np.asarray(fine.reduce(2), int)[:-1, :-1] - np.asarray(coarse, int)[: fine.height // 2 - 1, : fine.width // 2 - 1]).mean()
        < 4
    )


def test_facts_name_both_files(svs, working):
    path, facts = working
    assert facts.sha256 == sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.original_sha256 == sha256_file(svs) != facts.sha256


def test_the_same_original_gives_the_same_bytes(svs, working, tmp_path):
    assert make_working(svs, tmp_path / "again.tif").sha256 == working[1].sha256


def test_other_compressions_are_encoded_anew_and_it_is_said(pyramid, tmp_path):
    facts = make_working(pyramid, tmp_path / "w.tif")
    assert not facts.lossless and "quality 90" in facts.pixels
    with open_slide(pyramid) as original, open_slide(tmp_path / "w.tif") as copy:
        a, b = (slide.read_level(0, 0, *slide.size).astype(int) for slide in (original, copy))
    assert np.abs(a - b).mean() < 4


def test_a_name_in_a_comment_of_a_jpeg_tile_is_dropped(tmp_path, picture, make_pyramid, patient):
    """A comment and EXIF planted into tile 0, with trailing bytes behind its end."""
    path = make_pyramid(tmp_path / "a.tif", picture, factors=(1,), compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        tiles = [path.read_bytes()[o : o + n] for o, n in zip(page.dataoffsets, page.databytecounts)]
    name = patient.encode()
    tiles[0] = tiles[0][:2] + b"\xff\xfe" + (len(name) + 2).to_bytes(2, "big") + name + tiles[0][2:] + name
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, iter(tiles), shape=picture.shape, dtype="uint8", tile=(256, 256), **options)
    assert residual_identifiers(path, [patient])
    facts = make_working(path, tmp_path / "w.tif")
    assert facts.lossless and residual_identifiers(tmp_path / "w.tif", [patient]) == []


def test_an_unreadable_original_leaves_no_working_slide(tmp_path, picture, make_pyramid):
    path = make_pyramid(tmp_path / "a.tif", picture, factors=(1,), compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[7], tif.pages[0].databytecounts[7]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + count] = bytes(count)
    path.write_bytes(damaged)
    (tmp_path / "out").mkdir()
    with pytest.raises(SlideError) as caught:
        make_working(path, tmp_path / "out" / "w.tif")
    assert caught.value.code == FindingCode.TILE_UNREADABLE
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_rises_to_one(pyramid, tmp_path):
    told = []
    make_working(pyramid, tmp_path / "w.tif", progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) == 5


@pytest.mark.parametrize("text", ["JANE^ROSENTHAL", "Rosenthal, Jane", "rosenthal"])
@pytest.mark.parametrize("code", ["utf-8", "utf-16-le", "utf-16-be"])
def test_names_are_found_in_any_order_case_and_encoding(tmp_path, text, code):
    (tmp_path / "a.bin").write_bytes(bytes(1000) + text.encode(code) + bytes(1000))
    assert "bytes: ROSENTHAL" in residual_identifiers(tmp_path / "a.bin", ["JANE^ROSENTHAL"])
    assert residual_identifiers(tmp_path / "a.bin", ["Somebody Else"]) == []


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700), strip=st.integers(1, 300))
def test_a_streamed_level_is_the_halved_picture(width, height, strip):
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    level = PyramidLevel(width, height, 90)
    seen = []
    level._encode = lambda rows: seen.append(rows.copy())
    for top in range(0, height, strip):
        level.push(picture[top : top + strip])
    level.finish()
    level.close()
    assert np.array_equal(np.concatenate(seen), halve(picture))
    assert np.concatenate(seen).shape == (-(-height // 2), -(-width // 2), 3), "Deep Zoom rounds up"
    assert all(len(rows) == 256 for rows in seen[:-1])


@settings(max_examples=30, deadline=None)
@given(side=st.integers(8, 40), quality=st.integers(20, 95), seed=st.integers(0, 99), comment=st.binary(max_size=40))
def test_a_cleaned_jpeg_shows_the_same_pixels(side, quality, seed, comment):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(
        out, "JPEG", quality=quality, comment=comment, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00"
    )
    cleaned = clean_jpeg(out.getvalue() + b"trailing")
    assert cleaned is not None and b"Exif" not in cleaned and b"trailing" not in cleaned
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(cleaned))), np.asarray(Image.open(out)))


def test_what_is_not_baseline_jpeg_is_not_copied():
    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, "JPEG", progressive=True)
    assert clean_jpeg(out.getvalue()) is None
    assert clean_jpeg(b"") is None and clean_jpeg(b"\x89PNG") is None and clean_jpeg(b"\xff\xd8\xff\xda\x00\x02abc") is None
