"""VirTues of one multiplex image: the block on its page, the button that starts it, its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.jobs.models import State

from .access import signed_in, whole_number

# Eight that people with any colour vision tell apart (Okabe and Ito); the first six are used.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
# The picture under the niches is at most so wide or high, px.
PICTURE = 768
FIRST_MARKERS = 12
KIND, STAIN = "predictions.virtues", "predictions.virtues_stain"


@dataclass(frozen=True)
class Tile:
    """One tile of the picture under the niches; the rest in px of level 0."""

    address: str
    x: int
    y: int
    width: int
    height: int


def block(request: HttpRequest, image: MultiplexImage, may_add: bool) -> dict[str, Any]:
    """What parts/virtues_of_image.html takes; {"virtues": None} for an image that is not ready."""
    from tissueboard.jobs.selectors import open_job
    from tissueboard.pipelines.services import plan
    from tissueboard.predictions.selectors import stain_beside
    from tissueboard.predictions.virtues_stain import stainable
    from tissueboard.predictions.virtues_view import has_standard, view_of

    if image.state != MultiplexImage.State.READY:
        return {"virtues": None}
    view = view_of(request.user, image, request.GET.get("importance", ""), whole_number(request.GET.get("virtues")))
    first = plan(request.user, "virtues", image)[0]
    shown = {
        "view": view,
        "version": first.version,
        "why_not": first.why_not,
        "standard": first.version is None or has_standard(first.version, image),
        "going": open_job(request.user, KIND, image=image.pk),
        "may_run": may_add,
    }
    if view is not None:
        shown["groups"] = [(group, COLOURS[group.number - 1]) for group in view.groups]
        shown["boxes"] = [(box, COLOURS[box.group - 1]) for box in view.boxes]
        shown["tiles"] = picture(request.user, image)
        shown["first"], shown["rest"] = view.importance[:FIRST_MARKERS], view.importance[FIRST_MARKERS:]
        shown["stain"] = stain_beside(request.user, view.prediction)
        shown["stainable"] = stainable(view.prediction.version, image) if may_add else []
        shown["painting"] = open_job(request.user, STAIN, image=image.pk)
        shown["stale"] = first.version is not None and first.version != view.prediction.version
    return {"virtues": shown}


def picture(user: Any, image: MultiplexImage) -> list[Tile]:
    """The tiles of a small picture of one channel in grey: nuclei where there are any, else the first with a signal."""
    from ml.multiplex.zarr_pyramid import level_shapes
    from tissueboard.assays.services import tile_token

    from .assays import Channel, first_shown

    channels = [Channel(i, name, facts) for i, (name, facts) in enumerate(zip(image.channels, image.facts.get("signal", [])))]
    chosen = next((c for c in channels if c.index in first_shown(channels)[:1]), None)
    if chosen is None:
        return []
    shapes = level_shapes(image.height, image.width)
    level = next((i for i, shape in enumerate(shapes) if max(shape) <= PICTURE), len(shapes) - 1)
    rows, cols = shapes[level]
    token, asked = tile_token(user, image), f"?c={chosen.index}:c8c8c8:{chosen.facts['low']:.6g}:{chosen.facts['high']:.6g}"
    step, found = 2**level, []
    for row in range(0, rows, 256):
        for col in range(0, cols, 256):
            ids = {"image_id": image.pk, "token": token, "level": level, "col": col // 256, "row": row // 256}
            size = min(256, cols - col) * step, min(256, rows - row) * step
            found.append(Tile(reverse("multiplex_tile", kwargs=ids) + asked, col * step, row * step, *size))
    return found


@signed_in
@require_POST
def virtues_run(request: HttpRequest, image_id: int) -> HttpResponse:
    """Starts VirTues on the image with the version in use."""
    from tissueboard.assays.selectors import get_image
    from tissueboard.pipelines.services import run_pipeline

    image = get_image(request.user, image_id)
    jobs = run_pipeline(request.user, "virtues", slides=[image])
    if all(job.state == State.SUCCEEDED for job in jobs):
        messages.info(request, "Nothing has changed since VirTues saw this image: what is shown is what it would give.")
    else:
        messages.success(request, "VirTues is asked for. It goes on by itself; this page shows it when it is there.")
    return _back(image)


def _back(image: MultiplexImage) -> HttpResponse:
    return redirect(reverse("multiplex_image", args=[image.pk]) + "#virtues-title")


@signed_in
@require_POST
def virtues_stain(request: HttpRequest, image_id: int) -> HttpResponse:
    """Asks for a marker that the image lacks, painted by the version that is shown; what may not be painted is said on the page."""
    from tissueboard.assays.selectors import get_image
    from tissueboard.predictions.virtues_stain import ask_stain
    from tissueboard.predictions.virtues_view import view_of

    image = get_image(request.user, image_id)
    require(request.user, image.sample.patient.cohort, Role.CONTRIBUTOR)
    view = view_of(request.user, image, version_id=whole_number(request.POST.get("version")))
    try:
        if view is None:
            raise TissueboardError("NO_EMBEDDING", "VirTues has not seen this image yet.", "Run it first.", status=409)
        ask_stain(request.user, image, view.prediction.version, request.POST.get("protein", ""))
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        messages.error(request, f"{error.sentence} {error.hint}")
    else:
        messages.success(request, "The virtual stain is asked for.")
    return _back(image)


@signed_in
@require_safe
def virtues_picture(request: HttpRequest, image_id: int, prediction_id: int) -> HttpResponse:
    """A virtual stain as PNG."""
    from tissueboard.predictions.selectors import get_image_output
    from tissueboard.predictions.virtues_stain import picture_of

    found = get_image_output(request.user, image_id, prediction_id)
    if found.kind != found.Kind.VIRTUAL_STAIN:
        raise NotVisible("picture")
    answer = HttpResponse(picture_of(found), content_type="image/png")
    answer["Cache-Control"] = "private, max-age=3600"
    return answer


@signed_in
@require_safe
def virtues_file(request: HttpRequest, image_id: int, prediction_id: int) -> FileResponse:
    """Niches as HDF5 or cells as Parquet; logged."""
    from tissueboard.predictions.image_export import download_image_output
    from tissueboard.predictions.views import send

    return send(download_image_output(request.user, image_id, prediction_id))
