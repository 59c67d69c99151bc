"""Ten nearest niches in a cohort of 500 and of 2,000 rows among 200,000: our permission-first exact scan beside pgvector's HNSW.

Run: python tests/bench/bench_similar_niches.py [rows of everybody else]
Both ask as a member of the cohort asks: rows of her cohort, other patients only. HNSW takes permission and search in one query; ours asks
first which sets are permitted, so it stands twice: the search alone, and with that question. HNSW runs with iterative scan, ef_search
100, as the documentation of pgvector shows it. Recall: share of the true ten that came back, by a plain loop in numpy.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import niche_database as house
import numpy as np
from table import table_row

DIM, NICHES, K, QUERIES, REPEATS = 512, 16, 10, 25, 3
BACKGROUND = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
COHORTS = (500, 2_000)


def fill(cohort, version, sets, rng, centres):
    """Niche sets of new patients of a cohort, one COPY for every 500."""
    from django.db import transaction

    from tissueboard.retrieval.publishing import copy_niches

    for first in range(0, sets, 500):
        made = house.make_sets(cohort, version, min(500, sets - first), first)
        with transaction.atomic():
            copy_niches([(one, *house.random_set(rng, DIM, NICHES, centres)) for one in made])


def median_ms(work, arguments):
    seconds = []
    for _ in range(REPEATS):
        for one in arguments:
            start = time.perf_counter()
            work(one)
            seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))


def truth(cohort, version, query, own):
    """Ids of the ten nearest rows by a loop in numpy over the vectors as stored."""
    from tissueboard.retrieval.models import Niche

    rows = list(Niche.objects.filter(version=version, patient__cohort=cohort).exclude(patient=own).values_list("pk", "vector"))
    apart = [float(np.linalg.norm(np.array(v, np.float32) - query)) for _, v in rows]
    return {rows[i][0] for i in np.argsort(apart)[:K]}


def main():
    house.start()
    from django.db import connection

    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Cohort, Membership
    from tissueboard.jobs.models import Job
    from tissueboard.retrieval import indexing, similar_niches
    from tissueboard.retrieval.models import Niche, NicheIndex
    from tissueboard.retrieval.selectors import Filters, candidates, others

    rng = np.random.default_rng(0)
    centres = 1.5 * rng.standard_normal((40, DIM))
    version = house.make_version("bench")
    start = time.perf_counter()
    fill(Cohort.objects.create(name="everybody else"), version, BACKGROUND // NICHES, rng, centres)
    cohorts = {}
    for rows in COHORTS:
        cohorts[rows] = Cohort.objects.create(name=f"cohort of {rows}")
        fill(cohorts[rows], version, rows // NICHES + 1, rng, centres)
    print(f"{Niche.objects.count():,} rows of {DIM} in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'")
        cursor.execute("ANALYZE")
    indexing._make_hnsw(version)
    print(f"HNSW index made in {time.perf_counter() - start:.0f} s")
    NicheIndex.objects.create(version=version, n_sets=1, n_niches=1, nearest=True, job=Job.objects.first())
    for rows, cohort in cohorts.items():
        user = User.objects.create_user(f"member of {rows}")
        Membership.objects.create(user=user, cohort=cohort, role="viewer")
        chosen = list(Niche.objects.filter(patient__cohort=cohort, rank=0).select_related("slide__sample__patient")[:QUERIES])

        def exact(one, user=user):
            return similar_niches.nearest_rows(user, one.slide, version, one.vector, K, Filters())[0]

        def hnsw(one, user=user):
            permitted = others(user, Niche.objects.filter(version=version), one.slide, Filters())
            return similar_niches._through_hnsw(permitted, DIM, similar_niches._literal(one.vector), K)

        true = [truth(cohort, version, np.array(n.vector, np.float32), n.patient) for n in chosen]
        found = {}
        for name, work in (("exact", exact), ("hnsw", hnsw)):
            answers = [{pk for pk, _ in work(one)} for one in chosen]
            recall = float(np.mean([len(a & t) / K for a, t in zip(answers, true)]))
            found[name] = (median_ms(work, chosen), recall)
        (ours, right), (theirs, recall) = found["exact"], found["hnsw"]
        told = f"recall: ours {right:.2f}, HNSW {recall:.2f}"
        ids = candidates(user, version, chosen[0].slide, Filters()).ids
        scan = median_ms(lambda one, ids=ids: similar_niches._exact(ids, similar_niches._literal(one.vector), K), chosen)
        print(f"{rows} rows: exact scan {ours:.2f} ms, HNSW {theirs:.2f} ms, ratio {theirs / ours:.1f}x; {told}")
        name = f"similar niches in a cohort of {rows:,} rows, {BACKGROUND:,} others"
        aim = ">= 50x" if rows == 500 else ">= 5x"
        beside = "pgvector HNSW, iterative scan"
        table_row(f"{name}, the search", beside, f"{theirs:.2f} ms", f"{scan:.2f} ms", f"{theirs / scan:.1f}x", aim, told)
        table_row(f"{name}, and who is permitted", beside, f"{theirs:.2f} ms", f"{ours:.2f} ms", f"{theirs / ours:.1f}x", aim, told)
        if right < 1:
            raise SystemExit("The exact scan missed a niche.")


if __name__ == "__main__":
    main()
