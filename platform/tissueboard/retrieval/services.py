"""Similar cases: exact 2-Wasserstein between the retrieval sets of tissues, among what the user may see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.models import Endpoint, Event, EventKind
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.maps import card
from tissueboard.slides.models import Slide

from .models import Niche
from .niche_jobs import load_model
from .selectors import candidate_sets, niches_of_slide

MATCHED_PAIRS = 5
MARKERS_SHOWN = 3
MAX_K = 50


@dataclass(frozen=True)
class BoxPair:
    """Two niches that the transport plan joins. Boxes: [x, y, width, height] in px0. mass: share of the tissue (0..1)."""

    query_box: list[float]
    hit_box: list[float]
    mass: float


@dataclass(frozen=True)
class MarkerDifference:
    """difference: hit minus query, in standard deviations of the reference niches."""

    name: str
    difference: float


@dataclass(frozen=True)
class Hit:
    """One similar tissue. distance: exact 2-Wasserstein. percentile: share (0..100) of distances between pieces of one
    tumour that are at most this distance."""

    slide: Slide
    patient: Any
    cohort: Any
    distance: float
    percentile: float
    matches: list[BoxPair]
    match_markers: list[str]
    differ_markers: list[MarkerDifference]
    treatments: list[Event]
    outcome: Endpoint | None
    same_site: bool
    same_diagnosis: bool | None


@dataclass(frozen=True)
class SimilarCases:
    """The answer with what it stands on. same_site_share: of the hits; same_site_expected: share among all candidates."""

    query_slide: Slide
    version: ModelVersion | None
    n_candidates: int
    n_fully_compared: int
    hits: list[Hit] = field(default_factory=list)
    same_site_share: float | None = None
    same_site_expected: float | None = None
    note: str = ""


def similar_cases(user: Any, slide: Slide, k: int = 5, *, cohort: Any = None, other_sites_only: bool = False) -> SimilarCases:
    """The k nearest tissues of other patients, one per patient, among the cohorts that the user may see.

    Raises TissueboardError for k outside 1..50. Without a niche set the answer has no hits and a note that says so.
    """
    if not 1 <= k <= MAX_K:
        raise TissueboardError("K_OUT_OF_RANGE", f"k is {k}; it must be 1 to {MAX_K}.", "Ask for fewer cases.")
    own = niches_of_slide(user, slide)
    record(user, "search similar cases", slide, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)
    if not own:
        return SimilarCases(slide, None, 0, 0, note="This slide has no niches yet; run the case pipeline.")
    version = own[0].version
    sets = candidate_sets(
        user,
        version,
        without_tissue_of=slide,
        simulated=slide.simulated,
        cohort=cohort,
        other_site_than=slide.site if other_sites_only and slide.site else None,
    )
    if not sets:
        kind = "simulated" if slide.simulated else "real"
        return SimilarCases(slide, version, 0, 0, note=f"No other patient with {kind} tissue in your cohorts has niches of this version.")
    return _ranked(slide, version, own, sets, k)


def _ranked(slide: Slide, version: ModelVersion, own: list[Niche], sets: dict[int, list[Niche]], k: int) -> SimilarCases:
    from ml.transport.retrieval import exact_top_k

    slides = Slide.objects.in_bulk(sets)
    candidates = [_as_set(niches) for niches in sets.values()]
    ids = list(sets)
    people = dict(Slide.objects.filter(pk__in=ids).values_list("pk", "sample__patient__code"))
    # A person is her code, in whatever cohort (as in membership lists). One tissue per person is shown: ask for more until
    # k different ones are among the exact nearest.
    wanted = min(len(ids), k)
    while True:
        top = exact_top_k(_as_set(own), candidates, wanted)
        best: dict[int, tuple[int, float]] = {}
        for index, distance in top.hits:
            best.setdefault(people[ids[index]], (ids[index], distance))
        if len(best) >= k or wanted == len(ids):
            break
        wanted = min(len(ids), wanted * 2)
    chosen = list(best.values())[:k]
    hits = _describe(slide, version, own, sets, chosen)
    site_known = bool(slide.site)
    return SimilarCases(
        query_slide=slide,
        version=version,
        n_candidates=top.n_candidates,
        n_fully_compared=top.n_fully_compared,
        hits=hits,
        same_site_share=sum(h.same_site for h in hits) / len(hits) if site_known and hits else None,
        same_site_expected=sum(slides[i].site == slide.site for i in ids) / len(ids) if site_known else None,
    )


def _describe(
    slide: Slide, version: ModelVersion, own: list[Niche], sets: dict[int, list[Niche]], chosen: list[tuple[int, float]]
) -> list[Hit]:
    """What matches, what differs, what was done and how it went, for the chosen (slide id, distance)."""
    import numpy as np

    from ml.transport.explain import explain_match, percentile_within_tumour
    from ml.transport.wasserstein import matched, plan

    model, apart = load_model(version)
    names = list(version.panel)
    open_markers = _open_markers(version)
    kept = [i for i, name in enumerate(names) if name in open_markers]
    scales = tuple(values[kept] for values in model.protein_reference)
    full = {
        s.pk: s
        for s in Slide.objects.filter(pk__in=[i for i, _ in chosen])
        .select_related("sample__patient__cohort")
        .prefetch_related("sample__patient__events", "sample__patient__endpoints")
    }
    proteins = dict(Niche.objects.filter(pk__in=[n.pk for i, _ in chosen for n in sets[i]]).values_list("pk", "proteins"))
    own_set = _as_set(own)
    own_mean = _mean(own, {n.pk: n.proteins for n in own}, names)
    hits = []
    for slide_id, distance in chosen:
        niches, other = sets[slide_id], full[slide_id]
        hit_set = _as_set(niches)
        flow = plan(own_set.vectors, own_set.weights, hit_set.vectors, hit_set.weights)
        pairs = [
            BoxPair(own_set.boxes[i].tolist(), hit_set.boxes[j].tolist(), float(mass))
            for i, j, mass, *_ in matched(flow, own_set, hit_set, MATCHED_PAIRS)
        ]
        their_mean = _mean(niches, proteins, names)
        told = explain_match(own_mean[kept], their_mean[kept], [names[i] for i in kept], scales, top=MARKERS_SHOWN)
        patient = other.sample.patient
        diagnosis = slide.sample.patient.clinical.get("histology")
        hits.append(
            Hit(
                slide=other,
                patient=patient,
                cohort=patient.cohort,
                distance=float(distance),
                percentile=percentile_within_tumour(np.asarray(apart), distance),
                matches=pairs,
                match_markers=[m.marker for m in told.matches],
                differ_markers=[MarkerDifference(m.marker, float(m.difference_sd)) for m in told.differs],
                treatments=[e for e in patient.events.all() if e.kind == EventKind.TREATMENT],
                outcome=next((e for e in patient.endpoints.all() if e.name == "OS"), None),
                same_site=bool(slide.site) and other.site == slide.site,
                same_diagnosis=None if diagnosis is None else patient.clinical.get("histology") == diagnosis,
            )
        )
    return hits


def _open_markers(version: ModelVersion) -> set[str]:
    """Markers that may be named on a case page: not locked by the card of the map that the niches stand on (DESIGNS 9)."""
    parent = version.parents.filter(family="hex").first()
    return {name for name, row in card(parent).items() if not row["locked"]} if parent else set()


def _as_set(niches: list[Niche]) -> Any:
    import numpy as np

    from ml.types import NicheSet

    vectors = np.array([n.vector for n in niches], dtype=np.float32)
    weights = np.array([n.weight for n in niches], dtype=np.float64)
    boxes = np.array([[n.x, n.y, n.width, n.height] for n in niches], dtype=np.float64)
    return NicheSet(vectors, weights / weights.sum(), boxes)


def _mean(niches: list[Niche], proteins: dict[int, dict[str, float]], names: list[str]) -> Any:
    """(P,) weighted mean of the niches' virtual proteins."""
    import numpy as np

    values = np.array([[proteins[n.pk][name] for name in names] for n in niches])
    weights = np.array([n.weight for n in niches])
    return (weights[:, None] * values).sum(axis=0) / weights.sum()


def outcome_value_note(user: Any, cohort: Any) -> str:
    """Why no outcome is predicted from neighbours here (DESIGNS 9)."""
    return (
        "No outcome value shown in this cohort: a curve of the neighbours takes 30 of them, 10 events, and a gain over age and stage "
        "that was shown by leaving each patient out. Treatments and outcomes below are single histories, not a prediction."
    )
