"""/api/v1/assays/: images of measured channels, with the facts of every channel and the address of their tiles."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.selectors import get_image, images_for
from tissueboard.assays.services import open_image, tile_token
from tissueboard.cohorts.selectors import cohort_named
from tissueboard.intake.multiplex_completion import request_completion

from .base import Address, ListAddress
from .fields import CohortBrief, CohortRef, ErrorSerializer, FindingSerializer, PatientBrief, SampleBrief, one_of
from .jobs import JobSerializer
from .slides import findings_for


class AssayQuery(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=MultiplexImage.State.choices, required=False)
    cohort = CohortRef(required=False)
    search = serializers.CharField(required=False, max_length=80, allow_blank=True, help_text="Part of an image's or patient's code.")


class AssaySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.CharField(help_text=one_of(MultiplexImage.State))
    technology = serializers.CharField(help_text=one_of(MultiplexImage.Technology))
    cohort = CohortBrief(source="sample.patient.cohort")
    patient = PatientBrief(source="sample.patient")
    sample = SampleBrief()
    channels = serializers.ListField(child=serializers.CharField(), help_text="In the order of the planes.")
    simulated = serializers.BooleanField()
    mpp = serializers.FloatField(allow_null=True, help_text="um per pixel of level 0.")
    mpp_source = serializers.CharField()
    width = serializers.IntegerField(help_text="Pixels of level 0.")
    height = serializers.IntegerField(help_text="Pixels of level 0.")
    dtype = serializers.CharField()
    n_findings = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_n_findings(self, image: Any) -> int:
        return len(image.findings)


class AssayDetailSerializer(AssaySerializer):
    findings = serializers.SerializerMethodField()
    signal = serializers.SerializerMethodField(help_text="Per channel: stored values, shares 0..1, and the limits drawn at first.")
    tiles = serializers.SerializerMethodField(
        help_text="JPEG tile, good for an hour: put in {level} (0: full resolution), {col}, {row}; up to six c=INDEX:RRGGBB:LOW:HIGH."
    )
    sealed_sha256 = serializers.CharField(help_text="SHA-256 of the sealed original.")
    sha256 = serializers.CharField(help_text="SHA-256 of the pyramid, over its files' names and checksums.")

    @extend_schema_field(FindingSerializer(many=True))
    def get_findings(self, image: Any) -> list[dict[str, Any]]:
        return findings_for(self.context["request"].user, image.sample.patient.cohort, image.findings)

    def get_signal(self, image: Any) -> list[dict[str, Any]]:
        return list(image.facts.get("signal", []))

    def get_tiles(self, image: Any) -> str | None:
        if image.state != MultiplexImage.State.READY:
            return None
        request = self.context["request"]
        ids = {"image_id": image.pk, "token": tile_token(request.user, image), "level": 0, "col": 0, "row": 0}
        address = request.build_absolute_uri(reverse("multiplex_tile", kwargs=ids))
        return f"{address.removesuffix('0/0_0.jpeg')}{{level}}/{{col}}_{{row}}.jpeg?c=0:ffffff:0:255"


class CompleteRequest(serializers.Serializer[Any]):
    channels = serializers.ListField(child=serializers.CharField(max_length=80), required=False, max_length=500)
    mpp = serializers.FloatField(required=False, help_text="um per pixel.")


class AssayList(ListAddress):
    serializer_class = AssaySerializer

    @extend_schema(
        operation_id="assays_list",
        summary="Multiplex images of my cohorts",
        parameters=[AssayQuery],
        responses=AssaySerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(AssayQuery)
        cohort = cohort_named(request.user, query["cohort"]) if "cohort" in query else None
        images = images_for(request.user, cohort=cohort, state=query.get("state"), search=query.get("search", ""))
        return self.page_of(images.order_by("pk"))


class AssayDetail(Address):
    serializer_class = AssayDetailSerializer

    @extend_schema(operation_id="assays_retrieve", summary="One multiplex image with its channels and findings")
    def get(self, request: Request, image_id: int) -> Response:
        return Response(self.get_serializer(open_image(request.user, image_id)).data)


class AssayComplete(Address):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="assays_complete",
        summary="Give channel names or um per pixel to an image that waits for them; a job finishes it",
        request=CompleteRequest,
        responses={202: JobSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        job = request_completion(request.user, image, **self.read_body(CompleteRequest))
        return Response(self.get_serializer(job).data, status=202)
