"""Reads of runs over cohorts, always scoped to a user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Min, Sum
from django.utils import timezone

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import NotVisible
from tissueboard.jobs.errors import JobCode
from tissueboard.jobs.models import State
from tissueboard.jobs.selectors import expected_seconds
from tissueboard.model_registry.models import ModelVersion

from .declared import PIPELINES, step_title
from .models import CohortRun, RunItem, RunItemQuerySet

RATE_WINDOW = timedelta(minutes=15)
FEWEST_FOR_A_RATE = 3


def runs_for(user: Any, cohort: Cohort | None = None) -> Any:
    """Runs that the user may see, newest first."""
    runs = CohortRun.objects.visible_to(user).select_related("cohort", "created_by", "run_as").order_by("-pk")
    return runs if cohort is None else runs.filter(cohort=cohort)


def get_run(user: Any, run_id: int) -> CohortRun:
    """One run; NotVisible for a stranger."""
    run = runs_for(user).filter(pk=run_id).first()
    if run is None:
        raise NotVisible("run")
    return run


def items_for(user: Any, run: CohortRun, state: str = "", kind: str = "") -> RunItemQuerySet:
    """The items of a run with their `state`, slide, patient and job, in the order of the plan."""
    items: RunItemQuerySet = RunItem.objects.visible_to(user).filter(run=run).with_state()
    items = items.select_related("slide", "image", "patient", "job", "version").order_by("pk")
    if state:
        items = items.filter(state=state)
    return items.filter(kind=kind) if kind else items


def counts_of(user: Any, runs: list[CohortRun]) -> dict[int, dict[str, int]]:
    """By run: {state of an item: how many}. One query for all of them."""
    found = {run.pk: dict.fromkeys(RunItem.STATES, 0) for run in runs}
    items = RunItem.objects.visible_to(user).filter(run__in=found).with_state().order_by()
    for run_id, state, n in items.values_list("run_id", "state").annotate(n=Count("pk")):
        found[run_id][state] = n
    return found


def version_names(runs: list[CohortRun]) -> dict[int, str]:
    """By run that the caller may see: the versions that it takes, in words. One query for all of them."""
    wanted = {pk for run in runs for pk in run.versions.values()}
    names = {version.pk: str(version) for version in ModelVersion.objects.filter(pk__in=wanted)}
    return {run.pk: ", ".join(names[pk] for pk in run.versions.values() if pk in names) for run in runs}


@dataclass(frozen=True)
class Reason:
    """Why an item was skipped or failed; empty texts for all others."""

    code: str = ""
    sentence: str = ""
    hint: str = ""


def reason_of(item: Any) -> Reason:
    """For an item of `items_for`."""
    if item.state == "skipped":
        return Reason(item.code, item.reason)
    if item.state != "failed":
        return Reason()
    job = item.job
    return Reason(job.error_code or job.state.upper(), job.error_sentence or f"The work was {job.state}.", job.error_hint)


@dataclass(frozen=True)
class StepProgress:
    """counts: {state of an item: how many}. version: the version that the step takes, or None."""

    kind: str
    title: str
    version: Any
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Progress:
    """How far a run is. per_hour: jobs that succeeded in an hour; ends_at: when the rest is done at this rate; None where unknown.

    done: share 0..1 of what was to run that has succeeded or failed; failures: (code, sentence, hint, how many), most frequent first.
    """

    steps: list[StepProgress]
    counts: dict[str, int]
    per_hour: float | None
    ends_at: datetime | None
    failures: list[tuple[str, str, str, int]]

    @property
    def to_run(self) -> int:
        return sum(self.counts[state] for state in ("waiting", "running", "succeeded", "failed"))

    @property
    def ended(self) -> int:
        return self.counts["succeeded"] + self.counts["failed"]

    @property
    def done(self) -> float:
        return self.ended / self.to_run if self.to_run else 1.0


def progress_of(user: Any, run: CohortRun) -> Progress:
    """Counts by step and state, the rate, and what went wrong; a fixed number of queries."""
    items = items_for(user, run).select_related(None).order_by()
    table: dict[str, dict[str, int]] = {step.kind: dict.fromkeys(RunItem.STATES, 0) for step in PIPELINES.get(run.pipeline, ())}
    for kind, state, n in items.values_list("kind", "state").annotate(n=Count("pk")):
        table.setdefault(kind, dict.fromkeys(RunItem.STATES, 0))[state] = n
    with_version = RunItem.objects.visible_to(user).filter(run=run, version__isnull=False).select_related("version")
    versions = {item.kind: item.version for item in with_version.order_by("kind", "pk").distinct("kind")}
    steps = [StepProgress(kind, step_title(kind), versions.get(kind), counts) for kind, counts in table.items()]
    counts = {state: sum(step.counts[state] for step in steps) for state in RunItem.STATES}
    per_hour, ends_at = _rate(run, items, steps) if run.state == CohortRun.State.RUNNING else (None, None)
    return Progress(steps, counts, per_hour, ends_at, _failures(items))


def _rate(run: CohortRun, items: Any, steps: list[StepProgress]) -> tuple[float | None, datetime | None]:
    """(jobs an hour, expected end) from the work done since the run was resumed, at most 15 minutes back.

    The rest is measured in seconds of work by step and divided by the seconds of work that were done per second: so a queue that is
    shared with others, and steps of different length, are counted as they are.
    """
    now = timezone.now()
    since = max(run.resumed_at, now - RATE_WINDOW)
    done = items.filter(job__state=State.SUCCEEDED, job__finished_at__gte=since)
    took = ExpressionWrapper(F("job__finished_at") - F("job__started_at"), output_field=DurationField())
    told = done.aggregate(n=Count("pk"), work=Sum(took))
    passed = (now - since).total_seconds()
    if told["n"] < FEWEST_FOR_A_RATE or passed <= 0:
        return None, None
    per_hour = 3600 * told["n"] / passed
    left = [(step.kind, step.counts["waiting"] + step.counts["running"]) for step in steps]
    seconds = [(n, expected_seconds(kind)) for kind, n in left if n]
    speed = told["work"].total_seconds() / passed
    if not speed or any(expected is None for _, expected in seconds):
        return per_hour, None
    rest = sum(n * (expected or 0.0) for n, expected in seconds)
    return per_hour, now + timedelta(seconds=rest / speed)


def _failures(items: Any) -> list[tuple[str, str, str, int]]:
    """(code, sentence, hint, how many) of what failed: causes before consequences, most frequent first.

    Where the sentences of one code differ (they may name a slide), one of them is given as an example.
    """
    rows = items.filter(state="failed").values_list("job__error_code", "job__state")
    rows = rows.annotate(least=Min("job__error_sentence"), most=Max("job__error_sentence"), hint=Max("job__error_hint"), n=Count("pk"))
    found = []
    for code, state, least, most, hint, n in rows:
        if code == JobCode.DEPENDENCY_FAILED:
            least = most = "A step that this one needs ended without a result."
            hint = "It starts by itself when that step is retried."
        sentence = least if least == most else f"For example: {most}"
        found.append((code or state.upper(), sentence or f"The work was {state}.", hint, n))
    return sorted(found, key=lambda row: (row[0] == JobCode.DEPENDENCY_FAILED, -row[3], row[0]))
