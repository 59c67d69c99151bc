"""Runs of a cohort: who may do what, what a person reads of them, and real workers that do them."""

from collections import Counter

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, one_process, start, states, steps, verbs, work  # noqa: F401
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tissueboard.cohorts.models import Cohort, Membership
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.pipelines import feeding, selectors
from tissueboard.pipelines.feeding import feed, feed_all
from tissueboard.pipelines.models import CohortRun, RunItem
from tissueboard.pipelines.run_services import cancel, extend, pause, resume, retry_failed, start_run
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

WINDOW = settings.RUNS_WINDOW
processes = feeding._processes


# --- rights


def test_viewers_see_contributors_act_and_strangers_know_nothing(lung, run_jobs):  # noqa: F811
    with pytest.raises(RoleMissing):
        start(lung, lung.viewer)
    with pytest.raises(NotVisible):
        start(lung, lung.outsider)
    run = start(lung)
    for verb in (pause, resume, cancel, retry_failed, extend):
        with pytest.raises(RoleMissing):
            verb(lung.viewer, run)
        with pytest.raises(NotVisible):
            verb(lung.outsider, run)
    assert selectors.get_run(lung.viewer, run.pk) == run and selectors.items_for(lung.viewer, run).count() == 9
    with pytest.raises(NotVisible):
        selectors.get_run(lung.outsider, run.pk)
    assert not selectors.runs_for(lung.outsider) and not selectors.items_for(lung.outsider, run)
    assert selectors.counts_of(lung.outsider, [run]) == {run.pk: dict.fromkeys(RunItem.STATES, 0)}


@pytest.mark.parametrize("left", [True, False], ids=["left the cohort", "became a viewer"])
def test_a_run_does_not_go_on_in_the_name_of_somebody_who_may_not_start_work_any_more(lung, run_jobs, left):  # noqa: F811
    run = start(lung)
    member = Membership.objects.filter(cohort=lung.cohort, user=lung.contributor)
    member.delete() if left else member.update(role="viewer")
    run_jobs()
    assert feed(run.pk) == 0
    run.refresh_from_db()
    assert run.state == "paused" and run.note == "contributor is no longer a contributor of lung. Another contributor can resume it."
    resume(lung.manager, run)
    assert work(run, run_jobs).state == "done" and run.run_as == lung.manager


def test_nobody_goes_on_with_a_version_that_she_may_not_see(lung, run_jobs):  # noqa: F811
    private = Cohort.objects.create(name="private")
    Membership.objects.create(cohort=private, user=lung.contributor, role="viewer")
    lung.versions["hex"].cohorts.set([private])
    run = pause(lung.contributor, start(lung))
    with pytest.raises(TissueboardError, match="that you may use"):
        resume(lung.manager, run)
    run.refresh_from_db()
    assert (run.state, run.run_as) == ("paused", lung.contributor)
    assert work(resume(lung.contributor, run), run_jobs).state == "done"


def test_the_house_starts_runs_in_nobodys_name(lung, run_jobs):  # noqa: F811
    run = start_run(None, lung.cohort, PIPELINE)
    assert work(run, run_jobs).state == "done" and set(Job.objects.values_list("created_by", flat=True)) == {None}


# --- reads


def test_progress_is_read_with_as_many_queries_for_thirty_slides_as_for_three(lung, run_jobs):  # noqa: F811
    run = start(lung)
    run_jobs()
    pause(lung.contributor, run)
    asked = []
    for more in (0, 27):
        more_slides(lung.cohort, more)
        extend(lung.contributor, run)
        run.refresh_from_db()
        with CaptureQueriesContext(connection) as queries:
            progress = selectors.progress_of(lung.viewer, run)
            list(selectors.items_for(lung.viewer, run)[:50])
            selectors.counts_of(lung.viewer, [run])
        asked.append(len(queries))
    assert asked[0] == asked[1] and progress.to_run == 90 and progress.counts["succeeded"] > 0


