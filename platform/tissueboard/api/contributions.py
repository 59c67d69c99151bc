"""/api/v1/patients/{id}/risk/contributions/: what the risk of the case page comes from, per marker and per tile."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.accounts.audit import record
from tissueboard.cohorts.services import open_case
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.risk_view import risk_of_patient
from tissueboard.predictions.selectors import explanation_of_patient

from .base import Address
from .fields import VersionBrief
from .risk import RiskQuery

NONE = "This risk model does not tell what a risk comes from."


class MarkerContributionSerializer(serializers.Serializer[Any]):
    marker = serializers.CharField()
    value = serializers.FloatField(help_text="Above 0 raises the risk score.")


class TileContributionSerializer(serializers.Serializer[Any]):
    x_px0 = serializers.FloatField(help_text="Centre of the cell, level-0 px.")
    y_px0 = serializers.FloatField()
    value = serializers.FloatField()


class ContributionsSerializer(serializers.Serializer[Any]):
    """Integrated gradients of the risk score against an empty slide: what the model used, not what causes the risk."""

    version = VersionBrief(allow_null=True)
    why_none = serializers.CharField(allow_blank=True, help_text="Why there are none; blank where there are.")
    slide = serializers.IntegerField(allow_null=True)
    cell_um = serializers.FloatField(allow_null=True)
    relative_gap = serializers.FloatField(
        allow_null=True, help_text="By how much their sum misses the difference in score, as a share of it."
    )
    markers = MarkerContributionSerializer(many=True, help_text="Those that raise and lower it most.")
    tiles = TileContributionSerializer(many=True)


class PatientContributions(Address):
    serializer_class = ContributionsSerializer

    @extend_schema(operation_id="patients_risk_contributions", summary="What a patient's risk comes from", parameters=[RiskQuery])
    def get(self, request: Request, patient_id: int) -> Response:
        version = self.read_query(RiskQuery).get("version")
        patient = open_case(request.user, patient_id)
        view = risk_of_patient(request.user, patient, version)
        found = explanation_of_patient(request.user, patient, view.version) if view.probability is not None else None
        if found is None:
            why = view.why_none or NONE
            empty = {"slide": None, "cell_um": None, "relative_gap": None, "markers": [], "tiles": []}
            return Response(self.get_serializer({"version": view.version, "why_none": why, **empty}).data)
        record(request.user, "read contributions", found, cohort_id=patient.cohort_id, patient_code=patient.code)
        assert view.prediction is not None
        markers = view.prediction.facts.get("explanation", {}).get("markers", [])
        told = {
            "version": view.version,
            "why_none": "",
            "slide": found.slide_id,
            "cell_um": found.facts["pitch_um"],
            "relative_gap": found.facts.get("relative_gap"),
            "markers": [{"marker": name, "value": value} for name, value in markers],
            "tiles": tiles_of(found),
        }
        return Response(self.get_serializer(told).data)


def tiles_of(found: Prediction) -> list[dict[str, float]]:
    """The cells of an explanation with their centres in level-0 px."""
    import numpy as np

    from tissueboard.predictions.maps import load_map

    virtual = load_map(found)
    values = virtual.values[0]
    rows, cols = np.nonzero(np.isfinite(values))
    (left, top), step = virtual.origin_px0, virtual.step_px0
    return [
        {"x_px0": left + (col + 0.5) * step, "y_px0": top + (row + 0.5) * step, "value": float(values[row, col])}
        for row, col in zip(rows.tolist(), cols.tolist())
    ]
