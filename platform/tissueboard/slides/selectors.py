"""Reads of slides, always scoped to a user."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from tissueboard.cohorts.access import Role, ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.errors import NotVisible

from .models import Region, RegionImport, Slide


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


def regions_of_slide(user: Any, slide: Slide) -> ScopedQuerySet:
    """The regions of a slide that the user may see, in the order in which they came; removed ones are left out."""
    return Region.objects.visible_to(user).filter(slide=slide, removed_at__isnull=True).order_by("pk")


def get_region(user: Any, slide: Slide, region_id: int) -> Region:
    """One region of a slide with who made and changed it; NotVisible if there is none."""
    people = ("created_by", "changed_by", "file", "slide__sample__patient__cohort")
    region = regions_of_slide(user, slide).select_related(*people).filter(pk=region_id).first()
    if region is None:
        raise NotVisible("region")
    return region


def get_region_import(user: Any, slide: Slide, import_id: int) -> RegionImport:
    """One file of regions that was sent for a slide; NotVisible for all below contributor: its name and findings can identify."""
    found = RegionImport.objects.visible_to(user, Role.CONTRIBUTOR).select_related("slide__sample__patient__cohort", "created_by")
    one = found.filter(slide=slide, pk=import_id).first()
    if one is None:
        raise NotVisible("file of regions")
    return one


def region_imports_of(user: Any, slide: Slide) -> ScopedQuerySet:
    """Files of regions that were sent for a slide, newest first; for contributors."""
    return RegionImport.objects.visible_to(user, Role.CONTRIBUTOR).filter(slide=slide).select_related("created_by").defer("content")
