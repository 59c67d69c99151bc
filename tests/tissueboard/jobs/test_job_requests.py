"""Asking for jobs, cancelling, retrying: who may, what is found again, what waits for what."""

from pathlib import Path

import pytest

from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.jobs import selectors, services
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.models import Job, State
from tissueboard.jobs.state import advance
from tissueboard.store import store


def test_asking_twice_finds_the_first(people, run_jobs):
    first = services.enqueue(people.contributor, "tests.echo", {"text": "a", "n": 1}, cohorts=[people.lung])
    same = services.enqueue(people.contributor, "tests.echo", {"n": 1, "text": "a"}, cohorts=[people.lung])
    other = services.enqueue(people.contributor, "tests.echo", {"n": 1, "text": "a"}, cohorts=[people.lung], key="another version")
    assert first == same != other
    assert run_jobs() == [first.pk, other.pk]
    again = services.enqueue(people.contributor, "tests.echo", {"text": "a", "n": 1}, cohorts=[people.lung])
    assert again == first and again.state == State.SUCCEEDED
    assert run_jobs() == []


def test_an_output_is_there_when_the_job_succeeded(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.echo", {"text": "hello"}, cohorts=[people.lung])
    run_jobs()
    [output] = selectors.outputs(people.viewer, job)
    assert store.path(output.key).read_text() == "hello"
    assert (output.size, output.facts) == (5, {"length": 5})
    job.refresh_from_db()
    assert (job.state, job.progress) == (State.SUCCEEDED, 1.0)
    assert [t.to_state for t in selectors.timeline(people.viewer, job)] == ["queued", "running", "saving", "succeeded"]


def test_what_cannot_be_saved_leaves_no_output(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.publish_fails", {}, cohorts=[people.lung])
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.FAILED, "TWICE")
    assert not job.outputs.exists()


def test_a_refusal_speaks_to_the_user(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.refuse", {}, cohorts=[people.lung])
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.error_code, job.error_sentence) == (State.FAILED, "NO_TISSUE", "There is no tissue on this slide.")
    assert job.error_hint and not job.traceback


def test_an_unexpected_error_tells_the_user_nothing_of_it_and_staff_everything(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.break", {}, cohorts=[people.lung])
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.error_sentence) == (State.CRASHED, "The work stopped with an unexpected error.")
    assert "patient 17" in job.traceback
    assert "patient 17" not in str(selectors.status(job)) + str([t.facts for t in selectors.timeline(people.viewer, job)])


def test_an_unknown_kind_is_refused(people):
    with pytest.raises(JobRefused, match="no job of the kind"):
        services.enqueue(people.contributor, "tests.unheard_of", {}, cohorts=[people.lung])


def test_who_may_ask(people):
    with pytest.raises(RoleMissing, match="contributor"):
        services.enqueue(people.viewer, "tests.echo", {}, cohorts=[people.lung])
    with pytest.raises(NotVisible):
        services.enqueue(people.outsider, "tests.echo", {}, cohorts=[people.lung])
    with pytest.raises(NotVisible):
        services.enqueue(people.contributor, "tests.echo", {}, cohorts=[people.lung, people.breast])
    assert not Job.objects.exists()


def test_who_may_see(people):
    one = services.enqueue(people.contributor, "tests.echo", {"n": 1}, cohorts=[people.lung])
    spanning = services.enqueue(people.both, "tests.echo", {"n": 2}, cohorts=[people.lung, people.breast])
    bare = services.enqueue(people.outsider, "tests.echo", {"n": 3})
    seen = {name: set(Job.objects.visible_to(getattr(people, name))) for name in ("viewer", "both", "outsider", "staff")}
    assert seen == {"viewer": {one}, "both": {one, spanning}, "outsider": {bare}, "staff": {bare}}
    with pytest.raises(NotVisible):
        selectors.get_job(people.viewer, spanning.pk)
    assert selectors.get_job(people.both, spanning.pk) == spanning


def test_a_job_waits_for_what_it_needs(people, run_jobs):
    a, b = (services.enqueue(people.contributor, "tests.echo", {"n": n}, cohorts=[people.lung]) for n in (1, 2))
    last = services.enqueue(people.contributor, "tests.echo", {"n": 3}, cohorts=[people.lung], needs=[a, b])
    assert last.state == State.CREATED
    assert run_jobs() == [a.pk, b.pk, last.pk]


def test_a_failed_need_fails_what_waits_and_names_it_and_its_retry_starts_all(people, run_jobs, tmp_path):
    gate = tmp_path / "gate"
    need = services.enqueue(people.contributor, "tests.until_allowed", {"gate": str(gate)}, cohorts=[people.lung])
    middle = services.enqueue(people.contributor, "tests.echo", {"n": 1}, cohorts=[people.lung], needs=[need])
    last = services.enqueue(people.contributor, "tests.echo", {"n": 2}, cohorts=[people.lung], needs=[middle])
    run_jobs()
    for job, blamed in ((middle, need), (last, middle)):
        job.refresh_from_db()
        assert (job.state, job.error_code) == (State.FAILED, "DEPENDENCY_FAILED")
        assert f"{blamed.title} (job {blamed.pk}, failed)" in job.error_sentence
    Path(gate).touch()
    services.retry(people.contributor, need)
    assert run_jobs() == [need.pk, middle.pk, last.pk]
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def test_asking_again_for_failed_work_starts_it_again(people, run_jobs, tmp_path):
    params = {"gate": str(tmp_path / "gate")}
    job = services.enqueue(people.contributor, "tests.until_allowed", params, cohorts=[people.lung])
    run_jobs()
    Path(params["gate"]).touch()
    assert services.enqueue(people.contributor, "tests.until_allowed", params, cohorts=[people.lung]) == job
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error_code) == (State.SUCCEEDED, 2, "")


def test_waiting_work_is_cancelled_at_once(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.echo", {}, cohorts=[people.lung])
    assert services.cancel(people.contributor, job).state == State.CANCELLED
    assert run_jobs() == []
    with pytest.raises(JobRefused, match="cannot be cancelled"):
        services.cancel(people.contributor, job)


def test_running_work_is_asked_to_stop_and_does(people, run_jobs):
    job = services.enqueue(people.contributor, "tests.cancelled_within", {}, cohorts=[people.lung])
    run_jobs()
    job.refresh_from_db()
    assert job.state == State.CANCELLED
    running = services.enqueue(people.contributor, "tests.echo", {}, cohorts=[people.lung])
    advance(running.pk, State.QUEUED, State.RUNNING, 1, worker="elsewhere")
    assert services.cancel(people.contributor, running).cancel_requested


def test_who_may_cancel_and_retry(people):
    job = services.enqueue(people.contributor, "tests.echo", {}, cohorts=[people.lung])
    for act in (services.cancel, services.retry):
        with pytest.raises(RoleMissing, match="contributor"):
            act(people.viewer, job)
        with pytest.raises(NotVisible):
            act(people.outsider, job)
    with pytest.raises(JobRefused, match="cannot be retried"):
        services.retry(people.manager, job)


def test_place_in_the_queue_and_expected_time(people, run_jobs):
    first, second = (services.enqueue(people.contributor, "tests.echo", {"n": n}, cohorts=[people.lung]) for n in (1, 2))
    assert [selectors.place_in_queue(job) for job in (first, second)] == [1, 2]
    assert selectors.expected_seconds("tests.echo") is None
    run_jobs()
    first.refresh_from_db()
    assert selectors.place_in_queue(first) is None
    assert 0 < selectors.expected_seconds("tests.echo") < 10
