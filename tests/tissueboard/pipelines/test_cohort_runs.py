"""A pipeline over a cohort: fed in windows, paused, resumed, retried, extended; whoever asks, and however often."""

from collections import Counter

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, one_process, start, states, steps, verbs, work  # noqa: F401
from django.conf import settings
from django.db import IntegrityError, transaction

from tissueboard.jobs.models import Job
from tissueboard.jobs.services import cancel as cancel_job
from tissueboard.pipelines import feeding, selectors
from tissueboard.pipelines.errors import RunRefused
from tissueboard.pipelines.feeding import feed, feed_all
from tissueboard.pipelines.models import CohortRun, RunItem
from tissueboard.pipelines.run_services import cancel, extend, pause, resume, retry_failed, start_run
from tissueboard.pipelines.services import run_pipeline
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

WINDOW = settings.RUNS_WINDOW


# --- feeding


def test_a_run_goes_through_its_windows_to_its_end(lung, run_jobs):  # noqa: F811
    more_slides(lung.cohort, 7)
    run = start(lung)
    waiting = Counter(Job.objects.filter(state__in=("created", "queued")).values_list("queue", flat=True))
    assert waiting == {"cpu": WINDOW, "io": WINDOW}, "no more than a window in any queue"
    assert states(run) == {"waiting": 30}
    work(run, run_jobs)
    assert (run.state, states(run)) == ("done", {"succeeded": 30}) and run.finished_at
    assert Prediction.objects.count() == Job.objects.filter(state="succeeded").count() == 30
    assert set(Job.objects.values_list("created_by__username", flat=True)) == {"contributor"}
    assert [v for v in verbs() if "run" in v[0]] == [("start run", "contributor"), ("run done", "(tissueboard)")]


def test_later_steps_wait_for_the_earlier_ones_of_their_slide(lung, run_jobs):  # noqa: F811
    run = start(lung)
    work(run, run_jobs)
    for item in RunItem.objects.filter(run=run).exclude(kind="tests.bag"):
        need = RunItem.objects.get(run=run, kind="tests.bag", slide=item.slide)
        assert item.job.started_at >= need.job.finished_at
        assert list(item.job.needs.all()) in ([need.job], [])


def test_a_begun_slide_is_finished_before_many_others_are_begun(lung, run_jobs):  # noqa: F811
    more_slides(lung.cohort, 20)
    run = start(lung)
    run_jobs()
    for _ in range(3):
        feed(run.pk)
        run_jobs()
    per_slide = Counter(RunItem.objects.filter(run=run).with_state().filter(state="succeeded").values_list("slide", flat=True))
    assert sum(n == 3 for n in per_slide.values()) >= len(per_slide) - WINDOW


def test_blocked_steps_at_the_front_hold_up_nothing(lung, run_jobs, monkeypatch):  # noqa: F811
    """Feeding looks at the first due steps only; also when all of them wait for steps that failed and are retried."""
    monkeypatch.setattr(feeding, "LOOK_AHEAD", 1)
    more_slides(lung.cohort, 12)
    refused = [slide.pk for slide in Slide.objects.order_by("pk")[:10]]
    Slide.objects.filter(pk__in=refused).update(facts={"refuse": True})
    run = work(start(lung), run_jobs)
    assert run.state == "done" and states(run) == {"failed": 30, "succeeded": 15}
    Slide.objects.update(facts={})
    retry_failed(lung.contributor, run)
    assert states(work(run, run_jobs)) == {"succeeded": 45}


def test_feeding_twice_asks_for_nothing_twice(lung, run_jobs):  # noqa: F811
    run = start(lung)
    before = Job.objects.count()
    assert feed(run.pk) == feed(run.pk) == feed_all() == 0 and Job.objects.count() == before
    work(run, run_jobs)
    assert feed(run.pk) == feed_all() == 0


def test_work_of_others_gets_its_turn(lung, run_jobs):  # noqa: F811
    more_slides(lung.cohort, 40)
    start(lung)
    (slide,) = more_slides(lung.cohort, 1)
    jobs = run_pipeline(lung.second, PIPELINE, slides=[slide])
    before = Job.objects.filter(state="queued", queued_at__lt=jobs[0].queued_at).count()
    assert jobs[0].state == "queued" and before <= 3 * WINDOW, "not behind all the jobs of the run"


def test_a_run_goes_on_when_whoever_fed_it_died(lung, run_jobs):  # noqa: F811
    """Nothing is kept but what the database says: the beat of another process takes it up."""
    run = start(lung)
    run_jobs()
    while feed_all():
        run_jobs()
    feed_all()
    run.refresh_from_db()
    assert run.state == "done" and states(run) == {"succeeded": 9}


