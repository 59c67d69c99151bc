"""Reads of multiplex images and measured labels, always scoped to a user."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.errors import NotVisible
from tissueboard.slides.models import Slide

from .models import Assay, MultiplexImage


def images_for(user: Any, *, cohort: Cohort | None = None, state: str | None = None, search: str = "") -> ScopedQuerySet:
    """Multiplex images that the user may see, with sample, patient and cohort. search: part of the image's name or the patient's code."""
    images = MultiplexImage.objects.visible_to(user).select_related("sample__patient__cohort")
    if cohort is not None:
        images = images.filter(sample__patient__cohort=cohort)
    if state:
        images = images.filter(state=state)
    if search.strip():
        images = images.filter(Q(name__icontains=search.strip()) | Q(sample__patient__code__icontains=search.strip()))
    return images


def get_image(user: Any, image_id: int) -> MultiplexImage:
    """One multiplex image with sample, patient and cohort; NotVisible for a stranger."""
    image = images_for(user).filter(pk=image_id).first()
    if image is None:
        raise NotVisible("multiplex image")
    return image


def images_of_patient(user: Any, patient: Patient) -> ScopedQuerySet:
    """The multiplex images of one patient that the user may see, by sample and name."""
    return images_for(user).filter(sample__patient=patient).order_by("sample__day", "sample__code", "name")


def labels_for(user: Any, *, cohort: Cohort | None = None) -> ScopedQuerySet:
    """Measured labels of slides that the user may see, with slide, panel, patient and cohort."""
    assays = Assay.objects.visible_to(user).select_related("panel", "slide", "sample__patient__cohort", "created_by")
    if cohort is not None:
        assays = assays.filter(sample__patient__cohort=cohort)
    return assays.order_by("sample__patient__code", "slide__name", "kind")


def labels_of_slide(user: Any, slide: Slide) -> ScopedQuerySet:
    """The measured labels of one slide that the user may see, by kind."""
    return labels_for(user).filter(slide=slide)
