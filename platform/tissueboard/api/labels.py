"""/api/v1/slides/<id>/labels/: measured proteins per tile of a slide, as HEX is trained on them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.accounts.audit import record
from tissueboard.assays.labels import KINDS, TILE_UM
from tissueboard.assays.selectors import labels_of_slide
from tissueboard.assays.services import receive_labels
from tissueboard.slides.selectors import get_slide

from .base import ListAddress
from .fields import ErrorSerializer, FindingSerializer
from .regions import FRAME_HELP, FRAMES


class LabelsSerializer(serializers.Serializer[Any]):
    """The labels of one kind on a slide."""

    id = serializers.IntegerField()
    slide = serializers.IntegerField(source="slide_id")
    kind = serializers.CharField(help_text="How they were measured.")
    panel = serializers.CharField(source="panel.name")
    markers = serializers.ListField(source="panel.markers", child=serializers.CharField(), help_text="In the order of the columns.")
    tile_um = serializers.FloatField(help_text="Side of a tile in um.")
    n_tiles = serializers.IntegerField(source="facts.n_tiles", default=None, allow_null=True)
    scale = serializers.CharField(source="facts.scale", default=None, allow_null=True, help_text="0..1, 0..255 or raw counts: a guess.")
    source = serializers.CharField(source="facts.source", default=None, allow_null=True, help_text="table, or the multiplex image.")
    simulated = serializers.BooleanField()
    sha256 = serializers.CharField(help_text="SHA-256 of the stored table.")
    findings = FindingSerializer(many=True)
    created_at = serializers.DateTimeField()


class LabelsUpload(serializers.Serializer[Any]):
    file = serializers.FileField(allow_empty_file=True, max_length=255, help_text="CSV: slide, index, x, y, then one column per marker.")
    kind = serializers.CharField(default="codex", max_length=24, help_text=f"One of: {', '.join(value for value, _ in KINDS)}.")
    tile_um = serializers.FloatField(default=TILE_UM, help_text="Side of a tile in um.")
    markers = serializers.CharField(default="", allow_blank=True, max_length=40_000, help_text="Names of numbered channels, with commas.")
    panel = serializers.CharField(default="", allow_blank=True, max_length=80, help_text="Name of the panel; found or made without it.")
    table_slide = serializers.CharField(default="", allow_blank=True, max_length=200, help_text="What the table calls this slide.")
    frame = serializers.ChoiceField(choices=FRAMES, default="whole", help_text=FRAME_HELP)
    replace = serializers.BooleanField(default=False, help_text="Other labels of this kind make room.")
    dry_run = serializers.BooleanField(default=False, help_text="Only check.")


class LabelsAnswer(serializers.Serializer[Any]):
    """What became of a table. state: added, checked (a dry run) or there already."""

    state = serializers.CharField()
    labels = LabelsSerializer(source="assay", allow_null=True)
    n_tiles = serializers.IntegerField()
    markers = serializers.ListField(child=serializers.CharField())
    scale = serializers.CharField()
    findings = FindingSerializer(many=True)


class SlideLabels(ListAddress):
    serializer_class = LabelsSerializer
    parser_classes = (MultiPartParser,)

    @extend_schema(operation_id="slides_labels_list", summary="Measured labels of a slide", responses=LabelsSerializer(many=True))
    def get(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        patient = slide.sample.patient
        record(request.user, "read labels", slide, cohort_id=patient.cohort_id, patient_code=patient.code)
        return self.page_of(labels_of_slide(request.user, slide))

    @extend_schema(
        operation_id="slides_labels_create",
        summary="Send the label table of a slide; it is kept whole or not at all",
        request={"multipart/form-data": LabelsUpload},
        responses={
            201: LabelsAnswer,
            200: LabelsAnswer,
            **dict.fromkeys((400, 403, 404, 409, 413), ErrorSerializer),
        },
    )
    def post(self, request: Request, slide_id: int) -> Response:
        slide = get_slide(request.user, slide_id)
        sent = self.read_body(LabelsUpload)
        file, dry_run = sent.pop("file"), sent.pop("dry_run")
        found = receive_labels(request.user, slide, file, sent, dry_run=dry_run)
        answer = LabelsAnswer({**vars(found), "findings": [one.to_dict() for one in found.findings]}, context=self.get_serializer_context())
        return Response(answer.data, status=201 if found.state == "added" else 200)
