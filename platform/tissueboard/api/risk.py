"""/api/v1/patients/{id}/risk/: the risk that the case page shows, with what it stands on, or the sentence why there is none."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.services import open_case
from tissueboard.predictions.risk_view import risk_of_patient

from .base import Address
from .fields import VersionBrief
from .maps import ProvenanceSerializer


class RiskSerializer(serializers.Serializer[Any]):
    """Prognostic, not predictive of benefit. probability null: none is shown, and why_none says why."""

    endpoint = serializers.CharField()
    horizon_days = serializers.FloatField(allow_null=True)
    probability = serializers.FloatField(allow_null=True, help_text="Of the event within horizon_days, 0 to 1.")
    lower = serializers.FloatField(allow_null=True, help_text="95% patient bootstrap.")
    upper = serializers.FloatField(allow_null=True)
    group = serializers.CharField(allow_blank=True, help_text="higher or lower than the cut, declared beforehand.")
    score = serializers.FloatField(allow_null=True)
    cut = serializers.FloatField(allow_null=True)
    held_out = serializers.BooleanField(help_text="She belongs to the reference; this comes from the fit without her.")
    reference_n = serializers.IntegerField(allow_null=True)
    reference_events = serializers.IntegerField(allow_null=True)
    c_index = serializers.FloatField(allow_null=True, help_text="Harrell, out-of-fold.")
    c_lower = serializers.FloatField(allow_null=True)
    c_upper = serializers.FloatField(allow_null=True)
    permutation_p = serializers.FloatField(allow_null=True)
    stage_c = serializers.FloatField(allow_null=True, help_text="C of stage alone.")
    gain_over_stage = serializers.FloatField(allow_null=True)
    why_none = serializers.CharField(allow_blank=True)
    version = VersionBrief(allow_null=True)
    others = VersionBrief(many=True, help_text="Further risk models of this patient; ask for one with ?version=.")
    provenance = ProvenanceSerializer(source="prediction", allow_null=True)


class RiskQuery(serializers.Serializer[Any]):
    version = serializers.IntegerField(required=False, min_value=1, help_text="A risk model; default: the newest that gives a risk.")


class PatientRisk(Address):
    serializer_class = RiskSerializer

    @extend_schema(operation_id="patients_risk", summary="Risk of one patient in context", parameters=[RiskQuery])
    def get(self, request: Request, patient_id: int) -> Response:
        version = self.read_query(RiskQuery).get("version")
        return Response(self.get_serializer(risk_of_patient(request.user, open_case(request.user, patient_id), version)).data)