def test_the_message_of_the_beat_feeds_all_runs(lung, run_jobs):  # noqa: F811
    from tissueboard.celery import app
    from tissueboard.pipelines.tasks import feed as message

    planned = settings.CELERY_BEAT_SCHEDULE["feed runs"]
    app.loader.import_default_modules()
    assert planned["task"] == message.name and message.name in app.tasks
    run = start(lung)
    run_jobs()
    message()
    assert Job.objects.filter(state__in=("created", "queued")).exists() and run.items.filter(due=False).count() > WINDOW


def test_what_appeared_in_the_meantime_is_not_made_twice(lung, run_jobs):  # noqa: F811
    """Between the plan and the feeding somebody ran the pipeline on a slide by hand."""
    more_slides(lung.cohort, 5)
    run = start(lung)
    last = Slide.objects.order_by("pk").last()
    run_pipeline(lung.second, PIPELINE, slides=[last])
    run_jobs()
    work(run, run_jobs)
    assert Job.objects.filter(params__slide=last.pk).count() == 3
    assert set(RunItem.objects.filter(run=run, slide=last).with_state().values_list("state", flat=True)) == {"exists"}


def test_a_slide_that_is_not_ready_any_more_is_left_out_with_the_reason(lung, run_jobs):  # noqa: F811
    more_slides(lung.cohort, 5)
    run = start(lung)
    last = Slide.objects.order_by("pk").last()
    Slide.objects.filter(pk=last.pk).update(state="needs attention")
    work(run, run_jobs)
    left_out = RunItem.objects.filter(run=run, slide=last).with_state()
    assert {(item.state, item.code) for item in left_out} == {("skipped", "SLIDE_NOT_READY"), ("skipped", "NEEDS_MISSING")}
    assert run.state == "done" and states(run)["succeeded"] == 21


def test_a_run_that_cannot_be_fed_stops_with_a_note_and_no_other_run(lung, run_jobs, monkeypatch):  # noqa: F811
    """After an update that dropped a pipeline or a kind of job: the run can still be looked at and cancelled."""
    from tissueboard.pipelines.declared import PIPELINES

    old = start(lung)
    other = start_run(lung.contributor, lung.cohort, "bags", {"hex": newer(lung).pk})
    monkeypatch.delitem(PIPELINES, PIPELINE)
    while run_jobs():
        feed_all()
    feed_all()
    old.refresh_from_db()
    other.refresh_from_db()
    assert (old.state, other.state) == ("paused", "done") and old.note.startswith("There is no pipeline tests.")
    assert selectors.progress_of(lung.viewer, old).counts["waiting"] == states(old)["waiting"] > 0
    assert cancel(lung.contributor, old).state == "cancelled"


def test_an_error_in_one_run_is_logged_and_the_others_go_on(lung, run_jobs, monkeypatch, caplog):  # noqa: F811
    broken = start(lung)
    other = start_run(lung.contributor, lung.cohort, "bags", {"hex": newer(lung).pk})
    real = feeding._fill

    def fill(run):
        if run == broken:
            raise ZeroDivisionError
        return real(run)

    monkeypatch.setattr(feeding, "_fill", fill)
    while run_jobs():
        feed_all()
    other.refresh_from_db()
    assert other.state == "done" and f"run {broken.pk} could not be fed" in caplog.text


# --- starting


def test_two_people_who_start_the_same_run_get_the_same_one(lung):  # noqa: F811
    first = start(lung)
    second = start(lung, lung.second)
    assert first == second and CohortRun.objects.count() == 1 and second.created_by == lung.contributor
    with pytest.raises(IntegrityError), transaction.atomic():
        CohortRun.objects.create(
            cohort=lung.cohort, pipeline=PIPELINE, fingerprint=first.fingerprint, resumed_at=first.resumed_at, state="paused"
        )


def test_nothing_to_run_is_refused_and_so_is_a_choice_that_was_not_made(lung, run_jobs):  # noqa: F811
    with pytest.raises(RunRefused) as refused:
        start_run(lung.contributor, lung.cohort, "bags")
    assert (refused.value.code, refused.value.status) == ("VERSION_NOT_CHOSEN", 400)
    work(start(lung), run_jobs)
    with pytest.raises(RunRefused) as refused:
        start(lung)
    assert refused.value.code == "NOTHING_TO_RUN" and "9 outputs are there already, 0 cannot be made" in refused.value.sentence
    chosen = start_run(lung.contributor, lung.cohort, "bags", {"hex": newer(lung).pk})
    assert chosen.versions == {"hex": newer(lung).pk}


