"""The numbers behind a Kaplan-Meier figure, to take away."""

from __future__ import annotations

import csv

from django.http import HttpRequest, HttpResponse
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import Code, TissueboardError

from .access import signed_in

COLUMNS = ("group", "time_days", "n_risk", "n_event", "n_censor", "survival", "lower_95", "upper_95")


@signed_in
@require_safe
def km_csv(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """?endpoint= and, if wanted, group_by=: one row per group and time; comment lines say what the numbers are."""
    from tissueboard.outcomes.services import survival

    cohort = get_cohort(request.user, cohort_id)
    endpoint = request.GET.get("endpoint", "")
    if not endpoint:
        raise TissueboardError(Code.BAD_REQUEST, "No endpoint is named.", "Add ?endpoint=OS to the address.")
    result = survival(request.user, cohort, endpoint, request.GET.get("group_by") or None)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    name = slugify(f"{cohort.name} {endpoint} {result.group_by or ''}") or "survival"
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    about = csv.writer(response, lineterminator="\n")
    about.writerow(["# Research use only"])
    about.writerow([f"# {result.endpoint} of {cohort.name}: {result.n} patients, {result.events} events; time zero: {result.time_zero}"])
    about.writerow([f"# unit: days; limits: {result.confidence}; groups: {result.group_rule or 'none'}"])
    about.writerow(COLUMNS)
    for group in result.groups:
        for row in zip(group.time, group.n_risk, group.n_event, group.n_censor, group.survival, group.lower, group.upper):
            about.writerow([_safe(group.name), *("" if value is None else value for value in row)])
    return response


def _safe(text: str) -> str:
    """A cell that a spreadsheet will not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" else text
