"""Placing a multiplex image on a slide: two viewers for landmarks, a picture to check it by, and earlier places."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from tissueboard.errors import NotVisible, TissueboardError

from .access import signed_in
from .assays import Channel, first_shown, viewer_data
from .cohorts import frame

if TYPE_CHECKING:
    from tissueboard.assays.models import Alignment, MultiplexImage
    from tissueboard.slides.models import Slide

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
MAX_TYPED = 20_000
PRIVATE = "private, max-age=60"


@signed_in
@require_http_methods(["GET", "POST"])
def multiplex_place(request: HttpRequest, image_id: int, slide_id: int) -> HttpResponse:
    """POST action: save (landmarks or matrix), remove; preview answers with JSON: what would be kept, and where its pictures are."""
    from tissueboard.assays.alignments import place_image, remove_place, slide_to_place_on
    from tissueboard.assays.selectors import alignment_of, alignments_of
    from tissueboard.assays.services import open_image

    image = open_image(request.user, image_id)
    slide = slide_to_place_on(request.user, image, slide_id)
    here = alignment_of(request.user, image, slide)
    refused = None
    if request.method == "POST":
        action = request.POST.get("action", "save")
        try:
            if action == "remove":
                if here is not None:
                    remove_place(request.user, here)
                messages.success(request, "The place is taken away; it stays in the history.")
                return redirect("multiplex_place", image_id=image.pk, slide_id=slide.pk)
            made = place_image(request.user, image, slide, **_asked(request), dry_run=action == "preview")
            if action == "preview":
                return JsonResponse(_preview(made))
            messages.success(request, "The image is placed on the slide.")
            return redirect("multiplex_place", image_id=image.pk, slide_id=slide.pk)
        except TissueboardError as error:
            if error.status in (403, 404):
                raise
            if action == "preview":
                return JsonResponse(error.as_dict(), status=error.status)
            refused = error
    channels = [Channel(i, name, facts) for i, (name, facts) in enumerate(zip(image.channels, image.facts.get("signal", [])))]
    places = alignments_of(request.user, image, replaced=True).filter(slide=slide)
    context = {
        **frame(request, image.sample.patient.cohort, "slides"),
        "image": image,
        "slide": slide,
        "here": here,
        "earlier": [one for one in places if one.replaced_at is not None],
        "matrix": request.POST.get("matrix", "")[:MAX_TYPED] or (_matrix_text(here) if here else ""),
        "data": _data(request, image, slide, here, channels),
        "channels": channels,
        "refused": refused,
    }
    return render(request, "pages/multiplex_place.html", context, status=refused.status if refused else 200)


@signed_in
@require_safe
def place_slide_picture(request: HttpRequest, image_id: int, slide_id: int) -> HttpResponse:
    """The slide where the image lies, as JPEG. ?m=: a matrix of six numbers that is not kept yet."""
    from tissueboard.assays.alignments import slide_picture

    answer = HttpResponse(slide_picture(_pictured(request, image_id, slide_id)), content_type="image/jpeg")
    answer["Cache-Control"] = PRIVATE
    return answer


@signed_in
@require_safe
def place_channel_picture(request: HttpRequest, image_id: int, slide_id: int) -> HttpResponse:
    """One channel of the image on the same pixels, as PNG. ?c=INDEX:RRGGBB:LOW:HIGH, ?m= as above."""
    from tissueboard.assays.alignments import channel_picture
    from tissueboard.assays.services import shown_channels

    shown = shown_channels(request.GET.getlist("c")[:1] or ["0:ffffff:0:255"])[0]
    place = _pictured(request, image_id, slide_id)
    answer = HttpResponse(channel_picture(place, shown.channel, shown.colour, shown.low, shown.high), content_type="image/png")
    answer["Cache-Control"] = PRIVATE
    return answer


def _pictured(request: HttpRequest, image_id: int, slide_id: int) -> Alignment:
    """The place that is kept, or the one of the address. NotVisible where there is none."""
    from tissueboard.assays.alignments import slide_to_place_on, unsaved
    from tissueboard.assays.selectors import alignment_of, get_image

    image = get_image(request.user, image_id)
    slide = slide_to_place_on(request.user, image, slide_id)
    if asked := request.GET.get("m", ""):
        return unsaved(image, slide, matrix=_matrix(asked[:MAX_TYPED]))
    found = alignment_of(request.user, image, slide)
    if found is None:
        raise NotVisible("place of this image")
    return found


def _asked(request: HttpRequest) -> dict[str, Any]:
    """Landmarks or a matrix as the form sends them; what is no JSON is left for the service to refuse."""
    landmarks, matrix = (request.POST.get(name, "").strip()[:MAX_TYPED] for name in ("landmarks", "matrix"))
    if request.POST.get("by") == "matrix":
        return {"matrix": _matrix(matrix) if matrix else None, "whole_file": request.POST.get("frame") == "whole"}
    try:
        return {"landmarks": json.loads(landmarks) if landmarks else None}
    except (ValueError, RecursionError):
        return {"landmarks": landmarks}


def _matrix(text: str) -> Any:
    """Six numbers, or nine of a 3 x 3 matrix, with whatever stands between them."""
    numbers = [float(one) for one in NUMBER.findall(text)]
    if len(numbers) not in (6, 9):
        return [numbers] if numbers else text
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]


def _matrix_text(place: Alignment) -> str:
    return "\n".join("  ".join(f"{value:.8g}" for value in row) for row in place.matrix)


def _preview(place: Alignment) -> dict[str, Any]:
    asked = ",".join(f"{value:.10g}" for row in place.matrix for value in row)
    return {
        "m": asked,
        "residual_um": place.residual_um,
        "off_um": [pair["off_um"] for pair in place.landmarks],
        "facts": {key: place.facts[key] for key in ("scale", "scale_min", "scale_max", "rotation", "mirrored")},
        "findings": [{"severity": one["severity"], "sentence": one["sentence"], "hint": one["hint"]} for one in place.findings],
    }


def _data(request: HttpRequest, image: MultiplexImage, slide: Slide, here: Alignment | None, channels: list[Channel]) -> str:
    """For the script: both viewers, the landmarks that are kept, and the addresses of the pictures."""
    from tissueboard.slides.services import tile_token

    ids = {"image_id": image.pk, "slide_id": slide.pk}
    dzi = reverse("slide_dzi", kwargs={"slide_id": slide.pk, "token": tile_token(request.user, slide)})
    shown = first_shown(channels)
    return json.dumps(
        {
            "image": json.loads(viewer_data(request.user, image, channels)),
            "slide": {"dzi": dzi, "mpp": slide.mpp, "width": slide.width, "height": slide.height},
            "landmarks": [{"image": pair["image"], "slide": pair["slide"]} for pair in here.landmarks] if here else [],
            "placed": _preview(here) if here else None,
            "channel": shown[0] if shown else 0,
            "pictures": {
                "slide": reverse("place_slide_picture", kwargs=ids),
                "channel": reverse("place_channel_picture", kwargs=ids),
            },
        }
    )
