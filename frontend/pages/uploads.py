"""Bringing things in by browser: one slide, or one clinical table. Both answer with an import page that says what was found."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError

from .access import signed_in
from .cohorts import frame

SLIDE_FIELDS = ("patient_code", "sample_code", "mpp", "stain", "scanner", "site", "stain_batch")


@signed_in
@require_http_methods(["GET", "POST"])
def upload_slide(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """One slide file; it is checked in the background, and imported unless only a check was asked for."""
    entered = {name: request.POST.get(name, "").strip() for name in SLIDE_FIELDS}
    if request.method == "GET":
        entered["patient_code"] = request.GET.get("patient", "")[:64]
        entered["stain"] = "H&E"
    given = {name: value for name, value in entered.items() if value}
    return _upload(request, cohort_id, "slide", given, {"entered": entered}, dry_run="dry_run" in request.POST)


@signed_in
@require_http_methods(["GET", "POST"])
def upload_table(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """One CSV, TSV or XLSX; nothing is imported before the report of a dry run is confirmed."""
    return _upload(request, cohort_id, "clinical", {}, {}, dry_run=True)


def _upload(
    request: HttpRequest, cohort_id: int, kind: str, options: dict[str, Any], context: dict[str, Any], *, dry_run: bool
) -> HttpResponse:
    from tissueboard.intake.services import receive_upload

    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    template = "pages/upload_slide.html" if kind == "slide" else "pages/upload_table.html"
    context = {**frame(request, cohort, "imports"), **context, "dry_run": dry_run and request.method == "POST"}
    if request.method == "GET":
        return render(request, template, context)
    file = request.FILES.get("file")
    if file is None:
        refused = TissueboardError("FILE_MISSING", "No file was chosen.", "Choose a file and send it again.")
        return render(request, template, {**context, "refused": refused}, status=400)
    try:
        received = receive_upload(request.user, cohort, file, kind, options, dry_run)
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return render(request, template, {**context, "refused": error}, status=error.status)
    return redirect("import_", import_id=received.pk)
