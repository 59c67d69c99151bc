"""What people do with jobs: ask for one, cancel it, try it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from tissueboard.accounts.models import User
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import NotVisible

from . import registry, scheduling
from .errors import JobCode, JobRefused
from .models import UNDONE, WAITING, Job, JobDependency, State
from .state import advance


def enqueue(
    user: User | None,
    kind: str,
    params: dict[str, Any],
    *,
    cohorts: Iterable[Cohort] = (),
    needs: Iterable[Job] = (),
    key: str | None = None,
) -> Job:
    """Asks for a job; asking twice finds the first one, and starts it again if it ended without a result.

    user: contributor in all `cohorts`; None for the system itself (commands, the demo). params: JSON. needs: jobs that must succeed first.
    key: what else makes this request a different one (a model version, input checksums) beside kind and params.
    Errors: JobRefused (UNKNOWN_KIND), NotVisible, RoleMissing.
    """
    handler = registry.get(kind)
    cohorts, needs = list(cohorts), list(needs)
    if user is not None:
        for cohort in cohorts:
            require(user, cohort, Role.CONTRIBUTOR)
    with transaction.atomic():
        # A need that ends just now waits for us here, and then finds the new job among its dependents.
        list(Job.objects.select_for_update().filter(pk__in=[need.pk for need in needs]).order_by("pk").values_list("pk"))
        job, fresh = Job.objects.get_or_create(
            idempotency_key=idempotency_key(kind, params, key),
            defaults={"kind": kind, "queue": handler.queue, "params": params, "created_by": user},
        )
        if fresh:
            job.cohorts.set(cohorts)
        JobDependency.objects.bulk_create([JobDependency(job=job, need=need) for need in needs], ignore_conflicts=True)
        if fresh:
            scheduling.settle(job)
        elif job.state in UNDONE:
            scheduling.again(job, f"asked for again by {user or 'the system'}")
    job.refresh_from_db()
    return job


def idempotency_key(kind: str, params: dict[str, Any], key: str | None = None) -> str:
    """SHA-256 over the kind, the parameters in canonical JSON and the optional key."""
    canonical = json.dumps([kind, params, key], sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def cancel(user: User, job: Job) -> Job:
    """Cancels a job: at once while it waits; a running one at its next sign of progress. JobRefused (NOT_CANCELLABLE) when it ended."""
    _require_contributor(user, job)
    job.refresh_from_db()
    note = f"cancelled by {user.get_username()}"
    # A second look: between the two a worker may have taken it.
    for _ in range(2):
        if job.state in WAITING and advance(job.pk, job.state, State.CANCELLED, job.attempt, note=note):
            break
        if job.state == State.RUNNING and Job.objects.filter(pk=job.pk, state=State.RUNNING).update(cancel_requested=True):
            break
        job.refresh_from_db()
    else:
        raise JobRefused(
            JobCode.NOT_CANCELLABLE,
            f"Job {job.pk} cannot be cancelled: it is {job.state}.",
            "Only work that waits or runs can be cancelled.",
        )
    job.refresh_from_db()
    return job


def retry(user: User, job: Job) -> Job:
    """Starts an undone job again, with the jobs that failed because of it. JobRefused (NOT_RETRYABLE) in any other state."""
    _require_contributor(user, job)
    job.refresh_from_db()
    if job.state not in UNDONE:
        raise JobRefused(
            JobCode.NOT_RETRYABLE,
            f"Job {job.pk} cannot be retried: it is {job.state}.",
            "Only failed, crashed, cancelled and expired work can be retried.",
        )
    with transaction.atomic():
        scheduling.again(job, f"retried by {user.get_username()}")
    job.refresh_from_db()
    return job


def _require_contributor(user: User, job: Job) -> None:
    if not Job.objects.visible_to(user).filter(pk=job.pk).exists():
        raise NotVisible("job")
    for cohort in job.cohorts.all():
        require(user, cohort, Role.CONTRIBUTOR)
