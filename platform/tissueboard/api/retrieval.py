"""POST /api/v1/retrieval/: the most similar tissues of other patients, by exact transport."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohort_named
from tissueboard.retrieval.services import MAX_K, similar_cases
from tissueboard.slides.selectors import get_slide

from .base import Address
from .fields import CohortBrief, CohortRef, ErrorSerializer, IdField, PatientBrief, VersionBrief
from .patients import EndpointSerializer, EventSerializer


class RetrievalRequest(serializers.Serializer[Any]):
    slide = IdField(help_text="Id of the slide to compare with.")
    k = serializers.IntegerField(default=5, min_value=1, max_value=MAX_K, help_text="How many patients to give back.")
    cohort = CohortRef(required=False, allow_null=True, help_text="Search only this cohort (name or id); all of mine if left out.")
    other_sites_only = serializers.BooleanField(default=False, help_text="Leave out slides made at the same site.")


class SlideBrief(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    site = serializers.CharField()
    stain = serializers.CharField()
    simulated = serializers.BooleanField()


class MatchSerializer(serializers.Serializer[Any]):
    """Two niches that the transport plan joins. Boxes: x, y, width, height in level-0 pixels. mass: share of the tissue."""

    query_box = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4)
    hit_box = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4)
    mass = serializers.FloatField()


class DifferenceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    difference = serializers.FloatField(help_text="Hit minus query, in standard deviations of the reference niches.")


class HitSerializer(serializers.Serializer[Any]):
    """One similar tissue. Its treatments and outcome are a single history, not a prediction."""

    slide = SlideBrief()
    patient = PatientBrief()
    cohort = CohortBrief()
    distance = serializers.FloatField(help_text="Exact 2-Wasserstein distance; never rescaled within the answer.")
    percentile = serializers.FloatField(help_text="Share (0-100) of distances between pieces of one tumour that are at most this.")
    matches = MatchSerializer(many=True)
    match_markers = serializers.ListField(child=serializers.CharField())
    differ_markers = DifferenceSerializer(many=True)
    treatments = EventSerializer(many=True)
    outcome = EndpointSerializer(allow_null=True)
    same_site = serializers.BooleanField()
    same_diagnosis = serializers.BooleanField(allow_null=True)


class SimilarCasesSerializer(serializers.Serializer[Any]):
    query_slide = SlideBrief()
    version = VersionBrief(allow_null=True)
    n_candidates = serializers.IntegerField(help_text="Tissues of other patients that the user may see.")
    n_fully_compared = serializers.IntegerField()
    same_site_share = serializers.FloatField(allow_null=True)
    same_site_expected = serializers.FloatField(allow_null=True, help_text="Share of the same site among all candidates.")
    hits = HitSerializer(many=True)
    note = serializers.CharField(allow_blank=True)


class Retrieval(Address):
    serializer_class = SimilarCasesSerializer

    @extend_schema(
        operation_id="retrieval_create",
        summary="Similar cases of a slide",
        request=RetrievalRequest,
        responses={200: SimilarCasesSerializer, 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        wanted = self.read_body(RetrievalRequest)
        slide = get_slide(request.user, wanted["slide"])
        cohort = cohort_named(request.user, wanted["cohort"]) if wanted.get("cohort") else None
        found = similar_cases(request.user, slide, wanted["k"], cohort=cohort, other_sites_only=wanted["other_sites_only"])
        return Response(self.get_serializer(found).data)
