"""Block 7: the most similar tissues of other patients, one of them side by side with hers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from frontend.figures.palette import BOXES
from frontend.pages.access import signed_in, whole_number
from tissueboard.cohorts.selectors import get_patient
from tissueboard.errors import NotVisible, TissueboardError

from .source import Source, source_of
from .viewer import overlay


@dataclass(frozen=True)
class Neighbour:
    """One hit for the template; data: what the script needs to draw her slide with numbered boxes."""

    hit: Any
    data: str


def slide_data(user: Any, slide: Any, map_of: Any) -> dict[str, Any]:
    """Where a slide's tiles are (a token for this user and slide), its scale, and its map if there is one."""
    from tissueboard.slides.services import tile_token

    token = tile_token(user, slide)
    return {
        "name": slide.name,
        "dzi": reverse("slide_dzi", kwargs={"slide_id": slide.pk, "token": token}),
        "mpp": slide.mpp,
        "width": slide.width,
        "height": slide.height,
        "map": None if map_of is None else overlay(slide.sample.patient_id, map_of),
    }


@signed_in
@require_safe
def case_similar(request: HttpRequest, patient_id: int) -> HttpResponse:
    """The block of similar cases, fetched after the page so that the page itself is there at once. ?slide=, ?other=1 (other sites only)."""
    patient = get_patient(request.user, patient_id)
    slide = _slide_of(request, patient)
    other = request.GET.get("other") == "1"
    context: dict[str, Any] = {"patient": patient, "slide": slide, "other": other, "full": not request.htmx}
    try:
        context |= _answer(request.user, patient, slide, other)
    except TissueboardError as error:
        context["refused"] = error
    return render(request, "case/similar.html" if request.htmx else "case/similar_page.html", context)


def _slide_of(request: HttpRequest, patient: Any) -> Any:
    from tissueboard.slides.selectors import slides_of_patient

    wanted = whole_number(request.GET.get("slide"))
    slide = next((s for s in slides_of_patient(request.user, patient) if s.pk == wanted), None)
    if slide is None:
        raise NotVisible("slide")
    return slide


def _answer(user: Any, patient: Any, slide: Any, other: bool) -> dict[str, Any]:
    from tissueboard.predictions.selectors import maps_of_slide
    from tissueboard.retrieval.outcome_value import outcome_value_note
    from tissueboard.retrieval.services import similar_cases

    found = similar_cases(user, slide, patient.cohort.neighbours, other_sites_only=other)
    own_maps = maps_of_slide(user, slide) if found.hits else []
    own_map = own_maps[0] if own_maps else None
    neighbours = []
    for hit in found.hits:
        # The same version as on her slide, or colours would not mean the same on both.
        theirs = next((m for m in maps_of_slide(user, hit.slide) if own_map and m.version_id == own_map.version_id), None)
        boxes = [
            {"n": i + 1, "colour": BOXES[i % len(BOXES)], "query": pair.query_box, "hit": pair.hit_box, "mass": pair.mass}
            for i, pair in enumerate(hit.matches)
        ]
        data = slide_data(user, hit.slide, theirs) | {"boxes": boxes, "code": hit.patient.code}
        neighbours.append(Neighbour(hit, json.dumps(data)))
    source: Source | None = source_of(found.niche_set) if found.niche_set is not None else None
    return {
        "found": found,
        "neighbours": neighbours,
        "own": json.dumps(slide_data(user, slide, own_map)) if neighbours else "",
        "note": outcome_value_note(user, patient.cohort),
        "source": source,
    }
