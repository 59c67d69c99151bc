"""/api/v1/cohorts/<id>/channels/: what the channels of a cohort's images measure, as UniProt accessions."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.proteins import channel_rows, proteins_from_csv, proteins_to_csv, set_protein
from tissueboard.cohorts.selectors import get_cohort

from .base import Address
from .fields import ErrorSerializer

REFUSALS = dict.fromkeys((400, 403, 404), ErrorSerializer)


class CohortChannelSerializer(serializers.Serializer[Any]):
    channel = serializers.CharField()
    uniprot = serializers.CharField(allow_null=True, help_text="Accession; null where the protein is not known or there is none.")
    why = serializers.CharField()
    own = serializers.BooleanField(help_text="Whether the cohort says so; else it is the house's table.")
    n_images = serializers.IntegerField(help_text="Images of the cohort that have this channel.")
    others = serializers.ListField(child=serializers.CharField(), help_text="Other channels of the cohort with the same protein.")


class ChannelRequest(serializers.Serializer[Any]):
    channel = serializers.CharField(max_length=80)
    uniprot = serializers.CharField(max_length=24, help_text='An accession, "none" for no protein, "house" for the house\'s table again.')
    note = serializers.CharField(max_length=200, default="", allow_blank=True)


class CsvRequest(serializers.Serializer[Any]):
    csv = serializers.CharField(max_length=1 << 20, trim_whitespace=False, help_text="Columns channel, uniprot, note.")


class CsvAnswer(serializers.Serializer[Any]):
    changed = serializers.IntegerField()


class CohortChannels(Address):
    serializer_class = CohortChannelSerializer

    @extend_schema(
        operation_id="cohorts_channels_list",
        summary="The channels of a cohort with their proteins",
        responses=CohortChannelSerializer(many=True),
    )
    def get(self, request: Request, cohort_id: int) -> Response:
        return Response(CohortChannelSerializer(channel_rows(request.user, get_cohort(request.user, cohort_id)), many=True).data)

    @extend_schema(
        operation_id="cohorts_channels_set",
        summary="Say what a channel of the cohort measures",
        request=ChannelRequest,
        responses={200: CohortChannelSerializer(many=True), **REFUSALS},
    )
    def post(self, request: Request, cohort_id: int) -> Response:
        cohort = get_cohort(request.user, cohort_id)
        set_protein(request.user, cohort, **self.read_body(ChannelRequest))
        return Response(CohortChannelSerializer(channel_rows(request.user, cohort), many=True).data)


class CohortChannelsCsv(Address):
    serializer_class = CsvAnswer

    @extend_schema(
        operation_id="cohorts_channels_csv",
        summary="The same as CSV: channel, uniprot, note, source, images",
        responses={(200, "text/csv"): OpenApiResponse(description="A row per channel.")},
    )
    def get(self, request: Request, cohort_id: int) -> HttpResponse:
        return csv_answer(proteins_to_csv(request.user, get_cohort(request.user, cohort_id)))

    @extend_schema(
        operation_id="cohorts_channels_csv_set",
        summary="Set the proteins of many channels, all or none",
        request=CsvRequest,
        responses={200: CsvAnswer, **REFUSALS},
    )
    def post(self, request: Request, cohort_id: int) -> Response:
        cohort = get_cohort(request.user, cohort_id)
        changed = proteins_from_csv(request.user, cohort, self.read_body(CsvRequest)["csv"].encode(errors="replace"))
        return Response({"changed": changed})


def csv_answer(text: str) -> HttpResponse:
    answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="channels.csv"'
    return answer
