"""/api/v1/patients/: cases. Reading one leaves a row in the access log."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohort_named, patients_for
from tissueboard.cohorts.services import open_case
from tissueboard.slides.selectors import slides_of_patient

from .base import Address, ListAddress
from .fields import CohortBrief, CohortRef


class PatientQuery(serializers.Serializer[Any]):
    cohort = CohortRef(required=False)
    search = serializers.CharField(required=False, max_length=64, allow_blank=True, help_text="Part of a patient's code.")


class PatientSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    code = serializers.CharField()
    cohort = CohortBrief()
    created_at = serializers.DateTimeField()


class ClinicalValueSerializer(serializers.Serializer[Any]):
    """One variable of the cohort's dictionary with this patient's value; null means that it was not recorded, never zero."""

    name = serializers.CharField()
    label = serializers.CharField()
    kind = serializers.CharField()
    unit = serializers.CharField()
    value = serializers.JSONField(allow_null=True)


class SampleSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    code = serializers.CharField()
    tumour = serializers.CharField()
    time_point = serializers.CharField()
    body_site = serializers.CharField()
    procedure = serializers.CharField()
    day = serializers.FloatField(allow_null=True, help_text="Days since time zero.")
    date = serializers.DateField(allow_null=True)


class EventSerializer(serializers.Serializer[Any]):
    """Something done, measured or observed. state: done, failed or pending."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    name = serializers.CharField()
    state = serializers.CharField()
    value = serializers.CharField()
    unit = serializers.CharField()
    method = serializers.CharField()
    day = serializers.FloatField(allow_null=True, help_text="Days since time zero.")
    end_day = serializers.FloatField(allow_null=True)
    date = serializers.DateField(allow_null=True)
    sample_id = serializers.IntegerField(allow_null=True)
    source = serializers.CharField()


class EndpointSerializer(serializers.Serializer[Any]):
    """event true: it happened at time_days; false: censored then. At risk in (entry_days, time_days]."""

    name = serializers.CharField()
    time_days = serializers.FloatField()
    event = serializers.BooleanField()
    entry_days = serializers.FloatField()
    time_zero = serializers.CharField()
    source = serializers.CharField()


class SlideOfPatientSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.CharField()
    sample_id = serializers.IntegerField()


class PatientDetailSerializer(PatientSerializer):
    question = serializers.CharField(help_text="What the tumour board is asked about her.")
    clinical = serializers.SerializerMethodField()
    samples = SampleSerializer(many=True)
    slides = serializers.SerializerMethodField()
    events = EventSerializer(many=True)
    endpoints = EndpointSerializer(many=True)

    @extend_schema_field(ClinicalValueSerializer(many=True))
    def get_clinical(self, patient: Any) -> Any:
        rows = [
            {"name": v.name, "label": v.label, "kind": v.kind, "unit": v.unit, "value": patient.clinical.get(v.name)}
            for v in patient.cohort.variables.all()
        ]
        return ClinicalValueSerializer(rows, many=True).data

    @extend_schema_field(SlideOfPatientSerializer(many=True))
    def get_slides(self, patient: Any) -> Any:
        return SlideOfPatientSerializer(slides_of_patient(self.context["request"].user, patient), many=True).data


class PatientList(ListAddress):
    serializer_class = PatientSerializer

    @extend_schema(
        operation_id="patients_list",
        summary="Patients of my cohorts, by code",
        parameters=[PatientQuery],
        responses=PatientSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(PatientQuery)
        cohort = cohort_named(request.user, query["cohort"]) if "cohort" in query else None
        return self.page_of(patients_for(request.user, cohort=cohort, search=query.get("search", "")).order_by("code", "pk"))


class PatientDetail(Address):
    serializer_class = PatientDetailSerializer

    @extend_schema(operation_id="patients_retrieve", summary="One case: clinical values, samples, slides, events, endpoints")
    def get(self, request: Request, patient_id: int) -> Response:
        return Response(self.get_serializer(open_case(request.user, patient_id)).data)
