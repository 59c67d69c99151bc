"""The niches nearest to one: permission first, exact while few rows are permitted, else approximate and said so."""

import numpy as np
import pytest
from django.db import connection
from many_tissues import NICHES, embed, niche_version, niches_at, row_of_tissues, slide_of

from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.retrieval import indexing, similar_niches
from tissueboard.retrieval.models import Niche, NicheIndex
from tissueboard.retrieval.selectors import Filters, get_niche
from tissueboard.retrieval.similar_niches import similar_niches_of


@pytest.fixture
def tissues(people):
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 6)
    row_of_tissues(people, version, 3, cohort=people.breast.cohort)
    embed(people, slide_of(people.lung.cohort, "lung-000"), version, 0.01)  # another tissue of the first person
    return version, slides


def plain_loop(user, version, niche, k):
    rows = Niche.objects.visible_to(user).filter(version=version).exclude(patient__code=niche.patient.code)
    apart = {n.pk: float(np.linalg.norm(np.array(n.vector) - np.array(niche.vector))) for n in rows}
    return sorted(apart.items(), key=lambda row: row[1])[:k]


def make_hnsw(version):
    with connection.cursor() as cursor:  # what was written in this test's transaction is checked first
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    indexing._make_hnsw(version)


def first_niche(slide):
    return Niche.objects.filter(slide=slide).select_related("slide__sample__patient__cohort").first()


def test_the_nearest_are_those_of_a_plain_loop_over_what_may_be_seen(people, tissues):
    version, slides = tissues
    niche = first_niche(slides[0])
    answer = similar_niches_of(people.viewer, niche, 7)
    assert [(h.niche.pk, pytest.approx(h.distance, rel=1e-3)) for h in answer.hits] == plain_loop(people.viewer, version, niche, 7)
    assert answer.n_permitted == 5 * NICHES and not answer.approximate and not answer.at_least
    assert {h.niche.patient.cohort for h in answer.hits} == {people.lung.cohort}
    filtered = similar_niches_of(people.viewer, niche, 3, filters=Filters(other_sites_only=True))
    assert {h.tissue.site for h in filtered.hits} == {"site 1"}


def test_above_the_limit_it_is_approximate_and_k_rows_come_back_all_the_same(people, tissues, monkeypatch):
    version, slides = tissues
    monkeypatch.setattr(similar_niches, "EXACT_ROWS", 8)  # of the 20 that are permitted
    niche = first_niche(slides[0])
    assert not similar_niches_of(people.viewer, niche, 5).approximate, "without an index the scan stays exact"
    make_hnsw(version)
    NicheIndex.objects.create(version=version, n_sets=10, n_niches=40, nearest=True, job=people.lung.jobs["done"])
    answer = similar_niches_of(people.viewer, niche, 5)
    assert answer.approximate and answer.at_least and answer.n_permitted == 8
    assert {h.niche.pk for h in answer.hits} <= set(Niche.objects.visible_to(people.viewer).values_list("pk", flat=True))
    everything = similar_niches_of(people.viewer, niche, 5 * NICHES)
    assert len(everything.hits) == 5 * NICHES
    monkeypatch.setattr(similar_niches, "_through_hnsw", lambda *_: [])
    assert len(similar_niches_of(people.viewer, niche, 5).hits) == 5 and not similar_niches_of(people.viewer, niche, 5).approximate


def test_the_index_is_used_where_it_should_be(people, tissues):
    version, _ = tissues
    make_hnsw(version)
    make_hnsw(version)  # asking twice is harmless
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE indexname = %s", [indexing.hnsw_name(version)])
        assert cursor.fetchone() == (1,)
        cursor.execute("SET LOCAL enable_sort = off")
        dim = indexing.dimensions(version)
        text = similar_niches._literal(niches_at(0.0)[0].vectors[0].tolist()).to_text()
        order = f"EXPLAIN SELECT id FROM retrieval_niche WHERE version_id = {version.pk} ORDER BY vector::halfvec({dim}) <-> %s LIMIT 3"
        cursor.execute(order, [text])
        assert indexing.hnsw_name(version) in str(cursor.fetchall())


def test_a_strangers_niche_does_not_exist_and_bad_vectors_are_told(people, tissues):
    version, slides = tissues
    niche = first_niche(slides[0])
    with pytest.raises(NotVisible):
        get_niche(people.stranger, niche.pk)
    for vector, told in (([1.0], "has 1 numbers"), ([float("nan")] * 6, "half precision"), ([1e9] * 6, "half precision")):
        with pytest.raises(TissueboardError, match=told):
            similar_niches.similar_niches(people.viewer, slides[0], version.pk, vector)
    with pytest.raises(TissueboardError, match="must be 1 to"):
        similar_niches_of(people.viewer, niche, 0)
