"""The page from which a manager takes a patient out of a cohort."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from frontend.pages.access import signed_in
from tissueboard.cohorts.selectors import get_patient
from tissueboard.errors import Code, TissueboardError
from tissueboard.pipelines.withdrawal import MAX_WHY, footprint, withdraw_patient


@signed_in
@require_http_methods(["GET", "POST"])
def case_withdraw(request: HttpRequest, patient_id: int) -> HttpResponse:
    """What would go and what would stay. POST: takes her out, if her code was typed and a reason given."""
    patient = get_patient(request.user, patient_id)
    found = footprint(request.user, patient)
    refused = None
    entered = {name: request.POST.get(name, "").strip() for name in ("code", "why")}
    if request.method == "POST":
        try:
            if entered["code"] != patient.code:
                raise TissueboardError(Code.BAD_REQUEST, "The code is not hers.", f"Type {patient.code} to be sure.", where="code")
            withdraw_patient(request.user, patient, entered["why"])
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
        else:
            messages.success(request, f"{patient.code} is withdrawn. Her files, predictions and vectors are gone.")
            return redirect("cohort", cohort_id=patient.cohort_id)
    context = {"patient": patient, "cohort": patient.cohort, "found": found, "refused": refused, "entered": entered, "max_why": MAX_WHY}
    return render(request, "case/withdraw.html", context, status=refused.status if refused else 200)
