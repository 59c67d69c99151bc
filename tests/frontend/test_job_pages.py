"""Jobs: list, one job, cancel, try again; tracebacks for staff only."""

from django.urls import reverse


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
