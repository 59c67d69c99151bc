"""/api/v1/runs/: a pipeline over a whole cohort: plan, start, progress, pause, resume, retry, extend, cancel."""

from __future__ import annotations

from itertools import islice
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import cohort_named
from tissueboard.pipelines import run_services, selectors
from tissueboard.pipelines.cohort_plan import CohortPlan, plan_cohort
from tissueboard.pipelines.declared import PIPELINES
from tissueboard.pipelines.feeding import feed
from tissueboard.pipelines.models import CohortRun, RunItem

from .base import Address, ListAddress
from .fields import LARGEST_ID, CohortBrief, CohortRef, ErrorSerializer, PatientBrief, VersionBrief, one_of

MOST_SKIPPED = 200


class RunQuery(serializers.Serializer[Any]):
    cohort = CohortRef(required=False)
    state = serializers.ChoiceField(choices=CohortRun.State.choices, required=False)


class ItemQuery(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=[(state, state) for state in RunItem.STATES], required=False)
    kind = serializers.CharField(max_length=80, required=False, help_text="A step: a job kind.")


class PlanRequest(serializers.Serializer[Any]):
    cohort = CohortRef()
    pipeline = serializers.CharField(max_length=40, help_text=f"One of: {', '.join(sorted(PIPELINES))}.")
    options = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        required=False,
        default=dict,
        help_text='{family: id of a version} where a person chooses, e.g. {"encoder": 3} for "features".',
    )


class StartRequest(PlanRequest):
    despite_disk = serializers.BooleanField(default=False, help_text="Start although the estimate does not fit on the disk.")


class PlanStepSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    title = serializers.CharField()
    version = VersionBrief(allow_null=True)
    why_not = serializers.CharField(allow_blank=True, help_text="Why the step has no version.")
    n_run = serializers.IntegerField()
    n_exists = serializers.IntegerField()
    n_skip = serializers.IntegerField()


class SkippedSerializer(serializers.Serializer[Any]):
    patient = serializers.CharField()
    slide = serializers.CharField(allow_blank=True, help_text="Name of the slide or multiplex image.")
    kind = serializers.CharField()
    code = serializers.CharField()
    reason = serializers.CharField()


class EstimateSerializer(serializers.Serializer[Any]):
    seconds = serializers.FloatField(allow_null=True, help_text="null where unknown; why_no_time says why.")
    why_no_time = serializers.CharField(allow_blank=True)
    disk_bytes = serializers.IntegerField(allow_null=True, help_text="null where unknown; why_no_disk says why.")
    why_no_disk = serializers.CharField(allow_blank=True)
    free_bytes = serializers.IntegerField()
    processes = serializers.IntegerField(help_text="Processes that work on the plan's queues now.")
    fits = serializers.BooleanField()


class PlanSerializer(serializers.Serializer[Any]):
    pipeline = serializers.CharField()
    n_slides = serializers.IntegerField(help_text="Slides, or images where it works on images.")
    what = serializers.CharField(help_text="slide or image: what the pipeline works on.")
    n_run = serializers.IntegerField()
    n_exists = serializers.IntegerField()
    n_skip = serializers.IntegerField()
    n_under_way = serializers.IntegerField(help_text="Of what will run: a job waits or runs already.")
    estimate = EstimateSerializer()
    steps = serializers.SerializerMethodField()
    skipped = serializers.SerializerMethodField(help_text=f"The first {MOST_SKIPPED} that cannot run, and why.")

    @extend_schema_field(PlanStepSerializer(many=True))
    def get_steps(self, plan: CohortPlan) -> Any:
        rows = [
            {
                "kind": p.step.kind,
                "title": p.step.title,
                "version": p.version,
                "why_not": p.why_not,
                **{f"n_{name}": plan.counts[p.step.kind][name] for name in ("run", "exists", "skip")},
            }
            for p in plan.steps
        ]
        return PlanStepSerializer(rows, many=True).data

    @extend_schema_field(SkippedSerializer(many=True))
    def get_skipped(self, plan: CohortPlan) -> Any:
        rows = [
            {
                "patient": row.patient.code,
                "slide": row.tissue.name if row.tissue else "",
                "kind": row.step.kind,
                "code": row.code,
                "reason": row.reason,
            }
            for row in islice(plan.skipped(), MOST_SKIPPED)
        ]
        return SkippedSerializer(rows, many=True).data


class RunSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    cohort = CohortBrief()
    pipeline = serializers.CharField()
    versions = serializers.DictField(child=serializers.IntegerField(), help_text="{family: id of the version} of every step.")
    state = serializers.CharField(help_text=one_of(CohortRun.State))
    note = serializers.CharField(allow_blank=True, help_text="Why it paused by itself.")
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class StepProgressSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    title = serializers.CharField()
    counts = serializers.DictField(child=serializers.IntegerField())


class FailureSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    sentence = serializers.CharField()
    hint = serializers.CharField(allow_blank=True)
    n = serializers.IntegerField()


class ProgressSerializer(serializers.Serializer[Any]):
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="{state of a step: how many}.")
    to_run = serializers.IntegerField()
    ended = serializers.IntegerField()
    done = serializers.FloatField(help_text="0 to 1.")
    per_hour = serializers.FloatField(allow_null=True, help_text="Steps that succeed in an hour; null where unknown.")
    ends_at = serializers.DateTimeField(allow_null=True, help_text="At this rate; null where unknown.")
    steps = StepProgressSerializer(many=True)
    failures = serializers.SerializerMethodField()

    @extend_schema_field(FailureSerializer(many=True))
    def get_failures(self, progress: Any) -> Any:
        names = ("code", "sentence", "hint", "n")
        return FailureSerializer([dict(zip(names, row)) for row in progress.failures], many=True).data


