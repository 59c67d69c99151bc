"""The niches nearest to one vector: permission first, exact while few rows are permitted, HNSW above, and told so (DESIGNS 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Cast
from pgvector.django import HalfVectorField, L2Distance

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import ScopedQuerySet
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction

from .errors import RetrievalCode
from .indexing import EXACT_ROWS, dimensions
from .models import Niche, NicheIndex
from .references import Reference, choose
from .selectors import Filters, others
from .tissues import Tissue, tissue_of

MAX_K = 50
EF_SEARCH = 100
# An iterative scan that has seen so many rows gives up; then the rest is searched exactly.
MOST_SCANNED = 100_000
# The largest niche set that a configuration allows (ml.transport.config).
MOST_NICHES = 256


@dataclass(frozen=True)
class NearNiche:
    """niche: with tissue, patient and cohort. distance: Euclidean, between vectors as they are stored (half precision)."""

    niche: Niche
    distance: float

    @property
    def tissue(self) -> Tissue:
        return tissue_of(self.niche)


@dataclass(frozen=True)
class SimilarNiches:
    """reference: what was searched. n_permitted: rows that took part (at_least: or more). approximate: a nearest one may be missing."""

    reference: Reference
    n_permitted: int
    at_least: bool
    approximate: bool
    hits: list[NearNiche] = field(default_factory=list)


def similar_niches_of(user: Any, niche: Niche, k: int = 10, *, filters: Filters | None = None) -> SimilarNiches:
    """The k niches of other patients nearest to a niche, among what the user may see, under the niche's own version."""
    return similar_niches(user, tissue_of(niche), niche.version_id, niche.vector, k, filters=filters)


def similar_niches(
    user: Any, tissue: Tissue, version_id: int | None, vector: Sequence[float], k: int = 10, *, filters: Filters | None = None
) -> SimilarNiches:
    """The k niches of other patients' tissues nearest to a vector; k come back whenever k are permitted.

    tissue: whose niche it is: her person, her pictures and the other kinds of tissue are left out. version_id: None for the one in use.
    Raises TissueboardError: K_OUT_OF_RANGE, REFERENCE_UNKNOWN, NO_NICHES, VECTOR_UNFIT (wrong length, or a number that a half cannot hold).
    """
    if not 1 <= k <= MAX_K:
        raise TissueboardError(RetrievalCode.K_OUT_OF_RANGE, f"k is {k}; it must be 1 to {MAX_K}.", "Ask for fewer niches.", where="k")
    patient = tissue.sample.patient
    record(user, "search similar niches", tissue, cohort_id=patient.cohort_id, patient_code=patient.code)
    reference, _ = choose(user, tissue, version_id)
    if reference is None:
        raise TissueboardError(RetrievalCode.NO_NICHES, "This tissue has no niches yet.", "Run the case pipeline.", status=409)
    numbers = checked(vector, reference.version)
    rows, n, approximate = nearest_rows(user, tissue, reference.version, numbers, k, filters or Filters())
    return SimilarNiches(reference, min(n, EXACT_ROWS), n > EXACT_ROWS, approximate, _whole(rows))


def checked(vector: Sequence[float], version: ModelVersion) -> list[float]:
    """The vector, if it can be compared with those of the version."""
    dim, numbers = dimensions(version), [float(v) for v in vector]
    if len(numbers) != dim:
        sentence = f"The vector has {len(numbers)} numbers; those of {version} have {dim}."
        raise TissueboardError(RetrievalCode.VECTOR_UNFIT, sentence, "Give a niche vector of this version.", where="vector")
    if not all(abs(v) <= 65504 for v in numbers):
        sentence = "The vector has a number that half precision cannot hold."
        raise TissueboardError(RetrievalCode.VECTOR_UNFIT, sentence, "Give finite numbers up to 65,504.", where="vector")
    return numbers


