"""Reads of jobs, always for a user."""

from __future__ import annotations

from typing import Any

from tissueboard.accounts.models import User
from tissueboard.errors import NotVisible

from .models import ACTIVE, WAITING, Job, JobCurve, JobOutput, JobQuerySet, JobTransition, State

RECENT = 50


def list_jobs(user: User) -> JobQuerySet:
    """Jobs that the user may see, newest first."""
    return Job.objects.visible_to(user).select_related("created_by").prefetch_related("cohorts")


def get_job(user: User, job_id: int) -> Job:
    """One job. NotVisible (404) if there is none or the user may not see all of its cohorts."""
    job = list_jobs(user).filter(pk=job_id).first()
    if job is None:
        raise NotVisible("job")
    return job


def open_job(user: User, kind: str, **params: Any) -> Job | None:
    """The newest job of a kind with these params that has not ended, if the user may see it."""
    wanted = {f"params__{name}": value for name, value in params.items()}
    return Job.objects.visible_to(user).filter(kind=kind, state__in=(*WAITING, *ACTIVE), **wanted).first()


def timeline(user: User, job: Job) -> list[JobTransition]:
    """Every change of state, oldest first."""
    return list(JobTransition.objects.filter(job=job, job__in=Job.objects.visible_to(user)))


def outputs(user: User, job: Job) -> list[JobOutput]:
    return list(JobOutput.objects.filter(job=job, job__in=Job.objects.visible_to(user)))


def curves(user: User, job: Job) -> list[JobCurve]:
    """What the job drew while it worked, in the order in which the series began."""
    return list(JobCurve.objects.filter(job=job, job__in=Job.objects.visible_to(user)))


def needs(user: User, job: Job) -> list[Job]:
    """The jobs that this one waits for, as far as the user may see them."""
    return list(Job.objects.visible_to(user).filter(pk__in=job.dependencies.values("need_id")).order_by("pk"))


def place_in_queue(job: Job) -> int | None:
    """1 for the next job that a worker of this queue takes; None when it is not queued. Jobs of all cohorts count."""
    if job.state != State.QUEUED:
        return None
    return Job.objects.filter(state=State.QUEUED, queue=job.queue, queued_at__lt=job.queued_at).count() + 1


def expected_seconds(kind: str) -> float | None:
    """Median duration in seconds of the last succeeded jobs of this kind; None before the first."""
    rows = Job.objects.filter(kind=kind, state=State.SUCCEEDED).order_by("-finished_at").values_list("started_at", "finished_at")[:RECENT]
    seconds = sorted((end - start).total_seconds() for start, end in rows)
    if not seconds:
        return None
    middle = len(seconds) // 2
    return seconds[middle] if len(seconds) % 2 else (seconds[middle - 1] + seconds[middle]) / 2


def status(job: Job) -> dict[str, Any]:
    """What a page polls: state, progress, place in the queue, expected seconds, error without traceback."""
    return {
        "id": job.pk,
        "kind": job.kind,
        "title": job.title,
        "state": job.state,
        "progress": job.progress,
        "progress_text": job.progress_text,
        "cancel_requested": job.cancel_requested,
        "place_in_queue": place_in_queue(job),
        "expected_seconds": expected_seconds(job.kind),
        "error": {"code": job.error_code, "sentence": job.error_sentence, "hint": job.error_hint} if job.error_code else None,
    }
