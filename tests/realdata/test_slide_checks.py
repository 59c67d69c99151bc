"""Every real and every hostile file has a stated verdict. A file without an expectation fails: decide, then write it down."""

import pytest

from ml.slides.check import check_slide
from ml.slides.findings import FindingCode as Code
from ml.slides.isolate import check_slide_isolated
from ml.slides.reader import open_slide
from ml.slides.scrub import make_working, residual_identifiers

pytestmark = pytest.mark.realdata

READY, ATTENTION, REJECTED = "ready", "needs attention", "rejected"
VMS = "malformed/hamamatsu_vms_stub/CMU-1-40x - 2010-01-12 13.24.05"
MRXS = "malformed/mirax_stub/Mirax2-Fluorescence-1"

# file: (state without an mpp, a code that must be among its findings or None, state with --mpp 0.5)
EXPECTED = {
    "wsi/cmu-1-small-region.svs": (READY, Code.IDENTIFIERS_IN_HEADER, READY),
    "wsi/tcga-cr-7395-01a-01-ts1.svs": (ATTENTION, Code.MPP_MISSING, READY),
    "wsi/boxes.tiff": (ATTENTION, Code.MPP_IMPLAUSIBLE, READY),
    "wsi/yb10kx5k.zstd.tiff": (ATTENTION, Code.MPP_IMPLAUSIBLE, READY),
    "wsi/multiframe_camelyon_challenge_image.dcm": (ATTENTION, Code.LEVEL_TOO_LOW, ATTENTION),
    "wsi/no_dzi.tif": (ATTENTION, Code.NO_TISSUE, ATTENTION),
    "wsi/kidney-48-5.tif": (ATTENTION, Code.MPP_MISSING, ATTENTION),  # an overview: at 0.5 um per px its tissue is a speck
    "wsi/small.svs": (REJECTED, Code.TOO_SMALL, REJECTED),
    "wsi/boxes_0.dcm": (REJECTED, Code.TOO_SMALL, REJECTED),
    "wsi/sm_image.dcm": (REJECTED, Code.TOO_SMALL, REJECTED),
    "wsi/cells.ome.tif": (REJECTED, Code.TOO_SMALL, REJECTED),
    "wsi/cells-2c.ome.tif": (REJECTED, Code.ASSAY_IMAGE, REJECTED),
    "wsi/multi-channel.ome.tif": (REJECTED, Code.ASSAY_IMAGE, REJECTED),
    "wsi/small_vectra.qptiff": (REJECTED, Code.ASSAY_IMAGE, REJECTED),
    "malformed/bad_ome_xml.ome.tif": (REJECTED, Code.METADATA_BROKEN, REJECTED),
    "malformed/broken.svs": (REJECTED, Code.UNSUPPORTED_FORMAT, REJECTED),
    "malformed/corrupt.png": (REJECTED, Code.UNSUPPORTED_FORMAT, REJECTED),
    "malformed/deep_folder.tar": (REJECTED, Code.ARCHIVE_TOO_DEEP, REJECTED),
    "malformed/tar_with_link.tar": (REJECTED, Code.ARCHIVE_LINK, REJECTED),
    "malformed/tar_with_sym_link.tar": (REJECTED, Code.ARCHIVE_LINK, REJECTED),
    "malformed/input_file.tif": (REJECTED, Code.NOT_BRIGHTFIELD, REJECTED),
    "malformed/invalid_resolutions_tiff.tif": (ATTENTION, Code.MPP_MISSING, ATTENTION),
    "malformed/nuclear_medicine.dcm": (REJECTED, Code.DICOM_WRONG_MODALITY, REJECTED),
    "malformed/small_dicom_no_flavor.dcm": (REJECTED, Code.DICOM_NO_FLAVOR, REJECTED),
    "malformed/test_wsi_label_only.dcm": (REJECTED, Code.DICOM_LABEL_IMAGE, REJECTED),
    "malformed/tifftools/bad_header1.tif": (REJECTED, Code.TIFF_BROKEN, REJECTED),
    "malformed/tifftools/bad_ifd_offset.tif": (REJECTED, Code.TOO_SMALL, REJECTED),
    "malformed/tifftools/bad_jpeg.tif": (REJECTED, Code.TOO_SMALL, REJECTED),
    "malformed/tifftools/bad_strip_offset.tif": (REJECTED, Code.TIFF_BROKEN, REJECTED),
    "malformed/tifftools/bad_unicode.tif": (REJECTED, Code.TOO_SMALL, REJECTED),
    "malformed/unopenable.tiff": (REJECTED, Code.OPEN_FAILED, REJECTED),
    "malformed/unreadable.svs": (REJECTED, Code.TILE_UNREADABLE, REJECTED),
    "malformed/zero_gi.tif": (REJECTED, Code.TOO_SMALL, REJECTED),
    f"{VMS}.vms": (REJECTED, Code.OPEN_FAILED, REJECTED),
    f"{MRXS}.mrxs": (REJECTED, Code.OPEN_FAILED, REJECTED),
    **dict.fromkeys(
        [f"{VMS}{end}" for end in (".jpg", "(0,1).jpg", "(1,0).jpg", "(1,1).jpg", "_macro.jpg", "_map2.jpg", ".opt")]
        + [f"{MRXS}/{name}" for name in ("Data0000.dat", "Data0001.dat", "Data0002.dat", "Index.dat", "Slidedat.ini")],
        (REJECTED, Code.COMPANION_FILE, REJECTED),
    ),
}


