"""/api/v1/assays/<id>/cells/ and proteins/: the cells of a multiplex image, and what its channels measure."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.cells import confirm_cells, receive_cells
from tissueboard.assays.models import CellMask
from tissueboard.assays.selectors import cell_mask_of, get_image, proteins_of, waiting_cells_of
from tissueboard.assays.services import open_image

from .base import Address
from .fields import ErrorSerializer, FindingSerializer, one_of

PARTS_HELP = "Facts: n_cells, median_um2, covered ...; of the table n_rows, columns, types (cells per type)."


class CellsSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    state = serializers.CharField(help_text=one_of(CellMask.State))
    n_cells = serializers.IntegerField()
    mask = serializers.DictField(source="facts.mask", help_text=PARTS_HELP)
    table = serializers.DictField(source="facts.table", allow_null=True, default=None, help_text=PARTS_HELP)
    sha256 = serializers.CharField(help_text="SHA-256 of the stored mask, over its files' names and checksums.")
    table_sha256 = serializers.CharField(help_text="SHA-256 of the stored table, empty without one.")
    findings = FindingSerializer(many=True)
    created_at = serializers.DateTimeField()


class CellsOfImage(serializers.Serializer[Any]):
    """cells: those that count. waiting: a mask that a person has to confirm."""

    cells = CellsSerializer(allow_null=True)
    waiting = CellsSerializer(allow_null=True)


class CellsUpload(serializers.Serializer[Any]):
    mask = serializers.FileField(required=False, allow_empty_file=True, max_length=255, help_text="TIFF or npz (key mask) of labels.")
    table = serializers.FileField(required=False, allow_empty_file=True, max_length=255, help_text="CSV or Parquet, a row per cell.")
    id_column = serializers.CharField(default="", allow_blank=True, max_length=80, help_text="Column of the labels; found without it.")
    type_columns = serializers.CharField(default="", allow_blank=True, max_length=400, help_text="Columns of types, with commas.")
    table_image = serializers.CharField(default="", allow_blank=True, max_length=200, help_text="What the table calls this image.")
    confirmed = serializers.BooleanField(default=False, help_text="An implausible size of the cells was looked at and is right.")
    dry_run = serializers.BooleanField(default=False, help_text="Only check.")


class CellsAnswer(serializers.Serializer[Any]):
    """What became of the files. state: ready, needs attention, or checked (a dry run)."""

    state = serializers.CharField()
    cells = CellsSerializer(allow_null=True)
    facts = serializers.DictField()
    findings = FindingSerializer(many=True)


class ProteinSerializer(serializers.Serializer[Any]):
    channel = serializers.CharField()
    uniprot = serializers.CharField(allow_null=True, help_text="Accession; null where the protein is not known or there is none.")
    why = serializers.CharField()


class AssayCells(Address):
    serializer_class = CellsOfImage
    parser_classes = (MultiPartParser,)

    @extend_schema(operation_id="assays_cells_retrieve", summary="The cells of a multiplex image")
    def get(self, request: Request, image_id: int) -> Response:
        image = open_image(request.user, image_id)
        found = {"cells": cell_mask_of(request.user, image), "waiting": waiting_cells_of(request.user, image)}
        return Response(CellsOfImage(found, context=self.get_serializer_context()).data)

    @extend_schema(
        operation_id="assays_cells_create",
        summary="Send a label mask, a table of cells, or both; kept whole or not at all",
        request={"multipart/form-data": CellsUpload},
        responses={201: CellsAnswer, 200: CellsAnswer, **dict.fromkeys((400, 403, 404, 409, 413), ErrorSerializer)},
    )
    def post(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        sent = self.read_body(CellsUpload)
        mask, table, dry_run = sent.pop("mask", None), sent.pop("table", None), sent.pop("dry_run")
        found = receive_cells(request.user, image, mask, table, sent, dry_run=dry_run)
        answer = CellsAnswer({**vars(found), "findings": [one.to_dict() for one in found.findings]}, context=self.get_serializer_context())
        return Response(answer.data, status=200 if dry_run else 201)


class AssayCellsConfirm(Address):
    serializer_class = CellsSerializer

    @extend_schema(
        operation_id="assays_cells_confirm",
        summary="Say that the waiting mask is right",
        request=None,
        responses={200: CellsSerializer, **dict.fromkeys((403, 404, 409), ErrorSerializer)},
    )
    def post(self, request: Request, image_id: int) -> Response:
        return Response(self.get_serializer(confirm_cells(request.user, get_image(request.user, image_id))).data)


class AssayProteins(Address):
    serializer_class = ProteinSerializer

    @extend_schema(
        operation_id="assays_proteins",
        summary="The protein of every channel, in the order of the planes",
        responses=ProteinSerializer(many=True),
    )
    def get(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        return Response(ProteinSerializer([one._asdict() for one in proteins_of(image)], many=True).data)