def newer(lung):  # noqa: F811
    from tissueboard.model_registry.models import ModelVersion

    return ModelVersion.objects.get_or_create(family="hex", name="newer", defaults=lung.common)[0]


def test_a_run_keeps_the_versions_that_it_was_started_with(lung, run_jobs):  # noqa: F811
    run = start(lung)
    newer(lung)
    work(run, run_jobs)
    assert set(Prediction.objects.values_list("version__name", flat=True)) == {"small hex", "small niche", "small cox_summary"}


def test_a_disk_that_is_too_small_is_told_before_and_the_run_stops_before_it_is_full(lung, monkeypatch, run_jobs, settings):  # noqa: F811  # noqa: F811
    from tissueboard.pipelines import cohort_plan, estimates

    real = estimates.estimate
    large = {kind: estimates.Cost(1.0, 1e17) for kind in ("tests.bag", "tests.niches", "tests.risk")}
    monkeypatch.setattr(cohort_plan, "estimate", lambda jobs, costs: real(jobs, large))
    with pytest.raises(RunRefused) as refused:
        start(lung)
    assert refused.value.code == "DISK_TOO_SMALL" and not CohortRun.objects.exists()
    settings.RUNS_MIN_FREE_BYTES = 2**60
    run = start_run(lung.contributor, lung.cohort, PIPELINE, despite_disk=True)
    assert run.state == "paused" and "GiB of the disk are free" in run.note and not Job.objects.exists()
    settings.RUNS_MIN_FREE_BYTES = 0
    resume(lung.contributor, run)
    assert work(run, run_jobs).state == "done" and run.note == ""


# --- pause, resume, cancel


def test_a_pause_takes_waiting_work_back_and_a_resume_brings_all_to_its_end(lung, run_jobs):  # noqa: F811
    run = start(lung)
    assert pause(lung.contributor, run).state == "paused"
    assert set(Job.objects.values_list("state", flat=True)) == {"cancelled"} and states(run) == {"waiting": 9}
    assert feed(run.pk) == 0 == len(run_jobs()) and pause(lung.contributor, run).state == "paused"
    resume(lung.second, run)
    work(run, run_jobs)
    assert run.state == "done" and states(run) == {"succeeded": 9} and run.run_as == lung.second
    assert Job.objects.count() == 9, "the jobs that were taken back are the ones that ran"


def test_a_pause_leaves_work_that_somebody_else_asked_for(lung):  # noqa: F811
    """Before the run or after it, and what that work needs."""
    before = run_pipeline(lung.second, PIPELINE, slides=[lung.slides[0]])
    run = start(lung)
    after = run_pipeline(lung.second, PIPELINE, slides=[lung.slides[1]])
    pause(lung.contributor, run)
    kept = Job.objects.exclude(state="cancelled")
    assert set(kept) == {*before, *after} and Job.objects.filter(state="cancelled").exists()


def test_a_pause_leaves_work_that_another_run_waits_for(lung):  # noqa: F811
    run = start(lung)
    other = start_run(lung.second, lung.cohort, "bags", {"hex": lung.versions["hex"].pk})
    shared = set(other.items.filter(due=False).values_list("job", flat=True)) & set(run.items.values_list("job", flat=True))
    assert shared
    pause(lung.contributor, run)
    assert set(Job.objects.filter(pk__in=shared).values_list("state", flat=True)) == {"queued"}
    pause(lung.second, other)
    assert set(Job.objects.filter(pk__in=shared).values_list("state", flat=True)) == {"cancelled"}


def test_a_cancelled_run_ends_and_a_new_one_does_only_the_rest(lung, run_jobs):  # noqa: F811
    run = start(lung)
    run_jobs()
    done = states(run)["succeeded"]
    cancel(lung.contributor, run)
    run.refresh_from_db()
    assert run.state == "cancelled" and states(run) == {"succeeded": done, "skipped": 9 - done} and done
    for verb in (pause, resume, cancel, retry_failed, extend):
        with pytest.raises(RunRefused) as refused:
            verb(lung.contributor, run)
        assert refused.value.code == "RUN_ENDED"
    again = work(start(lung), run_jobs)
    assert states(again) == {"exists": done, "succeeded": 9 - done} and Job.objects.count() == 9


# --- failures


def refuse(slide, yes=True):
    Slide.objects.filter(pk=slide.pk).update(facts={"refuse": True} if yes else {})


