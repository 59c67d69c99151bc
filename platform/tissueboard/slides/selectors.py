"""Reads of slides, always scoped to a user."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.errors import NotVisible

from .models import Slide


def slides_for(user: Any, *, cohort: Cohort | None = None, state: str | None = None, search: str = "") -> ScopedQuerySet:
    """Slides that the user may see, with sample, patient and cohort. search: part of the slide's name or the patient's code."""
    slides = Slide.objects.visible_to(user).select_related("sample__patient__cohort")
    if cohort is not None:
        slides = slides.filter(sample__patient__cohort=cohort)
    if state:
        slides = slides.filter(state=state)
    if search.strip():
        slides = slides.filter(Q(name__icontains=search.strip()) | Q(sample__patient__code__icontains=search.strip()))
    return slides


def get_slide(user: Any, slide_id: int) -> Slide:
    """One slide with sample, patient and cohort; NotVisible for a stranger."""
    slide = slides_for(user).filter(pk=slide_id).first()
    if slide is None:
        raise NotVisible("slide")
    return slide


def slides_of_patient(user: Any, patient: Patient) -> ScopedQuerySet:
    """The slides of one patient that the user may see, by sample and name."""
    return slides_for(user).filter(sample__patient=patient).order_by("sample__day", "sample__code", "name")
