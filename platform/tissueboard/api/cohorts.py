"""/api/v1/cohorts/: the cohorts that the user is a member of."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohorts_for
from tissueboard.errors import NotVisible
from tissueboard.outcomes.selectors import endpoints_in, groupings

from .base import Address, ListAddress


class CohortSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    simulated = serializers.BooleanField()
    my_role = serializers.CharField(help_text="viewer, contributor or manager.")
    n_patients = serializers.IntegerField()
    n_slides = serializers.IntegerField()
    n_ready = serializers.IntegerField(help_text="Slides in the state ready.")
    n_attention = serializers.IntegerField(help_text="Slides in the state needs attention.")
    created_at = serializers.DateTimeField()


class GroupingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="The value of group_by at /kaplan-meier/.")
    label = serializers.CharField()
    rule = serializers.CharField()


class VariableSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()
    kind = serializers.CharField()
    unit = serializers.CharField()
    categories = serializers.ListField(child=serializers.CharField())


class CohortDetailSerializer(CohortSerializer):
    min_group_size = serializers.IntegerField(help_text="Smaller groups are not drawn for viewers.")
    neighbours = serializers.IntegerField(help_text="k of the similar cases.")
    endpoints = serializers.SerializerMethodField()
    groupings = serializers.SerializerMethodField()
    variables = VariableSerializer(many=True, help_text="The data dictionary.")

    def get_endpoints(self, cohort: Any) -> list[str]:
        return endpoints_in(self.context["request"].user, cohort)

    @extend_schema_field(GroupingSerializer(many=True))
    def get_groupings(self, cohort: Any) -> Any:
        return GroupingSerializer(groupings(self.context["request"].user, cohort), many=True).data


class CohortList(ListAddress):
    serializer_class = CohortSerializer

    @extend_schema(operation_id="cohorts_list", summary="My cohorts, by name", responses=CohortSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page_of(cohorts_for(request.user).order_by("name"))


class CohortDetail(Address):
    serializer_class = CohortDetailSerializer

    @extend_schema(operation_id="cohorts_retrieve", summary="One cohort with its data dictionary, endpoints and groupings")
    def get(self, request: Request, cohort_id: int) -> Response:
        cohort = cohorts_for(request.user).filter(pk=cohort_id).first()
        if cohort is None:
            raise NotVisible("cohort")
        return Response(self.get_serializer(cohort).data)
