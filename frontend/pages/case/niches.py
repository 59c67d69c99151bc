"""Niches of other patients nearest to one of hers, with a picture of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from frontend.pages.access import signed_in
from tissueboard.cohorts.selectors import get_patient
from tissueboard.errors import NotVisible
from tissueboard.retrieval.models import Niche

SHOWN = 8


@dataclass(frozen=True)
class Near:
    """One niche for the template; hit None for her own, the one that was asked about."""

    niche: Niche
    patient: Any
    tissue: Any
    distance: float | None = None


def _niche_of(request: HttpRequest, patient_id: int, niche_id: int) -> Niche:
    """The niche behind an address; NotVisible unless it is one of just this patient."""
    from tissueboard.retrieval.selectors import get_niche

    niche = get_niche(request.user, niche_id)
    if niche.patient_id != patient_id:
        raise NotVisible("niche")
    return niche


@signed_in
@require_safe
def case_niches(request: HttpRequest, patient_id: int, niche_id: int) -> HttpResponse:
    """The nearest niches of other patients; a part of the block of similar cases, or a page of its own."""
    from tissueboard.retrieval.similar_niches import similar_niches_of
    from tissueboard.retrieval.tissues import tissue_of

    patient = get_patient(request.user, patient_id)
    niche = _niche_of(request, patient_id, niche_id)
    found = similar_niches_of(request.user, niche, SHOWN)
    context = {
        "patient": patient,
        "niche": niche,
        "tissue": tissue_of(niche),
        "found": found,
        "own": Near(niche, patient, tissue_of(niche)),
        "near": [Near(h.niche, h.niche.patient, h.tissue, h.distance) for h in found.hits],
        "full": not request.htmx,
    }
    return render(request, "case/similar_niches.html" if request.htmx else "case/similar_niches_page.html", context)


@signed_in
@cache_control(private=True, max_age=3600)
@require_safe
def niche_picture(request: HttpRequest, patient_id: int, niche_id: int) -> HttpResponse:
    """A small JPEG of a niche with its surroundings."""
    from tissueboard.retrieval.pictures import picture_of

    niche = _niche_of(request, patient_id, niche_id)
    shown = []
    if niche.image is not None:
        from .similar import image_data

        shown = image_data(request.user, niche.image)["multiplex"]["shown"]
    return HttpResponse(picture_of(niche, shown), content_type="image/jpeg")
