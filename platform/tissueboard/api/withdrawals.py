"""POST /api/v1/patients/{id}/withdraw/: takes a patient out of a cohort, for good."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import get_patient
from tissueboard.pipelines.withdrawal import MAX_WHY, withdraw_patient

from .base import Address
from .fields import CohortBrief, ErrorSerializer


class WithdrawalRequest(serializers.Serializer[Any]):
    why = serializers.CharField(max_length=MAX_WHY, help_text="The reason; it is kept.")


class WithdrawalSerializer(serializers.Serializer[Any]):
    """What is left of her here. models: ids of versions that had been fitted on her; they stay as they are."""

    cohort = CohortBrief()
    code = serializers.CharField()
    why = serializers.CharField()
    withdrawn_at = serializers.DateTimeField()
    slides = serializers.IntegerField(source="facts.slides")
    models = serializers.ListField(child=serializers.IntegerField(), source="facts.models")


class PatientWithdrawal(Address):
    serializer_class = WithdrawalSerializer

    @extend_schema(
        operation_id="patients_withdraw",
        summary="Take a patient out of a cohort: records, files, predictions and vectors",
        request=WithdrawalRequest,
        responses={200: WithdrawalSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, patient_id: int) -> Response:
        patient = get_patient(request.user, patient_id)
        wanted = self.read_body(WithdrawalRequest)
        return Response(self.get_serializer(withdraw_patient(request.user, patient, wanted["why"])).data)
