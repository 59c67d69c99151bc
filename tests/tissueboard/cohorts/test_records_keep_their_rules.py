"""What must never be in the tables is refused by the database, whoever writes."""

import pytest
from django.db import IntegrityError, transaction

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import ClinicalVariable, Cohort, Endpoint, Event, Membership, Patient, Sample
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval.models import Niche
from tissueboard.slides.models import Slide

pytestmark = pytest.mark.django_db


def patient(w):
    return w.lung.patient


def image(w):
    return MultiplexImage.objects.create(sample=w.lung.sample, name="an image", sealed_sha256="7" * 64)


BROKEN = {
    "cohort without a name": ("cohort_name_not_blank", lambda w: Cohort.objects.create(name="")),
    "two cohorts of one name": ("cohorts_cohort_name", lambda w: Cohort.objects.create(name="lung")),
    "two roles of one member": (
        "one_role_per_member",
        lambda w: Membership.objects.create(cohort=w.lung.cohort, user=w.viewer, role="manager"),
    ),
    "unknown role": ("membership_role_known", lambda w: Membership.objects.create(cohort=w.lung.cohort, user=w.outsider, role="owner")),
    "two meanings of a variable": (
        "one_meaning_per_variable",
        lambda w: ClinicalVariable.objects.create(cohort=w.lung.cohort, name="age", kind="text"),
    ),
    "unknown kind of variable": (
        "variable_kind_known",
        lambda w: ClinicalVariable.objects.create(cohort=w.lung.cohort, name="x", kind="colour"),
    ),
    "two patients of one code": ("one_patient_per_code", lambda w: Patient.objects.create(cohort=w.lung.cohort, code=patient(w).code)),
    "patient without a code": ("patient_code_not_blank", lambda w: Patient.objects.create(cohort=w.lung.cohort, code="")),
    "two samples of one code": ("one_sample_per_code", lambda w: Sample.objects.create(patient=patient(w), code=w.lung.sample.code)),
    "unknown time point": ("sample_time_point_known", lambda w: Sample.objects.create(patient=patient(w), code="x", time_point="later")),
    "unknown event": ("event_kind_known", lambda w: Event.objects.create(patient=patient(w), kind="lunch", name="x", source="s")),
    "unknown event state": (
        "event_state_known",
        lambda w: Event.objects.create(patient=patient(w), kind="treatment", name="x", state="perhaps", source="s"),
    ),
    "event that ends before it starts": (
        "event_ends_after_start",
        lambda w: Event.objects.create(patient=patient(w), kind="treatment", name="x", day=10, end_day=9, source="s"),
    ),
    "two outcomes of one endpoint": (
        "one_outcome_per_endpoint",
        lambda w: Endpoint.objects.create(patient=patient(w), name="OS", time_days=1, event=True, source="s"),
    ),
    "negative time": (
        "endpoint_(time_not_negative|entry_before_time)",
        lambda w: Endpoint.objects.create(patient=patient(w), name="PFS", time_days=-1, event=True, source="s"),
    ),
    "entry after the end": (
        "endpoint_entry_before_time",
        lambda w: Endpoint.objects.create(patient=patient(w), name="PFS", time_days=5, entry_days=6, event=True, source="s"),
    ),
    "one file twice on a sample": (
        "one_slide_per_file_and_sample",
        lambda w: Slide.objects.create(sample=w.lung.sample, name="x", sealed_sha256=w.lung.slide.sealed_sha256),
    ),
    "unknown slide state": ("slide_state_known", lambda w: Slide.objects.filter(pk=w.lung.slide.pk).update(state="fine")),
    "mpp of zero": ("slide_mpp_positive", lambda w: Slide.objects.filter(pk=w.lung.waiting.pk).update(mpp=0)),
    "ready without a working slide": ("slide_ready_is_whole", lambda w: Slide.objects.filter(pk=w.lung.waiting.pk).update(state="ready")),
    "unknown label": (
        "model_label_known",
        lambda w: ModelVersion.objects.filter(pk=w.versions["hex"].pk).update(label="state of the art"),
    ),
    "two versions of one name": ("one_version_per_name", lambda w: ModelVersion.objects.filter(family="cox_summary").update(name="same")),
    "a map without a slide": ("prediction_of_a_slide", lambda w: Prediction.objects.filter(pk=w.lung.map.pk).update(slide=None)),
    "a map of a slide and of an image": (
        "prediction_of_one_tissue",
        lambda w: Prediction.objects.filter(pk=w.lung.map.pk).update(image=image(w)),
    ),
    "two outputs of an image": (
        "one_output_per_image_and_version",
        lambda w: Prediction.objects.filter(kind="niche set").update(slide=None, image=image(w)),
    ),
    "niche of no tissue": ("niche_of_one_tissue", lambda w: Niche.objects.update(slide=None)),
    "niche of two tissues": ("niche_of_one_tissue", lambda w: Niche.objects.update(image=image(w))),
    "niche of no weight": ("niche_weight_in_range", lambda w: Niche.objects.update(weight=0)),
    "two jobs of one request": (
        "jobs_job_idempotency_key",
        lambda w: Job.objects.filter(pk=w.lung.jobs["queued"].pk).update(idempotency_key="lung done"),
    ),
    "a failure without a sentence": (
        "job_failure_has_sentence",
        lambda w: Job.objects.filter(pk=w.lung.jobs["failed"].pk).update(error_sentence=""),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_database_refuses(people, case):
    constraint, write = BROKEN[case]
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        write(people)


def test_the_same_patient_code_may_be_in_two_cohorts(people):
    Patient.objects.create(cohort=people.breast.cohort, code=people.lung.patient.code)
