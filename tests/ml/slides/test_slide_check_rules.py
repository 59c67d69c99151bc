"""Opening is not validating: every rule of the intake check, on files made to break it."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from ml.slides import dicom_series
from ml.slides.archives import MAX_MEMBERS, unpack
from ml.slides.check import SlideReport, check_slide
from ml.slides.findings import FindingCode as Code
from ml.slides.findings import Severity
from ml.slides.sniff import companion_of


def verdict(path, mpp=None):
    """State and codes of the errors; and every finding is fit to be shown to a person."""
    report = check_slide(path, mpp)
    for finding in report.findings:
        assert finding.sentence.endswith(".") and finding.hint.endswith(".") and finding.file == path.name
        assert str(path.parent) not in finding.sentence + finding.hint + finding.where
    assert SlideReport.from_dict(report.to_dict()).to_dict() == report.to_dict()
    return report.state, {finding.code for finding in report.findings if finding.severity == Severity.ERROR}


def test_a_sound_slide_is_ready_and_its_facts_are_known(pyramid):
    report = check_slide(pyramid)
    assert (report.state, report.findings) == ("ready", [])
    assert (report.facts["width"], report.facts["height"], report.facts["vendor"]) == (1400, 1100, "generic-tiff")
    assert report.facts["tissue_mm2"] == pytest.approx(np.pi * 0.245 * 0.1925, rel=0.06)


def test_on_a_large_slide_without_low_levels_the_tissue_is_estimated(pyramid, monkeypatch):
    exact = check_slide(pyramid).facts
    monkeypatch.setattr("ml.slides.check.SAMPLED_ABOVE_PX", 1000)
    monkeypatch.setattr("ml.slides.check.MOSAIC_PX", 100)
    estimate = check_slide(pyramid).facts
    assert (exact["tissue_estimated"], estimate["tissue_estimated"]) == (False, True)
    assert estimate["tissue_mm2"] == pytest.approx(exact["tissue_mm2"], rel=0.15)


def test_identifiers_are_named_by_field_and_never_repeated(svs, patient):
    report = check_slide(svs)
    assert report.state == "ready"
    assert {Code.IDENTIFIERS_IN_HEADER, Code.ASSOCIATED_IMAGES} <= report.codes
    told = str([{**finding.to_dict(), "file": ""} for finding in report.findings]) + str(report.facts)
    assert patient not in told and "aperio.Filename" in told


def test_no_mpp_waits_for_a_person(tmp_path, picture, make_svs):
    path = make_svs(tmp_path / "a.svs", picture, mpp=None)
    assert verdict(path) == ("needs attention", {Code.MPP_MISSING})
    assert verdict(path, 0.5) == ("ready", set())


@pytest.mark.parametrize("mpp", [0.01, 84.7, 352.8, 1000.0])
def test_a_printers_default_resolution_is_not_believed(tmp_path, picture, make_pyramid, mpp):
    path = make_pyramid(tmp_path / "a.tif", picture, mpp=mpp)
    assert verdict(path) == ("needs attention", {Code.MPP_IMPLAUSIBLE})
    assert verdict(path, 0.5) == ("ready", set())


def test_a_person_can_be_implausible_too(pyramid):
    assert verdict(pyramid, 40.0) == ("needs attention", {Code.MPP_IMPLAUSIBLE})


def test_an_overview_level_is_too_low_and_an_override_does_not_lift_it(tmp_path, picture, make_svs):
    path = make_svs(tmp_path / "a.svs", picture, mpp=4.0)
    assert verdict(path) == ("needs attention", {Code.LEVEL_TOO_LOW})
    assert verdict(path, 0.5) == ("needs attention", {Code.LEVEL_TOO_LOW})


def test_two_statements_of_the_mpp_are_pointed_out(pyramid):
    report = check_slide(pyramid, 0.25)
    assert report.state == "ready" and Code.MPP_CONFLICT in report.codes


def test_pixels_that_are_not_square(tmp_path, picture):
    path = tmp_path / "a.tif"
    options = {"tile": (256, 256), "photometric": "rgb", "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(path, picture, resolution=(1e4 / 0.5, 1e4 / 0.25), **options)
    assert verdict(path) == ("needs attention", {Code.MPP_ANISOTROPIC})


@pytest.mark.parametrize("grey", [0, 200, 250])
def test_a_picture_without_tissue(tmp_path, make_pyramid, grey):
    path = make_pyramid(tmp_path / "a.tif", np.full((600, 600, 3), grey, np.uint8))
    assert verdict(path) == ("needs attention", {Code.NO_TISSUE})


def test_smaller_than_a_tile(tmp_path, make_pyramid, make_picture):
    path = make_pyramid(tmp_path / "a.tif", make_picture(300, 100), factors=(1,))
    assert verdict(path) == ("rejected", {Code.TOO_SMALL})


def test_a_damaged_last_tile_is_found(tmp_path, picture, make_pyramid):
    path = make_pyramid(tmp_path / "a.tif", picture, compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[-1], tif.pages[0].databytecounts[-1]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + count] = bytes(count)
    path.write_bytes(damaged)
    assert verdict(path) == ("rejected", {Code.TILE_UNREADABLE})


@pytest.mark.parametrize("share", [0.999, 0.8, 0.4, 0.05, 0.001])
def test_a_truncated_slide_is_never_ready(tmp_path, svs, share):
    path = tmp_path / "cut.svs"
    path.write_bytes(svs.read_bytes()[: int(svs.stat().st_size * share)])
    state, codes = verdict(path)
    assert state == "rejected" and codes


def test_nothing_at_all(tmp_path):
    (tmp_path / "a.svs").touch()
    assert verdict(tmp_path / "a.svs") == ("rejected", {Code.EMPTY_FILE})
    assert verdict(tmp_path / "gone.svs") == ("rejected", {Code.FILE_MISSING})


@pytest.mark.parametrize("start", [b"<!DOCTYPE html><html><body>Log in</body></html>", b"\n  <HTML><title>403</title></HTML>"])
def test_a_web_page_under_the_name_of_a_slide(tmp_path, start):
    path = tmp_path / "a.svs"
    path.write_bytes(start)
    assert verdict(path) == ("rejected", {Code.HTML_PAGE})
    assert Code.WRONG_EXTENSION in check_slide(path).codes


def test_a_plain_picture_is_no_slide(tmp_path, picture):
    for name, kind in (("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.svs", "PNG")):
        Image.fromarray(picture).save(tmp_path / name, kind)
        assert verdict(tmp_path / name) == ("rejected", {Code.PICTURE_NOT_SLIDE})


def test_a_sound_slide_under_a_wrong_name_is_ready_with_a_warning(tmp_path, pyramid):
    path = tmp_path / "slide.png"
    path.write_bytes(pyramid.read_bytes())
    report = check_slide(path)
    assert report.state == "ready" and report.codes == {Code.WRONG_EXTENSION}


def test_a_flat_rgb_tiff_asks_for_its_pixel_size_and_is_converted(tmp_path, picture):
    tifffile.imwrite(tmp_path / "flat.tif", picture, photometric="rgb")
    assert verdict(tmp_path / "flat.tif") == ("needs attention", {Code.MPP_MISSING})
    assert check_slide(tmp_path / "flat.tif", mpp=0.5).state == "ready"


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_measured_channels_are_an_assay_not_a_slide(tmp_path, channels):
    planes = np.random.default_rng(0).integers(0, 4000, (channels, 300, 300)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    assert verdict(tmp_path / "a.ome.tif") == ("rejected", {Code.ASSAY_IMAGE})


def tar_with(path, **entry):
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(entry.pop("name", "slide.svs"))
        content = entry.pop("content", b"x" * 10)
        for key, value in entry.items():
            setattr(member, key, value)
        member.size = len(content) if member.type == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({}, Code.ARCHIVE_NOT_UNPACKED),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/hosts"}, Code.ARCHIVE_LINK),
        ({"type": tarfile.LNKTYPE, "linkname": "other"}, Code.ARCHIVE_LINK),
        ({"type": tarfile.FIFOTYPE}, Code.ARCHIVE_LINK),
        ({"name": "../../escape.svs"}, Code.ARCHIVE_ESCAPE),
        ({"name": "/absolute.svs"}, Code.ARCHIVE_ESCAPE),
        ({"name": "/".join("abcdefghijk") + "/a.svs"}, Code.ARCHIVE_TOO_DEEP),
    ],
)
def test_archives_are_looked_into_and_never_unpacked(tmp_path, entry, code):
    assert verdict(tar_with(tmp_path / "a.tar", **entry)) == ("rejected", {code})
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_a_bomb_is_counted_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("slide.svs", bytes(20_000_000))
    assert verdict(tmp_path / "a.zip") == ("rejected", {Code.ARCHIVE_TOO_LARGE})


def test_the_names_behind_a_packed_gigabyte_are_not_waited_for(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        first, second = tarfile.TarInfo("first.svs"), tarfile.TarInfo("second.svs")
        first.size = second.size = 30_000_000
        archive.addfile(first, io.BytesIO(bytes(first.size)))
        archive.addfile(second, io.BytesIO(bytes(second.size)))
    path.write_bytes(path.read_bytes()[:20_000])  # whoever reads on meets the end of the file
    assert verdict(path) == ("rejected", {Code.ARCHIVE_TOO_LARGE})


def test_more_files_than_any_slide_has_are_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(MAX_MEMBERS + 1):
            archive.writestr(f"{i}.dcm", b"DICM")
    assert verdict(tmp_path / "a.zip") == ("rejected", {Code.ARCHIVE_TOO_LARGE})
    assert not unpack(tmp_path / "a.zip", "zip", tmp_path)
    assert dicom_series._read.cache_info().maxsize > MAX_MEMBERS, "or every header is read again for every file"


def test_a_broken_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(50))
    assert verdict(tmp_path / "a.zip") == ("rejected", {Code.ARCHIVE_UNREADABLE})


def test_a_multi_file_slide_without_its_companions_waits(tmp_path):
    main = tmp_path / "case.mrxs"
    Image.new("RGB", (64, 64)).save(main, "JPEG")
    assert verdict(main) == ("needs attention", {Code.COMPANION_MISSING})
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "Slidedat.ini").write_text(
        "[HIERARCHICAL]\nINDEXFILE = Index.dat\n[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0.dat\n"
    )
    assert verdict(main) == ("needs attention", {Code.COMPANION_MISSING})
    assert "case/Index.dat, case/Data0.dat" in {finding.where for finding in check_slide(main).findings}
    assert companion_of(tmp_path / "case" / "Slidedat.ini") == main
    assert verdict(tmp_path / "case" / "Slidedat.ini") == ("rejected", {Code.COMPANION_FILE})
    assert companion_of(main) is None
    assert companion_of("/no-such-slide.svs") is None  # directly below the root, which has no name
