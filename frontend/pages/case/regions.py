"""Regions of a slide: what the viewer draws, the panel of one region, and the page of all with QuPath import and export."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from frontend.pages.access import signed_in
from frontend.pages.cohorts import frame, page_of
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import Code, TissueboardError
from tissueboard.slides.selectors import get_region, get_region_import, get_slide, region_imports_of, regions_of_slide

from .region_view import ROLES, area_text, drawing_data, panel_of, role_word

MADE_BEFORE = (
    "The map was made before the regions of this slide changed. It and all that was computed from it stand on other tissue than the "
    "regions say now; run the case pipeline again."
)
FIELDS = ("role", "classification", "name", "note")


@signed_in
@require_http_methods(["GET", "POST"])
def slide_regions(request: HttpRequest, slide_id: int) -> HttpResponse:
    """All regions of a slide, and the files they came from. POST sends a file of QuPath, which is only checked."""
    slide = get_slide(request.user, slide_id)
    refused = None
    if request.method == "POST":
        try:
            return redirect("slide_region_file", slide_id=slide.pk, import_id=_received(request, slide).pk)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    cohort = slide.sample.patient.cohort
    record(request.user, "read regions", slide, cohort_id=cohort.pk, patient_code=slide.sample.patient.code)
    rows = page_of(request, regions_of_slide(request.user, slide).select_related("created_by"))
    rows.object_list = [panel_of(region, slide) for region in rows.object_list]
    context = {
        **frame(request, cohort, "slides"),
        "slide": slide,
        "rows": rows,
        "has_margins": any(slide.facts.get("origin_px0", (0, 0))),
        "files": region_imports_of(request.user, slide)[:10],
        "refused": refused,
    }
    return render(request, "case/regions_page.html", context, status=refused.status if refused else 200)


def _received(request: HttpRequest, slide: Any) -> Any:
    from tissueboard.slides.region_imports import MAX_UPLOAD, check_regions

    require(request.user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    file = request.FILES.get("file")
    if file is None:
        raise TissueboardError("FILE_MISSING", "No file was chosen.", "Choose a file and send it again.")
    whole = request.POST.get("frame") == "whole"
    return check_regions(request.user, slide, file.read(MAX_UPLOAD + 1), file.name or "", whole_file=whole)


@signed_in
@require_http_methods(["GET", "POST"])
def slide_region_file(request: HttpRequest, slide_id: int, import_id: int) -> HttpResponse:
    """What was found in a file of regions. POST action: "confirm" with a role per class, or "discard"."""
    from tissueboard.slides.region_imports import confirm_regions, discard_regions

    slide = get_slide(request.user, slide_id)
    cohort = slide.sample.patient.cohort
    require(request.user, cohort, Role.CONTRIBUTOR)
    found = get_region_import(request.user, slide, import_id)
    refused = None
    if request.method == "POST":
        try:
            if request.POST.get("action") == "confirm":
                confirm_regions(request.user, found, _roles(request, len(found.classes)))
                messages.success(request, "The regions are on the slide.")
            elif request.POST.get("action") == "discard":
                discard_regions(request.user, found)
                messages.info(request, f"{found.file_name} was discarded. Nothing was brought in.")
            else:
                raise TissueboardError(Code.BAD_REQUEST, "The form does not say what to do.", "Use one of its buttons.")
            return redirect("slide_regions", slide_id=slide.pk)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    classes = [
        row | {"place": place, "label": row["classification"] or "no class", "area": area_text(row["area_mm2"])}
        for place, row in enumerate(found.classes)
    ]
    context = {
        **frame(request, cohort, "slides"),
        "slide": slide,
        "file": found,
        "classes": classes,
        "n_regions": sum(row["n"] for row in classes),
        "n_known": sum(row["known"] for row in classes),
        "findings": sorted(found.findings, key=lambda f: {"error": 0, "warning": 1}.get(f["severity"], 2)),
        "roles": ROLES,
        "refused": refused,
    }
    return render(request, "case/regions_file.html", context, status=refused.status if refused else 200)


def _roles(request: HttpRequest, count: int) -> dict[int, str]:
    return {place: request.POST[f"role-{place}"] for place in range(count) if f"role-{place}" in request.POST}


@signed_in
@require_safe
def slide_regions_data(request: HttpRequest, slide_id: int) -> JsonResponse:
    """What the viewer draws: outlines in px0 by class, and the checksum of what is processed now."""
    slide = get_slide(request.user, slide_id)
    return JsonResponse(drawing_data(regions_of_slide(request.user, slide), slide))


@signed_in
@require_safe
def slide_regions_geojson(request: HttpRequest, slide_id: int) -> HttpResponse:
    """All regions for QuPath. ?frame=whole: coordinates of the whole original instead of its scanned part."""
    from tissueboard.slides.region_imports import export_regions

    slide = get_slide(request.user, slide_id)
    content = export_regions(request.user, slide, whole_file=request.GET.get("frame") == "whole")
    response = HttpResponse(content, content_type="application/geo+json")
    response["Content-Disposition"] = f'attachment; filename="slide-{slide.pk}-regions.geojson"'
    return response


@signed_in
@require_POST
def slide_region_new(request: HttpRequest, slide_id: int) -> JsonResponse:
    """Keeps what was drawn. The answer is JSON for the script: {id, panel, said} or a refusal {code, sentence, where, hint}."""
    from tissueboard.slides.regions import draw_region

    slide = get_slide(request.user, slide_id)
    require(request.user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    try:
        given = {name: request.POST[name] for name in FIELDS if name in request.POST}
        region, said = draw_region(request.user, slide, geometry=_geometry(request), **given)
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return JsonResponse(error.as_dict(), status=error.status)
    panel = reverse("slide_region", kwargs={"slide_id": slide.pk, "region_id": region.pk})
    return JsonResponse({"id": region.pk, "panel": panel, "said": said}, status=201)


def _geometry(request: HttpRequest) -> Any:
    try:
        return json.loads(request.POST.get("geometry", ""))
    except (ValueError, RecursionError):
        sentence = "The outline could not be read."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Draw it again.", where="geometry") from None


@signed_in
@require_http_methods(["GET", "POST"])
def slide_region(request: HttpRequest, slide_id: int, region_id: int) -> HttpResponse:
    """One region: as a panel beside the viewer (htmx), or as a page. POST action: "edit" or "remove"; needs contributor."""
    from tissueboard.slides.regions import edit_region, remove_region

    slide = get_slide(request.user, slide_id)
    region = get_region(request.user, slide, region_id)
    patient, refused, saved = slide.sample.patient, None, False
    if request.method == "GET":
        record(request.user, "read region", region, cohort_id=patient.cohort_id, patient_code=patient.code)
    else:
        require(request.user, patient.cohort, Role.CONTRIBUTOR)
        try:
            if request.POST.get("action") == "remove":
                remove_region(request.user, region)
                return _removed(request, slide, region)
            edit_region(request.user, region, **{name: request.POST[name] for name in FIELDS if name in request.POST})
            saved = True
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
        if saved and not request.htmx:
            messages.success(request, "The region is changed.")
            return redirect("slide_region", slide_id=slide.pk, region_id=region.pk)
    region = get_region(request.user, slide, region_id)
    context = {
        **frame(request, patient.cohort, "slides"),
        "slide": slide,
        "one": panel_of(region, slide),
        "roles": ROLES if region.area_px0 and region.object_type == "annotation" else (),
        "refused": refused,
        "saved": saved,
    }
    template = "case/region_panel.html" if request.htmx else "case/region_page.html"
    response = render(request, template, context, status=refused.status if refused and not request.htmx else 200)
    if saved:
        response["HX-Trigger"] = "tissueboard-regions"
    return response


def _removed(request: HttpRequest, slide: Any, region: Any) -> HttpResponse:
    if not request.htmx:
        messages.info(request, f"{region} was removed.")
        return redirect("slide_regions", slide_id=slide.pk)
    response = render(request, "case/region_removed.html", {"region": region, "was": role_word(region.role)})
    response["HX-Trigger"] = "tissueboard-regions"
    return response


def regions_block(slide: Any, prediction: Any, may_add: bool) -> dict[str, Any]:
    """What the block of a ready slide needs: where to fetch and keep regions, and whether the shown map was made with the present ones."""
    from tissueboard.slides.processing import restriction_of

    ids = {"slide_id": slide.pk}
    now = restriction_of(slide)
    made_with = prediction.inputs.get("regions", "") if prediction is not None else ""
    return {
        "data": reverse("slide_regions_data", kwargs=ids),
        "new": reverse("slide_region_new", kwargs=ids) if may_add else "",
        "one": reverse("slide_region", kwargs={**ids, "region_id": 0}).removesuffix("0/"),
        "page": reverse("slide_regions", kwargs=ids),
        "made_with": made_with,
        "restricted": bool(made_with),
        "has_map": prediction is not None,
        "stale": prediction is not None and made_with != now.sha256,
        "made_before": MADE_BEFORE,
        "roles": ROLES,
    }
