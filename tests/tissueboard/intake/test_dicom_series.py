"""All files of a DICOM series are one slide: from a folder, from an archive; sealed without names and without the label."""

import json
import tarfile
import zipfile
from io import StringIO

import pydicom
import pytest
from dicom_slides import PATIENT, write_series
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from slide_files import draw, write_svs

from ml.slides.scrub import residual_identifiers
from tissueboard.intake.models import Import
from tissueboard.intake.sealing import checksum, main_file
from tissueboard.intake.services import import_slide, receive_upload
from tissueboard.slides.models import Slide
from tissueboard.store import store


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("series") / "ROSENTHAL", draw())


def codes(findings) -> set[str]:
    return {f["code"] if isinstance(f, dict) else str(f.code) for f in findings}


def sealed_names(slide) -> list[str]:
    return sorted(p.name for p in store.path(slide.sealed_key).iterdir())


def test_a_folder_gives_one_slide_and_says_what_the_other_files_are(db, series, store_folder, tmp_path):
    report = tmp_path / "r.json"
    call_command("import_slides", str(series[0].parent), "--cohort", "c", "--create-cohort", "--report", str(report), stdout=StringIO())
    lines = {line["file"]: line for line in json.loads(report.read_text())}
    slide = Slide.objects.get()
    assert {name: line["state"] for name, line in lines.items()} == {
        "1.2.9.dcm": "ready", "1.2.8.dcm": "rejected", "1.2.7.dcm": "rejected", "1.2.20.dcm": "rejected", "1.2.21.dcm": "rejected",
    }  # fmt: skip
    assert codes(lines["1.2.8.dcm"]["findings"]) == {"COMPANION_FILE"} and "DICOM_LEFT_OUT" in codes(lines["1.2.9.dcm"]["findings"])
    assert "DICOM_LABEL_IMAGE" in codes(lines["1.2.20.dcm"]["findings"])
    assert (slide.state, slide.width, slide.height, slide.vendor) == ("ready", 900, 700, "dicom") and slide.mpp == pytest.approx(0.5)
    assert sealed_names(slide) == ["part-1.dcm", "part-2.dcm", "slide.dcm"], "neither label nor overview, no name of theirs"
    flavors = {str(pydicom.dcmread(p, stop_before_pixels=True).ImageType[2]) for p in store.path(slide.sealed_key).iterdir()}
    assert flavors == {"VOLUME"} and checksum(main_file(slide.sealed_key)) == slide.sealed_sha256
    assert residual_identifiers(store.path(slide.working_key), [PATIENT, "MRN-0815-4711"]) == []


def pack(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, f"export/{file.name}")
            archive.writestr("export/README.txt", "a\nb\n")
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in files:
                archive.add(file, f"export/{file.name}")
    return path


@pytest.mark.parametrize("name", ["P7.zip", "P7.tar.gz"])
def test_an_archive_of_a_series_is_the_same_slide(cohort, series, store_folder, tmp_path, name):
    folder = import_slide(None, cohort, series[0])
    again = import_slide(None, cohort, pack(tmp_path / name, reversed(series)))
    assert (folder.state, again.state) == ("ready", "ready") and again.slide == folder.slide and "DUPLICATE_SLIDE" in codes(again.findings)
    assert not list((store_folder / ".tmp").iterdir())


def test_an_uploaded_archive_goes_through_the_queue(people, cohort, series, store_folder, tmp_path, run_jobs):
    packed = pack(tmp_path / "P7.zip", series)
    received = receive_upload(
        people["contributor"], cohort, SimpleUploadedFile("P7.zip", packed.read_bytes()), "slide", {"patient_code": "P7"}
    )
    run_jobs()
    row, slide = Import.objects.get(pk=received.pk), Slide.objects.get()
    assert row.state == slide.state == "ready" and slide.sample.patient.code == "P7" and len(sealed_names(slide)) == 3
    assert {f["file"] for f in row.findings} == {"P7.zip"} and "1.2.9" not in json.dumps(slide.findings)


def test_a_slide_of_one_file_may_be_packed_too_and_two_slides_are_not_guessed(cohort, series, store_folder, tmp_path):
    svs = write_svs(tmp_path / "a.svs")
    assert import_slide(None, cohort, pack(tmp_path / "one.zip", [svs])).state == "ready"
    two = import_slide(None, cohort, pack(tmp_path / "two.zip", [svs, *series]))
    assert two.state == "rejected" and "ARCHIVE_NOT_UNPACKED" in codes(two.findings) and Slide.objects.count() == 1


def test_a_level_sent_without_the_finest_says_so(cohort, series, store_folder, tmp_path):
    alone = tmp_path / "alone.dcm"
    alone.write_bytes(series[1].read_bytes())
    result = import_slide(None, cohort, alone)
    assert "DICOM_SERIES_PART" in codes(result.findings) and result.state != "ready"


def test_a_file_that_changes_while_it_is_sealed_is_refused(cohort, series, store_folder):
    from tissueboard.intake import sealing
    from tissueboard.intake.errors import IntakeRefused

    with pytest.raises(IntakeRefused) as refused:
        sealing.seal(series[0], "f" * 64)
    assert refused.value.code == "FILE_CHANGED" and not list((store_folder / ".tmp").iterdir())


def test_a_packed_slide_of_several_files_keeps_its_folder(store_folder, tmp_path):
    """MIRAX: the main file and the folder of its name; a readme and what a Mac leaves behind are no slides."""
    from tissueboard.intake.archives import one_slide
    from tissueboard.intake.sealing import companions

    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("scans/Jane.mrxs", b"\xff\xd8\xff main")
        archive.writestr("scans/Jane/Slidedat.ini", "[HIERARCHICAL]\nINDEXFILE = Index.dat\n")
        archive.writestr("scans\\Jane\\Index.dat", b"index")
        archive.writestr("__MACOSX/scans/._Jane.mrxs", b"x")
        archive.writestr("readme.txt", "one\ntwo\n")
    with one_slide(packed) as main:
        assert main.name == "Jane.mrxs" and [p.name for p in companions(main)] == ["Index.dat", "Slidedat.ini"]
        folder = main.parent
    assert not folder.exists()


@pytest.mark.parametrize("hostile", ["../../escape.svs", "/absolute.svs"])
def test_a_hostile_archive_is_not_unpacked(store_folder, tmp_path, hostile):
    from tissueboard.intake.archives import one_slide

    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(hostile, b"II*\0")
    with one_slide(packed) as main:
        assert main == packed
        assert not list(tmp_path.parent.rglob("escape.svs")) and not list((store_folder / ".tmp").rglob("*.svs"))
