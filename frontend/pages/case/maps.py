"""Pictures and values of one channel of a virtual map, for the viewer; and the wish for a finer one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from frontend.figures.palette import MAP_COLOURS, SIGNED_COLOURS
from frontend.pages.access import signed_in
from tissueboard.accounts.audit import record
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.predictions.models import MAPS, Prediction
from tissueboard.predictions.selectors import get_prediction

from .explanation import contribution
from .viewer import Marker, map_view

EXPLANATION = Prediction.Kind.EXPLANATION

cached = cache_control(private=True, max_age=3600)


def _map_of(request: HttpRequest, patient_id: int, prediction_id: int) -> Any:
    """The prediction behind an address; NotVisible unless it is a map of just this patient, or what a risk of hers comes from."""
    prediction = get_prediction(request.user, prediction_id)
    if prediction.patient_id != patient_id or prediction.kind not in (*MAPS, EXPLANATION):
        raise NotVisible("map")
    return prediction


def _open_channel(request: HttpRequest, patient_id: int, prediction_id: int, channel: int) -> tuple[Any, Marker]:
    """Prediction and marker of a channel that may be shown; a locked marker is refused here too, not only in the list."""
    prediction = _map_of(request, patient_id, prediction_id)
    if prediction.kind == EXPLANATION and prediction.in_sample:
        raise NotVisible("map")  # no risk of hers is shown, so nor is what it comes from
    markers = [contribution(prediction)] if prediction.kind == EXPLANATION else map_view(patient_id, prediction).markers
    if channel >= len(markers):
        raise NotVisible("marker")
    marker = markers[channel]
    if marker.locked:
        sentence = f"{marker.name} is not shown: {marker.reason}."
        raise TissueboardError("MARKER_LOCKED", sentence, "Choose another marker.", status=409)
    return prediction, marker


@signed_in
@cached
@require_safe
def map_png(request: HttpRequest, patient_id: int, prediction_id: int, channel: int) -> HttpResponse:
    """One pixel per cell, colours between the fixed limits of the reference, nothing where there is no tissue."""
    from frontend.figures.maps import channel_png
    from tissueboard.predictions.maps import load_channel

    prediction, marker = _open_channel(request, patient_id, prediction_id, channel)
    record(
        request.user,
        f"read map {marker.name}"[:40],
        prediction,
        cohort_id=prediction.patient.cohort_id,
        patient_code=prediction.patient.code,
    )
    values = load_channel(prediction, channel).values[0]
    colours = SIGNED_COLOURS if prediction.kind == EXPLANATION else MAP_COLOURS
    return HttpResponse(channel_png(values, float(marker.low or 0.0), float(marker.high or 0.0), colours), content_type="image/png")


@signed_in
@cached
@require_safe
def map_values(request: HttpRequest, patient_id: int, prediction_id: int, channel: int) -> JsonResponse:
    """The numbers under the picture: {name, unit, rows, cols, values (row by row, null without tissue), far (cells out of range)}."""
    import numpy as np

    from tissueboard.predictions.maps import load_channel

    prediction, marker = _open_channel(request, patient_id, prediction_id, channel)
    virtual = load_channel(prediction, channel)
    values = virtual.values[0]
    known = np.isfinite(values)
    rounded = np.round(np.where(known, values, 0.0).astype(float), 6 if prediction.kind == EXPLANATION else 3)
    flat = [float(v) if k else None for v, k in zip(rounded.ravel(), known.ravel())]
    far = np.flatnonzero(virtual.out_of_range > 1).tolist() if virtual.out_of_range is not None else []
    rows, cols = values.shape
    return JsonResponse({"name": marker.name, "unit": virtual.unit, "rows": rows, "cols": cols, "values": flat, "far": far})


@signed_in
@cached
@require_safe
def map_range(request: HttpRequest, patient_id: int, prediction_id: int) -> HttpResponse:
    """Stripes over the cells that lie outside what the model was trained on."""
    import numpy as np

    from frontend.figures.maps import hatch_png
    from tissueboard.predictions.maps import load_channel

    virtual = load_channel(_map_of(request, patient_id, prediction_id), 0)
    if virtual.out_of_range is None:
        raise TissueboardError("RANGE_UNKNOWN", "This map does not say where it is out of range.", "Make the map again.", status=409)
    far = np.nan_to_num(virtual.out_of_range, nan=0.0) > 1
    return HttpResponse(hatch_png(far), content_type="image/png")


@signed_in
@require_POST
def slide_dense_map(request: HttpRequest, slide_id: int) -> HttpResponse:
    """Starts a map of overlapping tiles beside the slide's map; a refusal is said in the slide's block of the case page."""
    from tissueboard.predictions.dense_maps import ask_dense_map
    from tissueboard.slides.selectors import get_slide

    from .views import case_context

    slide = get_slide(request.user, slide_id)
    patient, entered = slide.sample.patient, request.POST.get("stride_um", "").strip().replace(",", ".")
    try:
        job = ask_dense_map(request.user, slide, entered)
    except TissueboardError as error:
        if error.status in (403, 404):
            raise
        context = case_context(request, patient, slide.pk) | {"dense_error": error, "dense_entered": entered}
        return render(request, "case/case.html", context, status=error.status)
    messages.success(request, "The finer map is being made. When it is there, the viewer offers its pitch.")
    return redirect("job", job_id=job.pk)
