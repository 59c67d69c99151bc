"""/api/v1/slides/: slides with their state and findings, their picture as Deep Zoom tiles, and the start of a pipeline."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.selectors import cohort_named, role_of
from tissueboard.errors import TissueboardError
from tissueboard.pipelines.declared import PIPELINES
from tissueboard.pipelines.services import run_pipeline
from tissueboard.slides.models import Slide
from tissueboard.slides.quality import MEANING, quality_of
from tissueboard.slides.selectors import get_slide, slides_for
from tissueboard.slides.services import tile_token
from tissueboard.store import store

from .base import Address, ListAddress
from .fields import LARGEST_ID, CohortBrief, CohortRef, ErrorSerializer, FindingSerializer, PatientBrief, SampleBrief, one_of
from .jobs import JobSerializer

DZI_NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


class SlideQuery(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=Slide.State.choices, required=False)
    cohort = CohortRef(required=False)
    search = serializers.CharField(required=False, max_length=80, allow_blank=True, help_text="Part of a slide's or patient's code.")


class QualitySerializer(serializers.Serializer[Any]):
    """Null where it could not be judged."""

    tiles = serializers.IntegerField(help_text=MEANING["tiles"])
    focus = serializers.FloatField(allow_null=True, help_text=MEANING["focus"])
    blurred_share = serializers.FloatField(allow_null=True, help_text=MEANING["blurred_share"])
    haematoxylin = serializers.FloatField(allow_null=True, help_text=MEANING["haematoxylin"])
    eosin = serializers.FloatField(allow_null=True, help_text=MEANING["eosin"])
    h_to_e = serializers.FloatField(allow_null=True, help_text=MEANING["h_to_e"])
    glass = serializers.FloatField(allow_null=True, help_text=MEANING["glass"])
    clipped_share = serializers.FloatField(allow_null=True, help_text=MEANING["clipped_share"])
    pen_share = serializers.FloatField(help_text=MEANING["pen_share"])


class SlideSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.CharField(help_text=one_of(Slide.State))
    cohort = CohortBrief(source="sample.patient.cohort")
    patient = PatientBrief(source="sample.patient")
    sample = SampleBrief()
    stain = serializers.CharField()
    scanner = serializers.CharField()
    site = serializers.CharField()
    stain_batch = serializers.CharField()
    simulated = serializers.BooleanField()
    mpp = serializers.FloatField(allow_null=True, help_text="um per level-0 pixel.")
    mpp_source = serializers.CharField()
    width = serializers.IntegerField(help_text="Level-0 pixels.")
    height = serializers.IntegerField(help_text="Level-0 pixels.")
    tissue_mm2 = serializers.FloatField(allow_null=True)
    quality = serializers.SerializerMethodField(help_text="Judged on up to 200 tiles when the slide came in; null for older slides.")
    n_findings = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    @extend_schema_field(QualitySerializer(allow_null=True))
    def get_quality(self, slide: Any) -> Any:
        found = quality_of(slide)
        return None if found is None else QualitySerializer(found).data

    def get_n_findings(self, slide: Any) -> int:
        return len(slide.findings)


class SlideDetailSerializer(SlideSerializer):
    findings = serializers.SerializerMethodField()
    vendor = serializers.CharField()
    sealed_sha256 = serializers.CharField(help_text="SHA-256 of the sealed original.")
    working_sha256 = serializers.CharField(help_text="SHA-256 of the working slide, from which everything is computed.")

    @extend_schema_field(FindingSerializer(many=True))
    def get_findings(self, slide: Any) -> list[dict[str, Any]]:
        return findings_for(self.context["request"].user, slide.sample.patient.cohort, slide.findings)


class PipelineRequest(serializers.Serializer[Any]):
    name = serializers.ChoiceField(choices=sorted(PIPELINES), default="case")
    options = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        default=dict,
        help_text='{family: id of a version} where a person chooses, e.g. {"encoder": 3} for "features".',
    )


def findings_for(user: Any, cohort: Any, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings as this user may read them: without file names for viewers (a file's name can identify a patient)."""
    if role_of(user, cohort) in Role.at_least(Role.CONTRIBUTOR):
        return findings
    return [{name: value for name, value in finding.items() if name != "file"} for finding in findings]


