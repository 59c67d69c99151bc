"""Reads of model versions."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.access import SpanningQuerySet
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import NotVisible

from .models import Member, ModelVersion


def versions_for(user: Any) -> SpanningQuerySet:
    """Versions that the user may see: all cohorts that they were trained on are hers, or they hold no cohort's data."""
    return ModelVersion.objects.visible_to(user)


def get_version(user: Any, version_id: int) -> ModelVersion:
    """One version; NotVisible for a stranger."""
    version = versions_for(user).filter(pk=version_id).first()
    if version is None:
        raise NotVisible("model version")
    return version


def current_version(family: str, cohort: Cohort | None = None) -> ModelVersion | None:
    """The newest current version of a family; where a cohort is given, of those trained on it."""
    versions = ModelVersion.objects.filter(family=family, is_current=True)
    if cohort is not None:
        versions = versions.filter(cohorts=cohort)
    return versions.order_by("-created_at").first()


def version_for(user: Any, family: str, cohort: Cohort) -> ModelVersion | None:
    """The current version that pipelines take for a cohort's slides: the newest bound to this very cohort, else the newest that is bound to
    none, else the newest that the user may see. user None is the house itself."""
    versions = ModelVersion.objects.filter(family=family, is_current=True)
    usable = list((versions if user is None else versions & versions_for(user)).order_by("-created_at").prefetch_related("cohorts"))

    def place(version: ModelVersion) -> int:
        bound = {c.pk for c in version.cohorts.all()}
        return 0 if cohort.pk in bound else 1 if not bound else 2

    return min(usable, key=place, default=None)


def folds_that_saw(version: ModelVersion, patient_hash: str) -> list[int]:
    """Folds of the version that were fitted on this patient, ascending."""
    return sorted(Member.objects.filter(version=version, patient_hash=patient_hash).values_list("fold", flat=True))
