"""Reads of niches, always scoped to a user: candidates are chosen by the same query that checks the right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction

from .models import Niche


def niches_of_slide(user: Any, slide: Any, version: ModelVersion | None = None) -> list[Niche]:
    """The retrieval set of a slide under a version (the current one if None), by rank."""
    niches = Niche.objects.visible_to(user).filter(slide=slide)
    niches = niches.filter(version=version) if version is not None else niches.filter(version__is_current=True)
    return list(niches.select_related("version").order_by("rank"))


def niche_set_of_slide(user: Any, slide: Any) -> Prediction | None:
    """The current niche set's record (its provenance), or None."""
    found = Prediction.objects.visible_to(user).filter(slide=slide, kind=Prediction.Kind.NICHE_SET, version__is_current=True)
    return found.select_related("version", "job").first()


def candidate_sets(
    user: Any, version: ModelVersion, *, without_tissue_of: Any, simulated: bool, cohort: Any = None, other_site_than: str | None = None
) -> dict[int, list[Niche]]:
    """Niches by slide under a version, of every patient that the user may see except the one of a slide (by code, in any cohort).

    The same picture under another patient's code is the same tissue and left out as well.
    simulated: real tissue is compared with real tissue only, simulated with simulated. cohort narrows to one cohort;
    other_site_than leaves out the slides of a site. One query.
    """
    niches = (
        Niche.objects.visible_to(user)
        .filter(version=version, slide__simulated=simulated)
        .exclude(patient__code=without_tissue_of.sample.patient.code)
    )
    if without_tissue_of.working_sha256:
        niches = niches.exclude(slide__working_sha256=without_tissue_of.working_sha256)
    if cohort is not None:
        niches = niches.filter(patient__cohort=cohort)
    if other_site_than is not None:
        niches = niches.exclude(slide__site=other_site_than)
    sets: dict[int, list[Niche]] = defaultdict(list)
    for niche in niches.only("slide_id", "rank", "vector", "weight", "x", "y", "width", "height", "version_id").order_by(
        "slide_id", "rank"
    ):
        sets[niche.slide_id].append(niche)
    return dict(sets)
