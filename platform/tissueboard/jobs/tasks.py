"""The two messages that a worker understands."""

from __future__ import annotations

import os

from celery import Task, shared_task

from tissueboard.store import store

from . import execution, sweeper

# Longer than any job may take: what is older in the store's temporary folder belongs to nobody.
STALE_SECONDS = 2 * 86_400


@shared_task(name="tissueboard.jobs.run", bind=True, acks_late=True, reject_on_worker_lost=True)
def run_job(self: Task, job_id: int, attempt: int) -> None:
    """Does one attempt at a job, if it still is to be done."""
    execution.execute(job_id, attempt, worker=f"{self.request.hostname}:{os.getpid()}")


@shared_task(name="tissueboard.jobs.sweep", acks_late=False)
def sweep() -> None:
    sweeper.sweep()
    store.sweep_temp(STALE_SECONDS)
