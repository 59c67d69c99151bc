"""What a similar tissue has in common with the query, what differs, what was done and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml.types import NicheSet
from tissueboard.cohorts.models import Endpoint, Event, EventKind
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.maps import card
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

from .indexing import facts_of
from .models import Niche
from .niche_jobs import load_model
from .references import Reference
from .selectors import read_sets
from .tissues import Tissue, site_of, tissue_of

MATCHED_PAIRS = 5
MARKERS_SHOWN = 3


@dataclass(frozen=True)
class BoxPair:
    """Two niches that the transport plan joins. Boxes: [x, y, width, height] in level-0 px. mass: share of the tissue (0..1).

    query_niche, hit_niche: ids.
    """

    query_box: list[float]
    hit_box: list[float]
    mass: float
    query_niche: int = 0
    hit_niche: int = 0


@dataclass(frozen=True)
class MarkerDifference:
    """difference: hit minus query, in standard deviations of the reference niches."""

    name: str
    difference: float


@dataclass(frozen=True)
class Hit:
    """One similar tissue, a slide or an image. distance: exact 2-Wasserstein. percentile: share (0..100) of distances between pieces of one
    tumour that are at most this distance; None where it was not measured."""

    slide: Slide | None
    image: Any
    patient: Any
    cohort: Any
    distance: float
    percentile: float | None
    matches: list[BoxPair]
    match_markers: list[str]
    differ_markers: list[MarkerDifference]
    treatments: list[Event]
    outcome: Endpoint | None
    same_site: bool
    same_diagnosis: bool | None

    @property
    def tissue(self) -> Tissue:
        found: Tissue = self.slide if self.slide is not None else self.image
        return found


@dataclass(frozen=True)
class Meaning:
    """What distances and marker means of a version are measured against.

    within_tumour: ascending distances between pieces of one tumour. scales: {marker: (mean, sd) over reference niches}, of the markers
    that may be named on a case page.
    """

    within_tumour: list[float]
    scales: dict[str, tuple[float, float]]


def meaning_of(version: ModelVersion, measured: bool) -> Meaning:
    """Fitted niches bring their own; for others the index's job measures them, and until then there are none."""
    if version.family != "niche":
        facts = facts_of(version)
        found = {name: (m, sd) for name, (m, sd) in facts.get("marker_scales", {}).items()}
        if not measured:
            openly = _open_markers(version)
            found = {name: scale for name, scale in found.items() if name in openly}
        return Meaning(facts.get("within_tumour", []), found)
    model, apart = load_model(version)
    mean, sd = model.protein_reference
    openly = _open_markers(version)
    return Meaning(list(apart), {n: (float(m), float(s)) for n, m, s in zip(version.panel, mean, sd) if n in openly})


def _open_markers(version: ModelVersion) -> set[str]:
    """Markers that may be named on a case page: not locked by the card of the map that the niches stand on (DESIGNS 9)."""
    parent = version.parents.filter(family="hex").first()
    return {name for name, row in card(parent).items() if not row["locked"]} if parent else set()


def describe(tissue: Tissue, reference: Reference, own: list[Niche], query: NicheSet, chosen: list[tuple[int, float]]) -> list[Hit]:
    """The hits for (prediction id, distance), in this order; the same number of queries however many there are."""
    ids = [pk for pk, _ in chosen]
    meaning = meaning_of(reference.version, reference.measured)
    sets = read_sets(ids)
    found = (
        Prediction.objects.filter(pk__in=ids)
        .select_related("patient__cohort", "slide__sample__patient__cohort", "image__sample__patient__cohort")
        .prefetch_related("patient__events", "patient__endpoints")
        .in_bulk()
    )
    theirs: dict[int, list[Niche]] = {pk: [] for pk in ids}
    for niche in Niche.objects.filter(prediction__in=ids).defer("vector").order_by("prediction_id", "rank"):
        theirs[niche.prediction_id].append(niche)
    mine = _means(own)
    return [_hit(tissue, found[pk], distance, meaning, (own, query, mine), (theirs[pk], sets[pk])) for pk, distance in chosen]


def _hit(tissue: Tissue, row: Prediction, distance: float, meaning: Meaning, ours: Any, theirs: Any) -> Hit:
    import numpy as np

    from ml.transport.explain import explain_match, percentile_within_tumour
    from ml.transport.wasserstein import matched, plan

    (own, query, mine), (niches, other) = ours, theirs
    flow = plan(query.vectors, query.weights, other.vectors, other.weights)
    pairs = [
        BoxPair(query.boxes[i].tolist(), other.boxes[j].tolist(), float(mass), own[i].pk, niches[j].pk)
        for i, j, mass, *_ in matched(flow, query, other, MATCHED_PAIRS)
    ]
    means = _means(niches)
    names = [name for name in meaning.scales if name in mine and name in means]
    scales = tuple(np.array([meaning.scales[name][part] for name in names]) for part in (0, 1))
    told = explain_match([mine[n] for n in names], [means[n] for n in names], names, scales, top=MARKERS_SHOWN)
    patient, found = row.patient, tissue_of(row)
    diagnosis, site = tissue.sample.patient.clinical.get("histology"), site_of(tissue)
    return Hit(
        slide=row.slide,
        image=row.image,
        patient=patient,
        cohort=patient.cohort,
        distance=float(distance),
        percentile=percentile_within_tumour(np.asarray(meaning.within_tumour), distance) if meaning.within_tumour else None,
        matches=pairs,
        match_markers=[m.marker for m in told.matches],
        differ_markers=[MarkerDifference(m.marker, float(m.difference_sd)) for m in told.differs],
        treatments=[e for e in patient.events.all() if e.kind == EventKind.TREATMENT],
        outcome=next((e for e in patient.endpoints.all() if e.name == "OS"), None),
        same_site=bool(site) and site_of(found) == site,
        same_diagnosis=None if diagnosis is None else patient.clinical.get("histology") == diagnosis,
    )


def _means(niches: list[Niche]) -> dict[str, float]:
    """Weighted mean of each marker over a tissue's niches; markers that a niche lacks are left out."""
    names = set.intersection(*(set(n.proteins) for n in niches)) if niches else set()
    total = sum(n.weight for n in niches)
    return {name: sum(n.weight * n.proteins[name] for n in niches) / total for name in sorted(names)}
