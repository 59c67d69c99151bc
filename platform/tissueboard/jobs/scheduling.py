"""When a job may start: its needs, and the message that tells a worker."""

from __future__ import annotations

import logging
import uuid
from functools import partial

import redis
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from . import registry
from .errors import JobCode
from .models import UNDONE, Job, State
from .state import advance

log = logging.getLogger(__name__)


def settle(job: Job) -> None:
    """Decides about a job in `created`: queued when all its needs succeeded, failed when one of them cannot any more."""
    needs = list(job.needs.order_by("pk").only("pk", "kind", "state"))
    lost = [need for need in needs if need.state in UNDONE]
    if lost:
        names = ", ".join(f"{need.title} (job {need.pk}, {need.state})" for need in lost)
        advance(
            job.pk, State.CREATED, State.FAILED, job.attempt, error_code=JobCode.DEPENDENCY_FAILED,
            error_sentence=f"This work needs the result of {names}.", error_hint="Retry that job; this one then starts by itself.",
        )  # fmt: skip
    elif all(need.state == State.SUCCEEDED for need in needs) and advance(job.pk, State.CREATED, State.QUEUED, job.attempt):
        transaction.on_commit(partial(dispatch, job.pk, job.attempt))


def settle_dependents(job_id: int) -> None:
    """Looks again at the jobs that wait for this one."""
    for dependent in Job.objects.filter(dependencies__need_id=job_id, state=State.CREATED):
        settle(dependent)


def again(job: Job, note: str) -> None:
    """Puts an undone job back to `created` with three fresh attempts, and with it the dependents that failed only because of it."""
    if not advance(job.pk, job.state, State.CREATED, job.attempt, max_attempts=job.attempt + 3, note=note):
        return
    for dependent in Job.objects.filter(dependencies__need=job, state=State.FAILED, error_code=JobCode.DEPENDENCY_FAILED):
        again(dependent, f"job {job.pk} starts again")
    job.refresh_from_db()
    settle(job)


def dispatch(job_id: int, attempt: int) -> None:
    """Puts a message for a queued job into Redis. Redis being away loses nothing: the sweeper sends again."""
    from .tasks import run_job

    mine = Job.objects.filter(pk=job_id, attempt=attempt, state=State.QUEUED)
    if not mine.update(dispatched_at=timezone.now()):
        return
    job = mine.only("kind", "queue").first()
    if job is None:
        return
    handler = registry.get(job.kind)
    try:
        run_job.apply_async(
            args=[job_id, attempt], queue=job.queue, task_id=message_id(job_id, attempt), retry=False,
            soft_time_limit=handler.soft_seconds, time_limit=handler.hard_seconds,
        )  # fmt: skip
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("job %s waits for the sweeper: the queue does not answer (%s)", job_id, error)


def message_id(job_id: int, attempt: int) -> str:
    """Unique per message; `job_of` reads the job and attempt back."""
    return f"job-{job_id}-{attempt}-{uuid.uuid4().hex[:8]}"


def job_of(message: str) -> tuple[int, int] | None:
    parts = message.split("-")
    return (int(parts[1]), int(parts[2])) if len(parts) == 4 and parts[0] == "job" else None
