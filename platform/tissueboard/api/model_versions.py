"""/api/v1/models/: versions of models that the user may see."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.model_registry.selectors import get_version, versions_for

from .base import Address, ListAddress
from .fields import CohortBrief, VersionBrief


class ModelQuery(serializers.Serializer[Any]):
    family = serializers.CharField(required=False, max_length=40)


class ModelVersionSerializer(VersionBrief):
    pitch_um = serializers.FloatField(allow_null=True, help_text="um per cell or tile that it was made for.")
    panel = serializers.ListField(child=serializers.CharField(), help_text="Names of its outputs, in order.")
    sha256 = serializers.CharField()
    cohorts = CohortBrief(many=True, help_text="What it was trained on; empty where it holds no cohort's data.")
    created_at = serializers.DateTimeField()


class ModelVersionDetailSerializer(ModelVersionSerializer):
    config = serializers.JSONField()
    metrics = serializers.JSONField()
    provenance = serializers.JSONField()


class ModelVersionList(ListAddress):
    serializer_class = ModelVersionSerializer

    @extend_schema(
        operation_id="models_list",
        summary="Model versions, by family, newest first",
        parameters=[ModelQuery],
        responses=ModelVersionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        versions = versions_for(request.user).prefetch_related("cohorts").order_by("family", "-created_at", "-pk")
        family = self.read_query(ModelQuery).get("family")
        return self.page_of(versions.filter(family=family) if family else versions)


class ModelVersionDetail(Address):
    serializer_class = ModelVersionDetailSerializer

    @extend_schema(operation_id="models_retrieve", summary="One model version with its configuration, metrics and provenance")
    def get(self, request: Request, version_id: int) -> Response:
        return Response(self.get_serializer(get_version(request.user, version_id)).data)
