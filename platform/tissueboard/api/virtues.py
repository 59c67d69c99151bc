"""/api/v1/assays/<id>/virtues/: what VirTues gave of a multiplex image, its files, and starting it."""

from __future__ import annotations

from typing import Any

from django.http import FileResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.selectors import get_image
from tissueboard.cohorts.access import Role, require
from tissueboard.model_registry.selectors import get_version
from tissueboard.pipelines.declared import PIPELINES, of_images
from tissueboard.pipelines.services import run_pipeline
from tissueboard.predictions.image_export import download_image_output
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.selectors import cells_beside, embeddings_of_image
from tissueboard.predictions.views import send
from tissueboard.predictions.virtues_stain import ask_stain
from tissueboard.predictions.virtues_view import READINGS, importance_of

from .base import Address, ListAddress
from .fields import LARGEST_ID, ErrorSerializer, VersionBrief
from .jobs import JobSerializer
from .maps import ProvenanceSerializer

NAMES = sorted(name for name, steps in PIPELINES.items() if of_images(steps))


class ImagePipelineRequest(serializers.Serializer[Any]):
    name = serializers.ChoiceField(choices=NAMES, default="virtues")
    options = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID), default=dict, help_text="{family: id of a version}."
    )


class DroppedSerializer(serializers.Serializer[Any]):
    channel = serializers.CharField()
    why = serializers.CharField()


class ImportanceSerializer(serializers.Serializer[Any]):
    channel = serializers.CharField(source="name")
    protein = serializers.CharField(help_text="UniProt accession.")
    value = serializers.FloatField(help_text="0 to channels x heads.")


class EmbeddingSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    image = serializers.IntegerField(source="image_id")
    version = VersionBrief()
    label = serializers.CharField(source="version.label")
    licence = serializers.CharField(source="version.licence")
    in_sample = serializers.BooleanField(help_text="The weights saw this patient.")
    n_niches = serializers.IntegerField(source="facts.n_niches")
    n_cells = serializers.SerializerMethodField(help_text="null without a cell mask.")
    dim = serializers.IntegerField(source="facts.dim")
    crop_px = serializers.IntegerField(source="facts.crop_px", help_text="Side of a niche at the model's pitch.")
    pitch_um = serializers.FloatField(source="facts.pitch_um", help_text="um per px of the model.")
    channels = serializers.ListField(child=serializers.CharField(), source="facts.names", help_text="Channels that were seen.")
    proteins = serializers.ListField(child=serializers.CharField(), source="facts.proteins", help_text="Their UniProt accessions.")
    dropped = serializers.SerializerMethodField(help_text="Channels that were not seen, and why.")
    importance = serializers.SerializerMethodField(
        help_text="By reading: paper (as printed), attended (minimum and maximum over the attended marker)."
    )
    sha256 = serializers.CharField()
    file = serializers.SerializerMethodField(help_text="Niches, tissue and attention as HDF5.")
    cells_file = serializers.SerializerMethodField(help_text="Cells as Parquet; null without a cell mask.")
    provenance = ProvenanceSerializer(source="*")
    research_use_only = serializers.SerializerMethodField()

    def get_n_cells(self, found: Prediction) -> int | None:
        cells = self._cells(found)
        return None if cells is None else cells.facts["n_cells"]

    @extend_schema_field(DroppedSerializer(many=True))
    def get_dropped(self, found: Prediction) -> Any:
        return [{"channel": name, "why": why} for name, why in found.facts["dropped"]]

    @extend_schema_field(serializers.DictField(child=ImportanceSerializer(many=True)))
    def get_importance(self, found: Prediction) -> Any:
        return {reading: ImportanceSerializer(importance_of(found, reading), many=True).data for reading in READINGS}

    @extend_schema_field(OpenApiTypes.URI)
    def get_file(self, found: Prediction) -> str:
        return reverse("api:image_output_file", args=[found.image_id, found.pk])

    @extend_schema_field(OpenApiTypes.URI)
    def get_cells_file(self, found: Prediction) -> str | None:
        cells = self._cells(found)
        return None if cells is None else reverse("api:image_output_file", args=[found.image_id, cells.pk])

    def get_research_use_only(self, found: Prediction) -> bool:
        return True

    def _cells(self, found: Prediction) -> Prediction | None:
        return cells_beside(self.context["request"].user, found)


class EmbeddingList(ListAddress):
    serializer_class = EmbeddingSerializer

    @extend_schema(
        operation_id="assays_virtues_list",
        summary="What VirTues gave of a multiplex image, versions in use first",
        responses=EmbeddingSerializer(many=True),
    )
    def get(self, request: Request, image_id: int) -> Response:
        return self.page_of(embeddings_of_image(request.user, get_image(request.user, image_id)))


class StainRequest(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=LARGEST_ID, help_text="A VirTues version.")
    protein = serializers.CharField(max_length=16, help_text="UniProt accession of its marker embeddings that the image lacks.")


class ImageStain(Address):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="assays_virtues_stain",
        summary="Ask for a marker that the image lacks, painted from the others; only where that was measured to work",
        request=StainRequest,
        responses={202: JobSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        require(request.user, image.sample.patient.cohort, Role.CONTRIBUTOR)
        body = self.read_body(StainRequest)
        version = get_version(request.user, body["version"])
        return Response(self.get_serializer(ask_stain(request.user, image, version, body["protein"])).data, status=202)


class ImageOutputFile(Address):
    @extend_schema(
        operation_id="assays_virtues_file",
        summary="Niches or a virtual stain as HDF5, cells as Parquet; the download is logged",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def get(self, request: Request, image_id: int, prediction_id: int) -> FileResponse:
        return send(download_image_output(request.user, image_id, prediction_id))


class AssayPipeline(Address):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="assays_pipeline",
        summary="Start a pipeline on a multiplex image; asking twice finds the same jobs",
        request=ImagePipelineRequest,
        responses={202: JobSerializer(many=True), 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        body = self.read_body(ImagePipelineRequest)
        jobs = run_pipeline(request.user, body["name"], slides=[image], options=body["options"])
        return Response(self.get_serializer(jobs, many=True).data, status=202)
