"""Reads of what models gave, always scoped to a user."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.errors import NotVisible
from tissueboard.model_registry.models import ModelVersion

from .models import Prediction

# Families whose versions give a risk of a patient.
RISK_FAMILIES = ("cox_summary", "mica")


def predictions_of_slide(user: Any, slide: Any) -> ScopedQuerySet:
    """Outputs about one slide, newest first, with their versions and jobs."""
    return Prediction.objects.visible_to(user).filter(slide=slide).select_related("version", "job")


def maps_of_slide(user: Any, slide: Any) -> list[Prediction]:
    """Virtual maps of a slide, newest first; those of versions that were replaced come last."""
    found = predictions_of_slide(user, slide).filter(kind=Prediction.Kind.VIRTUAL_MAP)
    return list(found.order_by("-version__is_current", "-created_at"))


def maps_beside(user: Any, virtual_map: Prediction, slides: Any) -> dict[int, Prediction]:
    """{slide id: its virtual map by the version of a given one}, of those slides that have one. One query."""
    found = Prediction.objects.visible_to(user).filter(slide__in=slides, kind=Prediction.Kind.VIRTUAL_MAP, version=virtual_map.version_id)
    return {one.slide_id: one for one in found}


def dense_maps_of_slide(user: Any, slide: Any) -> list[Prediction]:
    """Maps of overlapping tiles of a slide, in the order of `maps_of_slide`; at most one per version."""
    found = predictions_of_slide(user, slide).filter(kind=Prediction.Kind.DENSE_MAP)
    return list(found.order_by("-version__is_current", "-created_at"))


def dense_map_beside(user: Any, virtual_map: Prediction) -> Prediction | None:
    """The map of overlapping tiles of the same slide and version, or None."""
    found = predictions_of_slide(user, virtual_map.slide_id).filter(kind=Prediction.Kind.DENSE_MAP, version=virtual_map.version_id)
    return found.first()


def explanation_of(user: Any, slide: Any, version: ModelVersion) -> Prediction | None:
    """The map of what a risk of this version comes from on a slide, or None."""
    return predictions_of_slide(user, slide).filter(kind=Prediction.Kind.EXPLANATION, version=version).first()


def explanation_of_patient(user: Any, patient: Any, version: ModelVersion) -> Prediction | None:
    """The map of what a patient's risk by this version comes from, on the slide that the risk was read from; None where there is none."""
    found = Prediction.objects.visible_to(user).filter(patient=patient, kind=Prediction.Kind.EXPLANATION, version=version, in_sample=False)
    return found.select_related("version", "slide").first()


def get_prediction(user: Any, prediction_id: int) -> Prediction:
    """One output; NotVisible for a stranger."""
    found = (
        Prediction.objects.visible_to(user).select_related("version", "job", "slide", "patient__cohort").filter(pk=prediction_id).first()
    )
    if found is None:
        raise NotVisible("map")
    return found


def risk_versions(user: Any, cohort: Any) -> list[ModelVersion]:
    """Current risk models of a cohort that the user may see, newest first: that one is shown unless a person chooses another."""
    versions = ModelVersion.objects.visible_to(user).filter(cohorts=cohort, is_current=True, family__in=RISK_FAMILIES)
    return list(versions.order_by("-created_at", "-pk"))


def risk_predictions(user: Any, patient: Any) -> list[Prediction]:
    """Risks of a patient by the current risk models, the newest model first."""
    risks = Prediction.objects.visible_to(user).filter(patient=patient, kind=Prediction.Kind.RISK, version__is_current=True)
    return list(risks.select_related("version", "job").order_by("-version__created_at", "-version_id"))


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


def embeddings_of_image(user: Any, image: Any) -> ScopedQuerySet:
    """What VirTues gave of a multiplex image, versions in use first, newest first."""
    found = Prediction.objects.visible_to(user).filter(image=image, kind=Prediction.Kind.EMBEDDING)
    return found.select_related("version", "job").order_by("-version__is_current", "-created_at", "-pk")


def cells_beside(user: Any, embedding: Prediction) -> Prediction | None:
    """The cells of the same image and version, or None."""
    found = Prediction.objects.visible_to(user).filter(image=embedding.image_id, version=embedding.version_id, kind=Prediction.Kind.CELLS)
    return found.first()


def stain_beside(user: Any, embedding: Prediction) -> Prediction | None:
    """The virtual stain of the same image and version, or None."""
    found = Prediction.objects.visible_to(user).filter(
        image=embedding.image_id, version=embedding.version_id, kind=Prediction.Kind.VIRTUAL_STAIN
    )
    return found.first()


def get_image_output(user: Any, image_id: int, prediction_id: int) -> Prediction:
    """An embedding, the cells or a virtual stain of an image; NotVisible for a stranger, and where the image has no such output."""
    kinds = (Prediction.Kind.EMBEDDING, Prediction.Kind.CELLS, Prediction.Kind.VIRTUAL_STAIN)
    outputs = Prediction.objects.visible_to(user).select_related("version", "image", "patient")
    found = outputs.filter(pk=prediction_id, image=image_id, kind__in=kinds).first()
    if found is None:
        raise NotVisible("output")
    return found
