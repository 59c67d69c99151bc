"""Measured proteins per tile: which slides of a cohort have them, and sending the label table of one slide."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError
from tissueboard.slides.models import Slide

from .access import signed_in, whole_number
from .cohorts import frame, page_of

FIELDS = ("slide", "kind", "tile_um", "markers", "panel", "table_slide", "frame")
FIRST = 10
# Slides to choose from; a cohort with more is served by the command or by REST.
MOST_SLIDES = 2000


@signed_in
@require_safe
def cohort_labels(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """All measured labels of a cohort."""
    from tissueboard.assays.selectors import labels_for

    cohort = get_cohort(request.user, cohort_id)
    rows = page_of(request, labels_for(request.user, cohort=cohort))
    return render(request, "pages/cohort_labels.html", {**frame(request, cohort, "slides"), "rows": rows, "labels": rows})


def first_labels(user: Any, cohort: Any) -> dict[str, Any]:
    """What the tab of slides says about measured labels: how many there are, and the first of them."""
    from tissueboard.assays.selectors import labels_for

    labels = labels_for(user, cohort=cohort)
    n = labels.count()
    return {"labels": list(labels[:FIRST]), "n_labels": n, "more_labels": n > FIRST}


@signed_in
@require_http_methods(["GET", "POST"])
def upload_labels(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """One label table of one slide. The answer says what was added, or everything that is wrong with it; then nothing was kept."""
    from tissueboard.assays.errors import LabelsRefused
    from tissueboard.assays.labels import KINDS, TILE_UM
    from tissueboard.assays.services import receive_labels
    from tissueboard.slides.selectors import slides_for

    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    slides = list(slides_for(request.user, cohort=cohort, state=Slide.State.READY).order_by("sample__patient__code", "name")[:MOST_SLIDES])
    posted = request.method == "POST"
    entered = {name: (request.POST if posted else request.GET).get(name, "").strip() for name in FIELDS}
    entered["tile_um"] = entered["tile_um"] or f"{TILE_UM:g}"
    context = {**frame(request, cohort, "slides"), "slides": slides, "kinds": KINDS, "entered": entered, "most": MOST_SLIDES}
    context |= {"dry_run": "dry_run" in request.POST, "replace": "replace" in request.POST}
    template = "pages/upload_labels.html"
    if not posted:
        return render(request, template, context)
    slide = next((one for one in slides if one.pk == whole_number(entered["slide"])), None)
    file = request.FILES.get("file")
    refused = _missing(slide, file)
    if refused is None:
        try:
            typed = entered | {"replace": context["replace"]}
            result = receive_labels(request.user, slide, file, typed, dry_run=context["dry_run"])
            return render(request, template, {**context, "slide": slide, "result": result, "findings": result.findings})
        except LabelsRefused as error:
            refused, context["findings"] = error, error.findings
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    return render(request, template, {**context, "slide": slide, "refused": refused}, status=refused.status)


def _missing(slide: Slide | None, file: Any) -> TissueboardError | None:
    if slide is None:
        return TissueboardError("SLIDE_MISSING", "No slide of this cohort was chosen.", "Choose the slide that was measured.")
    if file is None:
        return TissueboardError("FILE_MISSING", "No table was chosen.", "Choose a file and send it again.")
    return None
