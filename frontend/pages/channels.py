"""What the channels of a cohort's multiplex images measure: the house's table and the cohort's own, with history, as CSV in and out."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError

from .access import signed_in
from .cohorts import frame

LATEST = 20


@signed_in
@require_http_methods(["GET", "POST"])
def cohort_channels(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """The table. POST: one channel (channel, uniprot, note), or a CSV of many (file)."""
    from tissueboard.assays.proteins import channel_rows, proteins_from_csv, set_protein
    from tissueboard.assays.selectors import protein_changes_of

    cohort = get_cohort(request.user, cohort_id)
    refused = None
    entered = {name: request.POST.get(name, "").strip() for name in ("channel", "uniprot", "note")}
    if request.method == "POST":
        try:
            if (file := request.FILES.get("file")) is not None:
                n = proteins_from_csv(request.user, cohort, file.read((1 << 20) + 1))
                messages.success(request, f"{n} channel{'s were' if n != 1 else ' was'} changed." if n else "Nothing was changed.")
            else:
                kept = set_protein(request.user, cohort, **entered)
                messages.success(request, f"{entered['channel']} is changed." if kept else "Nothing was changed.")
            return redirect("cohort_channels", cohort_id=cohort.pk)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
    rows = channel_rows(request.user, cohort)
    context = {
        **frame(request, cohort, "slides"),
        "channels": rows,
        "n_unknown": sum(row.uniprot is None for row in rows),
        "changes": list(protein_changes_of(request.user, cohort)[:LATEST]),
        "entered": entered,
        "refused": refused,
    }
    return render(request, "pages/cohort_channels.html", context, status=refused.status if refused else 200)


@signed_in
@require_safe
def cohort_channels_csv(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """The same as a file."""
    from tissueboard.assays.proteins import proteins_to_csv

    answer = HttpResponse(proteins_to_csv(request.user, get_cohort(request.user, cohort_id)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="channels.csv"'
    return answer
