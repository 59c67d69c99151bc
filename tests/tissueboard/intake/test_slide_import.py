"""From a file to a ready slide: sealed as it came, made anew without identifiers; what is bad gets a finding and leaves nothing."""

import json
import stat
from pathlib import Path

import pytest
from slide_files import MRN, NAME, write_svs

from ml.slides.scrub import residual_identifiers
from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import Patient
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.intake import sealing
from tissueboard.intake.errors import IntakeCode as C
from tissueboard.intake.errors import IntakeRefused
from tissueboard.intake.models import Import
from tissueboard.intake.services import import_slide, override_mpp
from tissueboard.slides.models import Slide
from tissueboard.store import checksum, store

NEEDLES = [NAME, "ROSENTHAL", MRN, "1961:05:17"]


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def codes(result) -> set[str]:
    return {str(f.code) for f in result.findings}


@pytest.fixture
def svs(tmp_path) -> Path:
    return write_svs(tmp_path / f"{NAME}.svs")


def test_a_slide_becomes_ready_and_says_nothing_of_the_patient(people, cohort, store_folder, svs, client):
    original = checksum(svs)
    assert residual_identifiers(svs, NEEDLES), "the test file really holds what must not be found later"
    result = import_slide(people["contributor"], cohort, svs, site="site A", stain_batch="7")
    assert result.state == "ready" and {"IDENTIFIERS_IN_HEADER", "ASSOCIATED_IMAGES", C.IDENTIFIER_REPLACED} <= codes(result)
    slide = Slide.objects.get()
    assert (slide.state, slide.mpp, slide.width, slide.height, slide.site) == ("ready", 0.5, 900, 700, "site A")
    assert slide.tissue_mm2 > 0.02 and slide.mpp_source == "file" and slide.vendor == "aperio"
    assert slide.name == f"S-{original[:8]}" and slide.sample.patient.code == f"P-{original[:8]}"

    sealed, working = store.path(slide.sealed_key), store.path(slide.working_key)
    assert checksum(sealed) == slide.sealed_sha256 == original and stat.S_IMODE(sealed.stat().st_mode) == 0o400
    assert checksum(working) == slide.working_sha256 and residual_identifiers(working, NEEDLES) == []
    assert files_in(store_folder) == sorted([slide.sealed_key, slide.working_key, f"slides/{slide.pk}/thumbnail.jpg"])

    told = json.dumps([list(Slide.objects.values()), list(Patient.objects.values()), list(AccessLog.objects.values())], default=str)
    assert not [needle for needle in NEEDLES if needle in told]
    assert AccessLog.objects.filter(verb="import slide", patient_code=slide.sample.patient.code, username="contributor").count() == 1
    row = Import.objects.get()
    assert (row.state, row.file_name, row.sha256, row.facts["slide"]) == ("ready", svs.name, original, slide.pk)


def test_the_same_file_is_not_taken_twice(people, cohort, store_folder, svs, tmp_path):
    first = import_slide(people["contributor"], cohort, svs)
    copy = tmp_path / "another name.svs"
    copy.write_bytes(svs.read_bytes())
    again = import_slide(people["contributor"], cohort, copy)
    assert again.state == "ready" and again.slide == first.slide and C.DUPLICATE_SLIDE in codes(again)
    assert Slide.objects.count() == 1 and Patient.objects.count() == 1 and Import.objects.count() == 2


@pytest.mark.parametrize("mpp", [0.5, None])
def test_a_file_that_the_cohort_has_of_another_patient_changes_nothing(people, cohort, store_folder, tmp_path, mpp):
    path = write_svs(tmp_path / "one.svs", mpp=mpp)
    first = import_slide(people["contributor"], cohort, path, patient_code="P-1")
    before = list(Slide.objects.values())
    other = import_slide(people["contributor"], cohort, path, patient_code="P-2", mpp=0.5)
    assert other.state == "rejected" and codes(other) == {C.PATIENT_DISAGREES}
    assert "P-1" in other.findings[0].sentence and "P-2" in other.findings[0].sentence
    assert list(Slide.objects.values()) == before and Patient.objects.count() == 1
    assert import_slide(people["contributor"], cohort, path, patient_code=" P-1 ").slide == first.slide


def test_a_slide_without_mpp_waits_for_a_person_who_may(people, cohort, store_folder, tmp_path):
    path = write_svs(tmp_path / "TCGA-CR-7395-01A-01.svs", mpp=None)
    waiting = import_slide(people["contributor"], cohort, path)
    slide = waiting.slide
    assert waiting.state == slide.state == "needs attention" and "MPP_MISSING" in codes(waiting)
    assert slide.working_key == "" and store.exists(slide.sealed_key) and slide.sample.patient.code == "TCGA-CR-7395"
    path.unlink()
    with pytest.raises(RoleMissing):
        override_mpp(people["viewer"], slide, 0.5)
    with pytest.raises(NotVisible):
        override_mpp(people["outsider"], slide, 0.5)
    done = override_mpp(people["contributor"], slide, 0.5)
    slide.refresh_from_db()
    assert done.state == slide.state == "ready" and (slide.mpp, slide.mpp_source) == (0.5, "override")
    assert slide.facts["mpp_given_by"] == "contributor" and Import.objects.get().state == "ready"
    with pytest.raises(IntakeRefused) as refusal:
        override_mpp(people["contributor"], slide, 0.25)
    assert refusal.value.code == C.IMPORT_STATE and refusal.value.status == 409


