"""/api/v1/cohorts/{id}/discoveries/ and /discoveries/{id}/: what was discovered on cells, its files, and asking for more."""

from __future__ import annotations

from typing import Any

from django.http import FileResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import get_cohort
from tissueboard.outcomes.discovery_files import FILES, download_discovery
from tissueboard.outcomes.discovery_ground import config_class
from tissueboard.outcomes.discovery_start import Asked, request_discovery
from tissueboard.outcomes.discovery_view import Shown, read_discovery, shown_to
from tissueboard.outcomes.models import Discovery
from tissueboard.outcomes.selectors import discoveries_of
from tissueboard.pipelines.training_config import checked
from tissueboard.predictions.views import send

from .base import Address, ListAddress
from .fields import CohortBrief, ErrorSerializer, IdField, JsonObject, VersionBrief, one_of
from .jobs import JobSerializer
from .trainings import TrainingRefusalSerializer


class DiscoveryRequest(serializers.Serializer[Any]):
    kind = serializers.CharField(max_length=16, help_text=one_of(Discovery.Kind))
    version = IdField(help_text="A version of VirTues under which the cohort's images have cells.")
    variable = serializers.CharField(
        max_length=80, default="", allow_blank=True, help_text="Biomarkers: a clinical variable of two values."
    )
    value = serializers.CharField(max_length=200, default="", allow_blank=True, help_text="Biomarkers: its value that means response.")
    endpoint = serializers.CharField(max_length=16, default="", allow_blank=True, help_text="Risk groups: e.g. OS.")
    config = JsonObject(required=False, default=dict, help_text="Settings of ml.discovery; what is left out takes its default.")

    def validate_kind(self, kind: str) -> str:
        if kind not in Discovery.Kind.values:
            raise serializers.ValidationError(one_of(Discovery.Kind))
        return kind


class DiscoverySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="discovery.pk")
    cohort = CohortBrief(source="discovery.cohort")
    version = VersionBrief(source="discovery.version")
    kind = serializers.CharField(source="discovery.kind")
    asked = serializers.CharField(
        source="discovery.asked", help_text='Who counts as a responder, or the endpoint: "response is pCR", "OS".'
    )
    params = serializers.JSONField(source="discovery.params", help_text="With every setting.")
    n = serializers.IntegerField(source="discovery.n", help_text="Patients with cells and an outcome.")
    events = serializers.IntegerField(allow_null=True, help_text="Responders or events; null where it would give a hidden group away.")
    result = serializers.JSONField(
        help_text="Biomarkers: nested (auroc and p of shuffled outcomes: what it is worth), printed (too good), biomarkers. Risk groups: "
        "out_of_fold (z, p), whole (p), printed (too good), groups. Figures of small groups are null for viewers."
    )
    notes = serializers.ListField(child=serializers.CharField())
    code_version = serializers.CharField(source="discovery.code_version")
    inputs = serializers.JSONField(source="discovery.inputs", help_text="Checksums of the cells.")
    job = serializers.IntegerField(source="discovery.job_id")
    created_at = serializers.DateTimeField(source="discovery.created_at")
    files = serializers.SerializerMethodField(help_text="By name (cells, patients); null without the role or after a withdrawal.")
    research_use_only = serializers.SerializerMethodField()

    @extend_schema_field(serializers.DictField(child=serializers.URLField(allow_null=True)))
    def get_files(self, shown: Shown) -> dict[str, str | None]:
        found = shown.discovery
        have = {what: shown.may_download and bool(getattr(found, f"{what}_key")) for what in FILES}
        return {what: reverse("api:discovery_file", args=[found.pk, what]) if has else None for what, has in have.items()}

    def get_research_use_only(self, shown: Shown) -> bool:
        return True


class CohortDiscoveries(ListAddress):
    serializer_class = DiscoverySerializer

    @extend_schema(
        operation_id="cohorts_discoveries_list",
        summary="What was discovered in a cohort, newest first",
        responses=DiscoverySerializer(many=True),
    )
    def get(self, request: Request, cohort_id: int) -> Response:
        rows = self.paginate_queryset(discoveries_of(request.user, get_cohort(request.user, cohort_id)))
        shown = [shown_to(request.user, one) for one in rows or ()]
        return self.get_paginated_response(self.get_serializer(shown, many=True).data)

    @extend_schema(
        operation_id="cohorts_discoveries_start",
        summary="Discover biomarkers or risk groups; asking twice of the same cells and outcomes gives the same job",
        request=DiscoveryRequest,
        responses={202: JobSerializer, 400: TrainingRefusalSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, cohort_id: int) -> Response:
        cohort = get_cohort(request.user, cohort_id)
        body = self.read_body(DiscoveryRequest)
        config = checked(config_class(body["kind"]), body.pop("config"))
        job = request_discovery(request.user, cohort, Asked(**body), config)
        return Response(JobSerializer(job, context={"request": request}).data, status=202)


class DiscoveryDetail(Address):
    serializer_class = DiscoverySerializer

    @extend_schema(
        operation_id="discoveries_read",
        summary="One discovery; reading it is logged",
        responses={200: DiscoverySerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, discovery_id: int) -> Response:
        return Response(self.get_serializer(read_discovery(request.user, discovery_id)).data)


class DiscoveryFile(Address):
    @extend_schema(
        operation_id="discoveries_file",
        summary="cells (Parquet, one row per cell) or patients (CSV) of a discovery, for contributors; the download is logged",
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            403: ErrorSerializer,
            404: ErrorSerializer,
            409: ErrorSerializer,
        },
    )
    def get(self, request: Request, discovery_id: int, what: str) -> FileResponse:
        return send(download_discovery(request.user, discovery_id, what))
