"""A withdrawn patient: nothing of hers is left but who withdrew her and why; the others keep what is theirs."""

import numpy as np
import pytest
from many_tissues import embed, niche_version, row_of_tissues

from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import Patient, Withdrawal
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.intake.models import Import
from tissueboard.jobs.models import Job, State
from tissueboard.model_registry.models import Member
from tissueboard.model_registry.services import hash_of
from tissueboard.pipelines.withdrawal import footprint, withdraw_patient
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval import indexing, ranking
from tissueboard.retrieval.models import Niche, NicheIndex
from tissueboard.retrieval.services import similar_cases
from tissueboard.slides.models import Slide
from tissueboard.store import store


def write(key, content=b"hers"):
    path = store.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return key


def with_files(part, name):
    """Files of a patient's slide and of an output, where intake and jobs put them."""
    slide = part.slide
    Slide.objects.filter(pk=slide.pk).update(sealed_key=write(f"sealed/{name}.svs"), working_key=write(f"slides/{slide.pk}/working.tif"))
    Prediction.objects.filter(pk=part.map.pk).update(key=write(f"slides/{slide.pk}/map.ome.zarr/c"))
    write(f"slides/{slide.pk}/thumbnail.jpg")
    write(f"assays/labels/{slide.pk}/codex.parquet")
    return [f"sealed/{name}.svs", f"slides/{slide.pk}", f"assays/labels/{slide.pk}"]


def withdraw(people, execute, patient=None, user=None, why="She asked for it."):
    with execute(execute=True):
        return withdraw_patient(user or people.manager, patient or people.lung.patient, why)


@pytest.fixture
def execute(django_capture_on_commit_callbacks):
    return django_capture_on_commit_callbacks


def test_records_files_outputs_and_vectors_go(people, execute):
    part = people.lung
    keys = with_files(part, "withdrawn")
    Import.objects.create(cohort=part.cohort, kind="slide", state="ready", file_name="Jane.svs", sha256=part.slide.sealed_sha256)
    Member.objects.create(version=people.versions["lung"], fold=0, patient_hash=hash_of(part.patient))
    told = footprint(people.manager, part.patient)
    assert (told.slides, told.predictions, told.models, told.tables) == (1, 3, [people.versions["lung"]], 1) and told.niches > 0
    made = withdraw(people, execute)
    assert not Patient.objects.filter(pk=part.patient.pk).exists() and not Slide.objects.filter(pk=part.slide.pk).exists()
    assert not Niche.objects.filter(prediction=part.niche_set.pk).exists() and not any(store.exists(key) for key in keys)
    assert not Import.objects.filter(file_name="Jane.svs").exists()
    assert (made.code, made.why, made.withdrawn_by, made.facts["models"]) == (
        "LU-000", "She asked for it.", people.manager, [people.versions["lung"].pk]
    )  # fmt: skip
    assert AccessLog.objects.filter(verb="withdraw patient", patient_code="LU-000", username="manager").count() == 1
    assert store.exists(part.slides[1].working_key) and Niche.objects.filter(slide=part.slides[1]).exists()


def test_a_file_that_somebody_else_has_too_stays(people, execute):
    part = people.lung
    with_files(part, "shared")
    Slide.objects.filter(pk=part.slides[1].pk).update(sealed_key="sealed/shared.svs")
    withdraw(people, execute)
    assert store.exists("sealed/shared.svs")


def test_only_a_manager_with_a_reason(people, execute):
    for user, error in ((people.contributor, RoleMissing), (people.stranger, NotVisible), (people.staff, NotVisible)):
        with pytest.raises(error):
            withdraw(people, execute, user=user)
    for why in ("  ", "x" * 201):
        with pytest.raises(TissueboardError, match="reason"):
            withdraw(people, execute, why=why)
    assert Patient.objects.filter(pk=people.lung.patient.pk).exists() and not Withdrawal.objects.exists()


def test_waiting_work_is_cancelled_and_running_work_is_asked_to_stop_first(people, execute):
    part = people.lung
    waiting, running = Job.objects.get(pk=part.jobs["queued"].pk), Job.objects.get(pk=part.jobs["queued"].pk)
    Job.objects.filter(pk=waiting.pk).update(params={"slide": part.slide.pk, "version": 1})
    running.pk, running.idempotency_key, running.state, running.params = None, "running", State.RUNNING, {"patient": part.patient.pk}
    running.started_at = running.queued_at
    running.save(force_insert=True)
    running.cohorts.set([part.cohort])
    with pytest.raises(TissueboardError, match="is running") as refused:
        withdraw(people, execute)
    assert refused.value.status == 409 and Job.objects.get(pk=running.pk).cancel_requested
    assert Job.objects.get(pk=waiting.pk).state == State.CANCELLED and Patient.objects.filter(pk=part.patient.pk).exists()
    Job.objects.filter(pk=running.pk).update(state=State.CANCELLED, finished_at=running.started_at)
    withdraw(people, execute)
    assert not Patient.objects.filter(pk=part.patient.pk).exists()


def test_she_is_in_no_answer_at_once_and_in_no_index_after_its_job(people, execute, run_jobs, monkeypatch):
    for module in (indexing, ranking):
        monkeypatch.setattr(module, "FEWEST_SETS", 6)
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 8)
    run_jobs()
    gone = slides[1].sample.patient
    marks = np.array(Niche.objects.filter(slide=slides[1]).first().vector, np.float32)
    withdraw(people, execute, patient=gone)
    found = similar_cases(people.viewer, slides[0], k=7)
    assert gone.code not in [h.patient.code for h in found.hits] and found.n_candidates == 6
    with execute(execute=True):
        run_jobs()
    index = NicheIndex.objects.get(version=version)
    assert index.n_sets == 7 and similar_cases(people.viewer, slides[0], k=7).n_indexed == 6
    stored = b"".join(path.read_bytes() for path in sorted(store.path(index.key).rglob("*.npy")))
    assert marks.tobytes() not in stored and marks.astype(np.float16).tobytes() not in stored
    kept = np.array(Niche.objects.filter(slide=slides[2]).first().vector, np.float32)
    assert kept.tobytes() in stored or kept.astype(np.float16).tobytes() in stored, "the look into the files finds those who stay"


def test_an_index_that_was_being_built_meanwhile_is_built_once_more(people, execute, run_jobs, monkeypatch):
    for module in (indexing, ranking):
        monkeypatch.setattr(module, "FEWEST_SETS", 6)
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 8)
    write_index = indexing._write

    def and_meanwhile(ctx, version, revisions):
        folder = write_index(ctx, version, revisions)
        if len(revisions) == 8:
            withdraw_patient(people.manager, slides[3].sample.patient, "In between.")
        return folder

    monkeypatch.setattr(indexing, "_write", and_meanwhile)
    with execute(execute=True):
        run_jobs()
    assert NicheIndex.objects.get(version=version).n_sets == 7
    embed(people, slides[4], version, 4.0, seed=4)