def test_the_rate_and_the_end_come_from_the_work_that_was_done(lung, run_jobs):  # noqa: F811
    from datetime import timedelta

    from django.utils import timezone

    more_slides(lung.cohort, 7)
    run = start(lung)
    assert selectors.progress_of(lung.viewer, run).per_hour is None, "nothing is known yet"
    run_jobs()
    now = timezone.now()
    CohortRun.objects.filter(pk=run.pk).update(resumed_at=now - timedelta(minutes=10))
    Job.objects.filter(state="succeeded").update(started_at=now - timedelta(minutes=2), finished_at=now - timedelta(minutes=1))
    run.refresh_from_db()
    progress = selectors.progress_of(lung.viewer, run)
    n = progress.counts["succeeded"]
    assert progress.per_hour == pytest.approx(6 * n, rel=0.01)
    # Each of them took a minute of work; n minutes of work were done in ten.
    kinds = set(Job.objects.filter(state="succeeded").values_list("kind", flat=True))
    if kinds == {"tests.bag", "tests.niches", "tests.risk"}:
        assert (progress.ends_at - now).total_seconds() == pytest.approx(progress.counts["waiting"] * 600 / n, rel=0.02)
    else:
        assert progress.ends_at is None
    pause(lung.contributor, run)
    run.refresh_from_db()
    assert selectors.progress_of(lung.viewer, run).per_hour is None


def test_a_row_that_says_nothing_of_why_is_refused_by_the_database(lung):  # noqa: F811
    run = start(lung)
    item = run.items.first()
    for wrong in ({"plan": "skip", "due": False}, {"plan": "exists", "due": True}, {"due": False, "job": None}, {"plan": "x"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            RunItem.objects.filter(pk=item.pk).update(**wrong)
    for wrong in ({"state": "x"}, {"state": "done"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            CohortRun.objects.filter(pk=run.pk).update(**wrong)


# --- a real worker


@pytest.fixture
def live(transactional_db, steps, start_worker, tmp_path):  # noqa: F811
    """A worker of its own on the test's database, a cohort whose slides wait for a file, and that file."""
    from cohort_of_slides import build

    world, gate = build(8), tmp_path / "gate"
    Slide.objects.update(facts={"hold": str(gate)})
    start_worker(queues=("cpu", "io"), processes=2)
    return world, gate


def test_a_pause_in_the_middle_of_real_work(live, monkeypatch):
    """What runs finishes, the rest goes back, and the resume brings it to its end."""
    from live_worker import wait_for

    from tissueboard.jobs.presence import crews

    monkeypatch.setattr(feeding, "_processes", processes)
    world, gate = live
    assert [(crew.queues, crew.processes) for crew in crews()] == [({"cpu", "io"}, 2)]
    run = start(world)
    wait_for(lambda: states(run)["running"] == 2, 30)
    waiting = Job.objects.filter(state="queued").count()
    assert 0 < waiting <= 2 * WINDOW
    pause(world.contributor, run)
    assert states(run) == {"running": 2, "waiting": 22} and not Job.objects.filter(state__in=("queued", "created")).exists()
    gate.touch()
    wait_for(lambda: states(run)["succeeded"] == 2, 30)
    assert feed_all() == 0 and states(run) == {"succeeded": 2, "waiting": 22}
    resume(world.contributor, run)
    wait_for(lambda: feed_all() == 0 and states(run)["succeeded"] == 24, 60, lambda: str(states(run)))
    feed_all()
    run.refresh_from_db()
    assert run.state == "done" and Job.objects.filter(state="succeeded").count() == Prediction.objects.count() == 24


def test_two_who_start_and_feed_at_the_same_moment(transactional_db, steps, clean_redis):  # noqa: F811
    """Real threads with connections of their own: one run, and no job twice."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from cohort_of_slides import build

    world, together = build(6), Barrier(4)

    def one(user):
        try:
            together.wait(10)
            run = start_run(user, world.cohort, PIPELINE)
            feed(run.pk)
            return run.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(one, [world.contributor, world.second, world.manager, world.contributor]))
    assert len(found) == 1 == CohortRun.objects.count()
    run = CohortRun.objects.get()
    asked = list(run.items.filter(due=False).values_list("job", flat=True))
    assert len(asked) == len(set(asked)) == Job.objects.count() > 0
    waiting = Counter(Job.objects.values_list("queue", flat=True))
    assert max(waiting.values()) <= WINDOW
