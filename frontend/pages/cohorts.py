"""The list of cohorts, a new one, and one cohort: its cases, slides, and who looked at it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tissueboard.accounts.selectors import access_log
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import cohorts_for, get_cohort, patients_for, role_of
from tissueboard.cohorts.services import MAX_DESCRIPTION, MAX_NAME, create_cohort
from tissueboard.errors import TissueboardError

from .access import signed_in, whole_number
from .patients import with_counts

PER_PAGE = 50


def page_of(request: HttpRequest, rows: Any) -> Page:
    """The page of rows that the address asks for (?page=); beyond the end the last one."""
    return Paginator(rows, PER_PAGE).get_page(whole_number(request.GET.get("page"), 1))


@signed_in
def cohorts(request: HttpRequest) -> HttpResponse:
    """Where everybody starts: the cohorts that she is a member of."""
    return render(request, "pages/cohorts.html", {"cohorts": list(cohorts_for(request.user).order_by("name"))})


@signed_in
@require_http_methods(["GET", "POST"])
def cohort_new(request: HttpRequest) -> HttpResponse:
    """Anybody who is signed in may make a cohort; she becomes its manager."""
    entered = {name: request.POST.get(name, "").strip() for name in ("name", "description")}
    refused = None
    if request.method == "POST":
        try:
            made = create_cohort(request.user, entered["name"], description=entered["description"])
        except TissueboardError as error:
            refused = error
        else:
            messages.success(request, f"The cohort {made.name} is made, and you are its manager.")
            return redirect("cohort", cohort_id=made.pk)
    context = {"entered": entered, "refused": refused, "max_name": MAX_NAME, "max_description": MAX_DESCRIPTION}
    return render(request, "pages/cohort_new.html", context, status=refused.status if refused else 200)


def frame(request: HttpRequest, cohort: Cohort, tab: str) -> dict[str, Any]:
    """What the head of every page of a cohort needs: the role decides which doors are shown (the services decide which open)."""
    role = role_of(request.user, cohort)
    return {
        "cohort": cohort,
        "tab": tab,
        "role": role,
        "may_add": role in Role.at_least(Role.CONTRIBUTOR),
        "may_manage": role == Role.MANAGER,
    }


@signed_in
def cohort(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Cases of a cohort, searched by code while typing."""
    found = get_cohort(request.user, cohort_id)
    search = request.GET.get("q", "").strip()
    rows = page_of(request, with_counts(patients_for(request.user, cohort=found, search=search)))
    context = {"rows": rows, "search": search}
    if request.htmx:
        return render(request, "parts/case_rows.html", context)
    return render(request, "pages/cohort_cases.html", {**frame(request, found, "cases"), **context})


@signed_in
def cohort_slides(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Slides of a cohort with their states."""
    from frontend.pages.assays import first_images
    from frontend.pages.labels import first_labels
    from tissueboard.slides.models import Slide
    from tissueboard.slides.selectors import slides_for

    found = get_cohort(request.user, cohort_id)
    state = request.GET.get("state", "")
    state = state if state in Slide.State.values else ""
    slides = slides_for(request.user, cohort=found, state=state or None).select_related("sample__patient")
    context = {"rows": page_of(request, slides), "state": state, "states": Slide.State.values}
    context |= first_images(request.user, found) | first_labels(request.user, found)
    return render(request, "pages/cohort_slides.html", {**frame(request, found, "slides"), **context})


@signed_in
def cohort_access_log(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Who looked at my patients: for managers; others are told which role it takes."""
    found = get_cohort(request.user, cohort_id)
    rows = page_of(request, access_log(request.user, found))
    return render(request, "pages/cohort_access_log.html", {**frame(request, found, "log"), "rows": rows})
