"""What Redis forgot and what dead workers left behind is found in the Job table."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tissueboard.jobs import scheduling, services, sweeper
from tissueboard.jobs.context import JobContext
from tissueboard.jobs.errors import Superseded
from tissueboard.jobs.execution import execute
from tissueboard.jobs.models import Job, State
from tissueboard.jobs.state import advance


@pytest.fixture
def job(people):
    return services.enqueue(people.contributor, "tests.echo", {}, cohorts=[people.lung])


def age(job: Job, **seconds: float) -> None:
    Job.objects.filter(pk=job.pk).update(**{column: timezone.now() - timedelta(seconds=s) for column, s in seconds.items()})


def start_silent(job: Job) -> None:
    job.refresh_from_db()
    assert advance(job.pk, State.QUEUED, State.RUNNING, job.attempt, worker="gone")
    age(job, heartbeat_at=3600)


def test_a_silent_job_is_done_again_until_its_attempts_are_used_up(job):
    for attempt in (1, 2):
        start_silent(job)
        assert sweeper.sweep()["revived"] == 1
        job.refresh_from_db()
        assert (job.state, job.attempt) == (State.QUEUED, attempt + 1)
    start_silent(job)
    assert sweeper.sweep()["given_up"] == 1
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.CRASHED, "WORKER_DIED")
    assert sweeper.sweep() == {"revived": 0, "given_up": 0, "settled": 0, "sent_again": 0, "expired": 0}


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_a_silent_job_waits_on_while_it_is_done_again_and_fails_when_it_is_given_up():
    first = services.enqueue(None, "tests.echo", {"text": "first"})
    waiting = services.enqueue(None, "tests.echo", {"text": "waiting"}, needs=[first])
    for _ in range(2):
        start_silent(first)
        assert sweeper.sweep()["revived"] == 1
        waiting.refresh_from_db()
        assert waiting.state == State.CREATED
    start_silent(first)
    assert sweeper.sweep()["given_up"] == 1
    waiting.refresh_from_db()
    assert (waiting.state, waiting.error_code) == (State.FAILED, "DEPENDENCY_FAILED")


def test_a_job_with_a_heartbeat_is_left_alone(job):
    advance(job.pk, State.QUEUED, State.RUNNING, 1, worker="alive")
    assert sweeper.sweep()["revived"] == 0


def test_a_silent_job_that_was_to_be_cancelled_is_not_done_again(job):
    start_silent(job)
    Job.objects.filter(pk=job.pk).update(cancel_requested=True)
    sweeper.sweep()
    job.refresh_from_db()
    assert job.state == State.CANCELLED


def test_a_worker_that_was_taken_for_dead_finds_that_it_does_not_count_any_more(job):
    start_silent(job)
    ctx = JobContext(Job.objects.get(pk=job.pk))
    sweeper.sweep()
    with pytest.raises(Superseded):
        ctx.progress(0.5)


def test_a_second_delivery_finds_nothing_to_do(job):
    assert execute(job.pk, 1, worker="first")
    assert not execute(job.pk, 1, worker="second")
    assert job.outputs.count() == 1
    assert [t.to_state for t in job.transitions.all()] == ["queued", "running", "saving", "succeeded"]


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(job, clean_redis):
    age(job, queued_at=3600, dispatched_at=3600)
    assert sweeper.sweep()["sent_again"] == 1
    assert set(sweeper._in_redis()) == {(job.pk, 1)}
    age(job, queued_at=3600, dispatched_at=3600)
    assert sweeper.sweep()["sent_again"] == 0
    assert len(list(sweeper._in_redis())) == 1


def test_a_queue_that_does_not_answer_loses_nothing(job, monkeypatch, caplog):
    from tissueboard.celery import app

    monkeypatch.setitem(app.conf, "broker_write_url", "redis+socket:///tmp/there-is-no-such-socket")
    monkeypatch.setattr(app, "_pool", None)
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    scheduling.dispatch(job.pk, 1)
    assert f"job {job.pk} waits for the sweeper" in caplog.text
    job.refresh_from_db()
    assert job.state == State.QUEUED


def test_work_that_waited_too_long_expires(job, settings):
    age(job, created_at=settings.JOBS_EXPIRE_SECONDS + 60, queued_at=settings.JOBS_EXPIRE_SECONDS + 60)
    Job.objects.filter(pk=job.pk).update(dispatched_at=timezone.now())
    assert sweeper.sweep()["expired"] == 1
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.EXPIRED, "EXPIRED")


def test_a_stopped_service_queues_its_running_work_without_counting_a_death(job):
    start_silent(job)
    assert sweeper.release_orphans("@another-host:", "the service was stopped") == 0
    assert sweeper.release_orphans("gone", "the service was stopped") == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.max_attempts) == (State.QUEUED, 2, 4)


def test_a_message_names_its_job_and_attempt():
    assert scheduling.job_of(scheduling.message_id(12, 3)) == (12, 3)
    assert scheduling.job_of("9f86d081-884c-4d63-a159-5f3b1d7a0c11") is None