def nearest_rows(
    user: Any, tissue: Tissue, version: ModelVersion, vector: Sequence[float], k: int, filters: Filters
) -> tuple[list[tuple[int, float]], int, bool]:
    """(the nearest permitted rows as (id, distance), how many are permitted (counted up to 50,001), whether a nearest one may be missing).

    Two queries: which sets may take part (see `others`), a sixteenth of the rows, and then their rows alone.
    """
    found = others(user, Prediction.objects.filter(kind=Prediction.Kind.NICHE_SET, version=version), tissue, filters)
    sets = list(found.order_by().values_list("pk", flat=True))
    wanted = _literal(vector)
    if len(sets) * MOST_NICHES > EXACT_ROWS and NicheIndex.objects.filter(version=version, nearest=True).exists():
        n = _count(sets)
        if n > EXACT_ROWS:
            permitted = others(user, Niche.objects.filter(version=version), tissue, filters)
            rows = _through_hnsw(permitted, len(vector), wanted, k)
            if len(rows) >= k:
                return rows, n, True
    return *_exact(sets, wanted, k), False


def _exact(sets: list[int], wanted: Any, k: int) -> tuple[list[tuple[int, float]], int]:
    """(the k nearest rows of some sets, how many rows they have). Without the cast that an index is over, so that none can be taken."""
    # OFFSET 0 keeps the inner query as it is: rows are counted by their distance, not with their vector.
    exact = """SELECT id, distance, count(*) OVER () FROM
        (SELECT id, vector <-> %s::halfvec AS distance FROM retrieval_niche WHERE prediction_id = ANY(%s) OFFSET 0) rows
        ORDER BY distance, id LIMIT %s"""
    with connection.cursor() as cursor:
        cursor.execute(exact, [wanted.to_text(), sets, k])
        rows = cursor.fetchall()
    return [(pk, float(distance)) for pk, distance, _ in rows], rows[0][2] if rows else 0


def _count(sets: list[int]) -> int:
    """Rows of the sets, counted up to 50,001."""
    if len(sets) > EXACT_ROWS:
        return EXACT_ROWS + 1
    with connection.cursor() as cursor:
        count = "SELECT count(*) FROM (SELECT 1 FROM retrieval_niche WHERE prediction_id = ANY(%s) LIMIT %s) rows"
        cursor.execute(count, [sets, EXACT_ROWS + 1])
        return int(cursor.fetchone()[0])


def _literal(vector: Sequence[float]) -> Any:
    from pgvector import HalfVector

    return HalfVector(list(vector))


def _through_hnsw(permitted: ScopedQuerySet, dim: int, wanted: Any, k: int) -> list[tuple[int, float]]:
    column = Cast("vector", HalfVectorField(dimensions=dim))
    found = permitted.annotate(distance=L2Distance(column, wanted)).order_by("distance").values_list("pk", "distance")[:k]
    with transaction.atomic(), connection.cursor() as cursor:
        # Only for this transaction. Generic plans and sorting all permitted rows are what the index is to spare us.
        for setting in (
            f"hnsw.ef_search = {max(EF_SEARCH, 2 * k)}",
            "hnsw.iterative_scan = strict_order",
            f"hnsw.max_scan_tuples = {MOST_SCANNED}",
            "plan_cache_mode = force_custom_plan",
            "enable_sort = off",
        ):
            cursor.execute(f"SET LOCAL {setting}")
        rows = list(found)
        for name in ("hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples", "enable_sort"):
            cursor.execute(f"SET LOCAL {name} TO DEFAULT")
    return sorted(((pk, float(distance)) for pk, distance in rows), key=lambda row: (row[1], row[0]))


def _whole(rows: list[tuple[int, float]]) -> list[NearNiche]:
    tissues = ("slide__sample__patient__cohort", "image__sample__patient__cohort", "patient__cohort", "version")
    niches = Niche.objects.select_related(*tissues).defer("vector").in_bulk([pk for pk, _ in rows])
    return [NearNiche(niches[pk], float(distance)) for pk, distance in rows]
