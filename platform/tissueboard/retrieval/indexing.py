"""The set index of a version in the store, and the HNSW index over its vectors: made by a job, kept up, never trusted.

Postgres keeps the truth. A search asks it which sets a user may see and how each is now (the checksum of the set); what the index
knows otherwise, or not yet, is read from Postgres. So an index that lags behind makes a search slower, never wrong, and whoever was
withdrawn is out of every answer at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from ml.types import NicheSet
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.store import store

from .models import Niche, NicheIndex
from .selectors import read_sets

KIND = "retrieval.build_index"
# Fewer sets are compared straight from Postgres; so many rows are searched without an HNSW index (DESIGNS 7).
FEWEST_SETS = 2_000
EXACT_ROWS = 50_000
# An index is made anew rather than changed when more than this share of it is different; asked for again after this share.
MOST_CHANGED, ASK_AFTER = 0.3, 0.05
BLOCK = 500
SAMPLE = 1_000
SETS, REVISIONS = "sets", "revisions.json"


class OpenIndex:
    """A set index as it lies in the store: `sets` (ml.transport.index.SetIndex) and {prediction id: checksum of the set then}."""

    def __init__(self, folder: Path) -> None:
        from ml.transport.index import SetIndex

        self.sets = SetIndex.open(folder / SETS)
        self.revisions: dict[int, str] = {int(k): v for k, v in json.loads((folder / REVISIONS).read_text()).items()}


def open_index(version: ModelVersion) -> OpenIndex | None:
    """The index of a version; None where there is none, or none that can be read (then Postgres is)."""
    from ml.transport.errors import TransportError

    key = NicheIndex.objects.filter(version=version).values_list("key", flat=True).first()
    try:
        return _open(key) if key else None
    except (TransportError, OSError, ValueError):
        return None


@lru_cache(maxsize=4)
def _open(key: str) -> OpenIndex:
    # A key names one build, whose files are never written to again.
    return OpenIndex(store.path(key))


def facts_of(version: ModelVersion) -> dict[str, Any]:
    """{within_tumour: ascending distances between halves of one tissue, marker_scales: {name: [mean, sd]}} as the job measured them."""
    found = NicheIndex.objects.filter(version=version).values_list("facts", flat=True).first()
    return found or {}


def ask_if_due(version: ModelVersion, changes: int = 1) -> None:
    """Counts changes of a version's sets and asks for its index when there are many; call it in the transaction that makes them."""
    row = NicheIndex.objects.filter(version=version)
    if row.update(n_since=F("n_since") + changes):
        index = row.get()
        if index.n_since > max(2, ASK_AFTER * index.n_sets):
            request_index(version, index)
        return
    sets = Prediction.objects.filter(version=version, kind=Prediction.Kind.NICHE_SET)
    # Fitted niches bring their own scales, so a few of them need no index.
    if sets[: FEWEST_SETS if version.family == "niche" else 2].count() >= (FEWEST_SETS if version.family == "niche" else 2):
        request_index(version, None)


def request_index(version: ModelVersion, index: NicheIndex | None) -> None:
    """Enqueues the building of a version's index; asking twice before it was built finds the first job."""
    enqueue(None, KIND, {"version": version.pk}, key=f"after job {index.job_id if index else 0}")


def rebuild_without(versions: Any) -> None:
    """Asks for new indices of versions that lost a patient; call it in the transaction that takes her away.

    Until they are there she is in no answer, because who may be found is asked of Postgres.
    """
    for index in NicheIndex.objects.filter(version__in=versions).select_related("version"):
        request_index(index.version, index)


def build_index(ctx: JobContext) -> Done:
    """Job retrieval.build_index. params: version. The set index of many sets, what distances mean, HNSW above 50,000 rows."""
    version = ModelVersion.objects.get(pk=ctx.params["version"])
    sets = Prediction.objects.filter(version=version, kind=Prediction.Kind.NICHE_SET).order_by("pk")
    revisions = dict(sets.values_list("pk", "sha256"))
    before = NicheIndex.objects.filter(version=version).first()
    since = before.n_since if before else 0
    key, n = "", len(revisions)
    if n >= FEWEST_SETS:
        key = f"retrieval/index-{version.pk}-{ctx.job_id}-{ctx.attempt}"
        store.save(_write(ctx, version, revisions), key)
    ctx.progress(0.8, "what distances mean")
    facts = {} if version.family == "niche" else _meaning(list(revisions))
    rows = Niche.objects.filter(version=version).count()
    nearest = rows > EXACT_ROWS
    if nearest:
        ctx.progress(0.85, f"index over {rows:,} vectors")
        _make_hnsw(version)

    def publish() -> None:
        old = NicheIndex.objects.select_for_update().filter(version=version).values_list("key", flat=True).first()
        left = max(0, (NicheIndex.objects.filter(version=version).values_list("n_since", flat=True).first() or 0) - since)
        values = {"key": key, "n_sets": n, "n_niches": rows, "nearest": nearest, "facts": facts, "job_id": ctx.job_id, "n_since": left}
        NicheIndex.objects.update_or_create(version=version, defaults=values)
        if sets.filter(pk__in=revisions).count() < n:
            # Somebody was withdrawn while it was built: once more, without her.
            enqueue(None, KIND, {"version": version.pk}, key=f"after job {ctx.job_id}")
        if old and old != key:
            transaction.on_commit(lambda: store.delete(old))

    return Done([OutputSpec("set index", key, {"n_sets": n, "n_niches": rows, "hnsw": nearest})], publish)


