"""Curves that a job draws: thinned as they come, seldom written, kept whatever becomes of the job, and continued by the next attempt."""

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from tissueboard.jobs import execution, registry, selectors, services
from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.curves import MOST_POINTS, Series
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.models import Job, JobCurve, State


@pytest.fixture
def kind(monkeypatch):
    """Registers a function as the kind "tests.draws" for this test."""

    def register(run):
        handler = registry.Handler("tests.draws", "io", "Draw", 60, 120, run)
        monkeypatch.setitem(registry._handlers, "tests.draws", handler)

    return register


def ask(people):
    return services.enqueue(people.contributor, "tests.draws", {}, cohorts=[people.lung])


def drawn(people, job):
    return {curve.series: (curve.x, curve.y) for curve in selectors.curves(people.viewer, job)}


@given(st.integers(1, 5000))
def test_a_series_of_any_length_keeps_few_points_and_its_mean_course(n):
    series = Series()
    for step in range(n):
        series.add(step, 2.0 * step + 1)
    assert len(series.x) == len(series.y) <= MOST_POINTS and series.each * len(series.x) >= n
    # Points of a straight line stay on it, and their weighted mean is that of all values.
    np.testing.assert_allclose(np.array(series.y), 2 * np.array(series.x) + 1)
    weights = np.full(len(series.x), float(series.each))
    weights[-1] = series.filled
    assert weights.sum() == n and np.average(series.x, weights=weights) == pytest.approx((n - 1) / 2)


def test_a_short_series_is_kept_as_it_is():
    series = Series()
    for step in range(MOST_POINTS):
        series.add(step, step**2)
    assert series.each == 1 and series.y == [step**2 for step in range(MOST_POINTS)]


def test_work_that_goes_on_from_an_earlier_x_forgets_what_lay_beyond():
    series = Series()
    for x in (1, 2, 3, 4, 2.5):
        series.add(x, 10 * x)
    assert series.x == [1, 2, 2.5] and series.y == [10, 20, 25]


def test_curves_are_there_after_success_in_the_order_of_their_beginning(people, run_jobs, kind):
    def run(ctx: JobContext) -> Done:
        for epoch in range(3):
            ctx.curve("fold 1 training", epoch, 1 / (epoch + 1))
            ctx.curve("fold 1 validation", epoch, 2 / (epoch + 1))
        ctx.curve("fold 1 training", 3, float("nan"))
        return Done()

    kind(run)
    job = ask(people)
    run_jobs()
    assert list(drawn(people, job)) == ["fold 1 training", "fold 1 validation"]
    assert drawn(people, job)["fold 1 training"] == ([0, 1, 2], [1, 1 / 2, 1 / 3])
    assert selectors.curves(people.outsider, job) == []


@pytest.mark.parametrize(
    ("error", "state"), [(JobRefused("NO", "It does not work.", "Do it."), State.FAILED), (ValueError("x"), State.CRASHED)]
)
def test_curves_of_failed_work_are_kept(people, run_jobs, kind, error, state):
    def run(ctx: JobContext) -> Done:
        ctx.curve("loss", 0, 1)
        ctx.curve("loss", 1, 2)
        raise error

    kind(run)
    job = ask(people)
    run_jobs()
    job.refresh_from_db()
    assert job.state == state and drawn(people, job) == {"loss": ([0, 1], [1, 2])}


def test_curves_of_cancelled_work_are_kept(people, run_jobs, kind):
    def run(ctx: JobContext) -> Done:
        ctx.curve("loss", 0, 1)
        ctx.curve("loss", 1, 2)
        Job.objects.filter(pk=ctx.job_id).update(cancel_requested=True)
        ctx._written = 0.0
        ctx.curve("loss", 2, 3)
        raise AssertionError("curve() went on although the job was cancelled.")

    kind(run)
    job = ask(people)
    run_jobs()
    job.refresh_from_db()
    assert job.state == State.CANCELLED and drawn(people, job) == {"loss": ([0, 1, 2], [1, 2, 3])}


def test_a_thousand_points_within_a_second_are_a_handful_of_statements_and_progress_is_told_with_them(people, kind):
    seen = {}

    def run(ctx: JobContext) -> Done:
        with CaptureQueriesContext(connection) as asked:
            for step in range(1000):
                ctx.curve("loss", step, 1.0)
                ctx.progress(step / 1000, f"step {step}")
        seen["first"] = len(asked)
        ctx._written = 0.0  # as if a second had passed: the next point brings everything that was said
        with CaptureQueriesContext(connection) as asked:
            ctx.curve("loss", 1000, 1.0)
        seen["then"], seen["text"] = len(asked), Job.objects.get(pk=ctx.job_id).progress_text
        return Done()

    kind(run)
    job = ask(people)
    execution.execute(job.pk, job.attempt, worker="test")
    # The first point reads what there is, beats, writes and looks for a cancellation; a slow machine may see a second pass.
    assert seen["first"] <= 4 + 3 * 3 and seen["then"] <= 3 and seen["text"] == "step 999"


def test_the_next_attempt_goes_on_with_the_curves_of_the_one_before(people, run_jobs, kind):
    def run(ctx: JobContext) -> Done:
        if ctx.attempt == 1:
            for epoch in range(5):
                ctx.curve("fold 1 training", epoch, 1)
            for epoch in range(4):
                ctx.curve("fold 2 training", epoch, 2)
            raise ValueError("the worker dies here")
        for epoch in range(2, 6):  # fold 1 is done; fold 2 goes on after its checkpoint
            ctx.curve("fold 2 training", epoch, 3)
        return Done()

    kind(run)
    job = ask(people)
    run_jobs()
    services.retry(people.contributor, job)
    run_jobs()
    assert drawn(people, job) == {
        "fold 1 training": ([0, 1, 2, 3, 4], [1] * 5),
        "fold 2 training": ([0, 1, 2, 3, 4, 5], [2, 2, 3, 3, 3, 3]),
    }


def test_an_attempt_that_is_over_writes_no_curves_any_more(people, run_jobs, kind):
    def run(ctx: JobContext) -> Done:
        ctx.curve("loss", 0, 1)
        Job.objects.filter(pk=ctx.job_id).update(attempt=2)  # the sweeper took it for dead
        ctx.curve("loss", 1, 2)
        return Done()

    kind(run)
    job = ask(people)
    execution.execute(job.pk, 1, worker="test")
    assert drawn(people, job) == {"loss": ([0], [1])}


def test_curves_go_with_their_job(people, run_jobs, kind):
    kind(lambda ctx: ctx.curve("loss", 0, 1) or Done())
    job = ask(people)
    run_jobs()
    job.delete()
    assert not JobCurve.objects.exists()
