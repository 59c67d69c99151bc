"""/api/v1/encoders/: the catalogue of patch encoders and what is ready on this server."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.model_registry.encoder_catalogue import catalogue

from .base import ListAddress


class EncoderSerializer(serializers.Serializer[Any]):
    """One entry. Lengths in um; mean and std per RGB channel of values in 0..1."""

    name = serializers.CharField(source="spec.name")
    title = serializers.CharField(source="spec.title")
    dim = serializers.IntegerField(source="spec.dim", help_text="Values per tile.")
    input_px = serializers.IntegerField(source="spec.input_px", help_text="Side of its input.")
    tile_um = serializers.FloatField(source="spec.tile_um", help_text="Side of the tile that it is given.")
    mpp = serializers.FloatField(source="spec.mpp", help_text="um per pixel of its input.")
    mean = serializers.ListField(source="spec.mean", child=serializers.FloatField())
    std = serializers.ListField(source="spec.std", child=serializers.FloatField())
    precision = serializers.CharField(source="spec.precision", help_text="What it is run in on a GPU.")
    vector = serializers.CharField(source="spec.vector_note", help_text="How its vector is made.")
    label = serializers.CharField(source="spec.label")
    licence = serializers.CharField(source="spec.licence")
    commercial = serializers.BooleanField(
        source="spec.commercial", allow_null=True, help_text="Whether the licence allows commercial use; null: read it."
    )
    gated = serializers.BooleanField(source="spec.gated", help_text="Terms must be accepted at the hub first.")
    repo = serializers.CharField(source="spec.repo", allow_blank=True)
    file = serializers.CharField(source="spec.file", allow_blank=True)
    pretrained_on = serializers.CharField(source="spec.pretrained_on")
    pretraining_overlap = serializers.CharField(source="spec.pretraining_overlap", help_text="yes, no or unknown (never external).")
    cohorts = serializers.DictField(source="spec.cohorts", child=serializers.CharField(), help_text="The same per public cohort.")
    citation = serializers.CharField(source="spec.citation", allow_blank=True)
    source = serializers.CharField(source="spec.source", help_text="Where these figures come from.")
    verified = serializers.BooleanField(source="spec.verified", help_text="False when some were not read there; see note.")
    note = serializers.CharField(source="spec.note", allow_blank=True)
    state = serializers.CharField(help_text="One of: ready, file is here, weights missing, trained with its head.")
    sentence = serializers.CharField(allow_blank=True, help_text="What a person has to do, where something is missing.")
    version = serializers.IntegerField(source="version.pk", allow_null=True, default=None, help_text="Model version in use, or null.")


class EncoderList(ListAddress):
    serializer_class = EncoderSerializer

    @extend_schema(operation_id="encoders_list", summary="Encoders and what is ready here", responses=EncoderSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page_of(catalogue(request.user))
