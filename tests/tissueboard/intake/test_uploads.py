"""Files that people send: streamed into the store, checked by a job, decided by a person."""

import json
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from slide_files import NAME, write_svs

from tissueboard.cohorts.models import Endpoint, Patient
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.intake.errors import IntakeCode as C
from tissueboard.intake.errors import IntakeRefused
from tissueboard.intake.models import Import
from tissueboard.intake.selectors import get_import, imports_for
from tissueboard.intake.services import confirm_import, discard_import, receive_upload, request_override, review_import
from tissueboard.jobs.models import Job
from tissueboard.slides.models import Slide

TABLE = b"patient_id,os_months,os_status,age\nP1,5,1,60\nP2,7,0,50\n"
ENDPOINT = {"name": "OS", "time": "os_months", "unit": "months", "event": "os_status", "coding": "event=1"}


def uploaded_files(folder: Path) -> list[Path]:
    return [p for part in ("uploads", ".tmp") for p in (folder / part).rglob("*") if p.is_file()]


@pytest.fixture
def send(people, cohort, store_folder):
    def run(content: bytes, kind: str, *, name="file.csv", user="contributor", options=None, dry_run=False) -> Import:
        return receive_upload(people[user], cohort, SimpleUploadedFile(name, content), kind, options or {}, dry_run)

    return run


def test_an_uploaded_slide_goes_through_the_queue_to_ready(send, run_jobs, store_folder, tmp_path):
    content = write_svs(tmp_path / "x.svs").read_bytes()
    received = send(content, "slide", name=f"C:\\scans\\{NAME}.svs", options={"site": "B", "mpp": ""})
    assert (received.state, received.file_name, received.size_bytes) == ("receiving", f"{NAME}.svs", len(content))
    assert NAME not in received.key and run_jobs() == [received.job_id]
    received.refresh_from_db()
    assert received.state == "ready" and received.key == "" and not uploaded_files(store_folder)
    assert Slide.objects.get(pk=received.facts["slide"]).site == "B"
    job = Job.objects.get()
    assert (job.state, job.queue) == ("succeeded", "io")
    assert NAME not in json.dumps([job.params, list(job.outputs.values("facts"))])


def test_a_bad_upload_ends_with_findings_and_a_job_that_did_its_work(send, run_jobs, store_folder):
    received = send(b"<html>sign in</html>", "slide", name="a.svs")
    run_jobs()
    received.refresh_from_db()
    assert received.state == "rejected" and received.findings[-1]["code"] == "HTML_PAGE" and not uploaded_files(store_folder)
    assert Job.objects.get().state == "succeeded" and not Slide.objects.exists()


def test_a_slide_that_was_only_checked_can_be_confirmed(send, run_jobs, people, store_folder, tmp_path):
    received = send(write_svs(tmp_path / "x.svs", mpp=None).read_bytes(), "slide", name="a.svs", dry_run=True)
    run_jobs()
    received.refresh_from_db()
    assert received.state == "needs attention" and received.dry_run and not Slide.objects.exists() and uploaded_files(store_folder)
    confirm_import(people["contributor"], received, {"mpp": "0.5"})
    run_jobs()
    received.refresh_from_db()
    assert received.state == "ready" and Slide.objects.get().mpp == 0.5 and not uploaded_files(store_folder)


def test_a_table_is_tried_asked_about_and_then_imported(send, people, store_folder):
    received = send(TABLE, "clinical")
    assert received.state == "needs attention" and received.dry_run and not Patient.objects.exists()
    assert received.facts["preview"]["endpoints"]["OS"]["events_if"] == {"event=1": 1, "event=0": 1}
    assert {f["code"] for f in received.findings if f["severity"] == "error"} == {C.EVENT_CODING_NEEDED}
    reviewed = review_import(people["contributor"], received, {**received.options, "endpoints": [ENDPOINT]})
    assert reviewed.state == "ready" and reviewed.facts["counts"]["OS events"] == 1 and not Patient.objects.exists()
    done = confirm_import(people["contributor"], reviewed)
    assert done.state == "ready" and not done.dry_run and not uploaded_files(store_folder)
    assert set(Endpoint.objects.values_list("patient__code", "event")) == {("P1", True), ("P2", False)}
    with pytest.raises(IntakeRefused) as refusal:
        confirm_import(people["contributor"], done)
    assert refusal.value.code == C.IMPORT_STATE and refusal.value.status == 409


