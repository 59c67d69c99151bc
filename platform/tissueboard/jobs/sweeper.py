"""Every few seconds: what the Job table says is due is brought about, whatever Redis or a dead worker forgot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .errors import JobCode
from .models import ACTIVE, WAITING, Job, Queue, State
from .presence import redis_client
from .scheduling import dispatch, job_of, settle
from .state import advance

BATCH = 500


def sweep() -> dict[str, int]:
    """One round. Returns how many jobs were {revived, given up, settled, sent again, expired}."""
    revived, given_up = _bury_silent()
    return {
        "revived": revived,
        "given_up": given_up,
        "settled": _settle_created(),
        "sent_again": _send_again(),
        "expired": _expire(),
    }


def _ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


def _bury_silent() -> tuple[int, int]:
    """Running jobs without a heartbeat crashed with their worker; they are queued again until their attempts are used up."""
    revived = given_up = 0
    for job in Job.objects.filter(state__in=ACTIVE, heartbeat_at__lt=_ago(settings.JOBS_SILENT_SECONDS))[:BATCH]:
        if job.cancel_requested and job.state == State.RUNNING:
            advance(job.pk, State.RUNNING, State.CANCELLED, job.attempt, note="its worker died before it could stop")
            continue
        with transaction.atomic():  # what waits for this job must not see it crashed when it is done again
            crashed = advance(
                job.pk, job.state, State.CRASHED, job.attempt, error_code=JobCode.WORKER_DIED,
                error_sentence="The worker that did this died.", error_hint="Retry it; if it dies again, the work may need more memory.",
                note=f"no sign of life from {job.worker}",
            )  # fmt: skip
            queued = crashed and job.attempt < job.max_attempts and advance(job.pk, State.CRASHED, State.QUEUED, job.attempt)
        if queued:
            dispatch(job.pk, job.attempt + 1)
            revived += 1
        elif crashed:
            given_up += 1
    return revived, given_up


def _settle_created() -> int:
    """Jobs whose needs ended while nobody looked (the process that should have looked died)."""
    before = Job.objects.filter(state=State.CREATED).count()
    for job in Job.objects.filter(state=State.CREATED).order_by("pk")[:BATCH]:
        settle(job)
    return before - Job.objects.filter(state=State.CREATED).count()


def _send_again() -> int:
    """Queued jobs whose message is in no list of Redis: lost with it, never sent, or held by a worker that died."""
    old = _ago(settings.JOBS_REDISPATCH_SECONDS)
    due = Job.objects.filter(state=State.QUEUED, queued_at__lt=old).exclude(dispatched_at__gte=old)
    due = list(due.order_by("pk").values_list("pk", "attempt")[:BATCH])
    if not due:
        return 0
    heard = set(_in_redis())
    # Asked again only after another interval.
    Job.objects.filter(pk__in=[pk for pk, attempt in due if (pk, attempt) in heard]).update(dispatched_at=timezone.now())
    lost = [pair for pair in due if pair not in heard]
    for job_id, attempt in lost:
        dispatch(job_id, attempt)
    return len(lost)


def _in_redis() -> Iterator[tuple[int, int]]:
    """(job, attempt) of every message that waits in a queue."""
    with redis_client() as client:
        for queue in Queue.values:
            for message in client.lrange(queue, 0, -1):
                pair = job_of(json.loads(message)["headers"].get("id", ""))
                if pair:
                    yield pair


def _expire() -> int:
    expired = 0
    for job in Job.objects.filter(state__in=WAITING, created_at__lt=_ago(settings.JOBS_EXPIRE_SECONDS))[:BATCH]:
        newest = job.queued_at or job.created_at
        if newest < _ago(settings.JOBS_EXPIRE_SECONDS):
            expired += advance(
                job.pk, job.state, State.EXPIRED, job.attempt, error_code=JobCode.EXPIRED,
                error_sentence="The work waited too long and was given up.", error_hint="Ask for it again.",
            )  # fmt: skip
    return expired


def release_orphans(workers: str, note: str) -> int:
    """Queues the running jobs of workers whose name contains `workers` again, without counting a death. Only where it is known that
    none of them lives: they were stopped on purpose."""
    released = 0
    for job in Job.objects.filter(state__in=ACTIVE, worker__contains=workers):
        if advance(job.pk, job.state, State.QUEUED, job.attempt, max_attempts=job.max_attempts + 1, note=note):
            dispatch(job.pk, job.attempt + 1)
            released += 1
    return released
