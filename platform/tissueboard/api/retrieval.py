"""/api/v1/retrieval/: the most similar tissues of other patients, by exact transport; niches/: the niches nearest to one."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.selectors import get_image
from tissueboard.cohorts.selectors import cohort_named
from tissueboard.retrieval.references import what_it_is
from tissueboard.retrieval.selectors import Filters, get_niche
from tissueboard.retrieval.services import MAX_K, similar_cases
from tissueboard.retrieval.similar_niches import similar_niches, similar_niches_of
from tissueboard.slides.selectors import get_slide

from .base import Address
from .fields import CohortBrief, CohortRef, ErrorSerializer, IdField, PatientBrief, VersionBrief
from .patients import EndpointSerializer, EventSerializer

MOST_NUMBERS = 4096


class TissueRequest(serializers.Serializer[Any]):
    """A slide or a multiplex image, and what the candidates must have."""

    slide = IdField(required=False, help_text="Id of the slide to compare with.")
    image = IdField(required=False, help_text="Or id of the multiplex image.")
    version = IdField(required=False, help_text="Model version whose niches are searched; the one in use in the cohort if left out.")
    cohort = CohortRef(required=False, allow_null=True, help_text="Search only this cohort (name or id); all of mine if left out.")
    other_sites_only = serializers.BooleanField(default=False, help_text="Leave out slides made at the same site.")
    diagnosis = serializers.CharField(required=False, allow_blank=True, max_length=120, help_text="Histology as recorded.")
    stage = serializers.CharField(required=False, allow_blank=True, max_length=40, help_text="Stage as recorded.")
    treatment = serializers.CharField(required=False, allow_blank=True, max_length=120, help_text="Name of a treatment that was given.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("slide" in attrs) == ("image" in attrs):
            raise serializers.ValidationError({"slide": ["Give the id of a slide or of an image, not both."]})
        return attrs


class RetrievalRequest(TissueRequest):
    k = serializers.IntegerField(default=5, min_value=1, max_value=MAX_K, help_text="How many patients to give back.")


class NicheRequest(TissueRequest):
    """A niche by its id; or a vector, with the tissue that it belongs to."""

    niche = IdField(required=False, help_text="Id of the niche to compare with (as in `matches`).")
    vector = serializers.ListField(
        child=serializers.FloatField(), required=False, min_length=1, max_length=MOST_NUMBERS, help_text="Or a niche vector of the version."
    )
    k = serializers.IntegerField(default=10, min_value=1, max_value=MAX_K, help_text="How many niches to give back.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "niche" in attrs:
            if {"slide", "image", "vector", "version"} & set(attrs):
                raise serializers.ValidationError({"niche": ["A niche brings its own tissue, vector and version."]})
            return attrs
        if "vector" not in attrs:
            raise serializers.ValidationError({"niche": ["Give the id of a niche, or a vector with its slide or image."]})
        return super().validate(attrs)


def tissue_of(user: Any, wanted: dict[str, Any]) -> Any:
    return get_image(user, wanted["image"]) if "image" in wanted else get_slide(user, wanted["slide"])


def filters_of(user: Any, wanted: dict[str, Any]) -> Filters:
    return Filters(
        diagnosis=wanted.get("diagnosis", ""),
        stage=wanted.get("stage", ""),
        treatment=wanted.get("treatment", ""),
        cohort=cohort_named(user, wanted["cohort"]) if wanted.get("cohort") else None,
        other_sites_only=wanted["other_sites_only"],
    )


class SlideBrief(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    site = serializers.CharField()
    stain = serializers.CharField()
    simulated = serializers.BooleanField()


class ImageBrief(serializers.Serializer[Any]):
    """An image of measured channels. Its site is not recorded."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    technology = serializers.CharField()
    simulated = serializers.BooleanField()


class MatchSerializer(serializers.Serializer[Any]):
    """Two niches that the transport plan joins. Boxes: x, y, width, height in level-0 pixels. mass: share of the tissue."""

    query_box = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4)
    hit_box = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4)
    mass = serializers.FloatField()
    query_niche = serializers.IntegerField()
    hit_niche = serializers.IntegerField()


class DifferenceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    difference = serializers.FloatField(help_text="Hit minus query, in standard deviations of the reference niches.")