def _write(ctx: JobContext, version: ModelVersion, revisions: dict[int, str]) -> Path:
    """A folder with the index and what it was made from; from the one before where most of it is the same."""
    from ml.transport.errors import TransportError
    from ml.transport.index import SetIndex

    folder = store.new_temp()
    folder.mkdir(parents=True)
    stamp = f"version {version.pk}, {len(revisions)} sets, job {ctx.job_id}"
    old = open_index(version)
    known = old.revisions if old else {}
    late = [pk for pk, revision in revisions.items() if known.get(pk) != revision]
    gone = [pk for pk, revision in known.items() if revisions.get(pk) != revision]

    def told(ids: Sequence[int]) -> Iterator[tuple[int, NicheSet]]:
        for start in range(0, len(ids), BLOCK):
            ctx.progress(0.7 * start / len(ids), f"{start:,} of {len(ids):,} sets read")
            yield from read_sets(ids[start : start + BLOCK]).items()

    try:
        # What an update takes out of an index stays in its files for a while: after a withdrawal it is made anew.
        if old is not None and set(gone) <= set(revisions) and len(late) + len(gone) <= MOST_CHANGED * len(revisions):
            made = old.sets.updated(folder / SETS, added=told(late), removed=gone, stamp=stamp)
        else:
            made = SetIndex.build(folder / SETS, told(list(revisions)), stamp=stamp)
    except TransportError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise JobRefused(error.code.upper(), error.sentence, error.hint) from error
    there = {int(pk) for pk in made.ids}
    (folder / REVISIONS).write_text(json.dumps({pk: revision for pk, revision in revisions.items() if pk in there}))
    return folder


def _meaning(ids: list[int]) -> dict[str, Any]:
    """Distances between halves of one tissue, and mean and spread of each marker over niches, from at most 1,000 sets."""
    import numpy as np

    from ml.transport.explain import halves
    from ml.transport.wasserstein import wasserstein2

    chosen = sorted(np.random.default_rng(0).permutation(ids)[:SAMPLE].tolist())
    apart: list[float] = []
    for start in range(0, len(chosen), BLOCK):
        for one in read_sets(chosen[start : start + BLOCK]).values():
            for a, b in halves(one.boxes) if len(one.weights) >= 4 else ():
                weights = [one.weights[rows] / one.weights[rows].sum() for rows in (a, b)]
                apart.append(wasserstein2(one.vectors[a], weights[0], one.vectors[b], weights[1]))
    values: dict[str, list[float]] = {}
    for means in Niche.objects.filter(prediction__in=chosen).values_list("proteins", flat=True).iterator(chunk_size=2_000):
        for name, value in means.items():
            values.setdefault(name, []).append(value)
    scales = {name: [float(np.mean(v)), float(np.std(v))] for name, v in values.items()}
    return {"within_tumour": sorted(apart), "marker_scales": scales, "n_tissues": len(chosen)}


def hnsw_name(version: ModelVersion) -> str:
    return f"niche_hnsw_{version.pk}"


def _make_hnsw(version: ModelVersion) -> None:
    """The partial index of a version's vectors, without holding up who writes; one that a killed build left half is made anew."""
    name, dim = hnsw_name(version), dimensions(version)
    together = "" if connection.in_atomic_block else "CONCURRENTLY"
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
        found = cursor.fetchone()
        if found and found[0]:
            return
        if found:
            cursor.execute(f"DROP INDEX {together} IF EXISTS {name}")
        what = f"((vector::halfvec({dim})) halfvec_l2_ops) WHERE version_id = {version.pk}"
        cursor.execute(f"CREATE INDEX {together} {name} ON retrieval_niche USING hnsw {what}")


def dimensions(version: ModelVersion) -> int:
    """Length of a version's vectors; 0 where it has none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT vector_dims(vector) FROM retrieval_niche WHERE version_id = %s LIMIT 1", [version.pk])
        found = cursor.fetchone()
    return int(found[0]) if found else 0
