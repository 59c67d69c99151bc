"""Which version answers: the one that covers what the older one covered, or a manager's choice; measured and virtual never together."""

import pytest
from many_tissues import embed, image_of, niche_version, slide_of

from tissueboard.accounts.models import AccessLog
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.predictions.models import Prediction
from tissueboard.retrieval.references import choose, references_of, references_of_cohort, use_reference
from tissueboard.retrieval.services import similar_cases


@pytest.fixture
def two_versions(people):
    """Three tissues under the old version, alone in the cohort; the new one covers two of them so far."""
    Prediction.objects.filter(version=people.versions["niche"]).delete()
    old, new = niche_version(people, "old"), niche_version(people, "new")
    slides = [slide_of(people.lung.cohort, f"P{i}") for i in range(3)]
    for i, slide in enumerate(slides):
        embed(people, slide, old, float(i), seed=i)
    for i, slide in enumerate(slides[:2]):
        embed(people, slide, new, float(i), seed=i)
    return old, new, slides


def test_the_older_version_answers_until_the_new_one_covers_all_that_it_covered(people, two_versions):
    old, new, slides = two_versions
    offered = references_of(people.viewer, slides[0])
    assert [(r.version.name, r.in_use, r.n_covered) for r in offered] == [("old", True, 3), ("new", False, 2)]
    answer = similar_cases(people.viewer, slides[0])
    assert answer.version == old and answer.n_candidates == 2
    chosen = similar_cases(people.viewer, slides[0], version_id=new.pk)
    assert chosen.version == new and chosen.n_candidates == 1, "both may be chosen meanwhile"
    embed(people, slides[2], new, 2.0)
    assert similar_cases(people.viewer, slides[0]).version == new


def test_a_tissue_that_only_the_new_version_knows_is_compared_in_it(people, two_versions):
    _, new, _ = two_versions
    late = slide_of(people.lung.cohort, "late")
    embed(people, late, new, 5.0)
    reference, _ = choose(people.viewer, late)
    assert reference.version == new and not reference.in_use and reference.n_covered == 3


def test_the_rule_goes_by_the_versions_that_a_tissue_has(people):
    """The version in use in the cohort does not know this tissue: of two others the older one answers until the newer one covers it."""
    old, new = niche_version(people, "old"), niche_version(people, "new")
    slides = [slide_of(people.lung.cohort, f"P{i}") for i in range(2)]
    for i, slide in enumerate(slides):
        embed(people, slide, old, float(i))
    embed(people, slides[0], new, 0.0)
    assert choose(people.viewer, people.lung.slide)[0].version == people.versions["niche"]
    reference, _ = choose(people.viewer, slides[0])
    assert reference.version == old and not reference.in_use


def test_a_manager_may_say_so_with_a_reason_and_it_is_logged(people, two_versions):
    _, new, slides = two_versions
    cohort = people.lung.cohort
    for person, error in ((people.contributor, RoleMissing), (people.stranger, NotVisible)):
        with pytest.raises(error):
            use_reference(person, cohort, new.pk, False, "because")
    with pytest.raises(TissueboardError, match="reason"):
        use_reference(people.manager, cohort, new.pk, False, "  ")
    for version_id, measured in ((new.pk, True), (people.versions["hex"].pk, False)):
        with pytest.raises(TissueboardError, match="no niche set"):
            use_reference(people.manager, cohort, version_id, measured, "because")
    assert similar_cases(people.viewer, slides[0]).version != new
    made = use_reference(people.manager, cohort, new.pk, False, "The rest of the slides is damaged.")
    assert made.in_use and made.decided_by == "manager" and similar_cases(people.viewer, slides[0]).version == new
    assert AccessLog.objects.filter(verb="choose reference", cohort_id=cohort.pk, username="manager").exists()


def test_measured_and_virtual_are_two_references_even_of_one_version(people):
    version = niche_version(people, "both", family="virtues")
    slides = [slide_of(people.lung.cohort, f"V{i}") for i in range(2)]
    images = [image_of(people.lung.cohort, f"M{i}") for i in range(3)]
    for i, tissue in enumerate((*slides, *images)):
        embed(people, tissue, version, float(i), seed=i)
    virtual, measured = similar_cases(people.viewer, slides[0]), similar_cases(people.viewer, images[0])
    assert [h.slide for h in virtual.hits] == [slides[1]] and [h.image for h in measured.hits] == images[1:]
    titles = [r.title for r in references_of_cohort(people.viewer, people.lung.cohort) if r.version == version]
    assert len(titles) == 2 and "virtual proteins" in titles[0] and "measured channels" in titles[1]


def test_the_same_image_under_another_code_is_no_similar_case(people):
    version = niche_version(people, "v", family="virtues")
    first, twin, other = (image_of(people.lung.cohort, f"M{i}") for i in range(3))
    type(twin).objects.filter(pk=twin.pk).update(sealed_sha256=first.sealed_sha256)
    for i, image in enumerate((first, twin, other)):
        embed(people, image, version, float(i), seed=i)
    assert [h.image for h in similar_cases(people.viewer, first).hits] == [other]


def test_an_unknown_reference_is_refused(people, two_versions):
    with pytest.raises(TissueboardError, match="no niche set of the version"):
        similar_cases(people.viewer, two_versions[2][0], version_id=10**9)


def test_coverage_counts_what_the_asker_may_see(people, two_versions):
    old, _, slides = two_versions
    embed(people, slide_of(people.breast.cohort, "B0"), old, 9.0)
    assert references_of(people.viewer, slides[0])[0].n_covered == 3
    assert references_of(people.stranger, slides[0]) == []
