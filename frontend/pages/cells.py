"""The cells of a multiplex image: what is known of them, and sending a mask or a table."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.errors import TissueboardError

from .access import signed_in
from .cohorts import frame

FIELDS = ("id_column", "type_columns", "table_image")


@signed_in
@require_http_methods(["GET", "POST"])
def multiplex_cells(request: HttpRequest, image_id: int) -> HttpResponse:
    """Facts for all; for contributors a form. POST action: add, confirm (those that wait), remove, discard (those that wait)."""
    from tissueboard.assays.cells import confirm_cells, receive_cells, remove_cells
    from tissueboard.assays.selectors import cell_mask_of, waiting_cells_of
    from tissueboard.assays.services import open_image

    image = open_image(request.user, image_id)
    refused, result = None, None
    entered = {name: request.POST.get(name, "").strip() for name in FIELDS}
    dry_run = "dry_run" in request.POST
    if request.method == "POST":
        try:
            action = request.POST.get("action", "add")
            if action == "confirm":
                confirm_cells(request.user, image)
            elif action in ("remove", "discard"):
                remove_cells(request.user, image, waiting=action == "discard")
            else:
                files = request.FILES
                result = receive_cells(request.user, image, files.get("mask"), files.get("table"), entered, dry_run)
            if result is None or result.state == "ready":
                messages.success(request, SAID.get(action, "The cells are added."))
                return redirect("multiplex_cells", image_id=image.pk)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    context = {
        **frame(request, image.sample.patient.cohort, "slides"),
        "image": image,
        "cells": cell_mask_of(request.user, image),
        "waiting": waiting_cells_of(request.user, image),
        "entered": entered,
        "dry_run": dry_run,
        "refused": refused,
        "result": result,
    }
    context["types"] = types_of(context["cells"])
    return render(request, "pages/multiplex_cells.html", context, status=refused.status if refused else 200)


SAID = {"confirm": "The cells are confirmed.", "remove": "The cells are taken away.", "discard": "The waiting cells are taken away."}


def types_of(cells: Any) -> list[dict[str, Any]]:
    """Per column of types: its name, how many cells have one, and (type, cells, share) by number."""
    found = []
    for name, counts in ((cells.facts.get("table") or {}).get("types", {}) if cells else {}).items():
        total = sum(counts.values()) or 1
        rows = sorted(((kind, n, n / total) for kind, n in counts.items()), key=lambda row: (-row[1], row[0]))
        found.append({"name": name, "n": sum(counts.values()), "rows": rows})
    return found


@signed_in
@require_safe
def multiplex_cell_table(request: HttpRequest, image_id: int) -> HttpResponse:
    """The table of the cells as CSV."""
    from tissueboard.accounts.audit import record
    from tissueboard.assays.cells import cell_table
    from tissueboard.assays.selectors import cell_mask_of, get_image
    from tissueboard.errors import NotVisible

    image = get_image(request.user, image_id)
    cells = cell_mask_of(request.user, image)
    table = cell_table(cells) if cells is not None else None
    if table is None:
        raise NotVisible("table of cells")
    patient = image.sample.patient
    record(request.user, "export cells", image, cohort_id=patient.cohort_id, patient_code=patient.code)
    answer = HttpResponse(table.to_csv(index=False), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{image.name}-cells.csv"'
    return answer
