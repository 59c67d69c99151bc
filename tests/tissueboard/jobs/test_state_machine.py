"""`advance` is a compare-and-set along declared arrows, and every change leaves a line."""

import itertools

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tissueboard.jobs.models import Job, JobTransition, State
from tissueboard.jobs.state import NEXT, advance

pytestmark = pytest.mark.django_db

FACTS = {State.FAILED: {"error_sentence": "No."}, State.CRASHED: {"error_sentence": "Died."}}


def make_job(key: str) -> Job:
    return Job.objects.create(kind="tests.echo", queue="io", idempotency_key=key)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(State.values), st.sampled_from(State.values), st.integers(0, 1)), max_size=30))
def test_any_sequence_of_requests_moves_only_along_arrows_from_where_the_job_is(steps):
    with transaction.atomic():
        job = make_job("property")
        state, attempt, lines = str(job.state), 1, 0
        for from_state, to_state, behind in steps:
            if to_state not in NEXT[State(from_state)]:
                with pytest.raises(ValueError, match="does not go from"):
                    advance(job.pk, from_state, to_state, attempt)
                continue
            moved = advance(job.pk, from_state, to_state, attempt - behind, **FACTS.get(State(to_state), {}))
            assert moved == (from_state == state and behind == 0)
            if moved:
                lines += 1
                starts_anew = to_state in (State.CREATED, State.QUEUED) and from_state != State.CREATED
                attempt, state = attempt + starts_anew, to_state
            job.refresh_from_db()
            assert (job.state, job.attempt) == (state, attempt)
        history = list(JobTransition.objects.filter(job=job))
        assert len(history) == lines
        assert all(a.to_state == b.from_state for a, b in itertools.pairwise(history))
        transaction.set_rollback(True)


def test_of_two_who_take_the_same_job_one_gets_it():
    job = make_job("two")
    advance(job.pk, State.CREATED, State.QUEUED, 1)
    taken = [advance(job.pk, State.QUEUED, State.RUNNING, 1, worker=name) for name in ("first", "second")]
    assert taken == [True, False]
    job.refresh_from_db()
    assert job.worker == "first"


def test_succeeded_is_final():
    assert NEXT[State.SUCCEEDED] == frozenset()


@pytest.mark.parametrize(
    "columns",
    [{"state": "paused"}, {"queue": "tpu"}, {"progress": 1.5}, {"kind": ""}, {"attempt": 0}, {"state": "running"}, {"state": "failed"}],
    ids="-".join,
)
def test_the_database_refuses_what_no_job_can_be(columns):
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(**{"kind": "tests.echo", "queue": "io", "idempotency_key": "bad", **columns})
