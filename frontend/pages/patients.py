"""Cases across cohorts, searched by code."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tissueboard.cohorts.selectors import patients_for

from .access import signed_in


def with_counts(patients: Any) -> Any:
    """Adds to each patient of a permitted queryset the number of her slides and of those that are ready."""
    return patients.annotate(
        n_slides=Count("samples__slides", distinct=True),
        n_ready=Count("samples__slides", filter=Q(samples__slides__state="ready"), distinct=True),
    ).order_by("code", "pk")


@signed_in
def cases(request: HttpRequest) -> HttpResponse:
    """All cases that the user may see, by code."""
    from .cohorts import page_of

    search = request.GET.get("q", "").strip()
    rows = page_of(request, with_counts(patients_for(request.user, search=search)))
    context = {"rows": rows, "search": search, "with_cohort": True}
    return render(request, "parts/case_rows.html" if request.htmx else "pages/cases.html", context)