class HitSerializer(serializers.Serializer[Any]):
    """One similar tissue, a slide or an image. Its treatments and outcome are a single history, not a prediction."""

    slide = SlideBrief(allow_null=True)
    image = ImageBrief(allow_null=True)
    patient = PatientBrief()
    cohort = CohortBrief()
    distance = serializers.FloatField(help_text="Exact 2-Wasserstein distance; never rescaled within the answer.")
    percentile = serializers.FloatField(
        allow_null=True, help_text="Share (0-100) of distances between pieces of one tumour that are at most this; null: not measured."
    )
    matches = MatchSerializer(many=True)
    match_markers = serializers.ListField(child=serializers.CharField())
    differ_markers = DifferenceSerializer(many=True)
    treatments = EventSerializer(many=True)
    outcome = EndpointSerializer(allow_null=True)
    same_site = serializers.BooleanField()
    same_diagnosis = serializers.BooleanField(allow_null=True)


class ReferenceSerializer(serializers.Serializer[Any]):
    """A model version that may be searched, and what it covers of the tissues that the user may see."""

    version = VersionBrief()
    measured = serializers.BooleanField(help_text="Niches of measured channels; else of virtual proteins. Never mixed.")
    what = serializers.SerializerMethodField(help_text="What its niches say.")
    in_use = serializers.BooleanField(help_text="Answers by default in the cohort.")
    decided_by = serializers.CharField(help_text="The manager who said so; empty where nobody had to.")
    n_covered = serializers.IntegerField()
    n_tissues = serializers.IntegerField()

    def get_what(self, reference: Any) -> str:
        return what_it_is(reference.version, reference.measured)


class SimilarCasesSerializer(serializers.Serializer[Any]):
    query_slide = SlideBrief(allow_null=True)
    query_image = ImageBrief(allow_null=True)
    version = VersionBrief(allow_null=True)
    reference = ReferenceSerializer(allow_null=True)
    references = ReferenceSerializer(many=True, help_text="All that this tissue may be compared in.")
    n_candidates = serializers.IntegerField(help_text="Tissues of other patients that the user may see and that pass the filters.")
    n_fully_compared = serializers.IntegerField()
    n_indexed = serializers.IntegerField(help_text="Candidates that the set index answered for; the others were read from the database.")
    same_site_share = serializers.FloatField(allow_null=True, help_text="Share of the same site among the site_n nearest.")
    same_site_expected = serializers.FloatField(allow_null=True, help_text="Share of the same site among all candidates.")
    site_n = serializers.IntegerField(help_text="How many of the nearest the share is of: ten, or all where there are fewer.")
    hits = HitSerializer(many=True)
    note = serializers.CharField(allow_blank=True)


class NearNicheSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="niche.pk")
    slide = SlideBrief(source="niche.slide", allow_null=True)
    image = ImageBrief(source="niche.image", allow_null=True)
    patient = PatientBrief(source="niche.patient")
    cohort = CohortBrief(source="niche.patient.cohort")
    distance = serializers.FloatField(help_text="Euclidean distance of the vectors, as they are stored in half precision.")
    box = serializers.SerializerMethodField(help_text="x, y, width, height in level-0 pixels.")
    weight = serializers.FloatField(source="niche.weight", help_text="Share of its tissue that the niche stands for.")

    def get_box(self, near: Any) -> list[float]:
        return [near.niche.x, near.niche.y, near.niche.width, near.niche.height]


class SimilarNichesSerializer(serializers.Serializer[Any]):
    reference = ReferenceSerializer()
    n_permitted = serializers.IntegerField(help_text="Niches of other patients that took part.")
    at_least = serializers.BooleanField(help_text="There are more than n_permitted.")
    approximate = serializers.BooleanField(help_text="Found through an approximate index: a nearest one may be missing.")
    hits = NearNicheSerializer(many=True)


class Retrieval(Address):
    serializer_class = SimilarCasesSerializer

    @extend_schema(
        operation_id="retrieval_create",
        summary="Similar cases of a slide or a multiplex image",
        request=RetrievalRequest,
        responses={200: SimilarCasesSerializer, 400: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        wanted = self.read_body(RetrievalRequest)
        tissue = tissue_of(request.user, wanted)
        filters = filters_of(request.user, wanted)
        found = similar_cases(request.user, tissue, wanted["k"], filters=filters, version_id=wanted.get("version"))
        return Response(self.get_serializer(found).data)


class SimilarNicheList(Address):
    serializer_class = SimilarNichesSerializer

    @extend_schema(
        operation_id="retrieval_niches_create",
        summary="Niches of other patients nearest to one niche",
        request=NicheRequest,
        responses={200: SimilarNichesSerializer, 400: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        wanted = self.read_body(NicheRequest)
        filters = filters_of(request.user, wanted)
        if "niche" in wanted:
            found = similar_niches_of(request.user, get_niche(request.user, wanted["niche"]), wanted["k"], filters=filters)
        else:
            tissue = tissue_of(request.user, wanted)
            found = similar_niches(request.user, tissue, wanted.get("version"), wanted["vector"], wanted["k"], filters=filters)
        return Response(self.get_serializer(found).data)
