"""What a handler is given, and what it gives back."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from .code_version import code_version
from .curves import Curves
from .errors import Cancelled, Superseded
from .models import ACTIVE, Job

PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class OutputSpec:
    """One output: its kind (unique in the job), its key in the store (empty where facts hold everything), and facts about it."""

    kind: str
    key: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The result of a handler. Outputs and `publish()` (the domain's rows) are written in the transaction that says `succeeded`."""

    outputs: Sequence[OutputSpec] = ()
    publish: Callable[[], object] | None = None


class JobContext:
    """One attempt at one job, as its handler sees it.

    job_id, attempt: numbers. params: dict as given to `enqueue`. cohort_ids: the job's cohorts. created_by_id: user or None.
    workdir: a folder of this job that survives its attempts (blocks of long work go here) and is removed after success.
    code_version: what to write beside every output.
    """

    def __init__(self, job: Job) -> None:
        self.job_id: int = job.pk
        self.attempt = job.attempt
        self.params: dict[str, Any] = job.params
        self.created_by_id: int | None = job.created_by_id
        self.cohort_ids = list(job.cohorts.order_by("pk").values_list("pk", flat=True))
        self._written = 0.0
        self._said: dict[str, Any] = {}
        self._curves = Curves(job.pk)
        self._lost = threading.Event()

    @property
    def code_version(self) -> str:
        return code_version()

    @property
    def workdir(self) -> Path:
        folder = work_folder(self.job_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def progress(self, fraction: float, text: str = "") -> None:
        """Says how far the work is (0 to 1) and in words; at most one write a second. Raises Cancelled when somebody asked for it."""
        self._said = {"progress": min(max(float(fraction), 0.0), 1.0), "progress_text": text[:200]}
        if fraction >= 1:
            self._write()
        else:
            self.check()

    def curve(self, series: str, x: float, y: float) -> None:
        """One point of a curve that the job's page draws and keeps, e.g. ("fold 1 training", epochs passed, loss).

        x grows within a series. Series are thinned to at most curves.MOST_POINTS points and written with the progress, at most once a
        second; what is left is written when the work ends, however it ends. Raises what `progress` raises.
        """
        self._curves.add(series, x, y)
        self.check()

    def check(self) -> None:
        """Raises Cancelled when somebody cancelled the job, Superseded when it went on without us. For loops without progress to tell."""
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            self._write()

    def flush(self) -> None:
        """Writes what of the curves is not written yet, if this attempt still is the one that counts."""
        if self._curves.changed and self.beat():
            self._curves.write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._lost.is_set() or not self.beat(**self._said):
            raise Superseded(f"job {self.job_id}, attempt {self.attempt}")
        self._curves.write()
        if Job.objects.filter(pk=self.job_id, cancel_requested=True).exists():
            raise Cancelled(f"job {self.job_id}")

    def beat(self, **columns: Any) -> bool:
        """Writes a heartbeat. False if this attempt is over."""
        mine = Job.objects.filter(pk=self.job_id, attempt=self.attempt, state__in=ACTIVE)
        return bool(mine.update(heartbeat_at=timezone.now(), **columns))


class Heartbeat:
    """Beats beside the handler, from a thread with a connection of its own, so that a long computation is not taken for a dead worker."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat of job {ctx.job_id}", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(settings.JOBS_HEARTBEAT_SECONDS):
                close_old_connections()
                try:
                    if not self._ctx.beat():
                        self._ctx._lost.set()
                        return
                except Exception:
                    continue
        finally:
            connection.close()


def work_folder(job_id: int) -> Path:
    return Path(settings.JOBS_WORK_ROOT) / "jobs" / str(job_id)


def remove_work_folder(job_id: int) -> None:
    shutil.rmtree(work_folder(job_id), ignore_errors=True)
