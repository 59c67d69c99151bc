"""/api/v1/families/ and /api/v1/trainings/: what the families can do, what can be trained here, and starting a training."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ml import families
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import cohort_named
from tissueboard.pipelines import training
from tissueboard.pipelines.training_kinds import Training, presets, schema_of, trainings

from .base import ListAddress
from .fields import CohortRef, ErrorSerializer, IdField, JsonObject
from .jobs import JobSerializer


class TaskSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    takes = serializers.ListField(child=serializers.CharField(), help_text="Names of types in ml.types.")
    gives = serializers.ListField(child=serializers.CharField())
    config_schema = serializers.SerializerMethodField(help_text="JSON schema of its settings; each with unit, source and description.")

    @extend_schema_field(serializers.JSONField())
    def get_config_schema(self, task: Any) -> Any:
        return families.load(task.config).model_json_schema()


class FamilySerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    citation = serializers.CharField()
    tasks = TaskSerializer(many=True)


class PresetSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    values = serializers.JSONField(help_text="Settings by name, ready to be sent as config.")


class TrainingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="What to send as `what`.")
    title = serializers.CharField()
    words = serializers.CharField()
    needs = serializers.CharField()
    family = serializers.CharField()
    task = serializers.CharField()
    several = serializers.BooleanField(help_text="Whether it takes more than one cohort.")
    chooses = serializers.ListField(child=serializers.CharField(), help_text="What to name beside the settings; encoder may be left out.")
    config_schema = serializers.SerializerMethodField(help_text="JSON schema of the settings.")
    presets = serializers.SerializerMethodField(help_text="Recipes that fill in all settings; the first one are the defaults.")

    @extend_schema_field(serializers.JSONField())
    def get_config_schema(self, one: Training) -> Any:
        return schema_of(one)

    @extend_schema_field(PresetSerializer(many=True))
    def get_presets(self, one: Training) -> Any:
        return PresetSerializer(presets(one), many=True).data


class TrainingRequest(serializers.Serializer[Any]):
    what = serializers.CharField(max_length=40, help_text="A training's name, e.g. hex, niche, risk, mica or virtues.")
    cohorts = serializers.ListField(child=CohortRef(), min_length=1, max_length=50, help_text="Names or ids.")
    name = serializers.CharField(max_length=training.MAX_NAME, help_text="Of the version that comes of it.")
    config = JsonObject(required=False, default=dict, help_text="Settings; what is left out takes its default.")
    version = IdField(required=False, help_text="A HEX version: whose maps are used.")
    model = IdField(required=False, help_text="A version of the training's family: measured or taken into use.")
    start = IdField(required=False, help_text="A version of the family to go on from; left out: from the start.")
    bank = IdField(required=False, help_text="A VirTues version whose marker embeddings are taken; left out: the server's own.")
    encoder = IdField(required=False, help_text="A version of the family encoder whose features are used; left out: the HEX version's own.")
    endpoint = serializers.CharField(max_length=16, required=False, help_text="E.g. OS.")


class SizeSerializer(serializers.Serializer[Any]):
    patients = serializers.IntegerField()
    events = serializers.IntegerField(allow_null=True)
    tiles = serializers.IntegerField(allow_null=True, help_text="null where unknown, as with all that follows.")
    steps = serializers.IntegerField(allow_null=True, help_text="Of all folds together.")
    seconds = serializers.FloatField(allow_null=True, help_text="Median of the last trainings of this kind here, whatever their size.")
    most_seconds = serializers.FloatField(allow_null=True, help_text="It ends after so long at the latest.")


class StartedTrainingSerializer(JobSerializer):
    size = serializers.SerializerMethodField(help_text="What it was made of when it was asked for.")

    @extend_schema_field(SizeSerializer())
    def get_size(self, job: Any) -> Any:
        return SizeSerializer(self.context["size"]).data


class SettingErrorSerializer(serializers.Serializer[Any]):
    where = serializers.CharField(help_text='E.g. "config.lr".')
    sentence = serializers.CharField()


class TrainingRefusalSerializer(ErrorSerializer):
    errors = SettingErrorSerializer(many=True, required=False, help_text="Every setting that does not fit (code CONFIG_INVALID).")


class FamilyList(ListAddress):
    serializer_class = FamilySerializer

    @extend_schema(operation_id="families_list", summary="Model families and their tasks", responses=FamilySerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page_of(list(families.FAMILIES.values()))


class TrainingList(ListAddress):
    serializer_class = TrainingSerializer

    @extend_schema(operation_id="trainings_list", summary="What can be trained here", responses=TrainingSerializer(many=True))
    def get(self, request: Request) -> Response:
        return self.page_of(trainings())

    @extend_schema(
        operation_id="trainings_start",
        summary="Train a version on cohorts; asking twice for the same gives the same job",
        request=TrainingRequest,
        responses={
            201: StartedTrainingSerializer,
            400: TrainingRefusalSerializer,
            403: ErrorSerializer,
            404: ErrorSerializer,
            409: ErrorSerializer,
        },
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(TrainingRequest)
        cohorts: list[Cohort] = [cohort_named(request.user, name) for name in body["cohorts"]]
        choices = {key: body[key] for key in ("version", "encoder", "endpoint", "model", "start", "bank") if key in body}
        planned = training.plan_training(
            request.user, body["what"], cohorts=cohorts, name=body["name"], values=body["config"], choices=choices
        )
        job = training.begin(request.user, planned)
        return Response(StartedTrainingSerializer(job, context={"request": request, "size": planned.size}).data, status=201)
