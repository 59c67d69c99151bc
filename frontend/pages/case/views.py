"""The case page: one patient as the board sees her."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from frontend.figures.timeline import draw_history
from frontend.pages.access import signed_in, whole_number
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.decisions import MAX_CHARS, decisions_in, record_decision
from tissueboard.cohorts.selectors import get_patient, role_of
from tissueboard.cohorts.services import open_case
from tissueboard.errors import TissueboardError

from .comparison import pairs
from .explanation import explanation_view
from .header import all_values, first_facts, tumours
from .history import history_of
from .measured import measured_facts, tests_of_cohort
from .regions import MADE_BEFORE, regions_block
from .risk import risk_block
from .similar import slide_data
from .source import IN_SAMPLE, source_of, warning_for
from .viewer import map_view, range_statement


@signed_in
@require_safe
def case(request: HttpRequest, patient_id: int) -> HttpResponse:
    """The case page of one patient; ?slide= chooses the slide that the blocks below the header are about."""
    patient = open_case(request.user, patient_id)
    return render(request, "case/case.html", case_context(request, patient))


def case_context(request: HttpRequest, patient: Any, slide_id: int | None = None) -> dict[str, Any]:
    """Everything that the page shows, block by block. slide_id: the slide that the blocks are about, if the address does not say it."""
    from tissueboard.assays.selectors import images_of_patient
    from tissueboard.slides.selectors import slides_of_patient

    user = request.user
    slides = list(slides_of_patient(user, patient))
    slide = _chosen(slides, slide_id or whole_number(request.GET.get("slide")))
    events, endpoints = list(patient.events.all()), list(patient.endpoints.all())
    variables = list(patient.cohort.variables.all())
    measured = measured_facts(events, tests_of_cohort(user, patient.cohort))
    points, rows = tumours(slides)
    role = role_of(user, patient.cohort)
    images = list(images_of_patient(user, patient))
    risk = risk_block(user, patient, whole_number(request.GET.get("risk")))
    history = history_of(events, endpoints)
    context = {
        "patient": patient,
        "cohort": patient.cohort,
        "may_add": role in Role.at_least(Role.CONTRIBUTOR),
        "may_manage": role == Role.MANAGER,
        "facts": first_facts(patient.clinical, {v.name: v.unit for v in variables}, events),
        "values": all_values(patient.clinical, variables),
        "points": points,
        "tumours": rows,
        "slides": slides,
        "slide": slide,
        "measured": measured,
        "images": images,
        "similar_image": next((i for i in images if i.state == "ready"), None),
        "risk": risk,
        "decisions": decisions_in(events),
        "max_chars": MAX_CHARS,
        "history_wide": draw_history(history),
        "history_phone": draw_history(history, 340.0),
        "undated": history.undated,
    }
    return context | _about_slide(user, patient, slide, measured, risk, context["may_add"])


def _chosen(slides: list[Any], wanted: int | None) -> Any:
    """The slide asked for, else the first that is ready, else the first."""
    named = next((s for s in slides if s.pk == wanted), None)
    ready = next((s for s in slides if s.state == "ready"), None)
    return named or ready or (slides[0] if slides else None)


def _about_slide(user: Any, patient: Any, slide: Any, measured: list[Any], risk: Any, may_add: bool) -> dict[str, Any]:
    """Blocks 2, 5 and 6: the map of the chosen slide, if it is ready and has one."""
    from tissueboard.predictions.selectors import dense_map_beside, maps_of_slide

    found = maps_of_slide(user, slide) if slide is not None and slide.state == "ready" else []
    prediction = found[0] if found else None
    view = map_view(patient.pk, prediction, dense_map_beside(user, prediction)) if prediction else None
    explained = explanation_view(user, patient.pk, slide, risk.view) if view is not None else None
    labels = [p.version.label for p in (prediction, risk.view.prediction) if p is not None]
    warnings = dict.fromkeys(w for w in (warning_for(label, slide.simulated if slide else False) for label in labels) if w[1])
    said = list(warnings)
    if prediction is not None and prediction.in_sample:
        said.append(("warn", IN_SAMPLE))
    regions = regions_block(slide, prediction, may_add) if slide is not None and slide.state == "ready" else None
    if regions is not None and regions["stale"]:
        said.append(("warn", MADE_BEFORE))
    tone, sentence = range_statement(view.out_of_range_share) if view else ("", "")
    return {
        "map": view,
        "map_source": source_of(prediction, ("Slide", slide.working_sha256[:12])) if prediction else None,
        "map_data": view.data if view else "",
        "explained": explained,
        "explained_data": json.dumps(explained.data) if explained else "",
        "slide_data": json.dumps(slide_data(user, slide, None)) if slide is not None and slide.state == "ready" else "",
        "regions": regions,
        "warnings": said,
        "range_tone": tone,
        "range_sentence": sentence,
        "pairs": pairs(measured, view.markers) if view else [],
    }


@signed_in
@require_POST
def case_decision(request: HttpRequest, patient_id: int) -> HttpResponse:
    """Writes down what the board decided, and returns to the block."""
    patient = get_patient(request.user, patient_id)
    parts = {name: request.POST.get(name, "") for name in ("decision", "dissent", "owner", "next_test")}
    try:
        record_decision(request.user, patient, **parts)
    except TissueboardError as error:
        if error.status != 400:
            raise
        context = case_context(request, patient) | {"decision_error": error, "entered": parts}
        return render(request, "case/case.html", context, status=400)
    messages.success(request, "The decision is recorded.")
    return redirect(f"{request.path.removesuffix('decisions/')}#decision")


@signed_in
@require_POST
def case_run(request: HttpRequest, patient_id: int) -> HttpResponse:
    """Starts the case pipeline on the ready slides of a patient and shows the jobs."""
    from tissueboard.pipelines.services import run_pipeline
    from tissueboard.slides.selectors import slides_of_patient

    patient = get_patient(request.user, patient_id)
    ready = [s for s in slides_of_patient(request.user, patient) if s.state == "ready"]
    if not ready:
        raise TissueboardError("NO_READY_SLIDE", f"{patient.code} has no slide that is ready.", "Resolve the findings of her slides first.")
    jobs = run_pipeline(request.user, "case", slides=ready)
    messages.success(request, f"{len(jobs)} jobs make this case. They go on by themselves.")
    return redirect("jobs")
