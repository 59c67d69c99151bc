"""Refuses to start where Redis would hand a running job to a second worker."""

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from . import registry
from .models import Queue


@register("jobs")
def limits(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """visibility timeout > hard limit > soft limit > 0, for the defaults and for every kind of job."""
    visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("visibility_timeout", 3600)
    rows = [("the default", settings.JOBS_SOFT_SECONDS, settings.JOBS_HARD_SECONDS)]
    rows += [(h.kind, h.soft_seconds, h.hard_seconds) for h in registry.kinds()]
    found: list[CheckMessage] = [
        Error(
            f"The time limits of {name} are not in order: visibility timeout {visibility} s, hard limit {hard} s, soft limit {soft} s.",
            hint="Redis delivers a message again after the visibility timeout, so it must exceed the hard limit, and that the soft limit.",
            id="jobs.E001",
        )
        for name, soft, hard in rows
        if not visibility > hard > soft > 0
    ]
    if settings.JOBS_SILENT_SECONDS < 2 * settings.JOBS_HEARTBEAT_SECONDS:
        found.append(Error("JOBS_SILENT_SECONDS must be at least two heartbeats (JOBS_HEARTBEAT_SECONDS).", id="jobs.E002"))
    found += [
        Error(f"The job kind {h.kind} names the queue {h.queue!r}; there are io, cpu and gpu.", id="jobs.E003")
        for h in registry.kinds()
        if h.queue not in Queue.values
    ]
    return found
