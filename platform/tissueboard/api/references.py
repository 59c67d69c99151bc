"""/api/v1/cohorts/{id}/references/: what the tissues of a cohort are compared in; /outcome-value/: what neighbours' outcomes may claim."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import get_cohort
from tissueboard.retrieval.outcome_value import request_outcome_value, standing
from tissueboard.retrieval.references import MAX_WHY, references_of_cohort, use_reference

from .base import Address
from .fields import ErrorSerializer, IdField, JsonObject
from .retrieval import ReferenceSerializer

ENDPOINT = "OS"


class ReferenceChoiceRequest(serializers.Serializer[Any]):
    version = IdField()
    measured = serializers.BooleanField(help_text="The reference of images with measured channels.")
    why = serializers.CharField(max_length=MAX_WHY, help_text="The reason; it is kept.")


class OutcomeValueRequest(serializers.Serializer[Any]):
    version = IdField()
    measured = serializers.BooleanField(default=False)
    endpoint = serializers.CharField(default=ENDPOINT, max_length=16)


class OutcomeValueSerializer(serializers.Serializer[Any]):
    """A frozen measurement. facts: k, n, events, c_base, c_with, gain with gain_lower and gain_upper, or why nothing is shown."""

    endpoint = serializers.CharField()
    shown = serializers.BooleanField()
    facts = JsonObject()
    job = serializers.IntegerField(source="job_id")
    created_at = serializers.DateTimeField()


class CohortReferenceSerializer(ReferenceSerializer):
    outcome_value = serializers.SerializerMethodField(help_text="The newest measurement for OS; null where there is none.")

    def get_outcome_value(self, reference: Any) -> dict[str, Any] | None:
        found = standing(self.context["request"].user, self.context["cohort"], reference, ENDPOINT)
        return None if found is None else OutcomeValueSerializer(found).data


class StartedSerializer(serializers.Serializer[Any]):
    job = serializers.IntegerField(source="pk")
    state = serializers.CharField()


class CohortReferences(Address):
    serializer_class = CohortReferenceSerializer

    def _told(self, request: Request, cohort: Any) -> Response:
        found = references_of_cohort(request.user, cohort)
        return Response(CohortReferenceSerializer(found, many=True, context={"request": request, "cohort": cohort}).data)

    @extend_schema(
        operation_id="cohorts_references_list",
        summary="References of a cohort, with what each covers",
        responses={200: CohortReferenceSerializer(many=True), 404: ErrorSerializer},
    )
    def get(self, request: Request, cohort_id: int) -> Response:
        return self._told(request, get_cohort(request.user, cohort_id))

    @extend_schema(
        operation_id="cohorts_references_use",
        summary="Make a version the one that answers by default",
        request=ReferenceChoiceRequest,
        responses={200: CohortReferenceSerializer(many=True), 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: Request, cohort_id: int) -> Response:
        cohort = get_cohort(request.user, cohort_id)
        wanted = self.read_body(ReferenceChoiceRequest)
        use_reference(request.user, cohort, wanted["version"], wanted["measured"], wanted["why"])
        return self._told(request, cohort)


class CohortOutcomeValue(Address):
    serializer_class = StartedSerializer

    @extend_schema(
        operation_id="cohorts_outcome_value_create",
        summary="Measure whether neighbours' outcomes say more than age and stage",
        request=OutcomeValueRequest,
        responses={202: StartedSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: Request, cohort_id: int) -> Response:
        cohort = get_cohort(request.user, cohort_id)
        wanted = self.read_body(OutcomeValueRequest)
        job = request_outcome_value(request.user, cohort, wanted["version"], wanted["measured"], wanted["endpoint"])
        return Response(self.get_serializer(job).data, status=202)
