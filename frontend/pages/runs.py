"""A pipeline over a whole cohort: what was run, the plan of a new run, one run with its progress."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.model_registry.selectors import versions_for
from tissueboard.pipelines import run_services, selectors
from tissueboard.pipelines.cohort_plan import CohortPlan, plan_cohort
from tissueboard.pipelines.declared import PIPELINES, TITLES
from tissueboard.pipelines.feeding import feed
from tissueboard.pipelines.models import OPEN, CohortRun, RunItem

from .access import signed_in
from .cohorts import frame, page_of
from .csv_files import csv_response
from .jobs import duration

SHOWN = 50
PLAN_WORDS = {"run": "will run", "exists": "exists", "skip": "cannot run"}


@signed_in
@require_safe
def cohort_runs(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Runs of a cohort, newest first; the list refreshes itself while one goes on."""
    cohort = get_cohort(request.user, cohort_id)
    rows = page_of(request, selectors.runs_for(request.user, cohort))
    counts, versions = selectors.counts_of(request.user, list(rows)), selectors.version_names(list(rows))
    context = {
        **frame(request, cohort, "runs"),
        "rows": rows,
        "told": [_line(run, versions[run.pk], counts[run.pk]) for run in rows],
        "live": any(run.state == CohortRun.State.RUNNING for run in rows),
    }
    return render(request, "parts/run_rows.html" if request.htmx else "pages/cohort_runs.html", context)


def _line(run: CohortRun, versions: str, counts: dict[str, int]) -> tuple[Any, ...]:
    """(run, title, versions, counts, steps that ended, steps that were to run)"""
    ended = counts["succeeded"] + counts["failed"]
    return run, TITLES.get(run.pipeline, run.pipeline), versions, counts, ended, ended + counts["waiting"] + counts["running"]


@dataclass(frozen=True)
class Choice:
    """One line of the list of what can be run. value: "pipeline" or "pipeline:id of the chosen version"."""

    value: str
    label: str
    pipeline: str
    options: dict[str, int]