def test_an_impossible_override_leaves_it_waiting(people, cohort, store_folder, tmp_path):
    slide = import_slide(None, cohort, write_svs(tmp_path / "a.svs", mpp=None)).slide
    result = override_mpp(people["contributor"], slide, 50.0)
    slide.refresh_from_db()
    assert result.state == slide.state == "needs attention" and "MPP_IMPLAUSIBLE" in codes(result) and slide.mpp is None


def test_importing_again_with_mpp_finishes_what_waited(cohort, store_folder, tmp_path):
    path = write_svs(tmp_path / "a.svs", mpp=None)
    waiting = import_slide(None, cohort, path).slide
    again = import_slide(None, cohort, path, mpp=0.5)
    assert again.state == "ready" and again.slide == waiting and Slide.objects.get().state == "ready"


def test_a_stated_mpp_does_not_overwrite_another_plausible_one_unless_trusted(cohort, store_folder, svs):
    doubtful = import_slide(None, cohort, svs, mpp=0.25)
    assert doubtful.state == "needs attention" and C.MPP_DISAGREES in codes(doubtful)
    assert Slide.objects.get().findings[-2]["file"] == Slide.objects.get().name, "viewers do not read the file's name"
    trusted = import_slide(None, cohort, svs, mpp=0.25, trust_mpp=True)
    assert trusted.state == "ready" and Slide.objects.get().mpp == 0.25 and "MPP_CONFLICT" in codes(trusted)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>Sign in</html>", b"II*\0" + b"\0" * 300, b"PK\x03\x04" + b"\0" * 60])
def test_a_rejected_file_leaves_its_findings_only(people, cohort, store_folder, tmp_path, content):
    path = tmp_path / "bad.svs"
    path.write_bytes(content)
    result = import_slide(people["contributor"], cohort, path)
    assert result.state == "rejected" and result.slide is None and any(f.severity == "error" for f in result.findings)
    assert not Slide.objects.exists() and not Patient.objects.exists() and files_in(store_folder) == []
    assert Import.objects.get().findings == [f.to_dict() for f in result.findings]


def test_a_dry_run_leaves_nothing_at_all(people, cohort, store_folder, svs):
    logged = AccessLog.objects.count()
    result = import_slide(people["contributor"], cohort, svs, dry_run=True)
    assert result.state == "ready" and result.slide is None and result.import_ is None and C.IDENTIFIER_REPLACED in codes(result)
    assert not Slide.objects.exists() and not Patient.objects.exists() and not Import.objects.exists()
    assert AccessLog.objects.count() == logged and not store_folder.exists()


def test_an_import_that_was_cut_off_is_finished_by_the_next(cohort, store_folder, svs):
    class Killed(BaseException):
        pass

    def dies() -> None:
        raise Killed

    with pytest.raises(Killed):
        import_slide(None, cohort, svs, tick=dies)
    assert Slide.objects.get().state == "removing identifiers" and not files_in(store_folder / "slides")
    assert import_slide(None, cohort, svs).state == "ready" and Slide.objects.get().state == "ready"
    assert not files_in(store_folder / ".tmp")


def test_who_may(people, cohort, store_folder, svs):
    with pytest.raises(RoleMissing, match="contributor"):
        import_slide(people["viewer"], cohort, svs)
    with pytest.raises(NotVisible):
        import_slide(people["outsider"], cohort, svs)
    assert not Import.objects.exists()


def mirax(folder: Path) -> Path:
    """A slide of several files, as far as sealing looks at it."""
    (folder / "Jane").mkdir(parents=True)
    (folder / "Jane.mrxs").write_bytes(b"main")
    (folder / "Jane" / "Slidedat.ini").write_text(
        "[HIERARCHICAL]\nINDEXFILE = Index.dat\n[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n"
    )
    (folder / "Jane" / "Index.dat").write_bytes(b"index")
    (folder / "Jane" / "Data0000.dat").write_bytes(b"data")
    return folder / "Jane.mrxs"


def test_a_slide_of_several_files_is_sealed_whole(store_folder, tmp_path):
    one, two = mirax(tmp_path / "a"), mirax(tmp_path / "b")
    sha256 = sealing.checksum(one)
    assert sealing.checksum(two) == sha256
    key = sealing.seal(one, sha256)
    assert files_in(store.path(key)) == ["slide.mrxs", "slide/Data0000.dat", "slide/Index.dat", "slide/Slidedat.ini"]
    main = sealing.main_file(key)
    assert main.read_bytes() == b"main" and sealing.checksum(main) == sha256 and stat.S_IMODE(main.stat().st_mode) == 0o400
    (tmp_path / "b" / "Jane" / "Data0000.dat").write_bytes(b"other")
    assert sealing.checksum(two) != sha256
    with pytest.raises(IntakeRefused) as refusal:
        sealing.seal(two, "f" * 64)
    assert refusal.value.code == C.FILE_CHANGED and files_in(store_folder / ".tmp") == []


def test_nothing_of_a_strangers_name_reaches_the_disk():
    assert [sealing.suffix_of(n) for n in ("a.SVS", "a.s/vs", "a.", "a", "a.tif;rm", "x/../a.tiff")] == [".svs", "", "", "", "", ".tiff"]


def test_a_real_slide_does_not_go_among_simulated_patients(cohort, store_folder, svs):
    cohort.simulated = True
    cohort.save()
    with pytest.raises(IntakeRefused) as refused:
        import_slide(None, cohort, svs)
    assert refused.value.code == "COHORT_IS_SIMULATED" and refused.value.status == 409
    assert not Slide.objects.filter(sample__patient__cohort=cohort).exists() and not Import.objects.filter(cohort=cohort).exists()
    assert import_slide(None, cohort, svs, simulated=True).state == "ready"
