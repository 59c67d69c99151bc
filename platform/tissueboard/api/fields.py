"""Fields and small serializers that several things use."""

from __future__ import annotations

import math
from typing import Any

from django.db import models
from rest_framework import serializers
from rest_framework.fields import empty

LARGEST_ID = 2**63 - 1


def one_of(choices: type[models.TextChoices]) -> str:
    """The values in words, for a schema. (An answer's state is documented as text: enums of one name collide in OpenAPI.)"""
    return f"One of: {', '.join(choices.values)}."


class CohortRef(serializers.CharField):
    """A cohort by its name or its id; `cohort_named` finds it for the user."""

    def __init__(self, **options: Any):
        options.setdefault("help_text", "Name or id of a cohort.")
        super().__init__(max_length=80, **options)


class IdField(serializers.IntegerField):
    """The id of a row."""

    def __init__(self, **options: Any):
        super().__init__(min_value=1, max_value=LARGEST_ID, **options)


class JsonObject(serializers.DictField):
    """A JSON object that Postgres can keep: no NUL and no half of a character in any text, no number beyond a float."""

    def run_validation(self, data: Any = empty) -> Any:
        found = super().run_validation(data)
        if found is not None:
            _storable(found)
        return found


def _storable(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise serializers.ValidationError("Null characters are not allowed.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise serializers.ValidationError("Surrogate characters are not allowed.") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise serializers.ValidationError("Numbers must be finite.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _storable(key)
            _storable(inner)
    elif isinstance(value, list):
        for inner in value:
            _storable(inner)


class CohortBrief(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()


class PatientBrief(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    code = serializers.CharField()


class SampleBrief(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    code = serializers.CharField()
    tumour = serializers.CharField()
    time_point = serializers.CharField()
    body_site = serializers.CharField()


class FindingSerializer(serializers.Serializer[Any]):
    """One thing that intake says about a file."""

    code = serializers.CharField()
    severity = serializers.CharField()
    file = serializers.CharField(required=False, help_text="Only for contributors: a file's name can identify a patient.")
    where = serializers.CharField(allow_blank=True)
    sentence = serializers.CharField()
    hint = serializers.CharField(allow_blank=True)


class VersionBrief(serializers.Serializer[Any]):
    """The model version behind a number. label says what it was trained on, e.g. "trained on simulated tissue"."""

    id = serializers.IntegerField()
    family = serializers.CharField()
    name = serializers.CharField()
    label = serializers.CharField()
    licence = serializers.CharField()
    pretraining_overlap = serializers.CharField()
    is_current = serializers.BooleanField()


class ErrorSerializer(serializers.Serializer[Any]):
    """Every refusal: a code for programs, a sentence and a hint for people, and where in the request it is."""

    code = serializers.CharField()
    sentence = serializers.CharField()
    where = serializers.CharField(allow_blank=True)
    hint = serializers.CharField(allow_blank=True)
