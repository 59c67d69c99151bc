"""Runs of a cohort as pages: the list, the plan, one run, its buttons and its CSV."""

import csv
from io import StringIO

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, steps  # noqa: F401
from django.test import Client
from django.urls import reverse

from tissueboard.cohorts.models import Patient
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import ModelVersion
from tissueboard.pipelines.models import CohortRun
from tissueboard.pipelines.run_services import pause, start_run
from tissueboard.slides.models import Slide


@pytest.fixture
def browser(lung):  # noqa: F811
    def sign_in(name="contributor"):
        client = Client()
        client.force_login(getattr(lung, name))
        return client

    return sign_in


@pytest.fixture
def url(lung):  # noqa: F811
    return lambda name, *args: reverse(name, args=args or [lung.cohort.pk])


def start(lung):  # noqa: F811
    return start_run(lung.contributor, lung.cohort, PIPELINE)


def finish(run, client, run_jobs):
    """Works while somebody looks at the page, which keeps the run going."""
    while run_jobs():
        client.get(reverse("cohort_run", args=[run.pk]))
    run.refresh_from_db()
    return run


def test_the_tab_leads_a_contributor_to_a_plan_and_a_viewer_to_nothing_to_press(lung, browser, url, words):  # noqa: F811
    page = browser().get(url("cohort_runs"))
    assert "No pipeline was run on this cohort yet." in words(page) and url("cohort_run_new") in page.content.decode()
    assert url("cohort_runs") in browser("viewer").get(url("cohort")).content.decode()
    seen = browser("viewer").get(url("cohort_runs"))
    assert seen.status_code == 200 and url("cohort_run_new") not in seen.content.decode()
    assert browser("viewer").get(url("cohort_run_new")).status_code == 403
    assert browser("outsider").get(url("cohort_runs")).status_code == 404


def test_the_form_offers_each_pipeline_and_each_version_where_a_person_chooses(lung, browser, url, words):  # noqa: F811
    hidden = ModelVersion.objects.create(family="hex", name="hidden", **lung.common)
    hidden.cohorts.set([lung.cohort.__class__.objects.create(name="other")])
    page = browser().get(url("cohort_run_new"))
    assert "Everything that tests need" in words(page) and "Bag: hex small hex" in words(page) and "hidden" not in words(page)
    assert "There is no encoder that you may use" in words(page)
    assert "Plan:" not in words(page)


def test_the_plan_counts_says_why_not_and_offers_the_start(lung, browser, url, words):  # noqa: F811
    more_slides(lung.cohort, 1, state="needs attention")
    page = browser().get(url("cohort_run_new"), {"what": PIPELINE})
    text = words(page)
    assert "Slides 4 Will run 9 Exist already 0 Cannot run 3" in text and "Start: 9 steps" in text
    assert "P-00003-S resolve" in text and "The slide P-00003-S is not ready: needs attention." in text
    assert "Time unknown: " in text and "Disk unknown: no job “Feature bag for tests” has succeeded here yet" in text
    rows = list(csv.reader(StringIO(browser().get(url("cohort_run_plan"), {"what": PIPELINE}).content.decode())))
    assert rows[0] == ["# Research use only"] and "9 will run, 0 exist, 3 cannot run" in rows[2][0]
    assert rows[3] == ["patient", "slide", "step", "plan", "code", "reason"] and len(rows) == 4 + 12
    assert rows[4][:4] == ["P-00000", "P-00000-S", "Bag", "will run"] and rows[-1][3:5] == ["cannot run", "SLIDE_NOT_READY"]
    assert not CohortRun.objects.exists()


def test_a_plan_in_which_nothing_would_run_has_no_start(lung, browser, url, words, run_jobs):  # noqa: F811
    finish(start(lung), browser(), run_jobs)
    page = browser().get(url("cohort_run_new"), {"what": PIPELINE})
    assert "Everything is there already." in words(page) and "Start:" not in words(page)
    answer = browser().post(url("cohort_run_new"), {"what": PIPELINE})
    assert answer.status_code == 409 and "Nothing of this pipeline would run" in words(answer)
    assert browser().post(url("cohort_run_new"), {"what": "x"}).status_code == 400
    assert browser().get(url("cohort_run_plan"), {"what": "x"}).status_code == 400


def test_starting_twice_leads_to_the_same_run(lung, browser, url, words):  # noqa: F811
    first = browser().post(url("cohort_run_new"), {"what": PIPELINE}, follow=True)
    assert "The run is started." in words(first) and "0% 0 of 9 steps ended" in words(first)
    second = browser("second").post(url("cohort_run_new"), {"what": PIPELINE}, follow=True)
    assert "The same run goes on already" in words(second) and second.redirect_chain == first.redirect_chain


