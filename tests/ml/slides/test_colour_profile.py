"""The colour profile keeps its colours and loses its texts; it is applied to a view tile when somebody asks for it."""

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from ml.slides.check import check_slide
from ml.slides.colour_profile import SrgbTiles, profile_of, sanitised, srgb_transform
from ml.slides.deepzoom import DeepZoom, SlideCache
from ml.slides.findings import FindingCode, SlideError
from ml.slides.reader import open_slide
from ml.slides.scrub import make_working, residual_identifiers

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def tags_of(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(count)]
    return {name: profile[offset : offset + size] for name, offset, size in entries}


def written(tags: dict[bytes, bytes], head: bytes = SRGB[:128]) -> bytes:
    body, table = b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    profile = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


@pytest.fixture(scope="module")
def scanner_profile(patient) -> bytes:
    """A profile whose red is green and whose texts, header and gaps name a patient."""
    name = patient.encode()
    own = tags_of(SRGB)
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, int(1.8 * 256))
    colours = {b"rXYZ": own[b"gXYZ"], b"gXYZ": own[b"rXYZ"], b"bXYZ": own[b"bXYZ"], b"wtpt": own[b"wtpt"]}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma + name)
    text = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(79)
    texts = dict.fromkeys((b"desc", b"dmnd", b"dmdd"), text) | {
        key: b"text" + bytes(4) + name for key in (b"cprt", b"calt", b"priv", b"targ")
    }
    head = bytearray(SRGB[:128])
    head[8] = 2
    head[4:8] = head[48:52] = head[52:56] = head[80:84] = name[:4]
    head[84:84] = b""
    head[84:98] = name[:14]
    return written(colours | curves | texts | {b"bkpt": b"text" + bytes(4) + name}, bytes(head))


def shown(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    return np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), srgb_transform(profile)))


def test_the_colours_stay_and_the_texts_go(scanner_profile, patient):
    clean = sanitised(scanner_profile)
    for part in (patient, patient[:4]):
        assert part.encode() in scanner_profile and part.encode() not in clean and part.encode("utf-16-be") not in clean
    assert set(tags_of(clean)) == {b"desc", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"wtpt"}
    assert not any(clean[start:end].strip(b"\x00") for start, end in ((4, 8), (24, 36), (40, 64), (80, 128)))
    opened = ImageCms.ImageCmsProfile(io.BytesIO(clean))
    assert ImageCms.getProfileDescription(opened).strip() == "colour profile"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(shown(pixels, clean), shown(pixels, scanner_profile))
    assert np.abs(shown(pixels, clean).astype(int) - pixels).mean() > 20, "the profile does something"
    assert sanitised(clean) == clean


def test_both_versions_of_profiles_can_be_named():
    four = bytearray(SRGB)
    four[8:10] = b"\x04\x30"
    for profile in (SRGB, bytes(four)):
        assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(sanitised(profile)))).strip() == "colour profile"


def test_a_table_of_colours_is_kept_to_its_last_entry():
    """A lut8 of 3 to 3 channels with 2 grid points (ICC.1, 10.11): 48 + 768 + 24 + 768 bytes; what follows is cut off."""
    identity = bytes(range(256)) * 3
    grid = bytes(255 if bit else 0 for cell in range(8) for bit in (cell & 4, cell & 2, cell & 1))
    matrix = b"".join(struct.pack(">i", 65536 if i % 4 == 0 else 0) for i in range(9))
    lut = b"mft1" + bytes(4) + bytes((3, 3, 2, 0)) + matrix + identity + grid + identity
    head = bytearray(SRGB[:128])
    head[20:24] = b"Lab "
    clean = sanitised(written({b"A2B0": lut + b"ROSENTHAL", b"wtpt": tags_of(SRGB)[b"wtpt"]}, bytes(head)))
    assert tags_of(clean)[b"A2B0"] == lut and b"ROSENTHAL" not in clean


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        bytes(200),
        SRGB[:128],
        SRGB[:300],
        SRGB[:16] + b"CMYK" + SRGB[20:],
        SRGB[:128] + b"\xff\xff\xff\xff" + SRGB[132:],
        written({b"rXYZ": b"XYZ "}),
        written({b"rTRC": b"curv" + bytes(4) + b"\xff\xff\xff\xff"}),
        written({b"A2B0": b"mft2" + bytes(4) + b"\xff\xff\xff" + bytes(60)}),
        SRGB + bytes(5 << 20),
    ],
)
def test_what_is_no_usable_profile_is_left_out(bad):
    assert sanitised(bad) is None


