"""A file of measured channels becomes an image of its sample: sealed, without identifiers, whole or not at all, once."""

import errno
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from multiplex_pictures import NAME, PANEL, draw, write_markers, write_ome, write_qptiff

from ml.slides.findings import FindingCode
from tissueboard.accounts.models import AccessLog
from tissueboard.assays.errors import AssayRefused
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Patient
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.intake.errors import IntakeRefused
from tissueboard.intake.models import Import
from tissueboard.intake.multiplex_completion import request_completion
from tissueboard.intake.multiplex_import import complete_multiplex, import_multiplex
from tissueboard.intake.services import confirm_import, receive_upload
from tissueboard.jobs.models import Job
from tissueboard.store import checksum, store

pytestmark = pytest.mark.usefixtures("store_folder")
in_this_process = pytest.mark.usefixtures("here")


def codes(result):
    return {str(finding.code) for finding in result.findings}


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def test_a_sound_image_is_sealed_and_made_a_pyramid(people, ome):
    cohort = people.lung.cohort
    result = import_multiplex(people.contributor, cohort, ome, patient_code="LU-000", sample_code="S9", technology="codex")
    image = MultiplexImage.objects.get()
    assert result.state == image.state == "ready" and result.image == image
    assert (image.sample.patient.code, image.sample.code, image.technology) == ("LU-000", "S9", "codex")
    assert image.name == f"M-{image.sealed_sha256[:8]}" and image.channels == list(PANEL)
    assert (image.width, image.height, image.dtype, image.mpp, image.mpp_source) == (400, 300, "uint16", pytest.approx(0.5), "file")
    assert image.sealed_sha256 == checksum(ome) and store.path(image.sealed_key).read_bytes() == ome.read_bytes()
    assert image.sha256 == checksum(store.path(image.key)) and not image.facts["signal_estimated"]
    assert [f["n"] for f in image.facts["signal"]] == [120_000] * 3
    row = AccessLog.objects.get(verb="import multiplex image")
    assert (row.username, row.patient_code, row.cohort_id) == ("contributor", "LU-000", cohort.pk)
    assert files_below(store.root / ".tmp") == []


@in_this_process
def test_the_patients_name_is_in_nothing_that_viewers_read(people, ome):
    result = import_multiplex(people.contributor, people.lung.cohort, ome)
    image = result.image
    assert image.sample.patient.code == f"P-{image.sealed_sha256[:8]}" and "IDENTIFIER_REPLACED" in codes(result)
    kept = json.dumps([image.name, image.channels, image.findings, image.facts, image.sample.code, image.key, image.sealed_key])
    assert "ROSENTHAL" not in kept and "JANE" not in kept
    for file in store.path(image.key).rglob("*"):
        assert not file.is_file() or b"ROSENTHAL" not in file.read_bytes()


@in_this_process
def test_the_same_file_again_is_found(people, ome):
    first = import_multiplex(people.contributor, people.lung.cohort, ome)
    again = import_multiplex(people.contributor, people.lung.cohort, ome)
    assert again.image == first.image and "DUPLICATE_IMAGE" in codes(again) and MultiplexImage.objects.count() == 1


@in_this_process
@pytest.mark.parametrize("waits", [False, True], ids=["finished", "waiting"])
def test_a_file_that_the_cohort_has_of_another_patient_changes_nothing(people, ome, nameless, waits):
    path, cohort = (nameless if waits else ome), people.lung.cohort
    first = import_multiplex(people.contributor, cohort, path, patient_code="LU-000")
    before, patients = list(MultiplexImage.objects.values()), Patient.objects.count()
    other = import_multiplex(people.contributor, cohort, path, patient_code="LU-001", channels=PANEL, mpp=0.7)
    assert other.state == "rejected" and codes(other) == {"PATIENT_DISAGREES"}
    assert "LU-000" in other.findings[0].sentence and "LU-001" in other.findings[0].sentence
    assert list(MultiplexImage.objects.values()) == before and Patient.objects.count() == patients
    assert import_multiplex(people.contributor, cohort, path, patient_code=" LU-000 ").image == first.image


