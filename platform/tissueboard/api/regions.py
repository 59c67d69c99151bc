"""/api/v1/slides/{id}/regions/: outlines and notes on a slide, drawn or from QuPath's GeoJSON, in level-0 pixels."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.accounts.audit import record
from tissueboard.slides.models import Region
from tissueboard.slides.region_imports import MAX_UPLOAD, check_regions, confirm_regions, discard_regions, export_regions
from tissueboard.slides.regions import LENGTHS, draw_region, edit_region, remove_region
from tissueboard.slides.selectors import get_region, get_slide, regions_of_slide

from .base import Address, ListAddress
from .fields import ErrorSerializer, FindingSerializer, JsonObject, one_of
from .imports import JsonText

REFUSALS = {400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}
FRAMES = ("scanned", "whole")
FRAME_HELP = (
    "Where coordinates start: the scanned part (QuPath) or the corner of the whole original, empty margins included (plain OpenSlide)."
)


class RegionQuery(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=Region.Role.choices, required=False)


class RegionSerializer(serializers.Serializer[Any]):
    """A region. role: analyse = only inside such regions is processed; exclude = never processed; annotation = only shown."""

    id = serializers.IntegerField()
    slide = serializers.IntegerField(source="slide_id")
    role = serializers.CharField(help_text=one_of(Region.Role))
    geometry = serializers.JSONField(help_text="GeoJSON in level-0 pixels of the working slide.")
    area_mm2 = serializers.SerializerMethodField(help_text="null for lines and points.")
    object_type = serializers.CharField()
    classification = serializers.CharField()
    colour = serializers.CharField(help_text="#rrggbb, or empty.")
    name = serializers.CharField()
    note = serializers.CharField()
    measurements = serializers.DictField(child=serializers.FloatField(), help_text="As the file gave them.")
    external_id = serializers.UUIDField(help_text="QuPath's id.")
    source = serializers.CharField(help_text=one_of(Region.Source))
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    changed_by = serializers.CharField(source="changed_by.username", default=None, allow_null=True)
    changed_at = serializers.DateTimeField(allow_null=True)

    def get_area_mm2(self, region: Region) -> float | None:
        return region.area_px0 * (region.slide.mpp / 1000) ** 2 if region.area_px0 and region.slide.mpp else None


class RegionRequest(serializers.Serializer[Any]):
    geometry = JsonObject(help_text="GeoJSON in level-0 pixels of the working slide.")
    role = serializers.ChoiceField(choices=Region.Role.choices, default=Region.Role.ANNOTATION)
    classification = serializers.CharField(default="", allow_blank=True, max_length=LENGTHS["classification"])
    name = serializers.CharField(default="", allow_blank=True, max_length=LENGTHS["name"])
    note = serializers.CharField(default="", allow_blank=True, max_length=LENGTHS["note"])


class RegionChange(serializers.Serializer[Any]):
    """What is left out stays as it is."""

    role = serializers.ChoiceField(choices=Region.Role.choices, required=False)
    classification = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["classification"])
    name = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["name"])
    note = serializers.CharField(required=False, allow_blank=True, max_length=LENGTHS["note"])


class RegionUpload(serializers.Serializer[Any]):
    file = serializers.FileField(allow_empty_file=True, max_length=255, help_text="GeoJSON of QuPath, also .gz or .zip.")
    frame = serializers.ChoiceField(choices=FRAMES, default="scanned", help_text=FRAME_HELP)
    roles = JsonText(required=False, help_text="JSON object: role by class; the proposed role of a class that is left out.")
    dry_run = serializers.BooleanField(default=True, help_text="Only check the file and say what would be brought in.")


class RegionClassSerializer(serializers.Serializer[Any]):
    """One class of a file. areas: how many can say what is processed; known: how many are on the slide already."""

    classification = serializers.CharField(allow_blank=True)
    object_type = serializers.CharField()
    n = serializers.IntegerField()
    known = serializers.IntegerField()
    areas = serializers.IntegerField()
    area_mm2 = serializers.FloatField()
    colour = serializers.CharField(allow_blank=True)
    role = serializers.CharField(help_text=one_of(Region.Role))


class RegionImportSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    state = serializers.CharField(help_text="imported; discarded after a dry run; rejected where nothing can be brought in.")
    sha256 = serializers.CharField()
    classes = RegionClassSerializer(many=True)
    n_findings = serializers.IntegerField()
    findings = FindingSerializer(many=True)


class FrameQuery(serializers.Serializer[Any]):
    frame = serializers.ChoiceField(choices=FRAMES, default="scanned", help_text=FRAME_HELP)


class RegionList(ListAddress):
    serializer_class = RegionSerializer

    @extend_schema(
        operation_id="slides_regions_list",
        summary="Regions of a slide",
        parameters=[RegionQuery],
        responses=RegionSerializer(many=True),
    )
    def get(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        found = regions_of_slide(request.user, slide).filter(**self.read_query(RegionQuery))
        record(request.user, "read regions", slide, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)
        return self.page_of(found.select_related("slide", "created_by", "changed_by"))

    @extend_schema(
        operation_id="slides_regions_create",
        summary="Keep an outline, or a note at a point",
        request=RegionRequest,
        responses={201: RegionSerializer, **REFUSALS},
    )
    def post(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        region, _ = draw_region(request.user, slide, **self.read_body(RegionRequest))
        return Response(self.get_serializer(region).data, status=201)


class RegionDetail(Address):
    serializer_class = RegionSerializer

    @extend_schema(operation_id="slides_regions_retrieve", summary="One region")
    def get(self, request: Request, slide_id: int, region_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        region = get_region(request.user, slide, region_id)
        record(request.user, "read region", region, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)
        return Response(self.get_serializer(region).data)

    @extend_schema(
        operation_id="slides_regions_update",
        summary="Change what is said of a region",
        request=RegionChange,
        responses={200: RegionSerializer, **REFUSALS},
    )
    def patch(self, request: Request, slide_id: int, region_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        region = get_region(request.user, slide, region_id)
        edit_region(request.user, region, **self.read_body(RegionChange))
        return Response(self.get_serializer(get_region(request.user, slide, region_id)).data)

    @extend_schema(operation_id="slides_regions_destroy", summary="Take a region off the slide", responses={204: None, **REFUSALS})
    def delete(self, request: Request, slide_id: int, region_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        remove_region(request.user, get_region(request.user, slide, region_id))
        return Response(status=204)


class RegionFile(Address):
    @extend_schema(
        operation_id="slides_regions_export",
        summary="All regions as GeoJSON for QuPath",
        parameters=[FrameQuery],
        responses={(200, "application/geo+json"): OpenApiTypes.OBJECT, 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, slide_id: int) -> HttpResponse:
        slide = get_slide(request.user, slide_id)
        content = export_regions(request.user, slide, whole_file=self.read_query(FrameQuery)["frame"] == "whole")
        response = HttpResponse(content, content_type="application/geo+json")
        response["Content-Disposition"] = f'attachment; filename="slide-{slide.pk}-regions.geojson"'
        return response


class RegionUploads(Address):
    serializer_class = RegionImportSerializer
    parser_classes = (MultiPartParser,)

    @extend_schema(
        operation_id="slides_regions_import",
        summary="Send a GeoJSON file of QuPath; a dry run unless told otherwise",
        request={"multipart/form-data": RegionUpload},
        responses={200: RegionImportSerializer, 201: RegionImportSerializer, 413: ErrorSerializer, **REFUSALS},
    )
    def post(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        sent = self.read_body(RegionUpload)
        content = sent["file"].read(MAX_UPLOAD + 1)
        found = check_regions(request.user, slide, content, sent["file"].name, whole_file=sent["frame"] == "whole")
        if found.state != "waiting":
            return Response(self.get_serializer(found).data, status=200)
        if sent["dry_run"]:
            return Response(self.get_serializer(discard_regions(request.user, found)).data, status=200)
        given = sent.get("roles", {})
        roles = {place: str(given[row["classification"]]) for place, row in enumerate(found.classes) if row["classification"] in given}
        return Response(self.get_serializer(confirm_regions(request.user, found, roles)).data, status=201)