def files(data):
    return sorted(path for folder in ("wsi", "malformed") for path in (data / folder).rglob("*") if path.is_file())


def test_every_file_has_an_expectation(data):
    assert {path.relative_to(data).as_posix() for path in files(data)} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_file_gets_its_verdict(data, name):
    path = data / name
    assert path.is_file(), f"{name} is not in this data folder."
    state, code, with_mpp = EXPECTED[name]
    report = check_slide(path)
    assert report.state == state and code in report.codes, [finding.to_dict() for finding in report.findings]
    assert report.state == READY or any(finding.severity == "error" for finding in report.findings)
    assert check_slide(path, mpp=0.5).state == with_mpp
    for finding in report.findings:
        assert finding.sentence.endswith(".") and finding.hint and finding.file == path.name
        assert str(data) not in str(finding.to_dict())


def test_nothing_malformed_is_ever_ready(data):
    assert not [name for name, (state, _, with_mpp) in EXPECTED.items() if name.startswith("malformed/") and READY in (state, with_mpp)]


@pytest.mark.parametrize(
    "name", ["wsi/cmu-1-small-region.svs", "malformed/unreadable.svs", "malformed/small_dicom_no_flavor.dcm", f"{VMS}.vms"]
)
def test_the_child_process_says_the_same(data, name):
    assert check_slide_isolated(data / name).to_dict() == check_slide(data / name).to_dict()


def test_findings_never_repeat_who_the_patient_is(data):
    told = str(check_slide(data / "malformed/small_dicom_no_flavor.dcm").to_dict()) + str(
        check_slide(data / "malformed/nuclear_medicine.dcm").to_dict()
    )
    assert "TCGA-XK" not in told and "SPECTTEST1" not in told and "PatientName" in told


def test_a_real_svs_becomes_a_working_slide_pixel_for_pixel(data, tmp_path):
    original = data / "wsi/cmu-1-small-region.svs"
    facts = make_working(original, tmp_path / "w.tif")
    assert facts.lossless and facts.mpp == pytest.approx(0.499)
    with open_slide(original) as a, open_slide(tmp_path / "w.tif") as b:
        assert (a.read_level(0, 0, *a.size) == b.read_level(0, 0, *b.size)).all()
        assert len(b.levels) > len(a.levels)
    assert residual_identifiers(tmp_path / "w.tif", ["CMU-1", "Aperio", "CPAPERIOCS", "12/29/09"]) == []
    assert check_slide(tmp_path / "w.tif").state == READY


def test_a_dicom_slide_loses_its_patient(data, tmp_path):
    import pydicom

    planted = tmp_path / "planted.dcm"
    header = pydicom.dcmread(data / "wsi/sm_image.dcm")
    header.PatientName, header.PatientID = "ROSENTHAL^JANE", "MRN-0815-77"
    header.save_as(planted)
    who = ["ROSENTHAL^JANE", "MRN-0815-77", "Test^Patient", "AA01"]
    assert residual_identifiers(planted, who)
    facts = make_working(planted, tmp_path / "out" / "w.tif")
    assert "dicom.PatientName" in facts.removed and residual_identifiers(tmp_path / "out" / "w.tif", who) == []