def test_only_what_failed_is_retried(lung, run_jobs):  # noqa: F811
    refuse(lung.slides[1])
    run = work(start(lung), run_jobs)
    assert run.state == "done" and states(run) == {"succeeded": 6, "failed": 3}
    progress = selectors.progress_of(lung.viewer, run)
    assert [(code, n) for code, _, _, n in progress.failures] == [("NO_TISSUE", 1), ("DEPENDENCY_FAILED", 2)]
    told = {selectors.reason_of(item) for item in selectors.items_for(lung.viewer, run, "failed", "tests.bag")}
    assert told == {selectors.Reason("NO_TISSUE", "There is no tissue on this slide.", "Look at the slide's thumbnail.")}
    attempts = dict(Job.objects.filter(state="succeeded").values_list("pk", "attempt"))
    assert retry_failed(lung.second, run) == 3
    run.refresh_from_db()
    assert run.state == "running" and run.run_as == lung.second
    work(run, run_jobs)
    assert states(run) == {"succeeded": 6, "failed": 3}, "the same input gives the same refusal"
    refuse(lung.slides[1], False)
    retry_failed(lung.second, run)
    work(run, run_jobs)
    assert run.state == "done" and states(run) == {"succeeded": 9} and Job.objects.count() == 9
    assert dict(Job.objects.filter(pk__in=attempts).values_list("pk", "attempt")) == attempts, "what had succeeded was left alone"
    with pytest.raises(RunRefused) as refused:
        retry_failed(lung.second, run)
    assert refused.value.code == "NOTHING_FAILED"


def test_a_sentence_that_names_one_slide_is_told_as_an_example(lung, run_jobs):  # noqa: F811
    run = work(start(lung), run_jobs)
    ends = {"state": "failed", "error_code": "BAD", "error_hint": ""}
    for i, item in enumerate(run.items.filter(kind="tests.bag")):
        Job.objects.filter(pk=item.job_id).update(error_sentence=f"Slide {i} is bad.", **ends)
    told = selectors.progress_of(lung.viewer, run).failures
    assert told == [("BAD", "For example: Slide 2 is bad.", "", 3)]


def test_a_job_that_a_person_cancelled_counts_as_failed_and_can_be_retried(lung, run_jobs):  # noqa: F811
    run = start(lung)
    cancel_job(lung.manager, Job.objects.filter(kind="tests.bag").earliest("pk"))
    work(run, run_jobs)
    assert states(run) == {"succeeded": 6, "failed": 3}
    item = selectors.items_for(lung.viewer, run, "failed").filter(kind="tests.bag").get()
    assert selectors.reason_of(item).code == "CANCELLED" and selectors.reason_of(item).sentence == "The work was cancelled."
    assert retry_failed(lung.contributor, run) == 3
    assert states(work(run, run_jobs)) == {"succeeded": 9}


def test_a_retry_waits_for_nobody_elses_open_run(lung, run_jobs):  # noqa: F811
    refuse(lung.slides[1])
    run = work(start(lung), run_jobs)
    more_slides(lung.cohort, 1)
    other = start(lung)
    assert other != run and states(run)["failed"] == 0, "they run again, for the other run"
    run_jobs()
    assert other.state == "running" and states(run)["failed"] == 3
    with pytest.raises(RunRefused) as refused:
        retry_failed(lung.contributor, run)
    assert refused.value.code == "RUN_EXISTS" and str(other.pk) in refused.value.sentence
    assert not run.items.filter(due=True).exists()


# --- a second look


def test_a_slide_that_became_ready_and_a_new_one_are_added(lung, run_jobs):  # noqa: F811
    (late,) = more_slides(lung.cohort, 1, state="needs attention")
    run = work(start(lung), run_jobs)
    assert states(run) == {"succeeded": 9, "skipped": 3}
    assert extend(lung.contributor, run).added == 0 and run.state == "done"
    Slide.objects.filter(pk=late.pk).update(state="ready")
    more_slides(lung.cohort, 1)
    assert extend(lung.contributor, run).added == 6
    run.refresh_from_db()
    assert run.state == "running"
    work(run, run_jobs)
    assert run.state == "done" and states(run) == {"succeeded": 15}


def test_an_input_that_changed_is_made_again_in_the_same_run(lung, run_jobs):  # noqa: F811
    run = work(start(lung), run_jobs)
    Slide.objects.filter(pk=lung.slides[0].pk).update(working_sha256="e" * 64)
    assert extend(lung.contributor, run).added == 3
    work(run, run_jobs)
    assert states(run) == {"succeeded": 9} and Job.objects.count() == 12
    assert Prediction.objects.get(slide=lung.slides[0], kind="feature bag").inputs == {"working slide": "e" * 64}
