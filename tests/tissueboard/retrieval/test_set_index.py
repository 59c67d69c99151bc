"""The set index: same answers as without it; what it does not know comes from Postgres, and who may be seen is asked there."""

import pytest
from many_tissues import embed, niche_version, row_of_tissues, slide_of

from tissueboard.jobs.models import Job
from tissueboard.retrieval import indexing, ranking
from tissueboard.retrieval.models import NicheIndex
from tissueboard.retrieval.services import similar_cases
from tissueboard.store import store


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Six sets count as many."""
    for module in (indexing, ranking):
        monkeypatch.setattr(module, "FEWEST_SETS", 6)


def found(user, slide, **options):
    answer = similar_cases(user, slide, k=4, **options)
    return [(h.patient.code, round(h.distance, 6)) for h in answer.hits], answer


def test_the_index_changes_no_answer_and_nothing_is_silently_left_out(people, run_jobs):
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 8)
    straight, answer = found(people.viewer, slides[0])
    assert answer.n_indexed == 0 and [code for code, _ in straight] == ["lung-001", "lung-002", "lung-003", "lung-004"]
    run_jobs()
    index = NicheIndex.objects.get(version=version)
    assert index.n_sets == 8 and store.exists(index.key)
    indexed, answer = found(people.viewer, slides[0])
    assert indexed == straight and answer.n_indexed == 7 == answer.n_candidates

    embed(people, slide_of(people.lung.cohort, "new one"), version, 0.5, seed=50)
    embed(people, slides[1], version, 40.0, seed=51)
    later, answer = found(people.viewer, slides[0])
    assert [code for code, _ in later] == ["new one", "lung-002", "lung-003", "lung-004"]
    assert answer.n_indexed == 6 and answer.n_candidates == 8

    slides[2].sample.patient.delete()
    gone, answer = found(people.viewer, slides[0])
    assert [code for code, _ in gone] == ["new one", "lung-003", "lung-004", "lung-005"] and answer.n_candidates == 7


def test_it_is_made_again_from_the_one_before_when_enough_has_changed(people, run_jobs, django_capture_on_commit_callbacks):
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 8)
    run_jobs()
    first = NicheIndex.objects.get(version=version)
    for i in range(3):
        embed(people, slide_of(people.lung.cohort, f"new {i}"), version, 0.2 + i / 10, seed=50 + i)
    slides[7].sample.patient.delete()
    with django_capture_on_commit_callbacks(execute=True):
        run_jobs()
    second = NicheIndex.objects.get(version=version)
    assert second.key != first.key and not store.exists(first.key) and second.n_sets == 10 and second.n_since == 0
    codes, answer = found(people.viewer, slides[0])
    assert [code for code, _ in codes] == ["new 0", "new 1", "new 2", "lung-001"] and answer.n_indexed == 9


def test_a_damaged_index_is_no_index(people, run_jobs):
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 7)
    run_jobs()
    straight, _ = found(people.viewer, slides[0])
    key = NicheIndex.objects.get(version=version).key
    (store.path(key) / indexing.SETS / "header.json").write_text("{")
    indexing._open.cache_clear()
    again, answer = found(people.viewer, slides[0])
    assert again == straight and answer.n_indexed == 0


def test_the_index_holds_all_cohorts_and_shows_only_mine(people, run_jobs):
    version = niche_version(people, "v")
    slides = row_of_tissues(people, version, 7)
    row_of_tissues(people, version, 7, cohort=people.breast.cohort)
    run_jobs()
    codes, answer = found(people.viewer, slides[0])
    assert answer.n_candidates == 6 and answer.n_indexed == 6 and not any(code.startswith("breast") for code, _ in codes)


def test_a_few_sets_of_fitted_niches_ask_for_no_index(people):
    row_of_tissues(people, niche_version(people, "v"), 4)
    assert not Job.objects.filter(kind=indexing.KIND).exists()


def test_other_families_get_their_scales_from_the_job(people, run_jobs):
    from many_tissues import image_of

    version = niche_version(people, "v", family="virtues")
    images = [image_of(people.lung.cohort, f"M{i}") for i in range(3)]
    for i, image in enumerate(images):
        embed(people, image, version, float(i), seed=i)
    assert similar_cases(people.viewer, images[0], k=2).hits[0].percentile is None
    run_jobs()
    hit = similar_cases(people.viewer, images[0], k=2).hits[0]
    assert hit.percentile == 100 and hit.image == images[1] and hit.slide is None
    facts = indexing.facts_of(version)
    assert facts["marker_scales"]["CD8"][0] == pytest.approx(0.1) and len(facts["within_tumour"]) == 6
