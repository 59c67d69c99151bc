"""Feeds the jobs of a run over a cohort to the queues, a few at a time, so that other people's work gets its turn.

All that a run knows is in the database: whoever feeds next (the beat, a page, a command) goes on where the last one stopped.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, role_in
from tissueboard.errors import TissueboardError
from tissueboard.jobs import registry
from tissueboard.jobs.models import ACTIVE, WAITING, Job, State
from tissueboard.jobs.presence import crews
from tissueboard.jobs.services import enqueue, idempotency_key

from .cohort_plan import why_not_on
from .declared import Step
from .errors import WhyNot
from .estimates import free_bytes
from .models import CohortRun, RunItem
from .outputs import Outputs, keys_of, params_of
from .versions import steps_of

LOOK_AHEAD = 50
log = logging.getLogger(__name__)


def feed_all() -> int:
    """Feeds every running run; how many jobs were asked for. A run that somebody else feeds just now is left to them."""
    fed = 0
    for pk in CohortRun.objects.filter(state=CohortRun.State.RUNNING).order_by("pk").values_list("pk", flat=True):
        try:
            fed += feed(pk)
        except Exception:  # one run that cannot be fed must not stop the others
            log.exception("run %s could not be fed", pk)
    return fed


def feed(run_id: int) -> int:
    """Asks for the run's next jobs, as many as its windows leave room for; ends the run when nothing is left. How many were asked for.

    A run pauses by itself, with a note, where the person in whose name it runs may not start work in the cohort any more, where the
    disk is nearly full (better than thousands of jobs that fail one after the other), and where jobs are refused when they are asked for.
    """
    with transaction.atomic():
        runs = CohortRun.objects.select_for_update(skip_locked=True, of=("self",)).select_related("cohort", "run_as")
        run = runs.filter(pk=run_id, state=CohortRun.State.RUNNING).first()
        if run is None:
            return 0
        note = _must_pause(run)
        if note:
            return _stop(run, note)
        try:
            with transaction.atomic():
                fed = _fill(run)
        except TissueboardError as error:
            return _stop(run, f"{error.sentence} {error.hint}")
        _end(run)
    return fed


def _stop(run: CohortRun, note: str) -> int:
    run.state, run.note = CohortRun.State.PAUSED, note[:300]
    run.save(update_fields=["state", "note"])
    record(None, "pause run", run, cohort_id=run.cohort_id)
    return 0


def _must_pause(run: CohortRun) -> str:
    if not run.by_house:
        if run.run_as is None:
            return "The person in whose name it ran has left. A contributor can resume it."
        if role_in(run.run_as, run.cohort) not in Role.at_least(Role.CONTRIBUTOR):
            return f"{run.run_as.get_username()} is no longer a contributor of {run.cohort.name}. Another contributor can resume it."
    free = free_bytes()
    if free < settings.RUNS_MIN_FREE_BYTES:
        needed = settings.RUNS_MIN_FREE_BYTES / 2**30
        return f"Only {free / 2**30:.1f} GiB of the disk are free, and a run leaves {needed:g} GiB. Make room, then resume it."
    return ""


def _fill(run: CohortRun) -> int:
    """Until the windows are full or nothing is left that may be asked for."""
    steps = steps_of(run.pipeline)
    free = _room(run, steps)
    fed = 0
    while asked := _one_pass(run, steps, free):
        fed += asked
    return fed


def _one_pass(run: CohortRun, steps: Iterable[Step], free: Counter[str]) -> int:
    """Later steps first: a slide that was begun is finished before the next one starts."""
    fed = 0
    for step in reversed(tuple(steps)):
        queue = registry.get(step.kind).queue
        # What turns out to be there already, or impossible, takes no room: go on until the window is full or nothing is left.
        while free[queue] > 0:
            items = _next(run, step, free[queue])
            if not items:
                break
            asked = _ask(run, step, items)
            free[queue] -= asked
            fed += asked
    return fed


def _room(run: CohortRun, steps: Iterable[Step]) -> Counter[str]:
    """By queue: how many more jobs of this run may wait there."""
    window: Counter[str] = Counter()
    for queue, processes in _processes().items():
        window[queue] = settings.RUNS_WINDOW * processes
    for queue in {registry.get(step.kind).queue for step in steps}:
        window[queue] = max(window[queue], settings.RUNS_WINDOW)
    waiting = run.items.filter(due=False, job__state__in=WAITING).order_by().values_list("job__queue").annotate(n=Count("pk"))
    window.subtract(dict(waiting))
    return window


def _processes() -> Counter[str]:
    """By queue: processes of live workers; empty when Redis does not answer (the jobs then wait for it)."""
    found: Counter[str] = Counter()
    try:
        for crew in crews():
            found.update(dict.fromkeys(crew.queues, crew.processes))
    except redis.RedisError:
        pass
    return found


def _next(run: CohortRun, step: Step, most: int) -> list[RunItem]:
    """Due items of a step whose needs are there or asked for, in the plan's order.

    Only the first ones are looked at: what they wait for is first in its own order too, so it is asked for before long. (A join over
    all items takes minutes in Postgres while a new run has no statistics yet.)
    """
    due = RunItem.objects.filter(run=run, kind=step.kind, due=True).order_by("pk")
    tissues = ("slide__sample__patient__cohort", "image__sample__patient__cohort")
    first = list(due.select_related(*tissues, "version", "job")[: max(LOOK_AHEAD, 2 * most)])
    if not step.needs:
        return first[:most]
    what = _column(step)
    unasked = RunItem.objects.filter(run=run, kind__in=step.needs, due=True, **{f"{what}__in": [item.tissue_id for item in first]})
    blocked = set(unasked.values_list(what, flat=True))
    return [item for item in first if item.tissue_id not in blocked][:most]


def _column(step: Step) -> str:
    """Where an item of a step has its tissue."""
    return "image_id" if step.per == "image" else "slide_id"


def _ask(run: CohortRun, step: Step, items: list[RunItem]) -> int:
    """Settles these items: each gets its job, or turns out to be there already, or cannot run any more. How many jobs were asked for."""
    needs = _needs(run, step, items)
    keys = keys_of(item.tissue for item in items)
    wanted = {item.pk: idempotency_key(step.kind, params_of(step, item.tissue, item.version), keys[item.tissue_id]) for item in items}
    # Read before the outputs: a job that succeeds in between is then found by `enqueue`.
    known = {job.idempotency_key: job for job in Job.objects.filter(idempotency_key__in=wanted.values())}
    versions = {item.version_id: item.version for item in items} | {n.version_id: n.version for found in needs.values() for n in found}
    outputs = Outputs([v for v in versions.values() if v is not None], [item.patient_id for item in items])
    asked = 0
    for item in items:
        needed, job = needs[item.pk], known.get(wanted[item.pk])
        told = _impossible(step, item, needed)
        ready = all(need.state in ("exists", "succeeded") for need in needed)
        item.due = False
        if told is not None:
            item.plan, item.job = "skip", None
            item.code, item.reason = told
        elif ready and outputs.has(step, item.tissue, item.version, keys[item.tissue_id]):
            # Its own job may have been started again by what it needs, and be done by now.
            if item.job is None or item.job.state != State.SUCCEEDED:
                item.plan, item.job = "exists", None
        else:
            _enqueue(run, step, item, keys[item.tissue_id], [n.job for n in needed if n.job is not None], job)
            asked += 1
        item.save(update_fields=["due", "plan", "code", "reason", "job", "shared", "input_key"])
    return asked


def _needs(run: CohortRun, step: Step, items: list[RunItem]) -> dict[int, list[RunItem]]:
    """By item: the items of this run that it needs."""
    rows = RunItem.objects.filter(run=run, kind__in=step.needs, **{f"{_column(step)}__in": [item.tissue_id for item in items]})
    by_tissue: dict[int | None, list[RunItem]] = {}
    for row in rows.with_state().select_related("job", "version"):
        by_tissue.setdefault(row.tissue_id, []).append(row)
    return {item.pk: by_tissue.get(item.tissue_id, []) for item in items}


def _impossible(step: Step, item: RunItem, needs: list[RunItem]) -> tuple[str, str] | None:
    lost = next((need for need in needs if need.plan == "skip"), None)
    if lost is not None:
        return WhyNot.NEEDS_MISSING, f"{lost.title} cannot run: {lost.reason}"
    return why_not_on(step, item.tissue)


def _enqueue(run: CohortRun, step: Step, item: RunItem, key: str, needs: list[Job], known: Job | None) -> None:
    """Asks for the job of an item. A job that succeeded although its output is not there (any more) is done again under a new key."""
    params = params_of(step, item.tissue, item.version)
    asked = key
    while known is not None and known.state == State.SUCCEEDED:
        asked = f"{key}, again after job {known.pk}"
        known = Job.objects.filter(idempotency_key=idempotency_key(step.kind, params, asked)).first()
    theirs = known is not None and known.state in (*WAITING, *ACTIVE) and not known.run_items.exists()
    item.job = enqueue(run.run_as, step.kind, params, cohorts=[run.cohort], needs=needs, key=asked)
    item.shared, item.input_key = item.shared or theirs, key


def _end(run: CohortRun) -> None:
    """Says `done` when nothing of the run waits or runs."""
    going = run.items.filter(Q(due=True) | Q(plan="run", job__state__in=(*WAITING, *ACTIVE)))
    if not going.exists():
        run.state, run.finished_at = CohortRun.State.DONE, timezone.now()
        run.save(update_fields=["state", "finished_at"])
        record(None, "run done", run, cohort_id=run.cohort_id)
