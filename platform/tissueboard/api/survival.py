"""/api/v1/kaplan-meier/: survival of a cohort, the same result as on the page."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohort_named
from tissueboard.outcomes.services import survival

from .base import Address
from .fields import CohortRef

Numbers = serializers.FloatField
Counts = serializers.IntegerField


class SurvivalQuery(serializers.Serializer[Any]):
    cohort = CohortRef()
    endpoint = serializers.CharField(default="OS", max_length=16)
    group_by = serializers.CharField(
        required=False, max_length=80, help_text='A clinical variable of the cohort, or "risk" (see groupings of the cohort).'
    )


class MedianSerializer(serializers.Serializer[Any]):
    """Days; null where the curve or its limit does not reach one half."""

    estimate = serializers.FloatField(allow_null=True)
    lower = serializers.FloatField(allow_null=True)
    upper = serializers.FloatField(allow_null=True)


class AtRiskSerializer(serializers.Serializer[Any]):
    times = serializers.ListField(child=Numbers())
    n = serializers.ListField(child=Counts())


class CurveSerializer(serializers.Serializer[Any]):
    """One curve; lists run over the distinct times in days. A suppressed group shows its size only."""

    name = serializers.CharField()
    n = serializers.IntegerField()
    events = serializers.IntegerField(allow_null=True)
    time = serializers.ListField(child=Numbers())
    survival = serializers.ListField(child=Numbers())
    lower = serializers.ListField(child=Numbers(allow_null=True))
    upper = serializers.ListField(child=Numbers(allow_null=True))
    n_risk = serializers.ListField(child=Counts())
    n_event = serializers.ListField(child=Counts())
    n_censor = serializers.ListField(child=Counts())
    median = MedianSerializer(allow_null=True)
    at_risk = AtRiskSerializer(allow_null=True)
    suppressed = serializers.BooleanField()


class LogRankSerializer(serializers.Serializer[Any]):
    chisq = serializers.FloatField()
    df = serializers.IntegerField()
    p = serializers.FloatField(help_text="Two-sided.")


class HazardRatioSerializer(serializers.Serializer[Any]):
    """Of `name` against `reference`: Cox with Efron ties, 95% interval."""

    name = serializers.CharField()
    reference = serializers.CharField()
    hr = serializers.FloatField()
    lower = serializers.FloatField()
    upper = serializers.FloatField()
    p = serializers.FloatField()


class ExcludedSerializer(serializers.Serializer[Any]):
    why = serializers.CharField()
    n = serializers.IntegerField()


class SurvivalSerializer(serializers.Serializer[Any]):
    cohort = serializers.CharField()
    endpoint = serializers.CharField()
    time_zero = serializers.CharField()
    unit = serializers.CharField(help_text="days; months = days / 30.4375.")
    confidence = serializers.CharField()
    group_by = serializers.CharField(allow_null=True)
    group_rule = serializers.CharField()
    n = serializers.IntegerField()
    events = serializers.IntegerField()
    groups = CurveSerializer(many=True)
    logrank = LogRankSerializer(allow_null=True)
    hazard_ratio = HazardRatioSerializer(allow_null=True)
    ph_test_p = serializers.FloatField(allow_null=True)
    notes = serializers.ListField(child=serializers.CharField())
    excluded = ExcludedSerializer(many=True)


class KaplanMeier(Address):
    serializer_class = SurvivalSerializer

    @extend_schema(
        operation_id="kaplan_meier_retrieve",
        summary="Kaplan-Meier curves, numbers at risk, medians, log-rank and hazard ratio",
        parameters=[SurvivalQuery],
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(SurvivalQuery)
        cohort = cohort_named(request.user, query["cohort"])
        return Response(self.get_serializer(survival(request.user, cohort, query["endpoint"], query.get("group_by"))).data)
