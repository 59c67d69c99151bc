"""Multiplex images: what was measured in situ. Adding one, the list of a cohort, and one image with its channels."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.errors import TissueboardError

from . import virtues
from .access import signed_in
from .cohorts import frame, page_of

UPLOAD_FIELDS = ("patient_code", "sample_code", "technology", "mpp", "channels")
# Blue, green, red, yellow, magenta, cyan: nuclei first, as on most fluorescence screens.
COLOURS = ("#4d6dff", "#00d000", "#ff4040", "#ffd700", "#ff40ff", "#00e5ff")
SHOWN_FIRST = 4  # of six: more colours at once are hard to tell apart
NUCLEI = re.compile(r"dapi|hoechst|\bdna|_dna|histone|\bhh3\b|\bnuc", re.IGNORECASE)
FIRST = 10
MAX_PANEL = 1 << 20
# Findings hint at options of the command line; the page has fields for them.
PAGE_HINTS = {
    "CHANNEL_NAMES_MISSING": "Give their names below, in the order of the planes.",
    "CHANNEL_COUNT_DIFFERS": "Give one name per channel below, in the order of the planes.",
    "MPP_MISSING": "Give the instrument’s value below.",
    "MPP_IMPLAUSIBLE": "Give the instrument’s value below.",
    "MPP_ANISOTROPIC": "If the pixels are square, give their size below.",
    "MPP_DISAGREES": "Look at the instrument’s settings and give the right value below.",
}


@dataclass(frozen=True)
class Channel:
    """One row of the channel table; the numbers are stored values, shares are 0..1."""

    index: int
    name: str
    facts: dict[str, Any]

    @property
    def empty(self) -> bool:
        return not self.facts["max"] > self.facts["min"]


@signed_in
@require_http_methods(["GET", "POST"])
def multiplex_image(request: HttpRequest, image_id: int) -> HttpResponse:
    """One image. POST: the channel names or um per pixel of an image that waits for them; a job checks and finishes it."""
    from tissueboard.assays.services import open_image
    from tissueboard.intake.multiplex_completion import COMPLETE_KIND, request_completion
    from tissueboard.jobs.selectors import open_job

    image = open_image(request.user, image_id)
    cohort = image.sample.patient.cohort
    refused = None
    entered = {name: request.POST.get(name, "").strip() for name in ("channels", "mpp")}
    if request.method == "POST":
        try:
            job = request_completion(request.user, image, **entered)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            refused = error
        else:
            return redirect("job", job_id=job.pk)
    channels = [Channel(i, name, facts) for i, (name, facts) in enumerate(zip(image.channels, image.facts.get("signal", [])))]
    page_frame = frame(request, cohort, "slides")
    context = {
        **page_frame,
        **about(request.user, image),
        **virtues.block(request, image, page_frame["may_add"]),
        "image": image,
        "channels": channels,
        "findings": [one | {"hint": PAGE_HINTS.get(one["code"], one["hint"])} for one in image.findings],
        "checking": open_job(request.user, COMPLETE_KIND, image=image.pk) if page_frame["may_add"] else None,
        "data": viewer_data(request.user, image, channels) if image.state == MultiplexImage.State.READY else "",
        "refused": refused,
        "entered": entered,
    }
    return render(request, "pages/multiplex_image.html", context, status=refused.status if refused else 200)


def about(user: Any, image: MultiplexImage) -> dict[str, Any]:
    """What else is known of an image: its cells, its places on slides, the proteins of its channels."""
    from tissueboard.assays.alignments import slides_to_place_on
    from tissueboard.assays.selectors import alignments_of, cell_mask_of, proteins_of, waiting_cells_of

    if image.state != MultiplexImage.State.READY:
        return {}
    from ml.multiplex.uniprot import shared

    proteins = proteins_of(image)
    placed = {place.slide_id: place for place in alignments_of(user, image)}
    return {
        "cells": cell_mask_of(user, image),
        "waiting_cells": waiting_cells_of(user, image),
        "slides": [(slide, placed.get(slide.pk)) for slide in slides_to_place_on(user, image)],
        "proteins": proteins,
        "unknown": [one.channel for one in proteins if one.uniprot is None],
        "shared": shared(proteins),
    }


def viewer_data(user: Any, image: MultiplexImage, channels: list[Channel]) -> str:
    """For the script: where the tiles are (a token for this user and image), the sizes, every channel's limits, and what is drawn first."""
    from tissueboard.assays.selectors import cell_mask_of
    from tissueboard.assays.services import tile_token

    address = reverse("multiplex_tile", kwargs={"image_id": image.pk, "token": tile_token(user, image), "level": 0, "col": 0, "row": 0})
    return json.dumps(
        {
            "tiles": address.removesuffix("0/0_0.jpeg"),
            "cells": address.removesuffix("0/0_0.jpeg") + "cells/" if cell_mask_of(user, image) else "",
            "width": image.width,
            "height": image.height,
            "mpp": image.mpp,
            "whole": not image.dtype.startswith("float"),
            "channels": [
                {"name": c.name, "low": c.facts["low"], "high": c.facts["high"], "min": c.facts["min"], "max": c.facts["max"]}
                for c in channels
            ],
            "shown": [{"channel": index, "colour": colour} for index, colour in zip(first_shown(channels), COLOURS)],
        }
    )


