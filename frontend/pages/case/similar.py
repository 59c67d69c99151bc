"""Block 7: the most similar tissues of other patients, up to three of them side by side with hers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from frontend.figures.palette import BOXES
from frontend.figures.survival import survival_figure
from frontend.figures.svg_km import draw
from frontend.pages.access import signed_in, whole_number
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.selectors import cohort_named, get_patient, role_of
from tissueboard.errors import NotVisible, TissueboardError

from .source import Source, source_of
from .viewer import overlay

MAX_TEXT = 120
WIDE, PHONE = 620.0, 340.0
FIELDS = ("diagnosis", "stage", "treatment")
LABELS = {"diagnosis": "Diagnosis", "stage": "Stage", "treatment": "Treatment"}


@dataclass(frozen=True)
class Neighbour:
    """One hit for the template; data: what the script needs to draw her tissue with numbered boxes. picture: address of a small one."""

    hit: Any
    data: str
    picture: str


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


def image_data(user: Any, image: Any) -> dict[str, Any]:
    """The same of an image of measured channels: its first channels in colours, each between limits of its own."""
    from frontend.pages.assays import Channel, viewer_data

    channels = [Channel(i, name, facts) for i, (name, facts) in enumerate(zip(image.channels, image.facts.get("signal", [])))]
    found = json.loads(viewer_data(user, image, channels))
    shown = [one | {key: found["channels"][one["channel"]][key] for key in ("name", "low", "high")} for one in found["shown"]]
    scale = {key: found[key] for key in ("width", "height", "mpp")}
    return {"name": image.name, "map": None, "multiplex": {"tiles": found["tiles"], "shown": shown}, **scale}


def tissue_data(user: Any, tissue: Any, map_of: Any = None) -> dict[str, Any]:
    from tissueboard.retrieval.tissues import is_measured

    return image_data(user, tissue) if is_measured(tissue) else slide_data(user, tissue, map_of)


def picture_of(tissue: Any, data: dict[str, Any]) -> str:
    """Address of a small picture: a slide's thumbnail, or the one tile of an image's coarsest level."""
    if "multiplex" not in data:
        return reverse("slide_thumbnail", args=[tissue.pk])
    coarsest = 0
    while max(tissue.width, tissue.height) > 256 * 2**coarsest:
        coarsest += 1
    shown = "&".join(f"c={c['channel']}:{c['colour'][1:]}:{c['low']}:{c['high']}" for c in data["multiplex"]["shown"])
    return f"{data['multiplex']['tiles']}{coarsest}/0_0.jpeg?{shown}"


@signed_in
@require_safe
def case_similar(request: HttpRequest, patient_id: int) -> HttpResponse:
    """The block of similar cases, fetched after the page so that the page itself is there at once.

    ?slide= or ?image=: her tissue; ?version=: the reference; ?diagnosis=, ?stage=, ?treatment=, ?cohort=, ?other=1: filters.
    """
    patient = get_patient(request.user, patient_id)
    tissue, tissues = _tissue_of(request, patient)
    asked = {name: request.GET.get(name, "").strip()[:MAX_TEXT] for name in FIELDS}
    asked |= {"cohort": whole_number(request.GET.get("cohort")), "other": request.GET.get("other") == "1"}
    context: dict[str, Any] = {"patient": patient, "tissue": tissue, "tissues": tissues, "asked": asked, "full": not request.htmx}
    context["labels"] = LABELS
    context["may_manage"] = role_of(request.user, patient.cohort) == Role.MANAGER
    try:
        context |= _answer(request.user, patient, tissue, asked, whole_number(request.GET.get("version")))
    except TissueboardError as error:
        context["refused"] = error
    return render(request, "case/similar.html" if request.htmx else "case/similar_page.html", context)


def _tissue_of(request: HttpRequest, patient: Any) -> tuple[Any, list[tuple[str, Any]]]:
    """The tissue that the address names, and all of hers that are ready, as ("slide" or "image", tissue)."""
    from tissueboard.assays.selectors import images_of_patient
    from tissueboard.slides.selectors import slides_of_patient

    found = [("slide", s) for s in slides_of_patient(request.user, patient)] + [
        ("image", i) for i in images_of_patient(request.user, patient)
    ]
    wanted = next(((kind, whole_number(request.GET[kind])) for kind in ("image", "slide") if kind in request.GET), None)
    tissue = next((t for kind, t in found if wanted == (kind, t.pk)), None)
    if tissue is None:
        raise NotVisible("slide")
    return tissue, [(kind, t) for kind, t in found if t.state == "ready" or t == tissue]


def _answer(user: Any, patient: Any, tissue: Any, asked: dict[str, Any], version_id: int | None) -> dict[str, Any]:
    from tissueboard.retrieval.outcome_value import neighbour_outcome
    from tissueboard.retrieval.selectors import Filters, filter_options
    from tissueboard.retrieval.services import similar_cases

    cohort = cohort_named(user, str(asked["cohort"])) if asked["cohort"] else None
    filters = Filters(cohort=cohort, other_sites_only=asked["other"], **{name: asked[name] for name in FIELDS})
    found = similar_cases(user, tissue, patient.cohort.neighbours, filters=filters, version_id=version_id)
    source: Source | None = source_of(found.niche_set) if found.niche_set is not None else None
    outcome = neighbour_outcome(user, tissue, found.reference)
    figure = survival_figure(outcome.curves) if outcome.curves is not None else None
    own, neighbours = _side_by_side(user, tissue, found) if found.hits else ({}, [])
    return {
        "found": found,
        "neighbours": neighbours,
        "options": filter_options(user, found.version, tissue) if found.version else {},
        "own": json.dumps(own) if own else "",
        "outcome": outcome,
        "figure": figure,
        "km_wide": draw(figure, WIDE) if figure else "",
        "km_phone": draw(figure, PHONE) if figure else "",
        "source": source,
    }


def _side_by_side(user: Any, tissue: Any, found: Any) -> tuple[dict[str, Any], list[Neighbour]]:
    """What the viewers draw: hers and each neighbour's, with the matched niches in the same colours on both."""
    from tissueboard.predictions.selectors import maps_beside, maps_of_slide

    own_map = next(iter(maps_of_slide(user, tissue)), None) if found.query_slide else None
    # The same version as on her slide, or colours would not mean the same on both.
    maps = maps_beside(user, own_map, [h.slide for h in found.hits]) if own_map else {}
    neighbours = []
    for hit in found.hits:
        boxes = [
            {
                "n": i + 1,
                "colour": BOXES[i % len(BOXES)],
                "query": pair.query_box,
                "hit": pair.hit_box,
                "mass": pair.mass,
                "like": reverse("case_niches", args=[tissue.sample.patient_id, pair.query_niche]),
            }
            for i, pair in enumerate(hit.matches)
        ]
        data = tissue_data(user, hit.tissue, maps.get(hit.tissue.pk)) | {"boxes": boxes, "code": hit.patient.code}
        neighbours.append(Neighbour(hit, json.dumps(data), picture_of(hit.tissue, data)))
    return tissue_data(user, tissue, own_map), neighbours
