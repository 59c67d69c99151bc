"""Block 7, which the case page fetches by itself."""

import json
import re
from html import unescape

from django.urls import reverse


def block(people, person="viewer", part=None, **query):
    part = part or people.lung
    url = reverse("case_similar", args=[part.patient.pk])
    return people.client(person).get(url, {"slide": part.slide.pk, **query}, headers={"HX-Request": "true"})


def test_a_neighbour_comes_with_distance_reasons_history_and_matched_niches(people, words):
    answer = block(people)
    text = words(answer)
    assert "LU-001" in text and "BR-" not in text
    assert "1 tissue of other patients took part, 1 was fully compared" in text
    assert "distances between pieces of one tumour" in text
    assert "carboplatin" in text and "died at 11.5 months" in text
    assert "No outcome value shown in this cohort" in text
    data = json.loads(unescape(re.search(r'data-neighbour="([^"]+)"', answer.content.decode())[1]))
    assert data["boxes"] and {"n", "colour", "query", "hit", "mass", "like"} == set(data["boxes"][0])
    assert data["map"]["prediction"] != people.lung.map.pk
    assert people.client("anonymous").get(data["dzi"]).status_code == 200, "the token alone opens the tiles"


def test_other_sites_only_leaves_the_own_site_out(people, words):
    part = people.lung
    part.slides[1].site = part.slide.site
    part.slides[1].save()
    assert "same site" in words(block(people))
    text = words(block(people, other="1"))
    assert "No other patient" in text and "LU-001" not in text


def test_a_slide_without_niches_says_what_to_do(people, words):
    people.lung.niche_set.niches.all().delete()
    assert "This slide has no niches yet; run the case pipeline." in words(block(people))


def test_it_stands_alone_as_a_page_too(people, words):
    url = reverse("case_similar", args=[people.lung.patient.pk])
    text = words(people.client("viewer").get(url, {"slide": people.lung.slide.pk}))
    assert f"Cases similar to {people.lung.patient.code}" in text and "Research use only." in text


def test_a_slide_of_somebody_else_is_not_hers(people):
    assert (
        people.client("viewer").get(reverse("case_similar", args=[people.lung.patient.pk]), {"slide": people.lung.slides[1].pk}).status_code
        == 404
    )
    assert block(people, "outsider").status_code == 404
