"""Niche rows into Postgres: our COPY beside `executemany` of INSERT and Django's bulk_create; same rows, checked equal.

Run: python tests/bench/bench_niche_copy.py
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import niche_database as house
import numpy as np
from table import table_row

SETS, NICHES, DIM = 1_000, 16, 512
ROW = "md5((to_jsonb(n) - 'id')::text || n.vector::text)"
DIGEST = f"SELECT md5(string_agg({ROW}, '' ORDER BY prediction_id, rank)) FROM retrieval_niche n"


def executemany(sets):
    from django.db import connection

    from tissueboard.retrieval.publishing import COLUMNS

    insert = f"INSERT INTO retrieval_niche ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
    with connection.cursor() as cursor:
        cursor.executemany(insert, [values for one in sets for values in plain_rows(*one)])


def plain_rows(made, niches, proteins):
    import json

    from pgvector import HalfVector

    for rank, (vector, weight, box, means) in enumerate(zip(niches.vectors, niches.weights, niches.boxes, proteins)):
        of = (made.pk, made.patient_id, made.slide_id, None, made.version_id)
        yield (*of, rank, HalfVector(vector).to_text(), float(weight), *box.tolist(), json.dumps(means))


def bulk_create(sets):
    from tissueboard.retrieval.models import Niche

    Niche.objects.bulk_create(
        Niche(prediction=made, patient_id=made.patient_id, slide_id=made.slide_id, version_id=made.version_id, rank=rank, vector=vector,
              weight=weight, x=box[0], y=box[1], width=box[2], height=box[3], proteins=means)
        for made, niches, proteins in sets
        for rank, (vector, weight, box, means) in enumerate(zip(niches.vectors.tolist(), niches.weights, niches.boxes, proteins))
    )  # fmt: skip


def timed(write, sets):
    """Rows a second in one transaction, and a digest of the rows."""
    from django.db import connection, transaction

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE retrieval_niche")
    start = time.perf_counter()
    with transaction.atomic():
        write(sets)
    seconds = time.perf_counter() - start
    with connection.cursor() as cursor:
        cursor.execute(DIGEST)
        return len(sets) * NICHES / seconds, cursor.fetchone()[0]


def main():
    house.start()
    from tissueboard.cohorts.models import Cohort
    from tissueboard.retrieval.publishing import copy_niches

    rng = np.random.default_rng(0)
    made = house.make_sets(Cohort.objects.create(name="bench"), house.make_version("bench"), SETS)
    sets = [(one, *house.random_set(rng, DIM, NICHES)) for one in made]
    found = {"executemany": timed(executemany, sets), "bulk_create": timed(bulk_create, sets), "COPY": timed(copy_niches, sets)}
    for name, (rate, digest) in found.items():
        print(f"{name}: {rate:,.0f} rows a second, digest {digest}")
    ours, same = found["COPY"][0], len({digest for _, digest in found.values()}) == 1
    for name in ("executemany", "bulk_create"):
        rate, aim = found[name][0], ">= 3x" if name == "executemany" else "-"
        row = (f"{rate:,.0f} rows/s", f"{ours:,.0f} rows/s", f"{ours / rate:.1f}x", aim, f"same rows: {same}")
        table_row(f"bulk niche insert, {SETS * NICHES:,} x {DIM}", name, *row)
    if not same:
        raise SystemExit("The rows are not the same.")


if __name__ == "__main__":
    main()