class RunDetailSerializer(RunSerializer):
    progress = serializers.SerializerMethodField()

    @extend_schema_field(ProgressSerializer())
    def get_progress(self, run: CohortRun) -> Any:
        return ProgressSerializer(selectors.progress_of(self.context["request"].user, run)).data


class RunItemSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    patient = PatientBrief()
    slide = serializers.IntegerField(source="slide_id", allow_null=True)
    image = serializers.IntegerField(source="image_id", allow_null=True, help_text="The multiplex image, of a step on an image.")
    kind = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField(help_text=f"One of: {', '.join(RunItem.STATES)}.")
    job = serializers.IntegerField(source="job_id", allow_null=True)
    why = serializers.SerializerMethodField(help_text="Of a skipped or failed step.")

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_why(self, item: Any) -> dict[str, str] | None:
        told = selectors.reason_of(item)
        return {"code": told.code, "sentence": told.sentence, "where": "", "hint": told.hint} if told.code else None


class RunList(ListAddress):
    serializer_class = RunSerializer

    @extend_schema(
        operation_id="runs_list",
        summary="Runs over cohorts that I may see, newest first",
        parameters=[RunQuery],
        responses=RunSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = self.read_query(RunQuery)
        runs = selectors.runs_for(request.user, cohort_named(request.user, query["cohort"]) if "cohort" in query else None)
        return self.page_of(runs.filter(state=query["state"]) if "state" in query else runs)

    @extend_schema(
        operation_id="runs_start",
        summary="Start a pipeline on a cohort; the same open run is given again",
        request=StartRequest,
        responses={202: RunDetailSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(StartRequest)
        cohort = cohort_named(request.user, body["cohort"])
        run = run_services.start_run(request.user, cohort, body["pipeline"], body["options"], despite_disk=body["despite_disk"])
        return Response(RunDetailSerializer(run, context={"request": request}).data, status=202)


class RunPlan(Address):
    serializer_class = PlanSerializer

    @extend_schema(
        operation_id="runs_plan",
        summary="What a pipeline would do to a cohort; starts nothing",
        request=PlanRequest,
        responses={200: PlanSerializer, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(PlanRequest)
        cohort: Cohort = cohort_named(request.user, body["cohort"])
        require(request.user, cohort, Role.CONTRIBUTOR)
        return Response(self.get_serializer(plan_cohort(request.user, cohort, body["pipeline"], body["options"])).data)


class RunDetail(Address):
    serializer_class = RunDetailSerializer

    @extend_schema(operation_id="runs_retrieve", summary="One run with its progress; looking at it also keeps it going")
    def get(self, request: Request, run_id: int) -> Response:
        run = selectors.get_run(request.user, run_id)
        if run.state == CohortRun.State.RUNNING:
            feed(run.pk)
            run = selectors.get_run(request.user, run_id)
        return Response(self.get_serializer(run).data)


class RunItems(ListAddress):
    serializer_class = RunItemSerializer

    @extend_schema(
        operation_id="runs_items",
        summary="The steps of a run with their states and jobs",
        parameters=[ItemQuery],
        responses=RunItemSerializer(many=True),
    )
    def get(self, request: Request, run_id: int) -> Response:
        query = self.read_query(ItemQuery)
        run = selectors.get_run(request.user, run_id)
        return self.page_of(selectors.items_for(request.user, run, query.get("state", ""), query.get("kind", "")))


ANSWERS = {200: RunDetailSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}


class RunChange(Address):
    """What all changes of a run share: find it, change it, give it back as it is now."""

    serializer_class = RunDetailSerializer

    def changed(self, request: Request, run_id: int, change: Any) -> Response:
        change(request.user, selectors.get_run(request.user, run_id))
        return Response(self.get_serializer(selectors.get_run(request.user, run_id)).data)


class RunPause(RunChange):
    @extend_schema(operation_id="runs_pause", summary="Start nothing more; what runs finishes", request=None, responses=ANSWERS)
    def post(self, request: Request, run_id: int) -> Response:
        return self.changed(request, run_id, run_services.pause)


class RunResume(RunChange):
    @extend_schema(operation_id="runs_resume", summary="Go on with a paused run", request=None, responses=ANSWERS)
    def post(self, request: Request, run_id: int) -> Response:
        return self.changed(request, run_id, run_services.resume)


class RunRetry(RunChange):
    @extend_schema(operation_id="runs_retry", summary="Run again what failed, and nothing else", request=None, responses=ANSWERS)
    def post(self, request: Request, run_id: int) -> Response:
        return self.changed(request, run_id, run_services.retry_failed)


class RunExtend(RunChange):
    @extend_schema(
        operation_id="runs_extend", summary="Add what can run now: new and ready slides, changed inputs", request=None, responses=ANSWERS
    )
    def post(self, request: Request, run_id: int) -> Response:
        return self.changed(request, run_id, run_services.extend)


class RunCancel(RunChange):
    @extend_schema(operation_id="runs_cancel", summary="End a run; what was made stays", request=None, responses=ANSWERS)
    def post(self, request: Request, run_id: int) -> Response:
        return self.changed(request, run_id, run_services.cancel)
