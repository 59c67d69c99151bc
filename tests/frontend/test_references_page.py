"""The page of a cohort's references, the page of a withdrawal, and how many queries a block of similar cases takes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from many_tissues import embed, niche_version, row_of_tissues, slide_of

from tissueboard.cohorts.models import Patient
from tissueboard.jobs.models import Job


def test_a_manager_makes_a_version_answer_and_a_viewer_reads_it(people, words):
    version = niche_version(people, "newer")
    embed(people, people.lung.slide, version, 0.0)
    address = reverse("cohort_references", args=[people.lung.cohort.pk])
    text = words(people.client("viewer").get(address))
    assert "newer" in text and "1 of 2 slides" in text and "not measured" in text and "Use it" not in text
    manager = people.client("manager")
    body = {"action": "use", "version": version.pk, "measured": "", "why": ""}
    assert "A reason of 1 to 200 characters is needed." in words(manager.post(address, body))
    answer = manager.post(address, body | {"why": "The other slide is damaged."}, follow=True)
    assert "newer answers in lung from now on." in words(answer) and "said manager" in words(answer)


def test_a_contributor_asks_for_the_measurement(people, words):
    address = reverse("cohort_references", args=[people.lung.cohort.pk])
    body = {"action": "measure", "version": people.versions["niche"].pk, "measured": ""}
    assert people.client("viewer").post(address, body).status_code == 403
    answer = people.client("contributor").post(address, body)
    job = Job.objects.get(kind="retrieval.outcome_value")
    assert answer.url == reverse("job", args=[job.pk])
    assert people.client("contributor").post(address, {"action": "dance"}).status_code == 400


def test_a_withdrawal_takes_the_code_and_a_reason(people, words):
    part = people.lung
    address = reverse("case_withdraw", args=[part.patient.pk])
    assert "Withdraw this patient" in words(people.client("manager").get(reverse("case", args=[part.patient.pk])))
    assert "Withdraw this patient" not in words(people.client("contributor").get(reverse("case", args=[part.patient.pk])))
    manager = people.client("manager")
    page = words(manager.get(address))
    assert "1 slide with the sealed original" in page and "No model was fitted on her." in page and "1 received table" in page
    assert "The code is not hers." in words(manager.post(address, {"code": "LU-001", "why": "She asked."}))
    assert "A withdrawal needs a reason." in words(manager.post(address, {"code": "LU-000", "why": ""}))
    assert Patient.objects.filter(pk=part.patient.pk).exists()
    answer = manager.post(address, {"code": "LU-000", "why": "She asked."}, follow=True)
    assert "LU-000 is withdrawn." in words(answer) and not Patient.objects.filter(pk=part.patient.pk).exists()


def queries_of(people, slide):
    client = people.client("viewer")
    address = reverse("case_similar", args=[slide.sample.patient_id])
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = client.get(address, {"slide": slide.pk}, headers={"HX-Request": "true"})
    assert answer.status_code == 200 and b"data-neighbour" in answer.content
    return len(seen)


def test_the_block_asks_equally_often_however_many_tissues_there_are(people):
    people.lung.cohort.neighbours = 3
    people.lung.cohort.save()
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 5)
    few = queries_of(people, slides[0])
    for i in range(12):
        embed(people, slide_of(people.lung.cohort, f"more {i}", clinical={"stage": "I", "histology": "a"}), version, 9.0 + i)
    assert queries_of(people, slides[0]) == few <= 40


def test_filters_and_the_reference_are_offered_and_kept(people, words):
    version = niche_version(people, "other one")
    slides = row_of_tissues(people, version, 3)
    for slide, stage in zip(slides, ("I", "II", "III")):
        Patient.objects.filter(pk=slide.sample.patient_id).update(clinical={"stage": stage})
    embed(people, slides[0], people.versions["niche"], 0.0)
    address = reverse("case_similar", args=[slides[0].sample.patient_id])
    client = people.client("viewer")
    answer = client.get(address, {"slide": slides[0].pk, "version": version.pk, "stage": "III"})
    content = answer.content.decode()
    assert "<option selected>III</option>" in content and "lung-002" in content and "lung-001" not in words(answer)
    assert f'<option value="{version.pk}" selected>' in content and "This is not the reference in use" in words(answer)
    assert "no niche set of the version" in words(client.get(address, {"slide": slides[0].pk, "version": 10**9}))


@pytest.mark.parametrize("person", ["outsider", "stranger"])
def test_a_niche_of_another_cohort_has_no_page_and_no_picture(people, person):
    niche = people.lung.niche_set.niches.first()
    for name in ("case_niches", "niche_picture"):
        address = reverse(name, args=[people.lung.patient.pk, niche.pk])
        assert people.client(person).get(address).status_code == 404
    assert people.client("viewer").get(reverse("niche_picture", args=[people.lung.patients[1].pk, niche.pk])).status_code == 404
