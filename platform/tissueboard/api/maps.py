"""/api/v1/slides/{id}/maps/: virtual maps with what each stands on, and their values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.accounts.audit import record
from tissueboard.errors import NotVisible
from tissueboard.predictions.dense_maps import ask_dense_map
from tissueboard.predictions.intervals import BY_MARKER, interval_facts
from tissueboard.predictions.maps import card, limits, load_map
from tissueboard.predictions.models import MAPS, Prediction
from tissueboard.predictions.selectors import dense_maps_of_slide, get_prediction, maps_of_slide
from tissueboard.slides.selectors import get_slide

from .base import Address, ListAddress
from .fields import ErrorSerializer, VersionBrief
from .jobs import JobSerializer


class MapFactsSerializer(serializers.Serializer[Any]):
    """Geometry: cell (row, col) covers level-0 pixels from origin_px0 + (col, row) * step_px0."""

    rows = serializers.IntegerField()
    cols = serializers.IntegerField()
    pitch_um = serializers.FloatField(help_text="um per cell: the stride, not the resolution.")
    tile_um = serializers.FloatField(
        required=False, help_text="Side of the tiles; where it is more than the pitch, a cell is the mean of the tiles over its centre."
    )
    effective_resolution_um = serializers.FloatField(allow_null=True, required=False)
    origin_px0 = serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2)
    step_px0 = serializers.FloatField()
    out_of_range_share = serializers.FloatField(
        allow_null=True, required=False, help_text="Share of tiles unlike what the model was trained on."
    )
    unit = serializers.CharField()


class IntervalSerializer(serializers.Serializer[Any]):
    """The interval of a cell: value - half_width of its channel (never below 0) to value + half_width; none where out_of_range is above 1.

    Split-conformal with the patient as the unit: of new patients, at least 1 - alpha have at least 1 - alpha of their tiles inside.
    """

    alpha = serializers.FloatField(allow_null=True)
    percent = serializers.IntegerField(allow_null=True, help_text="100 (1 - alpha).")
    patients = serializers.IntegerField(help_text="How many calibrated it.")
    why_none = serializers.CharField(help_text="Why no cell of the map has an interval; empty where cells have one.")


class ChannelSerializer(serializers.Serializer[Any]):
    """A channel with its fixed colour limits and its predictability within slides. locked: too poorly predicted for a case page."""

    name = serializers.CharField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    r2 = serializers.FloatField(allow_null=True)
    locked = serializers.BooleanField()
    half_width = serializers.FloatField(allow_null=True, help_text="Of the interval; null where there is none.")
    coverage = serializers.FloatField(
        allow_null=True, help_text="Measured, leaving out one calibration patient at a time: share of her tiles inside, mean over patients."
    )
    coverage_patients = serializers.FloatField(
        allow_null=True, help_text="Measured likewise: share of patients with at least 1 - alpha inside."
    )


class ProvenanceSerializer(serializers.Serializer[Any]):
    """What made it. fold null: mean over folds of a patient that none of them saw. in_sample: the weights saw this patient."""

    job = serializers.IntegerField(source="job_id")
    code_version = serializers.CharField()
    inputs = serializers.DictField(child=serializers.CharField(), help_text="SHA-256 by name.")
    sha256 = serializers.CharField()
    fold = serializers.IntegerField(allow_null=True)
    in_sample = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class MapSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slide = serializers.IntegerField(source="slide_id")
    kind = serializers.CharField(help_text=f"One of: {', '.join(MAPS)}. A dense map is of overlapping tiles and has a finer pitch.")
    version = VersionBrief()
    label = serializers.CharField(source="version.label", help_text="What the version was trained on.")
    names = serializers.SerializerMethodField(help_text="Names of the channels, in order.")
    facts = MapFactsSerializer()
    interval = serializers.SerializerMethodField()
    channels = serializers.SerializerMethodField()
    provenance = ProvenanceSerializer(source="*")
    research_use_only = serializers.SerializerMethodField()

    def get_names(self, found: Prediction) -> list[str]:
        return list(found.facts["names"])

    @extend_schema_field(IntervalSerializer())
    def get_interval(self, found: Prediction) -> dict[str, Any]:
        return IntervalSerializer(interval_facts(found)).data

    @extend_schema_field(ChannelSerializer(many=True))
    def get_channels(self, found: Prediction) -> list[dict[str, Any]]:
        bounds, rows, told = limits(found.version), card(found.version), interval_facts(found)
        return [
            {
                "name": name,
                "low": bounds.get(name, (None, None))[0],
                "high": bounds.get(name, (None, None))[1],
                "r2": rows.get(name, {}).get("r2"),
                # What nobody measured the quality of is not open either.
                "locked": bool(rows.get(name, {"locked": True})["locked"]),
                **{part: told[part].get(name) for part in BY_MARKER},
            }
            for name in found.facts["names"]
        ]

    def get_research_use_only(self, found: Prediction) -> bool:
        return True


class DenseMapRequest(serializers.Serializer[Any]):
    stride_um = serializers.FloatField(help_text="Distance of neighbouring tiles, um: below the side of the tile, at least a pixel.")


class ValuesQuery(serializers.Serializer[Any]):
    channel = serializers.CharField(required=False, max_length=80, help_text="One channel; all of them if left out.")


class MapList(ListAddress):
    serializer_class = MapSerializer

    @extend_schema(
        operation_id="slides_maps_list",
        summary="Virtual maps of a slide, those of current versions first; then its dense maps",
        responses=MapSerializer(many=True),
    )
    def get(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        return self.page_of(maps_of_slide(request.user, slide) + dense_maps_of_slide(request.user, slide))


class MapDetail(Address):
    serializer_class = MapSerializer

    @extend_schema(operation_id="slides_maps_retrieve", summary="One virtual map")
    def get(self, request: Request, slide_id: int, map_id: int) -> Response:
        found = map_of(request.user, slide_id, map_id)
        record(request.user, "read map", found, cohort_id=found.patient.cohort_id, patient_code=found.patient.code)
        return Response(self.get_serializer(found).data)


class MapValues(Address):
    @extend_schema(
        operation_id="slides_maps_values",
        summary="Values of a map as CSV: one row per tissue cell, lines with # say what they stand on",
        parameters=[ValuesQuery],
        responses={(200, "text/csv"): OpenApiTypes.STR, 400: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def get(self, request: Request, slide_id: int, map_id: int) -> StreamingHttpResponse:
        found = map_of(request.user, slide_id, map_id)
        names = list(found.facts["names"])
        channel = self.read_query(ValuesQuery).get("channel")
        if channel is not None and channel not in names:
            raise serializers.ValidationError({"channel": [f"This map has no channel {channel}; it has {', '.join(names)}."]})
        virtual = load_map(found)
        record(request.user, "export map", found, cohort_id=found.patient.cohort_id, patient_code=found.patient.code)
        chosen = [channel] if channel is not None else names
        response = StreamingHttpResponse(csv_of(found, virtual, chosen), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="slide-{found.slide_id}-map-{found.pk}.csv"'
        return response


class DenseMap(Address):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="slides_dense_map",
        summary="Make a map of overlapping tiles beside the current virtual map; asking twice finds the same job",
        description="A finer pitch, not a finer resolution. A slide keeps one dense map per version: another stride replaces it.",
        request=DenseMapRequest,
        responses={202: JobSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        job = ask_dense_map(request.user, slide, self.read_body(DenseMapRequest)["stride_um"])
        return Response(self.get_serializer(job).data, status=202)


def map_of(user: Any, slide_id: int, map_id: int) -> Prediction:
    """A virtual or dense map of this slide; NotVisible where either may not be seen or they do not belong together."""
    slide = get_slide(user, slide_id)
    found = get_prediction(user, map_id)
    if found.slide_id != slide.pk or found.kind not in MAPS:
        raise NotVisible("map")
    return found


def csv_of(found: Prediction, virtual: Any, names: list[str]) -> Iterator[str]:
    """Lines of the file. x_px0, y_px0: centre of the cell in level-0 pixels; out_of_range above 1 is outside the model's range."""
    import numpy as np

    version = found.version
    yield "# Research use only. Virtual expression predicted from the H&E slide; not a measurement.\n"
    yield f"# Model: {version.family} {version.name}, {version.label}. Made by job {found.job_id}, code {found.code_version}.\n"
    yield f"# Slide {found.slide_id}. Unit: {virtual.unit}. One cell is {virtual.pitch_um:g} um.\n"
    yield from _interval_lines(found, names)
    if found.in_sample:
        yield "# In-sample: the model was fitted on this patient.\n"
    picked = virtual.values[[virtual.names.index(name) for name in names]]
    far = virtual.out_of_range
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "col", "x_px0", "y_px0", "out_of_range", *names])
    for row in range(picked.shape[1]):
        for col in np.flatnonzero(~np.isnan(picked[:, row]).all(axis=0)).tolist():
            x, y = (start + (index + 0.5) * virtual.step_px0 for start, index in zip(virtual.origin_px0, (col, row)))
            distance = "" if far is None or np.isnan(far[row, col]) else f"{far[row, col]:.6g}"
            writer.writerow([row, col, f"{x:g}", f"{y:g}", distance, *(f"{value:.6g}" for value in picked[:, row, col])])
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _interval_lines(found: Prediction, names: list[str]) -> Iterator[str]:
    told = interval_facts(found)
    if told["why_none"]:
        yield f"# No interval: {told['why_none']}.\n"
        return
    halves = ", ".join(f"{name} {half:.4g}" for name in names if (half := told["half_width"].get(name)) is not None)
    level = f"{told['percent']}%, {told['patients']} calibration patients"
    yield f"# Interval of {level}, none where out_of_range is above 1; half-width: {halves}.\n"