def test_a_run_is_followed_to_its_end_by_looking_at_it(lung, browser, url, words, run_jobs):  # noqa: F811
    run, client = start(lung), browser("viewer")
    page = client.get(url("cohort_run", run.pk))
    assert 'hx-trigger="every 3s"' in page.content.decode() and "Pause" not in words(page)
    assert client.get(url("cohort_run", run.pk), headers={"HX-Request": "true"}).content.decode().startswith('<div id="run-body"')
    finish(run, client, run_jobs)
    page = client.get(url("cohort_run", run.pk))
    assert "100% 9 of 9 steps ended" in words(page) and "Done." in words(page) and "every 3s" not in page.content.decode()
    listed = client.get(url("cohort_runs"))
    named = "small hex, niche small niche, cox_summary small cox_summary"
    assert (
        "Everything that tests need" in words(listed)
        and named in words(listed)
        and "9 of 9" in words(listed)
        and "every 4s" not in listed.content.decode()
    )


def test_what_failed_says_why_and_leads_to_its_job_and_is_retried(lung, browser, url, words, run_jobs):  # noqa: F811
    Slide.objects.filter(pk=lung.slides[1].pk).update(facts={"refuse": True})
    run, client = start(lung), browser()
    finish(run, client, run_jobs)
    page = client.get(url("cohort_run", run.pk), {"state": "failed"})
    text = words(page)
    assert "done ✕ 3 failed" in text and "A step that this one needs ended without a result." in text
    assert "Done, and 3 failed." in text and "There is no tissue on this slide. Look at the slide's thumbnail. NO_TISSUE 1" in text
    job = Job.objects.get(kind="tests.bag", state="failed")
    assert reverse("job", args=[job.pk]) in page.content.decode() and "P-00000" not in text
    rows = list(csv.reader(StringIO(client.get(url("cohort_run_items", run.pk), {"state": "failed"}).content.decode())))
    assert len(rows) == 3 + 3 and rows[3][:7] == [
        "P-00001", "P-00001-S", "Bag", "hex small hex", "failed", str(job.pk), "NO_TISSUE",
    ]  # fmt: skip
    Slide.objects.filter(pk=lung.slides[1].pk).update(facts={})
    answer = client.post(url("cohort_run_action", run.pk, "retry"), follow=True)
    assert "3 failed steps will run again." in words(answer)
    assert finish(run, client, run_jobs).state == "done"
    assert "Retry failed" not in words(client.get(url("cohort_run", run.pk)))


def test_the_buttons_do_what_they_say(lung, browser, url, words, run_jobs):  # noqa: F811
    run, client = start(lung), browser()
    press = lambda action: words(client.post(url("cohort_run_action", run.pk, action), follow=True))  # noqa: E731
    assert "The run is paused." in press("pause") and not Job.objects.filter(state="queued").exists()
    page = words(client.get(url("cohort_run", run.pk)))
    assert "Resume" in page and "Pause " not in page
    assert "The run goes on." in press("resume")
    finish(run, client, run_jobs)
    assert "Nothing new can run" in press("extend")
    more_slides(lung.cohort, 2)
    assert "6 steps can run now and were added." in press("extend")
    assert "The run is cancelled." in press("cancel")
    assert client.post(url("cohort_run_action", run.pk, "cancel")).status_code == 409
    assert client.post(url("cohort_run_action", run.pk, "explode")).status_code == 404
    assert client.get(url("cohort_run_action", run.pk, "pause")).status_code == 405
    page = words(client.get(url("cohort_run", run.pk)))
    assert "Cancelled. What was made stays." in page and "Resume" not in page and "Add what can run now" not in page


def test_a_run_that_paused_by_itself_says_why(lung, browser, url, words):  # noqa: F811
    run = start(lung)
    lung.cohort.memberships.filter(user=lung.contributor).update(role="viewer")
    page = words(browser("manager").get(url("cohort_run", run.pk)))
    assert "It paused by itself. contributor is no longer a contributor of lung." in page and "Resume" in page


def test_names_are_no_formulas_in_a_spreadsheet(lung, browser, url):  # noqa: F811
    Patient.objects.filter(code="P-00000").update(code="=1+1")
    run = start(lung)
    pause(lung.contributor, run)
    assert "\n'=1+1," in browser().get(url("cohort_run_items", run.pk)).content.decode()
    assert "\n'=1+1," in browser().get(url("cohort_run_plan"), {"what": PIPELINE}).content.decode()
