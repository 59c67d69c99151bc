"""Discovery on the cells of a cohort: what was found, the form that asks for more, one result, its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError
from tissueboard.jobs.models import ACTIVE, UNDONE, WAITING, Job
from tissueboard.outcomes import discovery_ground as ground
from tissueboard.outcomes.discovery_start import KIND, Asked, request_discovery
from tissueboard.outcomes.discovery_view import shown_to
from tissueboard.outcomes.models import Discovery
from tissueboard.outcomes.selectors import discoveries_of, discovery_of_job, endpoints_in
from tissueboard.pipelines.errors import ConfigInvalid
from tissueboard.pipelines.training_config import checked

from .access import signed_in, whole_number
from .cohorts import frame, page_of
from .config_form import Setting, settings, typed, values_of

# What most people look at first; all others are behind "All settings".
USUAL = {
    Discovery.Kind.BIOMARKERS: ("leiden.first", "leiden.last", "leiden.step", "leiden.largest", "biomarkers.permutations"),
    Discovery.Kind.RISK_GROUPS: ("cell_clusters", "groups", "merge", "permutations"),
}


@dataclass
class Form:
    """What was chosen and typed, and what is wrong. response: (variable, value) as JSON in one field, so that neither is ever guessed."""

    kind: str
    version: int
    response: str = ""
    endpoint: str = ""
    texts: dict[str, Any] = field(default_factory=dict)
    refused: TissueboardError | None = None
    errors: dict[str, str] = field(default_factory=dict)

    def asked(self) -> Asked:
        try:
            found = json.loads(self.response)
        except ValueError:
            found = None
        variable, value = found if isinstance(found, list) and len(found) == 2 and all(isinstance(v, str) for v in found) else ("", "")
        return Asked(self.kind, self.version, variable, value, self.endpoint)


@signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def cohort_discover(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """The list, and for contributors the form (?kind=). POST starts a discovery."""
    cohort = get_cohort(request.user, cohort_id)
    if request.method == "POST":
        require(request.user, cohort, Role.CONTRIBUTOR)
    form = _form(request, cohort)
    if request.method == "POST":
        try:
            return _start(request, cohort, form)
        except TissueboardError as error:
            if error.status == 403:
                raise
            form.refused = error
            _place_errors(form)
    rows = page_of(request, discoveries_of(request.user, cohort))
    going = _going(request.user, cohort)
    context = {
        **frame(request, cohort, "discover"),
        "rows": rows,
        "found": [shown_to(request.user, one) for one in rows],
        "going": going,
        "live": any(job.state in (*WAITING, *ACTIVE) for job in going),
    }
    if request.htmx:
        return render(request, "parts/discovery_rows.html", context)
    if context["may_add"]:
        context |= _form_context(request.user, cohort, form)
    return render(request, "pages/cohort_discover.html", context, status=form.refused.status if form.refused else 200)


def _form(request: HttpRequest, cohort: Cohort) -> Form:
    sent = request.POST if request.method == "POST" else request.GET
    kind = sent.get("kind", "")
    kind = kind if kind in Discovery.Kind.values else Discovery.Kind.BIOMARKERS
    made = Form(kind, whole_number(sent.get("version"), 0) or 0, sent.get("response", ""), sent.get("endpoint", ""))
    if request.method == "POST":
        made.texts = typed(sent, ground.config_class(kind).model_json_schema())
    return made


def _start(request: HttpRequest, cohort: Cohort, form: Form) -> HttpResponse:
    cls = ground.config_class(form.kind)
    config = checked(cls, values_of(form.texts, cls.model_json_schema()))
    job = request_discovery(request.user, cohort, form.asked(), config)
    found = discovery_of_job(request.user, job)
    if found is not None:
        messages.info(request, "This was found already, on the same cells and outcomes.")
        return redirect("discovery", discovery_id=found.pk)
    messages.success(request, "The discovery is asked for. It goes on by itself; this page follows it.")
    return redirect("job", job_id=job.pk)


def _place_errors(form: Form) -> None:
    """Each refusal beside its field; what belongs to none stands above the form."""
    if isinstance(form.refused, ConfigInvalid):
        form.errors = dict(form.refused.fields)
    elif form.refused is not None and form.refused.where:
        where = form.refused.where if form.refused.where in ("version", "endpoint") else "response"
        form.errors = {where: f"{form.refused.sentence} {form.refused.hint}".strip()}


def _form_context(user: Any, cohort: Cohort, form: Form) -> dict[str, Any]:
    schema = ground.config_class(form.kind).model_json_schema()
    fields: list[Setting] = settings(schema, form.texts, form.errors)
    by_name, usual = {one.name: one for one in fields}, USUAL[Discovery.Kind(form.kind)]
    more = [one for one in fields if one.name not in usual]
    biomarkers = form.kind == Discovery.Kind.BIOMARKERS
    variables = [
        (one, [(json.dumps([one.name, value]), value, n) for value, n in one.values]) for one in ground.response_variables(user, cohort)
    ]
    beside = {*by_name, "version", "response" if biomarkers else "endpoint"}
    said = form.refused
    return {
        "form": form,
        "kinds": Discovery.Kind.values,
        "biomarkers": biomarkers,
        "cannot": ground.refusal_of(user, cohort),
        "versions": ground.versions_with_cells(user, cohort),
        "variables": variables,
        "endpoints": endpoints_in(user, cohort),
        "usual": [by_name[name] for name in usual],
        "more": more,
        "more_wrong": any(one.error for one in more),
        "above": "" if said is None or set(form.errors) & beside else f"{said.sentence} {said.hint}".strip(),
    }


def _going(user: Any, cohort: Cohort) -> list[Job]:
    """Discoveries that wait or run, and the last few that ended without a result."""
    jobs = Job.objects.visible_to(user).filter(cohorts=cohort, kind=KIND).order_by("-pk")
    return list(jobs.filter(state__in=(*WAITING, *ACTIVE))) + list(jobs.filter(state__in=UNDONE)[:3])


@signed_in
@require_safe
def discovery(request: HttpRequest, discovery_id: int) -> HttpResponse:
    """One result: what it is worth first, then the printed estimate, then the clusters or groups."""
    from tissueboard.outcomes.discovery_view import read_discovery

    shown = read_discovery(request.user, discovery_id)
    found = shown.discovery
    context = {
        **frame(request, found.cohort, "discover"),
        "shown": shown,
        "found": found,
        "result": shown.result,
        "biomarkers": found.kind == Discovery.Kind.BIOMARKERS,
        "config": _config_lines(found.params["config"]),
    }
    return render(request, "pages/discovery.html", context)


def _config_lines(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in config.items():
        lines += _config_lines(value, f"{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return lines


@signed_in
@require_safe
def discovery_file(request: HttpRequest, discovery_id: int, what: str) -> FileResponse:
    """Its cells as Parquet or its patients as CSV; logged."""
    from tissueboard.outcomes.discovery_files import download_discovery
    from tissueboard.predictions.views import send

    return send(download_discovery(request.user, discovery_id, what))