@in_this_process
def test_a_folder_of_markers_is_one_image_and_the_same_one_again(people, tmp_path):
    folder = write_markers(tmp_path / "Point7_Rosenthal", draw())
    (folder / "readme.txt").write_text(NAME)
    first = import_multiplex(people.contributor, people.lung.cohort, folder, mpp=0.39, technology="mibi")
    assert first.state == "ready" and first.image.channels == sorted(PANEL) and first.image.mpp_source == "override"
    assert first.image.facts["given"]["by"] == "contributor" and first.image.sealed_key.endswith(".zip")
    assert NAME.encode() not in store.path(first.image.sealed_key).read_bytes()
    assert import_multiplex(people.contributor, people.lung.cohort, folder, mpp=0.39).image == first.image


@in_this_process
def test_what_is_missing_waits_for_a_person_and_is_given_later(people, nameless, run_jobs):
    result = import_multiplex(people.contributor, people.lung.cohort, nameless, patient_code="LU-001")
    image = result.image
    assert result.state == image.state == "needs attention" and not image.key
    assert codes(result) >= {FindingCode.CHANNEL_NAMES_MISSING, FindingCode.MPP_MISSING}
    half = complete_multiplex(people.contributor, image, mpp=0.65)
    assert half.state == "needs attention" and codes(half) >= {FindingCode.CHANNEL_NAMES_MISSING}
    image.refresh_from_db()
    job = request_completion(people.contributor, image, channels="DAPI\nCD 3,  PanCK\n")
    assert request_completion(people.contributor, image, channels=["DAPI", "CD 3", "PanCK"]).pk == job.pk
    assert job.pk in run_jobs()
    image.refresh_from_db()
    assert (image.state, image.channels, image.mpp) == ("ready", ["DAPI", "CD 3", "PanCK"], 0.65)
    assert image.facts["names_source"] == "given" and image.facts["given"]["by"] == "contributor"
    assert Import.objects.get(kind="multiplex").state == "ready"
    with pytest.raises(AssayRefused) as refused:
        complete_multiplex(people.contributor, image, mpp=1.0)
    assert refused.value.code == "IMAGE_STATE" and refused.value.status == 409


@in_this_process
def test_a_waiting_image_sent_again_with_the_answers_is_finished(people, nameless):
    waiting = import_multiplex(people.contributor, people.lung.cohort, nameless).image
    result = import_multiplex(people.contributor, people.lung.cohort, nameless, channels=PANEL, mpp=0.5)
    assert result.state == "ready" and result.image == waiting and "DUPLICATE_IMAGE" in codes(result)


@in_this_process
def test_a_size_that_the_file_contradicts_is_asked_about(people, ome):
    result = import_multiplex(people.contributor, people.lung.cohort, ome, mpp=1.0)
    assert result.state == "needs attention" and "MPP_DISAGREES" in codes(result)
    trusted = complete_multiplex(people.contributor, result.image, mpp=1.0)
    assert trusted.state == "ready" and trusted.image.mpp == 1.0


@in_this_process
def test_a_rejected_file_leaves_its_findings_only(people, tmp_path, store_folder):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\x00" + b"\xff" * 100)
    result = import_multiplex(people.contributor, people.lung.cohort, path)
    assert result.state == "rejected" and result.image is None and not MultiplexImage.objects.exists()
    assert Import.objects.get(kind="multiplex").findings and files_below(store_folder / "sealed") == []


@in_this_process
def test_a_dry_run_writes_nothing(people, ome, store_folder):
    before = Patient.objects.count(), Import.objects.count()
    result = import_multiplex(people.contributor, people.lung.cohort, ome, dry_run=True)
    assert result.state == "ready" and result.image is None
    assert (Patient.objects.count(), Import.objects.count()) == before and files_below(store_folder) == []


