"""/api/v1/slides/<id>/features/: feature bags of a slide, and each as the HDF5 file that TRIDENT and CLAM read."""

from __future__ import annotations

from typing import Any

from django.http import FileResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.predictions.feature_export import download_bag
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.selectors import bags_of_slide
from tissueboard.predictions.views import send
from tissueboard.slides.selectors import get_slide

from .base import Address, ListAddress
from .fields import ErrorSerializer, VersionBrief
from .maps import ProvenanceSerializer


class FeatureFactsSerializer(serializers.Serializer[Any]):
    n_tiles = serializers.IntegerField(help_text="Vectors in the bag.")
    n_skipped = serializers.IntegerField(default=0, help_text="Tiles that could not be read and are left out.")
    skipped = serializers.DictField(
        child=serializers.IntegerField(), default=dict, help_text="Why tiles were left out: reason and how many."
    )
    tile_um = serializers.FloatField(help_text="Side of a tile in um.")
    dim = serializers.IntegerField(allow_null=True, default=None, help_text="Values per vector.")
    encoder = serializers.CharField(allow_null=True, default=None)
    seconds = serializers.FloatField(allow_null=True, default=None)
    tiles_per_second = serializers.FloatField(allow_null=True, default=None)
    imported = serializers.CharField(allow_null=True, default=None, help_text="Which tool made it, if it was not made here.")


class FeatureBagSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slide = serializers.IntegerField(source="slide_id")
    version = VersionBrief()
    label = serializers.CharField(source="version.label", help_text="What the version was trained on; imported: made elsewhere.")
    facts = FeatureFactsSerializer()
    sha256 = serializers.CharField()
    file = serializers.SerializerMethodField(help_text="Where to download it.")
    provenance = ProvenanceSerializer(source="*")
    research_use_only = serializers.SerializerMethodField()

    @extend_schema_field(OpenApiTypes.URI)
    def get_file(self, bag: Prediction) -> str:
        return reverse("api:feature_file", args=[bag.slide_id, bag.pk])

    def get_research_use_only(self, bag: Prediction) -> bool:
        return True


class FeatureBagList(ListAddress):
    serializer_class = FeatureBagSerializer

    @extend_schema(
        operation_id="slides_features_list", summary="Feature bags of a slide, newest first", responses=FeatureBagSerializer(many=True)
    )
    def get(self, request: Request, slide_id: int) -> Response:
        return self.page_of(bags_of_slide(request.user, get_slide(request.user, slide_id)))


class FeatureFile(Address):
    @extend_schema(
        operation_id="slides_features_file",
        summary="One feature bag as HDF5: datasets features and coords; the download is logged",
        responses={(200, "application/x-hdf5"): OpenApiTypes.BINARY, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def get(self, request: Request, slide_id: int, bag_id: int) -> FileResponse:
        return send(download_bag(request.user, slide_id, bag_id))