@given(place=st.integers(0, len(SRGB) - 1), value=st.integers(0, 255))
def test_no_damaged_profile_raises(place, value):
    hurt = bytearray(SRGB)
    hurt[place] = value
    clean = sanitised(bytes(hurt))
    assert clean is None or sanitised(clean) == clean


@pytest.fixture(scope="module")
def profiled(tmp_path_factory, picture, scanner_profile):
    """(original with the profile, its working slide, facts)."""
    folder = tmp_path_factory.mktemp("profiled")
    common = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "a.tif", picture, iccprofile=scanner_profile, **common, **size)
    return folder / "a.tif", folder / "w.tif", make_working(folder / "a.tif", folder / "w.tif")


def test_a_working_slide_carries_the_clean_profile(profiled, scanner_profile, patient):
    original, working, facts = profiled
    assert residual_identifiers(original, [patient]) and residual_identifiers(working, [patient]) == []
    assert facts.colour_profile and facts.lossless and "ICC profile: texts" in facts.removed and "ICC profile" not in facts.removed
    with open_slide(original) as before, open_slide(working) as after:
        assert profile_of(before.osr) == scanner_profile and profile_of(after.osr) == sanitised(scanner_profile)
    assert check_slide(working).state == "ready"


def test_a_profile_that_cannot_be_applied_is_left_out_and_it_is_said(tmp_path, picture):
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(256, 256), photometric="rgb", iccprofile=b"a scanner's words" * 20)
    facts = make_working(tmp_path / "a.tif", tmp_path / "w.tif", mpp=0.5)
    assert "ICC profile" in facts.removed and not facts.colour_profile
    with open_slide(tmp_path / "w.tif") as slide:
        assert profile_of(slide.osr) is None


def test_a_tile_in_srgb_is_the_tile_after_the_profile(profiled, make_pyramid, picture, scanner_profile, tmp_path):
    cache = SlideCache()
    opened = cache(profiled[1])
    make_pyramid(tmp_path / "other.tif", picture, iccprofile=scanner_profile)
    other = cache(tmp_path / "other.tif")
    assert isinstance(other, DeepZoom)
    for source, place in ((opened, (opened.level_count - 1, 2, 2)), (opened, (3, 0, 0)), (other, (other.level_count - 1, 2, 2))):
        plain = np.asarray(Image.open(io.BytesIO(source.tile(*place))))
        drawn = Image.open(io.BytesIO(cache.srgb(source, *place)))
        assert "icc_profile" not in drawn.info
        expected = io.BytesIO()
        Image.fromarray(shown(plain, scanner_profile)).save(expected, "JPEG", quality=90, subsampling=0)
        assert np.array_equal(np.asarray(drawn), np.asarray(Image.open(expected)))
        assert cache.srgb(source, *place) is cache.srgb(source, *place), "computed once"


def test_the_kept_tiles_have_a_bound(profiled):
    opened = SlideCache()(profiled[1])
    srgb = SrgbTiles(budget=40_000)
    for col in range(4):
        srgb(opened, opened.level_count - 1, col, 1)
    assert 0 < sum(map(len, srgb._tiles.values())) == srgb._bytes <= 40_000


def test_a_slide_without_a_profile_says_so(svs, tmp_path):
    make_working(svs, tmp_path / "w.tif")
    cache = SlideCache()
    with pytest.raises(SlideError) as caught:
        cache.srgb(cache(tmp_path / "w.tif"), 3, 0, 0)
    assert caught.value.code == FindingCode.NO_COLOUR_PROFILE and caught.value.hint