def test_a_conversion_that_fails_leaves_an_image_that_waits(people, ome, monkeypatch):
    from ml.multiplex import isolated

    whole = isolated.run_isolated

    def killed_while_converting(arguments, seconds, memory_mb, tick=None):
        if arguments[1] == "convert":
            return whole(["ml.slides.nothing"], seconds, memory_mb, tick)
        return whole(arguments, seconds, memory_mb, tick)

    monkeypatch.setattr(isolated, "run_isolated", killed_while_converting)
    result = import_multiplex(people.contributor, people.lung.cohort, ome)
    assert result.state == "needs attention" and FindingCode.PARSER_CRASHED in codes(result)
    assert not result.image.key and files_below(store.root / ".tmp") == []
    monkeypatch.setattr(isolated, "run_isolated", whole)
    assert complete_multiplex(people.contributor, result.image).state == "ready"


@in_this_process
def test_a_job_that_a_worker_died_on_finishes_when_it_comes_again(people, nameless, run_jobs):
    image = import_multiplex(people.contributor, people.lung.cohort, nameless).image
    job = request_completion(people.contributor, image, channels=list(PANEL), mpp=0.5)
    MultiplexImage.objects.filter(pk=image.pk).update(state="building tiles")  # as kill -9 leaves it
    run_jobs()
    image.refresh_from_db()
    job.refresh_from_db()
    assert (image.state, job.state) == ("ready", "succeeded") and image.sha256 == checksum(store.path(image.key))


def test_a_cancelled_import_leaves_an_image_that_waits_and_no_part_of_a_pyramid(people, ome):
    class Cancelled(Exception):
        pass

    def tick():
        raise Cancelled

    with pytest.raises(Cancelled):
        import_multiplex(people.contributor, people.lung.cohort, ome, tick=tick)
    image = MultiplexImage.objects.get()
    assert image.state == "needs attention" and not image.key and files_below(store.root / ".tmp") == []
    assert not store.path("assays").exists()


