"""What a cohort's tissues are compared in: references side by side, what each covers, which one answers, and what neighbours may claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import Code, TissueboardError
from tissueboard.retrieval.outcome_value import request_outcome_value, standing
from tissueboard.retrieval.references import MAX_WHY, references_of_cohort, use_reference

from .access import signed_in, whole_number
from .cohorts import frame

ENDPOINT = "OS"


@dataclass(frozen=True)
class Row:
    """One reference with what was measured about its neighbours' outcomes (None: nothing yet)."""

    reference: Any
    value: Any


@signed_in
@require_http_methods(["GET", "POST"])
def cohort_references(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """The list. POST action=use (a manager, with a reason) or action=measure (a contributor) for a version."""
    cohort = get_cohort(request.user, cohort_id)
    if request.method == "GET":
        return _page(request, cohort)
    version, measured = whole_number(request.POST.get("version"), 0) or 0, request.POST.get("measured") == "1"
    try:
        if request.POST.get("action") == "use":
            made = use_reference(request.user, cohort, version, measured, request.POST.get("why", ""))
            messages.success(request, f"{made.version.name} answers in {cohort.name} from now on.")
            return redirect("cohort_references", cohort_id=cohort.pk)
        if request.POST.get("action") == "measure":
            job = request_outcome_value(request.user, cohort, version, measured, ENDPOINT)
            return redirect("job", job_id=job.pk)
        raise TissueboardError(Code.BAD_REQUEST, "The form does not say what to do.", "Use its buttons.")
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return _page(request, cohort, error)


def _page(request: HttpRequest, cohort: Cohort, refused: TissueboardError | None = None) -> HttpResponse:
    found = references_of_cohort(request.user, cohort)
    context = {
        **frame(request, cohort, "slides"),
        "found": [Row(one, standing(request.user, cohort, one, ENDPOINT)) for one in found],
        "refused": refused,
        "max_why": MAX_WHY,
        "endpoint": ENDPOINT,
    }
    return render(request, "pages/cohort_references.html", context, status=refused.status if refused else 200)
