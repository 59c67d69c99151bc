"""How a tissue's retrieval set is written: its record and its rows together, the rows by COPY."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection

from ml.types import NicheSet
from tissueboard.assays.models import MultiplexImage
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

from .indexing import ask_if_due

COLUMNS = (
    "prediction_id",
    "patient_id",
    "slide_id",
    "image_id",
    "version_id",
    "rank",
    "vector",
    "weight",
    "x",
    "y",
    "width",
    "height",
    "proteins",
)
COPY = f"COPY retrieval_niche ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
# The binary format of COPY: a signature, flags and the length of an (empty) extension; rows; -1.
HEAD, TAIL = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0), struct.pack(">h", -1)
# Below this, halfvec's largest finite number.
LARGEST_HALF = 65504.0


def publish_niche_set(
    tissue: Slide | MultiplexImage,
    version: ModelVersion,
    niches: NicheSet,
    proteins: Sequence[dict[str, float]],
    fields: dict[str, Any],
) -> Prediction:
    """Makes a set the one of its tissue and version; call it in a transaction (a job's publish).

    tissue: with sample and patient. niches: boxes in px0 of the slide, or level-0 px of the image; at least one, weights above 0.
    proteins: one dict per niche, mean of each marker by name. fields: of the Prediction (job_id, inputs, code_version, facts ...).
    Raises ValueError for vectors that halfvec cannot hold.
    """
    check_storable(niches)
    where = {"image" if isinstance(tissue, MultiplexImage) else "slide": tissue}
    prediction, _ = Prediction.objects.update_or_create(
        **where,
        kind=Prediction.Kind.NICHE_SET,
        version=version,
        defaults={"patient": tissue.sample.patient, "sha256": revision_of(niches), **fields},
    )
    # Not through the collector: nothing hangs on a niche, and a set may have tens of them.
    prediction.niches.all()._raw_delete(prediction.niches.db)
    copy_niches([(prediction, niches, proteins)])
    ask_if_due(version)
    return prediction


def check_storable(niches: NicheSet) -> None:
    """ValueError for a number that halfvec cannot hold."""
    import numpy as np

    if not np.isfinite(niches.vectors).all() or np.abs(niches.vectors).max(initial=0) > LARGEST_HALF:
        raise ValueError("A niche vector has a number that halfvec cannot hold.")


def revision_of(niches: NicheSet) -> str:
    """SHA-256 of a set as it is stored: what tells an index that the set has changed."""
    import numpy as np

    digest = hashlib.sha256(niches.vectors.astype(">f2").tobytes())
    digest.update(np.column_stack([niches.weights, niches.boxes]).tobytes())
    return digest.hexdigest()


def copy_niches(sets: Sequence[tuple[Prediction, NicheSet, Sequence[dict[str, float]]]]) -> int:
    """Writes the rows of some niche sets by one COPY in the connection's transaction; how many there were.

    43,000 rows a second where executemany writes 11,000 (tests/bench/bench_niche_copy.py). Raises ValueError as `publish_niche_set`.
    """
    n = 0
    # psycopg's errors as Django's, as everywhere else: a lost database is no verdict on a job.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(HEAD)
        for prediction, niches, proteins in sets:
            block = b"".join(_rows(prediction, niches, proteins))
            copy.write(block)
            n += len(niches.weights)
        copy.write(TAIL)
    return n


def _rows(prediction: Prediction, niches: NicheSet, proteins: Sequence[dict[str, float]]) -> Iterator[bytes]:
    import numpy as np

    if not len(niches.vectors) == len(niches.weights) == len(niches.boxes) == len(proteins):
        raise ValueError("Vectors, weights, boxes and proteins of a niche set must be equally many.")
    check_storable(niches)
    vectors = niches.vectors.astype(">f2")
    head = struct.pack(">hiqiq", len(COLUMNS), 8, prediction.pk, 8, prediction.patient_id)
    head += _bigint(prediction.slide_id) + _bigint(prediction.image_id) + _bigint(prediction.version_id)
    dim = vectors.shape[1]
    numbers = np.column_stack([niches.weights, niches.boxes]).tolist()
    for rank, (vector, (weight, x, y, width, height), means) in enumerate(zip(vectors, numbers, proteins)):
        # jsonb: the version of its format, then text. halfvec: its length and a zero, then the numbers.
        told = b"\x01" + json.dumps(means, allow_nan=False).encode()
        yield b"".join(
            (
                head,
                struct.pack(">ihiHH", 2, rank, 4 + 2 * dim, dim, 0),
                vector.tobytes(),
                struct.pack(">idididididi", 8, weight, 8, x, 8, y, 8, width, 8, height, len(told)),
                told,
            )
        )


def _bigint(value: int | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">iq", 8, value)
