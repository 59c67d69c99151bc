"""/api/v1/imports/: files that people brought, the report on each, and bringing one in. Takes the role contributor."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohort_named
from tissueboard.intake.models import Import
from tissueboard.intake.selectors import get_import, imports_for
from tissueboard.intake.services import confirm_import, discard_import, receive_upload

from .base import Address, ListAddress
from .fields import CohortBrief, CohortRef, ErrorSerializer, FindingSerializer, JsonObject, one_of

REFUSALS = {400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}


@extend_schema_field(OpenApiTypes.STR)
class JsonText(serializers.CharField):
    """A JSON object written as text: what a form can carry."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        try:
            found = json.loads(super().to_internal_value(data))
        except (ValueError, RecursionError):
            raise serializers.ValidationError("This is not JSON.") from None
        return JsonObject().run_validation(found)


class ImportQuery(serializers.Serializer[Any]):
    cohort = CohortRef(required=False)
    kind = serializers.ChoiceField(choices=Import.Kind.choices, required=False)
    state = serializers.ChoiceField(choices=Import.State.choices, required=False)


class ImportSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Import.Kind.choices)
    state = serializers.CharField(help_text=one_of(Import.State))
    cohort = CohortBrief()
    file_name = serializers.CharField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    dry_run = serializers.BooleanField(help_text="Only checked so far: confirm or discard it.")
    n_findings = serializers.SerializerMethodField()
    job_id = serializers.IntegerField(allow_null=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()

    def get_n_findings(self, import_: Any) -> int:
        return len(import_.findings)


class ImportDetailSerializer(ImportSerializer):
    options = serializers.JSONField(help_text="How it is read; of a table: columns, coding of events, units.")
    findings = FindingSerializer(many=True)
    facts = serializers.JSONField(help_text="Counts, and the first rows as they would be imported.")


class UploadRequest(serializers.Serializer[Any]):
    cohort = CohortRef()
    kind = serializers.ChoiceField(choices=Import.Kind.choices)
    file = serializers.FileField(allow_empty_file=True, max_length=255)
    options = JsonText(required=False, help_text="JSON object: of a slide patient_code, mpp, stain ...; of a table its mapping.")
    dry_run = serializers.BooleanField(default=False, help_text="A table is always only checked at first; confirm it to import it.")


class ConfirmRequest(serializers.Serializer[Any]):
    options = JsonObject(required=False, allow_null=True, help_text="Those of the dry run if left out.")


class ImportList(ListAddress):
    serializer_class = ImportSerializer
    parser_classes = (MultiPartParser,)

    @extend_schema(
        operation_id="imports_list",
        summary="Files brought into cohorts where I am contributor",
        parameters=[ImportQuery],
        responses=ImportSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(ImportQuery)
        cohort = cohort_named(request.user, query["cohort"]) if "cohort" in query else None
        kept = {name: query[name] for name in ("kind", "state") if name in query}
        return self.page_of(imports_for(request.user, cohort).filter(**kept).order_by("-pk"))

    @extend_schema(
        operation_id="imports_create",
        summary="Send one slide or clinical table",
        request={"multipart/form-data": UploadRequest},
        responses={202: ImportDetailSerializer, 413: ErrorSerializer, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        sent = self.read_body(UploadRequest)
        cohort = cohort_named(request.user, sent["cohort"])
        received = receive_upload(request.user, cohort, sent["file"], sent["kind"], sent.get("options"), dry_run=sent["dry_run"])
        return Response(ImportDetailSerializer(received, context=self.get_serializer_context()).data, status=202)


class ImportDetail(Address):
    serializer_class = ImportDetailSerializer

    @extend_schema(operation_id="imports_retrieve", summary="One import with its findings")
    def get(self, request: Request, import_id: int) -> Response:
        return Response(self.get_serializer(get_import(request.user, import_id)).data)


class ImportConfirm(Address):
    serializer_class = ImportDetailSerializer

    @extend_schema(
        operation_id="imports_confirm",
        summary="Import what was only checked so far",
        request=ConfirmRequest,
        responses={200: ImportDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, import_id: int) -> Response:
        import_ = get_import(request.user, import_id)
        return Response(self.get_serializer(confirm_import(request.user, import_, self.read_body(ConfirmRequest).get("options"))).data)


class ImportDiscard(Address):
    serializer_class = ImportDetailSerializer

    @extend_schema(
        operation_id="imports_discard",
        summary="Drop the bytes of what was only checked so far",
        request=None,
        responses={200: ImportDetailSerializer, **REFUSALS},
    )
    def post(self, request: Request, import_id: int) -> Response:
        return Response(self.get_serializer(discard_import(request.user, get_import(request.user, import_id))).data)