@in_this_process
def test_a_full_disk_is_said_and_the_image_tried_again(people, ome, monkeypatch, run_jobs):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(IntakeRefused) as refused:
            import_multiplex(people.contributor, people.lung.cohort, ome)
        assert (refused.value.code, refused.value.status) == ("DISK_FULL", 507) and not MultiplexImage.objects.exists()
    for place in ("ml.multiplex.convert.write_pyramid", "tissueboard.intake.multiplex_import.store.save"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            result = import_multiplex(people.contributor, people.lung.cohort, ome)
            assert result.state == "needs attention" and "DISK_FULL" in codes(result), place
            assert files_below(store.root / ".tmp") == []
    first = request_completion(people.contributor, result.image)
    run_jobs()
    result.image.refresh_from_db()
    assert result.image.state == "ready" and Job.objects.get(pk=first.pk).state == "succeeded"


@in_this_process
def test_the_same_answer_can_be_given_again_after_an_attempt(people, nameless, run_jobs):
    image = import_multiplex(people.contributor, people.lung.cohort, nameless).image
    first = request_completion(people.contributor, image, mpp=0.5)
    run_jobs()
    image.refresh_from_db()
    again = request_completion(people.contributor, image, mpp=0.5)
    assert image.state == "needs attention" and again.pk != first.pk
    with pytest.raises(AssayRefused) as refused:
        request_completion(people.contributor, image)
    assert refused.value.code == "NOTHING_GIVEN"


@in_this_process
def test_the_format_names_the_technology_where_nobody_did(people, tmp_path):
    path = write_qptiff(tmp_path / "a.qptiff", draw(dtype="uint8"))
    assert import_multiplex(people.contributor, people.lung.cohort, path).image.technology == "vectra"
    with pytest.raises(AssayRefused) as refused:
        import_multiplex(people.contributor, people.lung.cohort, path, technology="x-ray")
    assert refused.value.code == "BAD_TECHNOLOGY"


@in_this_process
def test_who_may_not_add_adds_nothing(people, ome, nameless):
    for person, error in (("viewer", RoleMissing), ("outsider", NotVisible), ("stranger", NotVisible)):
        with pytest.raises(error):
            import_multiplex(people.users[person], people.lung.cohort, ome)
    image = import_multiplex(people.contributor, people.lung.cohort, nameless).image
    for person, error in (("viewer", RoleMissing), ("stranger", NotVisible)):
        with pytest.raises(error):
            request_completion(people.users[person], image, mpp=1.0)
        with pytest.raises(error):
            complete_multiplex(people.users[person], image, mpp=1.0)


@in_this_process
def test_a_real_image_does_not_go_among_simulated_patients(people, ome):
    cohort = people.lung.cohort
    cohort.simulated = True
    cohort.save()
    with pytest.raises(IntakeRefused) as refused:
        import_multiplex(people.contributor, cohort, ome)
    assert refused.value.code == "COHORT_IS_SIMULATED"


def sent(path):
    return SimpleUploadedFile(path.name, path.read_bytes())


def test_an_upload_is_imported_by_its_job(people, ome, run_jobs):
    received = receive_upload(
        people.contributor, people.lung.cohort, sent(ome), "multiplex", {"patient_code": "LU-002", "technology": "if"}
    )
    assert received.job_id in run_jobs()
    received.refresh_from_db()
    image = MultiplexImage.objects.get(pk=received.facts["image"])
    assert (received.state, image.state, image.sample.patient.code, image.technology) == ("ready", "ready", "LU-002", "if")
    assert not received.key and Job.objects.get(pk=received.job_id).queue == "io"


@in_this_process
def test_an_upload_can_be_checked_first(people, ome, run_jobs):
    received = receive_upload(people.contributor, people.lung.cohort, sent(ome), "multiplex", {}, dry_run=True)
    run_jobs()
    received.refresh_from_db()
    assert received.state == "ready" and received.key and not MultiplexImage.objects.exists()
    confirm_import(people.contributor, received)
    run_jobs()
    assert MultiplexImage.objects.get().state == "ready"


@pytest.mark.parametrize(
    "options", [{"stain": "H&E"}, {"channels": 3}, {"channels": []}, {"channels": "x" * 81}, {"channels": ["a\x07"]}, {"mpp": "wide"}]
)
def test_options_that_mean_nothing_are_refused(people, ome, options):
    with pytest.raises(IntakeRefused) as refused:
        receive_upload(people.contributor, people.lung.cohort, sent(ome), "multiplex", options)
    assert refused.value.code == "BAD_MAPPING"


def test_an_image_sent_as_a_slide_is_told_where_to_go(people, ome, run_jobs):
    received = receive_upload(people.contributor, people.lung.cohort, sent(ome), "slide", {})
    run_jobs()
    received.refresh_from_db()
    found = next(f for f in received.findings if f["code"] == "ASSAY_IMAGE")
    assert received.state == "rejected" and "import_multiplex" in found["hint"]
    page = people.client("contributor").get(f"/imports/{received.pk}/").content.decode()
    assert f"/cohorts/{people.lung.cohort.pk}/upload/multiplex/" in page


@in_this_process
def test_the_command_imports_and_reports_each_image(people, ome, nameless, tmp_path, capsys):
    folder = write_markers(tmp_path / "markers", draw(seed=3))
    report, names = tmp_path / "report.json", tmp_path / "names.txt"
    names.write_text("\n".join(PANEL))
    call_command("import_multiplex", "lung", str(ome), str(nameless), str(folder), str(tmp_path / "none.tif"), report=report)
    states = [line["state"] for line in json.loads(report.read_text())]
    assert states == ["ready", "needs attention", "needs attention", "rejected"]
    assert "1 ready, 2 needs attention, 1 rejected" in capsys.readouterr().out
    call_command("import_multiplex", "lung", str(nameless), channels_file=names, mpp=0.5, technology="imc")
    assert MultiplexImage.objects.filter(state="ready").count() == 2
    call_command("import_multiplex", "lung", str(folder), mpp=0.5, dry_run=True)
    assert "nothing was written" in capsys.readouterr().out
    for wrong in ({"channels": "a,b", "channels_file": names}, {"channels_file": tmp_path / "no.txt"}, {"trust_mpp": True}):
        with pytest.raises(CommandError):
            call_command("import_multiplex", "lung", str(ome), **wrong)


@in_this_process
def test_a_pyramid_written_twice_is_the_same(people, ome, tmp_path):
    first = import_multiplex(people.contributor, people.lung.cohort, ome).image
    second = import_multiplex(people.stranger, people.breast.cohort, write_ome(tmp_path / "b.ome.tif", draw())).image
    assert first.sha256 == second.sha256 and first.pk != second.pk
