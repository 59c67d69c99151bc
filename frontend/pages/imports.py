"""What became of a file: its state, what was found in it, and what a person still has to decide."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError

from .access import signed_in
from .cohorts import frame, page_of
from .mapping_form import mapping_view, options_from

ON_ITS_WAY = {
    "clinical": "The file is imported.",
    "slide": "The slide is on its way in.",
    "multiplex": "The image is on its way in.",
}
SETTLED = ("ready", "needs attention", "rejected")
# Findings about the um per pixel hint at an option of the command line; a page has a field for it. A form sends one file, not a folder.
MPP_CODES = ("MPP_MISSING", "MPP_IMPLAUSIBLE", "MPP_ANISOTROPIC")
# Errors that another value may mend; beside these and MPP_*, a form for the um per pixel would lead nowhere.
MAY_BE_THE_MPP = ("LEVEL_TOO_LOW", "NO_TISSUE")


@signed_in
@require_safe
def cohort_imports(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Files that were brought into a cohort, newest first; for contributors, because file names can identify a patient."""
    from tissueboard.intake.selectors import imports_for

    cohort = get_cohort(request.user, cohort_id)
    rows = page_of(request, imports_for(request.user, cohort))
    return render(request, "pages/cohort_imports.html", {**frame(request, cohort, "imports"), "rows": rows})


@signed_in
@require_http_methods(["GET", "POST"])
def import_(request: HttpRequest, import_id: int) -> HttpResponse:
    """One import. POST action: "check" (dry run with another mapping), "confirm" or "discard"."""
    from tissueboard.intake.selectors import get_import

    found = get_import(request.user, import_id)
    refused = _act(request, found) if request.method == "POST" else None
    if request.method == "POST" and refused is None:
        return redirect("import_", import_id=found.pk)
    context = _context(request, found) | {"refused": refused}
    if request.htmx:
        return render(request, "parts/import_body.html", context)
    return render(request, "pages/import.html", context, status=refused.status if refused else 200)


def _act(request: HttpRequest, found: Any) -> TissueboardError | None:
    """Does what was asked; a refusal that the person can mend comes back to the page."""
    from tissueboard.intake.services import confirm_import, discard_import, review_import

    action = request.POST.get("action")
    try:
        if action == "check":
            review_import(request.user, found, options_from(request.POST, found.options))
        elif action == "confirm":
            confirm_import(request.user, found)
            messages.success(request, ON_ITS_WAY[found.kind])
        elif action == "discard":
            discard_import(request.user, found)
            messages.info(request, f"{found.file_name} was discarded. Nothing was imported.")
        else:
            return TissueboardError("BAD_REQUEST", "The form does not say what to do.", "Use one of its buttons.")
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return error
    return None


def _context(request: HttpRequest, found: Any) -> dict[str, Any]:
    live = found.state not in SETTLED
    order = {"error": 0, "warning": 1}
    what = "image" if found.kind == "multiplex" else "slide"
    where = f"on the page of the {what}" if found.facts.get(what) else f"when you send the {what} again"
    findings = sorted(on_page(found.findings, where), key=lambda f: order.get(f["severity"], 2))
    preview = found.facts.get("preview", {})
    waiting = found.dry_run and bool(found.key) and not live
    return {
        **frame(request, found.cohort, "imports"),
        "import": found,
        "live": live,
        "findings": findings,
        "n_errors": sum(f["severity"] == "error" for f in findings),
        "counts": [(name.replace("_", " "), n) for name, n in found.facts.get("counts", {}).items()],
        "first_rows": preview.get("rows", []),
        "waiting": waiting,
        "imported": not found.dry_run and found.state == "ready",
        "slide_id": found.facts.get("slide"),
        "image_id": found.facts.get("image"),
        "is_assay": any(one["code"] == "ASSAY_IMAGE" for one in found.findings),
        "mapping": mapping_view(found.options, preview) if found.kind == "clinical" and "endpoints" in found.options else None,
    }


def on_page(findings: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The findings with hints that a reader of a page can follow; where: where she gives the um per pixel."""
    hint = f"Give the µm per pixel {where}: about 0.25 for a 40× scan, about 0.5 for a 20× scan."
    hints = dict.fromkeys(MPP_CODES, hint) | {
        "COMPANION_MISSING": "Pack all files of the slide into one zip, under their own names, and send that."
    }
    return [one | {"hint": hints[one["code"]]} if one["code"] in hints else one for one in findings]


@signed_in
@require_http_methods(["GET", "POST"])
def slide_attention(request: HttpRequest, slide_id: int) -> HttpResponse:
    """A slide that waits for a person: what is wrong with it, and the um per pixel if that is what is missing.

    The slide is checked again by a job, whose page follows it: a large slide takes minutes.
    """
    from tissueboard.intake.services import request_override
    from tissueboard.intake.uploads import OVERRIDE_KIND
    from tissueboard.jobs.selectors import open_job
    from tissueboard.slides.selectors import get_slide

    slide = get_slide(request.user, slide_id)
    cohort = slide.sample.patient.cohort
    require(request.user, cohort, Role.CONTRIBUTOR)
    refused = None
    if request.method == "POST":
        try:
            job = request_override(request.user, slide, request.POST.get("mpp", ""))
        except TissueboardError as error:
            refused = error
        else:
            return redirect("job", job_id=job.pk)
    checking = open_job(request.user, OVERRIDE_KIND, slide=slide.pk)
    errors = [one["code"] for one in slide.findings if one["severity"] == "error"]
    context = {
        **frame(request, cohort, "slides"),
        "slide": slide,
        "findings": on_page(slide.findings, "below, when the check has ended" if checking else "below"),
        "checking": checking,
        "asks_mpp": not errors or any(code.startswith("MPP_") or code in MAY_BE_THE_MPP for code in errors),
        "refused": refused,
    }
    return render(request, "pages/slide_attention.html", context, status=refused.status if refused else 200)