def first_shown(channels: list[Channel]) -> list[int]:
    """Up to four channels to begin with: one of nuclei, if there is one, then the first others that have any signal."""
    seen = [c for c in channels if not c.empty]
    nuclei = next((c for c in seen if NUCLEI.search(c.name)), None)
    rest = [c for c in seen if c is not nuclei]
    return [c.index for c in ([nuclei] if nuclei else []) + rest][:SHOWN_FIRST]


@signed_in
@require_safe
def cohort_multiplex(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """All multiplex images of a cohort."""
    from tissueboard.assays.selectors import images_for

    cohort = get_cohort(request.user, cohort_id)
    rows = page_of(request, images_for(request.user, cohort=cohort))
    return render(request, "pages/cohort_multiplex.html", {**frame(request, cohort, "slides"), "rows": rows, "images": rows})


def first_images(user: Any, cohort: Any) -> dict[str, Any]:
    """What the tab of slides says about multiplex images: how many there are, and the first of them."""
    from tissueboard.assays.selectors import images_for

    images = images_for(user, cohort=cohort)
    n = images.count()
    return {"images": list(images[:FIRST]), "n_images": n, "more_images": n > FIRST}


@signed_in
@require_http_methods(["GET", "POST"])
def upload_multiplex(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """One image of measured channels; it is checked in the background, and imported unless only a check was asked for."""
    from tissueboard.intake.services import receive_upload

    cohort = get_cohort(request.user, cohort_id)
    require(request.user, cohort, Role.CONTRIBUTOR)
    entered = {name: request.POST.get(name, "").strip() for name in UPLOAD_FIELDS}
    if request.method == "GET":
        entered["patient_code"] = request.GET.get("patient", "")[:64]
    context = {
        **frame(request, cohort, "imports"),
        "entered": entered,
        "technologies": MultiplexImage.Technology.choices,
        "dry_run": "dry_run" in request.POST,
    }
    template = "pages/upload_multiplex.html"
    if request.method == "GET":
        return render(request, template, context)
    file, panel = request.FILES.get("file"), request.FILES.get("panel")
    if file is None:
        refused = TissueboardError("FILE_MISSING", "No file was chosen.", "Choose a file and send it again.")
        return render(request, template, {**context, "refused": refused}, status=400)
    given: dict[str, Any] = {name: value for name, value in entered.items() if value}
    if panel is not None:
        given["panel"] = panel.read(MAX_PANEL + 1)
    try:
        received = receive_upload(request.user, cohort, file, "multiplex", given, context["dry_run"])
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        return render(request, template, {**context, "refused": error}, status=error.status)
    return redirect("import_", import_id=received.pk)