def picture_of(user: Any, slide_id: int) -> Slide:
    """A slide that can be looked at; TissueboardError SLIDE_NOT_READY otherwise."""
    slide = get_slide(user, slide_id)
    if slide.state != Slide.State.READY:
        raise TissueboardError(
            "SLIDE_NOT_READY", f"The slide {slide.name} has no picture yet: {slide.state}.", "Resolve its findings first.", status=409
        )
    return slide


def descriptor_of(slide: Slide, url: str) -> bytes:
    """The .dzi of a working slide (XML) whose tiles are at url. TissueboardError where the working slide cannot be read."""
    from xml.etree import ElementTree

    from ml.slides.deepzoom import slide_cache
    from ml.slides.findings import SlideError

    try:
        plain = slide_cache(store.path(slide.working_key)).dzi()
    except SlideError as error:
        raise TissueboardError(error.code, error.sentence, error.hint, where=error.where, status=409) from error
    image = ElementTree.fromstring(plain)
    image.set("Url", url)
    ElementTree.register_namespace("", DZI_NAMESPACE)
    written: bytes = ElementTree.tostring(image, encoding="utf-8", xml_declaration=True)
    return written


class SlideList(ListAddress):
    serializer_class = SlideSerializer

    @extend_schema(
        operation_id="slides_list", summary="Slides of my cohorts", parameters=[SlideQuery], responses=SlideSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(SlideQuery)
        cohort = cohort_named(request.user, query["cohort"]) if "cohort" in query else None
        slides = slides_for(request.user, cohort=cohort, state=query.get("state"), search=query.get("search", ""))
        return self.page_of(slides.select_related("sample__patient__cohort").order_by("pk"))


class SlideDetail(Address):
    serializer_class = SlideDetailSerializer

    @extend_schema(operation_id="slides_retrieve", summary="One slide with its findings")
    def get(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        patient = slide.sample.patient
        record(request.user, "read slide", slide, cohort_id=patient.cohort_id, patient_code=patient.code)
        return Response(self.get_serializer(slide).data)


class SlideTiles(Address):
    """The Deep Zoom descriptor. Its Url holds a token for this slide and user, so that panning asks for no rights again."""

    @extend_schema(
        operation_id="slides_tiles",
        summary="Deep Zoom descriptor; tiles are at its Url for an hour",
        description="TileSize and Overlap depend on the slide. A tile at the right or lower edge may be as large as the others: "
        "what lies beyond Size repeats the last pixels and is not part of the slide. ?icc=1 at a tile applies the slide's colour profile.",
        responses={(200, "application/xml"): OpenApiTypes.STR, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def get(self, request: Request, slide_id: int) -> HttpResponse:
        slide = picture_of(request.user, slide_id)
        patient = slide.sample.patient
        record(request.user, "read slide", slide, cohort_id=patient.cohort_id, patient_code=patient.code)
        descriptor = descriptor_of(slide, request.build_absolute_uri(tiles_folder(request.user, slide)))
        return HttpResponse(descriptor, content_type="application/xml")


class SlideTile(Address):
    """Where a client looks that knows Deep Zoom's own folder name (tiles.dzi -> tiles_files/) and no Url."""

    @extend_schema(
        operation_id="slides_tile",
        summary="One tile, by a redirect to its signed address",
        responses={302: OpenApiResponse(description="To the tile."), 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def get(self, request: Request, slide_id: int, level: int, col: int, row: int) -> HttpResponse:
        slide = picture_of(request.user, slide_id)
        return HttpResponseRedirect(tile_address(request.user, slide, level, col, row))


def tile_address(user: Any, slide: Slide, level: int, col: int, row: int) -> str:
    return reverse("slide_tile", args=[slide.pk, tile_token(user, slide), level, col, row])


def tiles_folder(user: Any, slide: Slide) -> str:
    """Address of the folder that holds the levels, with a slash at its end."""
    return tile_address(user, slide, 0, 0, 0).removesuffix("0/0_0.jpeg")


class SlidePipeline(Address):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="slides_pipeline",
        summary="Start a pipeline on a slide; asking twice finds the same jobs",
        request=PipelineRequest,
        responses={202: JobSerializer(many=True), 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        body = self.read_body(PipelineRequest)
        jobs = run_pipeline(request.user, body["name"], slides=[slide], options=body["options"])
        return Response(self.get_serializer(jobs, many=True).data, status=202)
