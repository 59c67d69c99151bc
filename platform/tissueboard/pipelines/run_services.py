"""What people do with a run over a cohort: start, pause, resume, cancel, retry what failed, add what can run now."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.models import WAITING, Job, JobDependency, State
from tissueboard.jobs.state import advance
from tissueboard.model_registry.models import ModelVersion

from .cohort_plan import EXISTS, RUN, SKIP, CohortPlan, PlanRow, plan_cohort
from .declared import PIPELINES
from .errors import RunRefused, WhyNot
from .feeding import feed
from .models import OPEN, CohortRun, RunItem
from .selectors import get_run
from .versions import Options, choose_versions

BATCH = 2000


def start_run(user: Any, cohort: Cohort, pipeline: str, options: Options | None = None, *, despite_disk: bool = False) -> CohortRun:
    """Starts a pipeline on a cohort; where the same run is open already, gives that one. Needs contributor. user None: the house.

    Errors: those of plan_cohort; RunRefused NOTHING_TO_RUN, VERSION_NOT_CHOSEN, and DISK_TOO_SMALL unless `despite_disk`.
    """
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    plan = plan_cohort(user, cohort, pipeline, options)
    _refuse_unchosen(plan)
    fingerprint = fingerprint_of(pipeline, plan.versions)
    with transaction.atomic():
        # Two people who start at once meet here; the second one finds the run of the first.
        Cohort.objects.select_for_update().get(pk=cohort.pk)
        run = CohortRun.objects.filter(cohort=cohort, fingerprint=fingerprint, state__in=OPEN).first()
        if run is None:
            _refuse_useless(plan, despite_disk)
            run = CohortRun.objects.create(
                cohort=cohort, pipeline=pipeline, versions=plan.versions, fingerprint=fingerprint, created_by=user, run_as=user,
                by_house=user is None, resumed_at=timezone.now(),
            )  # fmt: skip
            versions = {p.step.kind: p.version for p in plan.steps}
            RunItem.objects.bulk_create((_item(run, row, versions[row.step.kind]) for row in plan.rows), batch_size=BATCH)
            record(user, "start run", run, cohort_id=cohort.pk)
    feed(run.pk)
    run.refresh_from_db()
    return run


def pause(user: Any, run: CohortRun) -> CohortRun:
    """No new jobs; those that wait and that nobody else asked for go back, those that run finish. Pausing twice changes nothing."""
    with transaction.atomic():
        run = _lock(user, run)
        if run.state not in OPEN:
            raise RunRefused("RUN_ENDED", f"The run is {run.state}.", "Only a run that goes on can be paused.")
        if run.state == CohortRun.State.RUNNING:
            run.state, run.note = CohortRun.State.PAUSED, ""
            run.save(update_fields=["state", "note"])
            _take_back(run)
            record(user, "pause run", run, cohort_id=run.cohort_id)
    return run


def resume(user: Any, run: CohortRun) -> CohortRun:
    """A paused run goes on, in the name of the person who resumes it."""
    with transaction.atomic():
        run = _lock(user, run)
        if run.state not in OPEN:
            raise RunRefused("RUN_ENDED", f"The run is {run.state}.", "Start a new run; what exists is not done again.")
        if run.state == CohortRun.State.PAUSED:
            _go_on(user, run)
            record(user, "resume run", run, cohort_id=run.cohort_id)
    return _fed(run)


def cancel(user: Any, run: CohortRun) -> CohortRun:
    """Ends a run: what waits goes back, what runs finishes, what was made stays."""
    with transaction.atomic():
        run = _lock(user, run)
        if run.state not in OPEN:
            raise RunRefused("RUN_ENDED", f"The run is {run.state} already.", "There is nothing to cancel.")
        _take_back(run)
        run.items.filter(due=True).update(due=False, plan=SKIP, job=None, code=WhyNot.RUN_CANCELLED, reason="The run was cancelled before.")
        run.state, run.note, run.finished_at = CohortRun.State.CANCELLED, "", timezone.now()
        run.save(update_fields=["state", "note", "finished_at"])
        record(user, "cancel run", run, cohort_id=run.cohort_id)
    return run


def retry_failed(user: Any, run: CohortRun) -> int:
    """Failed, crashed, expired and cancelled work again, and nothing else; how many items. RunRefused NOTHING_FAILED."""
    with transaction.atomic():
        run = _lock(user, run)
        _refuse_cancelled(run)
        failed = run.items.with_state().filter(state="failed").values_list("pk", flat=True)
        n = RunItem.objects.filter(pk__in=list(failed)).update(due=True)
        if not n:
            raise RunRefused("NOTHING_FAILED", "Nothing of this run has failed.", "There is nothing to retry.")
        _reopen(user, run)
        record(user, "retry run", run, cohort_id=run.cohort_id)
    _fed(run)
    return n


@dataclass(frozen=True)
class Extension:
    """What a second look at the cohort changed: items that can run now, and items that need not run any more."""

    added: int
    found: int


def extend(user: Any, run: CohortRun) -> Extension:
    """Plans the run again with its versions and adds what can run now: new slides, slides that became ready, inputs that changed.

    What failed stays as it is (`retry_failed`), and so does what was asked for.
    """
    run = get_run(user, run.pk) if user is not None else run
    plan = plan_cohort(user, run.cohort, run.pipeline, run.versions)
    versions = {p.step.kind: p.version for p in plan.steps}
    with transaction.atomic():
        run = _lock(user, run)
        _refuse_cancelled(run)
        known = {_place(item.per, item.kind, item.patient_id, item.tissue_id): item for item in run.items.with_state()}
        fresh, changed = [], []
        for row in plan.rows:
            tissue_id = row.tissue.pk if row.tissue is not None else None
            item = known.get(_place(row.step.per, row.step.kind, row.patient.pk, tissue_id))
            if item is None:
                fresh.append(_item(run, row, versions[row.step.kind]))
            elif item.state in ("skipped", "exists", "succeeded") and _follow(item, row, versions[row.step.kind]):
                changed.append(item)
        RunItem.objects.bulk_create(fresh, batch_size=BATCH)
        RunItem.objects.bulk_update(changed, ["plan", "code", "reason", "due", "slide", "image", "version", "job"], batch_size=BATCH)
        added = sum(item.due for item in (*fresh, *changed))
        run.versions = plan.versions
        run.save(update_fields=["versions"])
        if added:
            _reopen(user, run)
        record(user, "extend run", run, cohort_id=run.cohort_id)
    _fed(run)
    return Extension(added, sum(item.plan == EXISTS for item in changed))


def fingerprint_of(pipeline: str, versions: Options) -> str:
    """SHA-256 over a pipeline and the versions that it takes."""
    return hashlib.sha256(json.dumps([pipeline, dict(versions)], sort_keys=True).encode()).hexdigest()


def _item(run: CohortRun, row: PlanRow, version: ModelVersion | None) -> RunItem:
    return RunItem(
        run=run, kind=row.step.kind, per=row.step.per, patient=row.patient, slide=row.slide, image=row.image, version=version,
        plan=row.plan, code=row.code, reason=row.reason, due=row.plan == RUN,
    )  # fmt: skip


def _place(per: str, kind: str, patient_id: int, tissue_id: int | None) -> tuple[str, int | None]:
    """What is unique of an item in its run."""
    return (kind, patient_id if per == "patient" else tissue_id)


def _follow(item: RunItem, row: PlanRow, version: ModelVersion | None) -> bool:
    """Brings an item to what the plan says now; whether it changed. What is there stays as it is, unless it is to be made anew."""
    if item.state in ("succeeded", "exists") and row.plan != RUN:
        return False
    if (item.plan, item.reason) == (row.plan, row.reason) and row.plan != RUN:
        return False
    item.plan, item.code, item.reason, item.due = row.plan, row.code, row.reason, row.plan == RUN
    item.slide, item.image, item.version = row.slide, row.image, version
    item.job = None if row.plan != RUN else item.job
    return True


def _lock(user: Any, run: CohortRun) -> CohortRun:
    """The run, held until the end of the transaction; for contributors of its cohort (user None: the house)."""
    held = CohortRun.objects.select_for_update(of=("self",)).select_related("cohort", "run_as").get(pk=run.pk)
    if user is not None:
        require(user, held.cohort, Role.CONTRIBUTOR)
    return held


def _go_on(user: Any, run: CohortRun) -> None:
    """The run goes on in this person's name; VERSION_UNKNOWN where it takes a version that she may not see."""
    choose_versions(user, run.pipeline, run.cohort, run.versions)
    run.state, run.note, run.finished_at, run.resumed_at = CohortRun.State.RUNNING, "", None, timezone.now()
    run.run_as, run.by_house = user, user is None
    run.save(update_fields=["state", "note", "finished_at", "resumed_at", "run_as", "by_house"])


