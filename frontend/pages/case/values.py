"""All clinical values of one patient: what is recorded, what was corrected, and the form that corrects one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from frontend.pages.access import signed_in
from frontend.pages.cohorts import page_of
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.models import ClinicalVariable, VariableKind
from tissueboard.cohorts.selectors import changes_of, get_patient, role_of
from tissueboard.cohorts.services import MAX_VALUE, MAX_WHY, correct_value, open_case
from tissueboard.errors import TissueboardError

from .header import said

HELP = {
    VariableKind.NUMBER: "A number with a decimal point, such as 12.5. Empty: not recorded.",
    VariableKind.CATEGORY: "One value of the data dictionary.",
    VariableKind.DATE: "Year, month and day. Empty: not recorded.",
    VariableKind.BOOLEAN: "Yes, no, or not recorded.",
    VariableKind.TEXT: "Empty: not recorded.",
}


@dataclass(frozen=True)
class Row:
    """One value as the page shows it: text "" where it is not recorded; name "" where the dictionary does not know it."""

    name: str
    label: str
    text: str


@dataclass(frozen=True)
class Change:
    """One correction as the page shows it."""

    label: str
    old: str
    new: str
    row: Any


@signed_in
@require_http_methods(["GET", "POST"])
def case_values(request: HttpRequest, patient_id: int) -> HttpResponse:
    """Every value with the history of its corrections. ?variable= opens the form of one value; POST corrects it."""
    if request.method == "GET":
        return _page(request, open_case(request.user, patient_id), request.GET.get("variable", ""))
    patient = get_patient(request.user, patient_id)
    variable, value, why = (request.POST.get(name, "") for name in ("variable", "value", "why"))
    try:
        correct_value(request.user, patient, variable, value, why)
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return _page(request, open_case(request.user, patient_id), variable, error)
    messages.success(request, "The value is corrected. What was there before stays in the history.")
    return redirect("case_values", patient_id=patient.pk)


def _page(request: HttpRequest, patient: Any, chosen: str, refused: TissueboardError | None = None) -> HttpResponse:
    variables = {v.name: v for v in patient.cohort.variables.all()}
    may_add = role_of(request.user, patient.cohort) in Role.at_least(Role.CONTRIBUTOR)
    variable = variables.get(chosen) if may_add else None
    page = page_of(request, changes_of(request.user, patient))
    context = {
        "patient": patient,
        "cohort": patient.cohort,
        "may_add": may_add,
        "values": rows_of(patient.clinical, variables),
        "variable": variable,
        "form": form_of(variable, patient.clinical.get(variable.name), request) if variable else None,
        "refused": refused,
        "rows": page,
        "changes": [change_of(one, variables.get(one.variable)) for one in page],
    }
    return render(request, "case/values.html", context, status=refused.status if refused else 200)


def rows_of(clinical: dict[str, Any], variables: dict[str, ClinicalVariable]) -> list[Row]:
    """The values of the dictionary in its order, and then what is recorded beyond it."""
    rows = [Row(v.name, v.label or v.name, text_of(clinical.get(v.name), v)) for v in variables.values()]
    return rows + [Row("", name, said(value)) for name, value in sorted(clinical.items()) if name not in variables and value is not None]


def change_of(row: Any, variable: ClinicalVariable | None) -> Change:
    """A correction with both values as text; the variable may have left the dictionary since."""
    label = (variable.label if variable else "") or row.variable
    return Change(label, text_of(row.old, variable), text_of(row.new, variable), row)


def text_of(value: Any, variable: ClinicalVariable | None) -> str:
    """As on the case page, but with all digits: a correction may be about the last one."""
    if value is None:
        return ""
    return said(f"{value:.12g}" if isinstance(value, float) else value, variable.unit if variable else "")


def form_of(variable: ClinicalVariable, value: Any, request: HttpRequest) -> dict[str, Any]:
    """What the form of one value needs: the field that suits its kind, filled with what was typed or what is recorded."""
    recorded = text_of(value, None)
    choices = ["yes", "no"] if variable.kind == VariableKind.BOOLEAN else []
    if variable.kind == VariableKind.CATEGORY and variable.categories:
        # A recorded value that the dictionary does not allow stays to be seen, until a person chooses another.
        choices = list(dict.fromkeys([*variable.categories, *([recorded] if recorded else [])]))
    return {
        "value": request.POST.get("value", recorded)[:MAX_VALUE],
        "why": request.POST.get("why", "")[:MAX_WHY],
        "choices": choices,
        "help": HELP[VariableKind(variable.kind)] if choices or variable.kind != VariableKind.CATEGORY else HELP[VariableKind.TEXT],
        "max_value": MAX_VALUE,
        "max_why": MAX_WHY,
    }
