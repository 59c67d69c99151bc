"""Reads of niches, always scoped to a user: candidates are chosen by the same query that checks the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q

from ml.types import NicheSet
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.cohorts.models import Cohort, Event, EventKind
from tissueboard.errors import NotVisible
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction

from .models import Niche
from .tissues import Tissue, column, is_measured, of_kind, site_of

ROWS = """SELECT prediction_id, vector, weight, x, y, width, height FROM retrieval_niche
WHERE prediction_id = ANY(%s) ORDER BY prediction_id, rank"""


@dataclass(frozen=True)
class Filters:
    """What candidates must have; "" and None ask for nothing. diagnosis, stage: values of the clinical record; treatment: an event's name.

    other_sites_only leaves out the tissues made at the query's site, and where that is unknown, none.
    """

    diagnosis: str = ""
    stage: str = ""
    treatment: str = ""
    cohort: Any = None
    other_sites_only: bool = False

    def __bool__(self) -> bool:
        return bool(self.diagnosis or self.stage or self.treatment or self.cohort or self.other_sites_only)


@dataclass(frozen=True)
class Candidates:
    """The sets that take part, one entry each: ids of their predictions, persons (codes), sites and revisions (checksums of the sets)."""

    ids: list[int]
    persons: list[str]
    sites: list[str]
    revisions: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def niche_set_of(user: Any, tissue: Tissue, version: ModelVersion) -> Prediction | None:
    """The record of a tissue's niche set under a version (its provenance), or None."""
    found = Prediction.objects.visible_to(user).filter(**column(tissue), kind=Prediction.Kind.NICHE_SET, version=version)
    return found.select_related("version", "job").first()


def niches_of(user: Any, prediction: Prediction) -> list[Niche]:
    """The niches of a set, by rank; none for a stranger."""
    return list(Niche.objects.visible_to(user).filter(prediction=prediction).order_by("rank"))


def get_niche(user: Any, niche_id: int) -> Niche:
    """One niche with its tissue, patient and version; NotVisible for a stranger."""
    niches = Niche.objects.visible_to(user).select_related("slide__sample__patient__cohort", "image__sample__patient__cohort", "version")
    found = niches.filter(pk=niche_id).first()
    if found is None:
        raise NotVisible("niche")
    return found


def others(user: Any, rows: ScopedQuerySet, tissue: Tissue, filters: Filters) -> ScopedQuerySet:
    """Of rows with patient, slide and image those of other people's tissues of the same kind that the user may see.

    A person is her code, in any cohort; the same picture under another code is the same tissue. Real is compared with real, simulated with
    simulated, measured with measured.
    """
    what = "image" if is_measured(tissue) else "slide"
    # The gate once more with the cohorts' ids: from a sub-query the planner guesses most rows, and then reads every slide there is.
    mine = list(Cohort.objects.visible_to(user).order_by().values_list("pk", flat=True))
    found = rows.visible_to(user).filter(of_kind(is_measured(tissue)), patient__cohort__in=mine, **{f"{what}__simulated": tissue.simulated})
    found = found.exclude(patient__code=tissue.sample.patient.code)
    picture = "sealed_sha256" if is_measured(tissue) else "working_sha256"
    if getattr(tissue, picture):
        found = found.exclude(**{f"{what}__{picture}": getattr(tissue, picture)})
    if filters.other_sites_only and site_of(tissue):
        found = found.exclude(slide__site=site_of(tissue))
    if filters.cohort is not None:
        found = found.filter(patient__cohort=filters.cohort)
    for key, value in (("histology", filters.diagnosis), ("stage", filters.stage)):
        if value:
            found = found.filter(**{f"patient__clinical__{key}": value})
    if filters.treatment:
        found = found.filter(Exists(Event.objects.filter(patient=OuterRef("patient"), kind=EventKind.TREATMENT, name=filters.treatment)))
    return found


def candidates(user: Any, version: ModelVersion, tissue: Tissue, filters: Filters) -> Candidates:
    """The niche sets that a tissue is compared with (see `others`), by id. One query, without their vectors."""
    sets = Prediction.objects.filter(kind=Prediction.Kind.NICHE_SET, version=version)
    columns = ("pk", "patient__code", "slide__site", "sha256")
    rows = list(others(user, sets, tissue, filters).order_by("pk").values_list(*columns))
    ids, persons, sites, revisions = zip(*rows) if rows else ((), (), (), ())
    return Candidates(list(ids), list(persons), [site or "" for site in sites], list(revisions))


def read_sets(ids: Sequence[int]) -> dict[int, NicheSet]:
    """The niche sets of some predictions, by id; those without a row are left out. The ids come from a query that checked the right.

    The vectors are read in Postgres' binary format: as text, 512 numbers a niche would take most of a search's time.
    """
    import numpy as np
    import psycopg

    if not ids:
        return {}
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        rows = cursor.execute(ROWS, [list(ids)], binary=True).fetchall()
    if not rows:
        return {}
    owner = np.array([row[0] for row in rows])
    # Behind a halfvec's length and a zero come its numbers, the high byte first.
    raw = b"".join(bytes(row[1])[4:] for row in rows)
    vectors = np.frombuffer(raw, ">f2").reshape(len(rows), -1).astype(np.float32)
    numbers = np.array([row[2:] for row in rows], dtype=np.float64)
    ends = np.append(np.flatnonzero(np.diff(owner)) + 1, len(owner))
    starts = np.append(0, ends[:-1])
    return {int(owner[a]): _as_set(vectors[a:b], numbers[a:b]) for a, b in zip(starts, ends)}


def _as_set(vectors: Any, numbers: Any) -> NicheSet:
    weights = numbers[:, 0]
    return NicheSet(vectors, weights / weights.sum(), numbers[:, 1:])


def filter_options(user: Any, version: ModelVersion, tissue: Tissue) -> dict[str, list[Any]]:
    """What the filters may ask for among all candidates: diagnoses, stages, treatments, and cohorts as (id, name)."""
    sets = Prediction.objects.filter(kind=Prediction.Kind.NICHE_SET, version=version)
    found = others(user, sets, tissue, Filters()).order_by()
    columns = ("patient__clinical__histology", "patient__clinical__stage", "patient__cohort_id", "patient__cohort__name")
    rows = set(found.values_list(*columns).distinct())
    treatments = Event.objects.filter(Q(patient__in=found.values("patient")), kind=EventKind.TREATMENT)
    return {
        "diagnosis": sorted({str(row[0]) for row in rows if row[0]}),
        "stage": sorted({str(row[1]) for row in rows if row[1]}),
        "treatment": sorted(set(treatments.order_by().values_list("name", flat=True).distinct())),
        "cohort": sorted({row[2:] for row in rows}, key=lambda row: row[1]),
    }