def choices(user: Any) -> list[Choice]:
    """Each pipeline; one in which a person chooses the version once per version that she may use."""
    found = []
    for name, steps in PIPELINES.items():
        chosen = next((step for step in steps if step.chosen), None)
        if chosen is None:
            found.append(Choice(name, TITLES.get(name, name), name, {}))
            continue
        for version in versions_for(user).filter(family=chosen.family).order_by("name", "pk"):
            label = f"{chosen.title}: {version.family} {version.name}"
            found.append(Choice(f"{name}:{version.pk}", label, name, {chosen.family: version.pk}))
    return found


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def cohort_run_new(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """GET ?what=: the plan of a pipeline for the cohort. POST starts it."""
    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    known = choices(request.user)
    what = (request.POST if request.method == "POST" else request.GET).get("what", "")
    choice = next((one for one in known if one.value == what), None)
    refused = None
    if request.method == "POST":
        try:
            return _start(request, cohort, choice)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    plan = plan_cohort(request.user, cohort, choice.pipeline, choice.options) if choice is not None else None
    missing = sorted(step.family for name, steps in PIPELINES.items() for step in steps if step.chosen and not _offered(name, known))
    context = {
        **frame(request, cohort, "runs"),
        "choices": known,
        "choice": choice,
        "missing": missing,
        "refused": refused,
        "plan": plan,
        **(_plan_context(plan) if plan is not None else {}),
    }
    return render(request, "pages/cohort_run_new.html", context, status=refused.status if refused else 200)


def _offered(name: str, known: list[Choice]) -> bool:
    return any(choice.pipeline == name for choice in known)


def _start(request: HttpRequest, cohort: Any, choice: Choice | None) -> HttpResponse:
    if choice is None:
        raise TissueboardError("BAD_REQUEST", "The form does not say what to run.", "Choose it from the list.")
    asked = timezone.now()
    despite = request.POST.get("despite_disk") == "yes"
    run = run_services.start_run(request.user, cohort, choice.pipeline, choice.options, despite_disk=despite)
    if run.created_at < asked:
        messages.info(request, "The same run goes on already; here it is.")
    else:
        messages.success(request, "The run is started. It goes on by itself.")
    return redirect("cohort_run", run_id=run.pk)


def _plan_context(plan: CohortPlan) -> dict[str, Any]:
    """The plan as the page shows it."""
    told = plan.estimate
    steps = [(p, plan.counts[p.step.kind]) for p in plan.steps]
    return {
        "steps": steps,
        "skipped": list(islice(plan.skipped(), SHOWN)),
        "time": duration(told.seconds) if told.seconds is not None else "",
        "fits": told.fits,
    }


@signed_in
@require_safe
def cohort_run_plan(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """?what=: every line of a plan as CSV."""
    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    choice = next((one for one in choices(request.user) if one.value == request.GET.get("what", "")), None)
    if choice is None:
        raise TissueboardError("BAD_REQUEST", "The address does not say what would be run.", "Add ?what=case to it.")
    plan = plan_cohort(request.user, cohort, choice.pipeline, choice.options)
    about = (f"Plan for {cohort.name}: {choice.label}", f"{plan.n_run} will run, {plan.n_exists} exist, {plan.n_skip} cannot run")
    rows = (
        (row.patient.code, row.tissue.name if row.tissue else "", row.step.title, PLAN_WORDS[row.plan], row.code, row.reason)
        for row in plan.rows
    )
    return csv_response(f"plan {cohort.name} {choice.pipeline}", about, ("patient", "slide", "step", "plan", "code", "reason"), rows)


@signed_in
@require_safe
def cohort_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One run: progress, rate, what failed and why, and the buttons. Looking at it also keeps it going."""
    run = selectors.get_run(request.user, run_id)
    if run.state == CohortRun.State.RUNNING:
        feed(run.pk)
        run = selectors.get_run(request.user, run_id)
    return render(request, "parts/run_body.html" if request.htmx else "pages/cohort_run.html", _run_context(request, run))


def _run_context(request: HttpRequest, run: CohortRun) -> dict[str, Any]:
    progress = selectors.progress_of(request.user, run)
    state = request.GET.get("state", "")
    state = state if state in RunItem.STATES else ""
    shown = frame(request, run.cohort, "runs")
    going = run.state in OPEN
    rows = page_of(request, selectors.items_for(request.user, run, state))
    return {
        **shown,
        "run": run,
        "title": TITLES.get(run.pipeline, run.pipeline),
        "progress": progress,
        "state": state,
        "states": [(name, progress.counts[name]) for name in RunItem.STATES],
        "visible": set(versions_for(request.user).filter(pk__in=run.versions.values()).values_list("pk", flat=True)),
        "rows": rows,
        "items": [(item, selectors.reason_of(item)) for item in rows],
        "live": run.state == CohortRun.State.RUNNING or progress.counts["running"] > 0,
        "ends_in": duration((progress.ends_at - timezone.now()).total_seconds()) if progress.ends_at else "",
        "may_pause": shown["may_add"] and run.state == CohortRun.State.RUNNING,
        "may_resume": shown["may_add"] and run.state == CohortRun.State.PAUSED,
        "may_cancel": shown["may_add"] and going,
        "may_retry": shown["may_add"] and run.state != CohortRun.State.CANCELLED and progress.counts["failed"] > 0,
        "may_extend": shown["may_add"] and run.state != CohortRun.State.CANCELLED,
    }


@signed_in
@require_POST
def cohort_run_action(request: HttpRequest, run_id: int, action: str) -> HttpResponse:
    """pause, resume, cancel, retry (what failed), extend (by what can run now)."""
    run = selectors.get_run(request.user, run_id)
    if action == "pause":
        run_services.pause(request.user, run)
        messages.success(request, "The run is paused. What runs already is finished; nothing new is started.")
    elif action == "resume":
        run_services.resume(request.user, run)
        messages.success(request, "The run goes on.")
    elif action == "cancel":
        run_services.cancel(request.user, run)
        messages.success(request, "The run is cancelled. What was made stays.")
    elif action == "retry":
        n = run_services.retry_failed(request.user, run)
        messages.success(request, f"{n} failed step{'' if n == 1 else 's'} will run again.")
    elif action == "extend":
        told = run_services.extend(request.user, run)
        if told.added:
            messages.success(request, f"{told.added} step{'' if told.added == 1 else 's'} can run now and {_were(told.added)} added.")
        else:
            messages.info(request, "Nothing new can run: no slide became ready, and no input changed.")
    else:
        raise NotVisible("page")
    return redirect("cohort_run", run_id=run.pk)


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


@signed_in
@require_safe
def cohort_run_items(request: HttpRequest, run_id: int) -> HttpResponse:
    """Every step of a run with its state and job as CSV. ?state= for one state."""
    run = selectors.get_run(request.user, run_id)
    state = request.GET.get("state", "")
    items = selectors.items_for(request.user, run, state if state in RunItem.STATES else "")
    about = (f"Run {run.pk} of {TITLES.get(run.pipeline, run.pipeline)} on {run.cohort.name}: {run.state}",)
    columns = ("patient", "slide", "step", "version", "state", "job", "code", "sentence", "hint")
    return csv_response(f"run {run.pk} {run.cohort.name}", about, columns, (_csv_row(item) for item in items.iterator(chunk_size=2000)))


def _csv_row(item: RunItem) -> tuple[Any, ...]:
    told = selectors.reason_of(item)
    slide, version = item.tissue.name if item.tissue else "", str(item.version) if item.version else ""
    return (item.patient.code, slide, item.title, version, item.state, item.job_id or "", told.code, told.sentence, told.hint)
