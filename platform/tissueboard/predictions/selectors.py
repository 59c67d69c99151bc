"""Reads of what models gave, always scoped to a user."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.errors import NotVisible

from .models import Prediction


def predictions_of_slide(user: Any, slide: Any) -> ScopedQuerySet:
    """Outputs about one slide, newest first, with their versions and jobs."""
    return Prediction.objects.visible_to(user).filter(slide=slide).select_related("version", "job")


def maps_of_slide(user: Any, slide: Any) -> list[Prediction]:
    """Virtual maps of a slide, newest first; those of versions that were replaced come last."""
    found = predictions_of_slide(user, slide).filter(kind=Prediction.Kind.VIRTUAL_MAP)
    return list(found.order_by("-version__is_current", "-created_at"))


def get_prediction(user: Any, prediction_id: int) -> Prediction:
    """One output; NotVisible for a stranger."""
    found = (
        Prediction.objects.visible_to(user).select_related("version", "job", "slide", "patient__cohort").filter(pk=prediction_id).first()
    )
    if found is None:
        raise NotVisible("map")
    return found


def risk_prediction(user: Any, patient: Any) -> Prediction | None:
    """The current risk output of a patient, or None."""
    return (
        Prediction.objects.visible_to(user)
        .select_related("version", "job")
        .filter(patient=patient, kind=Prediction.Kind.RISK, version__is_current=True)
        .first()
    )


def bags_of_slide(user: Any, slide: Any) -> list[Prediction]:
    """Feature bags of a slide, newest first."""
    return list(predictions_of_slide(user, slide).filter(kind=Prediction.Kind.FEATURE_BAG))


def get_bag(user: Any, slide_id: int, prediction_id: int) -> Prediction:
    """One feature bag of a slide; NotVisible for a stranger, and where the slide has no such bag."""
    bags = Prediction.objects.visible_to(user).select_related("version", "slide", "patient")
    found = bags.filter(pk=prediction_id, slide_id=slide_id, kind=Prediction.Kind.FEATURE_BAG).first()
    if found is None:
        raise NotVisible("feature bag")
    return found


def bags_of_cohort(user: Any, cohort: Any, version: Any) -> ScopedQuerySet:
    """Feature bags of one version in a cohort, by slide. user None is the house itself."""
    bags = Prediction.objects.all() if user is None else Prediction.objects.visible_to(user)
    found = bags.filter(patient__cohort=cohort, version=version, kind=Prediction.Kind.FEATURE_BAG)
    return found.select_related("version", "slide", "patient").order_by("slide__name", "slide_id")
