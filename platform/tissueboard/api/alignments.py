"""/api/v1/assays/<id>/alignments/: where a multiplex image lies on slides of its patient."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.assays.alignments import MAX_LANDMARKS, place_image, slide_to_place_on
from tissueboard.assays.selectors import alignments_of, get_image
from tissueboard.assays.services import open_image

from .base import ListAddress
from .fields import ErrorSerializer, FindingSerializer

POINT = {"min_length": 2, "max_length": 2}


class LandmarkSerializer(serializers.Serializer[Any]):
    image = serializers.ListField(child=serializers.FloatField(), help_text="x, y in pixels of the image's level 0.", **POINT)
    slide = serializers.ListField(child=serializers.FloatField(), help_text="x, y in pixels of the slide's level 0.", **POINT)
    off_um = serializers.FloatField(read_only=True, help_text="How far the fit misses it, um.")


class AlignmentSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(allow_null=True, help_text="null in a dry run.")
    image = serializers.IntegerField(source="image_id")
    slide = serializers.IntegerField(source="slide_id")
    matrix = serializers.JSONField(help_text="2 x 3, from pixels of the image to level-0 pixels of the working slide.")
    landmarks = LandmarkSerializer(many=True)
    residual_um = serializers.FloatField(allow_null=True, help_text="Root mean square over the landmarks; null for a given matrix.")
    facts = serializers.DictField(help_text="scale (um per um), scale_min, scale_max, rotation (degrees), mirrored, box (px of the slide).")
    findings = FindingSerializer(many=True)
    created_at = serializers.DateTimeField(allow_null=True)
    replaced_at = serializers.DateTimeField(allow_null=True)


class AlignmentRequest(serializers.Serializer[Any]):
    slide = serializers.IntegerField(help_text="A slide of the image's patient.")
    matrix = serializers.JSONField(required=False, help_text="[[a, b, tx], [c, d, ty]]; this or landmarks.")
    landmarks = LandmarkSerializer(many=True, required=False, max_length=MAX_LANDMARKS)
    whole_file = serializers.BooleanField(default=False, help_text="The slide's pixels count from the corner of the whole original.")
    dry_run = serializers.BooleanField(default=False, help_text="Only fit and check.")


class AssayAlignments(ListAddress):
    serializer_class = AlignmentSerializer

    @extend_schema(
        operation_id="assays_alignments_list",
        summary="Where an image lies on slides; earlier places, too",
        responses=AlignmentSerializer(many=True),
    )
    def get(self, request: Request, image_id: int) -> Response:
        return self.page_of(alignments_of(request.user, open_image(request.user, image_id), replaced=True))

    @extend_schema(
        operation_id="assays_alignments_create",
        summary="Place an image on a slide, by a matrix or by landmarks",
        request=AlignmentRequest,
        responses={201: AlignmentSerializer, 200: AlignmentSerializer, **dict.fromkeys((400, 403, 404, 409), ErrorSerializer)},
    )
    def post(self, request: Request, image_id: int) -> Response:
        image = get_image(request.user, image_id)
        sent = self.read_body(AlignmentRequest)
        slide = slide_to_place_on(request.user, image, sent.pop("slide"))
        if "landmarks" in sent:
            sent["landmarks"] = [dict(pair) for pair in sent["landmarks"]]
        made = place_image(request.user, image, slide, **sent)
        return Response(self.get_serializer(made).data, status=200 if sent["dry_run"] else 201)
