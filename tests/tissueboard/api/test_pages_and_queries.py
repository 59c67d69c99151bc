"""Lists come in pages, and a longer list asks the database no more often than a short one."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tissueboard.cohorts.models import Cohort, Endpoint, Event, Membership, Patient, Sample
from tissueboard.intake.models import Import
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

pytestmark = pytest.mark.django_db
V1 = "/api/v1"


def more_cohorts(w, n):
    for cohort in Cohort.objects.bulk_create(Cohort(name=f"more {i}") for i in range(n)):
        Membership.objects.create(cohort=cohort, user=w.contributor, role="contributor")


def more_patients(w, n):
    Patient.objects.bulk_create(Patient(cohort=w.lung.cohort, code=f"more-{i}") for i in range(n))


def more_slides(w, n):
    more_patients(w, n)
    for i, patient in enumerate(Patient.objects.filter(code__startswith="more-")):
        sample = Sample.objects.create(patient=patient, code="S")
        Slide.objects.create(sample=sample, name=f"more {i}", sealed_sha256=f"{1000 + i:064d}")


def more_jobs(w, n):
    for i in range(n):
        job = Job.objects.create(kind="tests.echo", queue="io", idempotency_key=f"more {i}", queued_at=timezone.now(), created_by=w.viewer)
        job.cohorts.set([w.lung.cohort])


def more_imports(w, n):
    Import.objects.bulk_create(Import(cohort=w.lung.cohort, kind="slide", file_name=f"{i}", created_by=w.manager) for i in range(n))


def versions(w, n):
    facts = {"label": "released", "config": {}, "key": "k", "sha256": "0" * 64, "provenance": {}, "licence": "MIT"}
    made = [ModelVersion.objects.create(family="hex", name=f"more {i}", **facts) for i in range(n)]
    for version in made:
        version.cohorts.set([w.lung.cohort])
    return made


def more_maps(w, n):
    found = w.lung.map
    facts = {"patient": w.lung.patient, "slide": w.lung.slide, "job": found.job, "key": found.key, "inputs": {}, "facts": found.facts}
    for version in versions(w, n):
        Prediction.objects.create(kind="virtual map", version=version, **facts)


def more_of_a_case(w, n):
    Event.objects.bulk_create(Event(patient=w.lung.patient, kind="treatment", name=f"{i}", source="s") for i in range(n))
    Endpoint.objects.bulk_create(Endpoint(patient=w.lung.patient, name=f"E{i}", time_days=1, event=True, source="s") for i in range(n))
    for i in range(n):
        sample = Sample.objects.create(patient=w.lung.patient, code=f"more {i}")
        Slide.objects.create(sample=sample, name=f"more {i}", sealed_sha256=f"{1000 + i:064d}")


def more_outcomes(w, n):
    more_patients(w, n)
    rows = Patient.objects.filter(code__startswith="more-")
    rows.update(clinical={"age": 60, "stage": "I"})
    Endpoint.objects.bulk_create(Endpoint(patient=p, name="OS", time_days=10.0 + i, event=i % 2, source="s") for i, p in enumerate(rows))


CASES = {
    "cohorts/": more_cohorts,
    "patients/": more_patients,
    "patients/?cohort=lung&search=-": more_patients,
    "slides/": more_slides,
    "slides/?cohort=lung&state=checking": more_slides,
    "jobs/": more_jobs,
    "jobs/?cohort=lung": more_jobs,
    "imports/": more_imports,
    "models/": versions,
    "slides/{slide}/maps/": more_maps,
    "patients/{patient}/": more_of_a_case,
    "kaplan-meier/?cohort=lung&group_by=stage": more_outcomes,
}


def queries_of(client, path):
    with CaptureQueriesContext(
        connection,
    ) as asked:
        answer = client.get(f"{V1}/{path}")
    assert answer.status_code == 200, answer.content
    return len(asked), answer.json()


@pytest.mark.parametrize("path", CASES)
def test_thirty_rows_take_as_many_queries_as_three(people, path):
    address = path.format(slide=people.lung.slide.pk, patient=people.lung.patient.pk)
    client, more = people.api("contributor"), CASES[path]
    # What is read once per process (content types, jobs' titles) is not part of either count.
    queries_of(client, address)
    counts = []
    for n in (3, 30):
        point = transaction.savepoint()
        more(people, n)
        counts.append(queries_of(client, address)[0])
        transaction.savepoint_rollback(point)
    assert counts[0] == counts[1] <= 20, counts


def test_pages_follow_each_other_without_gap_or_overlap(people):
    more_patients(people, 30)
    client, found, url = people.api("viewer"), [], f"{V1}/patients/?page_size=7"
    while url:
        body = client.get(url).json()
        assert body["count"] == 36 and len(body["results"]) <= 7
        found += [p["code"] for p in body["results"]]
        url = body["next"]
    assert found == sorted(set(found)) and len(found) == 36


@pytest.mark.parametrize(("size", "given"), [("", 50), ("1000000", 200), ("0", 50), ("-3", 50), ("x", 50)])
def test_a_page_is_never_longer_than_200_rows(people, size, given):
    more_patients(people, 250)
    assert len(people.api("viewer").get(f"{V1}/patients/", {"page_size": size}).json()["results"]) == given


@pytest.mark.parametrize("page", ["0", "-1", "99", "x", "9" * 5000])
def test_a_page_that_is_not_there_is_404(people, page):
    answer = people.api("viewer").get(f"{V1}/patients/", {"page": page})
    assert answer.status_code == 404 and answer.json()["code"] == "NOT_FOUND"
