"""One attempt at one job, from taking it to its end."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, transaction

from tissueboard.errors import TissueboardError
from tissueboard.store import checksum, store

from . import registry
from .context import Done, Heartbeat, JobContext, OutputSpec, remove_work_folder
from .errors import UNEXPECTED_HINT, UNEXPECTED_SENTENCE, Cancelled, JobCode, Superseded
from .models import ACTIVE, Job, JobOutput, State
from .state import advance

log = logging.getLogger(__name__)


def execute(job_id: int, attempt: int, worker: str) -> bool:
    """Takes a queued job and brings it to an end. False if there was nothing to take: a second delivery of a message is harmless.

    A declared refusal (JobRefused, or another TissueboardError) ends as `failed` with its text; anything else as `crashed` with a text that
    says nothing of it, and the traceback for staff.
    """
    if not advance(job_id, State.QUEUED, State.RUNNING, attempt, worker=worker):
        return False
    ctx = JobContext(Job.objects.get(pk=job_id))
    try:
        with Heartbeat(ctx):
            try:
                done = registry.get(_kind(job_id)).run(ctx)
            finally:
                ctx.flush()
            _save(ctx, done)
    except Cancelled:
        advance(job_id, State.RUNNING, State.CANCELLED, attempt, note="stopped on request")
    except Superseded:
        log.warning("job %s attempt %s went on without this worker", job_id, attempt)
    except SoftTimeLimitExceeded:
        _end(ctx, State.FAILED, JobCode.TIME_LIMIT, "The work took longer than its limit.", "Ask for a smaller piece of work.")
    except TissueboardError as refusal:
        _end(ctx, State.FAILED, refusal.code, refusal.sentence, refusal.hint)
    except (OperationalError, InterfaceError):
        # The database went away under the job: that is no verdict on the work. Its silence makes the sweeper queue it again.
        log.exception("job %s lost the database", job_id)
        raise
    except Exception:
        log.exception("job %s stopped with an unexpected error", job_id)
        _end(ctx, State.CRASHED, JobCode.UNEXPECTED, UNEXPECTED_SENTENCE, UNEXPECTED_HINT, traceback=traceback.format_exc())
    return True


def _kind(job_id: int) -> str:
    return Job.objects.values_list("kind", flat=True).get(pk=job_id)


def _save(ctx: JobContext, done: Done) -> None:
    """Makes outputs and the domain's rows visible together with `succeeded`, or nothing."""
    if not advance(ctx.job_id, State.RUNNING, State.SAVING, ctx.attempt):
        raise Superseded(f"job {ctx.job_id}")
    measured = [(spec, *_measure(spec)) for spec in done.outputs]
    with transaction.atomic():
        # The row is held until the end, so that nobody takes the job away in between.
        mine = Job.objects.select_for_update().filter(pk=ctx.job_id, attempt=ctx.attempt, state=State.SAVING)
        if not mine.exists():
            raise Superseded(f"job {ctx.job_id}")
        for spec, sha256, size in measured:
            JobOutput.objects.create(job_id=ctx.job_id, kind=spec.kind, key=spec.key, sha256=sha256, size=size, facts=spec.facts)
        if done.publish is not None:
            done.publish()
        advance(ctx.job_id, State.SAVING, State.SUCCEEDED, ctx.attempt)
    remove_work_folder(ctx.job_id)


def _measure(spec: OutputSpec) -> tuple[str, int]:
    """(SHA-256, bytes) of what lies under the key; of nothing, ("", 0). FileNotFoundError if the handler did not save it."""
    if not spec.key:
        return "", 0
    path = store.path(spec.key)
    if not path.exists():
        raise FileNotFoundError(f"The output {spec.kind} was not saved under {spec.key}.")
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return checksum(path), sum(file.stat().st_size for file in files)


def _end(ctx: JobContext, state: str, code: str, sentence: str, hint: str, **facts: Any) -> None:
    facts |= {"error_code": str(code)[:60], "error_sentence": sentence, "error_hint": hint}
    any(advance(ctx.job_id, working, state, ctx.attempt, **facts) for working in ACTIVE)