def _reopen(user: Any, run: CohortRun) -> None:
    """A run that was done goes on; one that goes on or is paused stays so."""
    if run.state != CohortRun.State.DONE:
        return
    Cohort.objects.select_for_update().get(pk=run.cohort_id)
    other = CohortRun.objects.filter(cohort=run.cohort_id, fingerprint=run.fingerprint, state__in=OPEN).first()
    if other is not None:
        raise RunRefused("RUN_EXISTS", f"The same run goes on as run {other.pk}.", "Wait for it, or retry there.")
    _go_on(user, run)


def _fed(run: CohortRun) -> CohortRun:
    feed(run.pk)
    run.refresh_from_db()
    return run


def _take_back(run: CohortRun) -> None:
    """Cancels the waiting jobs of a run that nobody else wants; they are due again. Last steps first: what needs a job goes before it."""
    order = {step.kind: place for place, step in enumerate(PIPELINES.get(run.pipeline, ()))}
    items = list(run.items.filter(due=False, plan="run", shared=False, job__state__in=WAITING).select_related("job"))
    others = RunItem.objects.filter(job__in=[item.job_id for item in items], due=False).exclude(run=run)
    wanted = set(others.filter(Q(run__state=CohortRun.State.RUNNING) | Q(shared=True)).values_list("job_id", flat=True))
    mine = {item.job_id for item in items}
    for item in sorted(items, key=lambda item: (-order.get(item.kind, 0), item.pk)):
        if item.job_id in wanted or _needed_elsewhere(item.job, mine):
            continue
        if _cancel(item.job, f"run {run.pk} does not go on for now"):
            RunItem.objects.filter(pk=item.pk).update(due=True)