def test_a_confirmed_table_with_errors_stays_open(send, people, store_folder):
    received = confirm_import(people["contributor"], send(TABLE, "clinical"))
    assert received.state == "needs attention" and received.dry_run and uploaded_files(store_folder) and not Patient.objects.exists()
    discard_import(people["contributor"], received)
    assert received.state == "rejected" and not uploaded_files(store_folder)


def test_an_upload_that_is_too_large_leaves_nothing(send, settings, store_folder):
    settings.UPLOAD_MAX_BYTES = 100
    with pytest.raises(IntakeRefused) as refusal:
        send(b"x" * 200, "slide", name="a.svs")
    assert refusal.value.code == C.UPLOAD_TOO_LARGE and refusal.value.status == 413
    assert not Import.objects.exists() and not uploaded_files(store_folder) and not Job.objects.exists()


@pytest.mark.parametrize(
    "options", [{"mpp": "fast"}, {"mpp": -1}, {"mpp": "inf"}, {"simulated": "yes"}, {"site": "x" * 81}, {"site": ["x"]}]
)
def test_options_of_a_slide_are_checked_before_its_bytes_are_taken(send, store_folder, options):
    with pytest.raises(IntakeRefused) as refusal:
        send(b"x", "slide", name="a.svs", options=options)
    assert refusal.value.code == C.BAD_MAPPING and not Import.objects.exists() and not uploaded_files(store_folder)


def test_who_may_send_and_read(send, people, cohort, store_folder):
    with pytest.raises(RoleMissing):
        send(TABLE, "clinical", user="viewer")
    with pytest.raises(NotVisible):
        send(TABLE, "clinical", user="outsider")
    received = send(TABLE, "clinical")
    assert list(imports_for(people["contributor"])) == [received] == list(imports_for(people["manager"], cohort))
    assert not imports_for(people["viewer"]).exists() and not imports_for(people["outsider"]).exists()
    with pytest.raises(RoleMissing):
        imports_for(people["viewer"], cohort)
    assert get_import(people["contributor"], received.pk) == received
    with pytest.raises(RoleMissing):
        get_import(people["viewer"], received.pk)
    for verb in (confirm_import, discard_import):
        with pytest.raises(RoleMissing):
            verb(people["viewer"], received)
    with pytest.raises(NotVisible):
        get_import(people["outsider"], received.pk)


def test_a_refusal_in_the_job_leaves_the_file_to_a_person_who_can_try_again(send, run_jobs, people, cohort, store_folder, tmp_path):
    cohort.code_pattern = "("
    cohort.save()
    received = send(write_svs(tmp_path / "x.svs").read_bytes(), "slide", name="a.svs")
    run_jobs()
    received.refresh_from_db()
    assert received.state == "needs attention" and received.findings[0]["code"] == C.PATTERN_BROKEN and uploaded_files(store_folder)
    assert Job.objects.get().state == "failed" and Job.objects.get().error_code == C.PATTERN_BROKEN
    cohort.code_pattern = "^(X)"
    cohort.save()
    received.cohort.refresh_from_db()
    confirm_import(people["contributor"], received)
    run_jobs()
    received.refresh_from_db()
    assert received.state == "ready" and Slide.objects.get().state == "ready" and not uploaded_files(store_folder)


def test_a_waiting_slide_is_finished_by_a_job(send, run_jobs, people, store_folder, tmp_path):
    received = send(write_svs(tmp_path / "x.svs", mpp=None).read_bytes(), "slide", name="a.svs")
    run_jobs()
    slide = Slide.objects.get()
    assert slide.state == "needs attention"
    with pytest.raises(RoleMissing):
        request_override(people["viewer"], slide, 0.5)
    with pytest.raises(IntakeRefused):
        request_override(people["contributor"], slide, "a lot")
    job = request_override(people["contributor"], slide, "0,5")
    assert request_override(people["contributor"], slide, 0.5) == job and run_jobs() == [job.pk]
    slide.refresh_from_db()
    received.refresh_from_db()
    assert slide.state == received.state == "ready" and slide.mpp == 0.5
    with pytest.raises(IntakeRefused, match="ready"):
        request_override(people["contributor"], slide, 0.25)
