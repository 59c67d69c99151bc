"""Jobs: list, one job, cancel, try again; tracebacks for staff only."""

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tissueboard.jobs.models import Job


def test_the_list_shows_states_and_refreshes_only_while_something_is_open(people):
    client = people.client("viewer")
    assert 'hx-trigger="every 4s"' in client.get(reverse("jobs")).content.decode()
    assert 'hx-trigger="every' not in client.get(reverse("jobs"), {"state": "succeeded"}).content.decode()


def test_a_queued_job_tells_its_place(people, words):
    assert "Place " in words(people.client("viewer").get(reverse("job", args=[people.lung.jobs["queued"].pk])))


def test_a_failed_job_says_why_and_what_to_do_but_keeps_its_traceback(people, words):
    text = words(people.client("manager").get(reverse("job", args=[people.lung.jobs["failed"].pk])))
    assert "There is no tissue on this slide. Look at the slide." in text.replace("  ", " ")
    assert "secret traceback" not in text


def test_a_contributor_cancels_and_retries_a_viewer_does_not(people, words):
    queued, failed = people.lung.jobs["queued"], people.lung.jobs["failed"]
    viewer = people.client("viewer")
    assert "Cancel" not in words(viewer.get(reverse("job", args=[queued.pk])))
    assert viewer.post(reverse("job_cancel", args=[queued.pk])).status_code == 403
    contributor = people.client("contributor")
    assert contributor.post(reverse("job_cancel", args=[queued.pk])).status_code == 302
    assert contributor.post(reverse("job_retry", args=[failed.pk])).status_code == 302
    queued.refresh_from_db()
    failed.refresh_from_db()
    assert (queued.state, failed.state) == ("cancelled", "queued")


def test_cancelling_what_has_ended_is_a_sentence(people, words):
    answer = people.client("contributor").post(reverse("job_cancel", args=[people.lung.jobs["done"].pk]))
    assert answer.status_code == 409 and "cannot be cancelled: it is succeeded" in words(answer)


def about(job, **params):
    Job.objects.filter(pk=job.pk).update(params=params)


def test_a_job_names_the_slide_or_patient_that_it_is_about_in_two_queries(people, words):
    lung, client = people.lung, people.client("viewer")
    client.get(reverse("jobs"))
    with CaptureQueriesContext(connection) as before:
        client.get(reverse("jobs"))
    about(lung.jobs["done"], slide=lung.slide.pk, version=1)
    about(lung.jobs["queued"], slide=lung.slides[1].pk, patient=lung.patients[1].pk)
    about(lung.jobs["failed"], patient=lung.patients[2].pk)
    with CaptureQueriesContext(connection) as after:
        page = client.get(reverse("jobs"))
    assert len(after) <= len(before) + 2
    for patient, slide in ((lung.patient, lung.slide), (lung.patients[1], lung.slides[1])):
        assert f'href="{reverse("case", args=[patient.pk])}?slide={slide.pk}">{patient.code}</a>' in page.content.decode()
        assert f"{patient.code} {slide.name}" in words(page)
    assert f'href="{reverse("case", args=[lung.patients[2].pk])}">LU-002</a>' in page.content.decode()
    assert "About LU-002" in words(client.get(reverse("job", args=[lung.jobs["failed"].pk])))


def test_a_job_does_not_name_what_the_reader_may_not_see(people):
    about(people.lung.jobs["done"], slide=people.breast.slide.pk, patient=people.breast.patient.pk)
    about(people.lung.jobs["failed"], slide="1", patient=None)
    client = people.client("manager")
    for url in (reverse("jobs"), *(reverse("job", args=[people.lung.jobs[name].pk]) for name in ("done", "failed"))):
        answer = client.get(url)
        assert answer.status_code == 200 and "BR-0" not in answer.content.decode()
        assert f"/cases/{people.breast.patient.pk}/" not in answer.content.decode()