def _needed_elsewhere(job: Job, mine: set[int]) -> bool:
    """Whether work of others waits for this job."""
    waiting = JobDependency.objects.filter(need=job, job__state=State.CREATED)
    return waiting.exclude(job__in=mine).exists()


def _cancel(job: Job, note: str) -> bool:
    """A waiting job, unless a worker was faster."""
    return any(advance(job.pk, state, State.CANCELLED, job.attempt, note=note) for state in (State.QUEUED, State.CREATED))


def _refuse_unchosen(plan: CohortPlan) -> None:
    missing = next((p for p in plan.steps if p.version is None and p.code == WhyNot.VERSION_NOT_CHOSEN), None)
    if missing is not None:
        hint = f"Name one under options.{missing.step.family}; the page Models lists them."
        raise RunRefused("VERSION_NOT_CHOSEN", missing.why_not, hint, where=f"options.{missing.step.family}", status=400)


def _refuse_useless(plan: CohortPlan, despite_disk: bool) -> None:
    if not plan.n_run:
        told = f"Nothing of this pipeline would run: {plan.n_exists} outputs are there already, {plan.n_skip} cannot be made."
        raise RunRefused("NOTHING_TO_RUN", told, f"The plan says of each {plan.what} why.")
    if not plan.estimate.fits and not despite_disk:
        needed, free = (plan.estimate.disk_bytes or 0) / 2**30, plan.estimate.free_bytes / 2**30
        told = f"The run would write about {needed:.1f} GiB, and {free:.1f} GiB are free."
        raise RunRefused("DISK_TOO_SMALL", told, "Make room first, or start it all the same: it pauses before the disk is full.")


def _refuse_cancelled(run: CohortRun) -> None:
    if run.state == CohortRun.State.CANCELLED:
        raise RunRefused("RUN_ENDED", "The run was cancelled.", "Start a new run; what exists is not done again.")
