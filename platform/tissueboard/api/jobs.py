"""/api/v1/jobs/: background work, its timeline, cancel and retry."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.selectors import cohort_named
from tissueboard.jobs import selectors
from tissueboard.jobs.models import State
from tissueboard.jobs.services import cancel, retry

from .base import Address, ListAddress
from .fields import CohortBrief, CohortRef, ErrorSerializer, one_of


class JobQuery(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=State.choices, required=False)
    cohort = CohortRef(required=False)


class JobErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    sentence = serializers.CharField()
    hint = serializers.CharField(allow_blank=True)


class JobSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    title = serializers.CharField()
    queue = serializers.CharField()
    state = serializers.CharField(help_text=one_of(State))
    attempt = serializers.IntegerField()
    progress = serializers.FloatField(help_text="0 to 1.")
    progress_text = serializers.CharField()
    cancel_requested = serializers.BooleanField()
    error = serializers.SerializerMethodField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    cohorts = CohortBrief(many=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: Any) -> dict[str, str] | None:
        return {"code": job.error_code, "sentence": job.error_sentence, "hint": job.error_hint} if job.error_code else None


class TransitionSerializer(serializers.Serializer[Any]):
    from_state = serializers.CharField()
    to_state = serializers.CharField()
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField()
    note = serializers.SerializerMethodField()

    def get_note(self, transition: Any) -> str:
        return str(transition.facts.get("note", ""))


class OutputSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    created_at = serializers.DateTimeField()


class JobCurveSerializer(serializers.Serializer[Any]):
    x = serializers.ListField(child=serializers.FloatField(), help_text="Grows; of a training: epochs passed.")
    y = serializers.ListField(child=serializers.FloatField())
    each = serializers.IntegerField(help_text="How many values each point is the mean of.")


class JobDetailSerializer(JobSerializer):
    place_in_queue = serializers.SerializerMethodField(help_text="1 for the next one to start; null when it is not queued.")
    expected_seconds = serializers.SerializerMethodField(help_text="Median of the last jobs of this kind.")
    needs = serializers.SerializerMethodField(help_text="Ids of the jobs that must succeed first.")
    timeline = serializers.SerializerMethodField()
    outputs = serializers.SerializerMethodField()
    curves = serializers.SerializerMethodField(help_text="{series: points} of what it drew, e.g. the loss of each fold.")

    def get_place_in_queue(self, job: Any) -> int | None:
        return selectors.place_in_queue(job)

    def get_expected_seconds(self, job: Any) -> float | None:
        return selectors.expected_seconds(job.kind)

    def get_needs(self, job: Any) -> list[int]:
        return [need.pk for need in selectors.needs(self.context["request"].user, job)]

    @extend_schema_field(TransitionSerializer(many=True))
    def get_timeline(self, job: Any) -> Any:
        return TransitionSerializer(selectors.timeline(self.context["request"].user, job), many=True).data

    @extend_schema_field(OutputSerializer(many=True))
    def get_outputs(self, job: Any) -> Any:
        return OutputSerializer(selectors.outputs(self.context["request"].user, job), many=True).data

    @extend_schema_field(serializers.DictField(child=JobCurveSerializer()))
    def get_curves(self, job: Any) -> Any:
        return {curve.series: JobCurveSerializer(curve).data for curve in selectors.curves(self.context["request"].user, job)}


class JobList(ListAddress):
    serializer_class = JobSerializer

    @extend_schema(
        operation_id="jobs_list", summary="Jobs that I may see, newest first", parameters=[JobQuery], responses=JobSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(JobQuery)
        jobs = selectors.list_jobs(request.user).order_by("-pk")
        if "state" in query:
            jobs = jobs.filter(state=query["state"])
        if "cohort" in query:
            jobs = jobs.filter(cohorts=cohort_named(request.user, query["cohort"]))
        return self.page_of(jobs)


class JobDetail(Address):
    serializer_class = JobDetailSerializer

    @extend_schema(operation_id="jobs_retrieve", summary="One job with its timeline")
    def get(self, request: Request, job_id: int) -> Response:
        return Response(self.get_serializer(selectors.get_job(request.user, job_id)).data)


class JobCancel(Address):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="jobs_cancel",
        summary="Cancel a job",
        request=None,
        responses={200: JobDetailSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, job_id: int) -> Response:
        return Response(self.get_serializer(cancel(request.user, selectors.get_job(request.user, job_id))).data)


class JobRetry(Address):
    serializer_class = JobDetailSerializer

    @extend_schema(
        operation_id="jobs_retry",
        summary="Start a job again that ended without a result",
        request=None,
        responses={200: JobDetailSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request, job_id: int) -> Response:
        return Response(self.get_serializer(retry(request.user, selectors.get_job(request.user, job_id))).data)
