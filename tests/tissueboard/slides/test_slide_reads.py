"""Who sees which slides, and their thumbnails."""

import pytest
from django.urls import reverse
from PIL import Image

from tissueboard.errors import NotVisible
from tissueboard.slides.selectors import get_slide, slides_for, slides_of_patient
from tissueboard.slides.services import thumbnail_file


def test_slides_are_seen_by_members_only(people, make_slide):
    ours, theirs = make_slide("P1"), make_slide("P2", cohort="theirs", member=False)
    assert list(slides_for(people["viewer"])) == [ours] and not slides_for(people["outsider"]).exists()
    assert get_slide(people["viewer"], ours.pk) == ours
    for user, slide in ((people["viewer"], theirs), (people["outsider"], ours)):
        with pytest.raises(NotVisible):
            get_slide(user, slide.pk)
    assert not slides_of_patient(people["viewer"], theirs.sample.patient).exists()


def test_slides_are_found_by_cohort_state_and_text(people, make_slide, django_assert_num_queries):
    one, two = make_slide("ABC-1"), make_slide("XYZ-2", state="needs attention")
    other = make_slide("ABC-3", cohort="second")
    viewer = people["viewer"]
    assert set(slides_for(viewer, cohort=one.sample.patient.cohort)) == {one, two}
    assert list(slides_for(viewer, state="needs attention")) == [two]
    assert set(slides_for(viewer, search=" abc ")) == {one, other} and list(slides_for(viewer, search="s-xyz")) == [two]
    assert list(slides_of_patient(viewer, one.sample.patient)) == [one]
    with django_assert_num_queries(1):
        assert len([(s.sample.patient.code, s.sample.patient.cohort.name) for s in slides_for(viewer)]) == 3


def test_a_thumbnail_asks_for_a_login_and_a_membership(client, people, make_slide):
    slide = make_slide("P1")
    Image.new("RGB", (64, 48), "pink").save(thumbnail_file(slide))
    url = reverse("slide_thumbnail", args=[slide.pk])
    anonymous = client.get(url)
    assert anonymous.status_code == 302 and anonymous["Location"].startswith("/login/")
    client.force_login(people["outsider"])
    assert client.get(url).status_code == 404
    client.force_login(people["viewer"])
    answer = client.get(url)
    assert answer.status_code == 200 and answer.content == thumbnail_file(slide).read_bytes()
    assert answer["Cache-Control"].startswith("private")
    assert client.get(url, headers={"If-None-Match": answer["ETag"]}).status_code == 304


def test_a_slide_without_a_thumbnail_says_so(client, people, make_slide):
    slide = make_slide("P1", state="needs attention")
    client.force_login(people["viewer"])
    answer = client.get(reverse("slide_thumbnail", args=[slide.pk]))
    assert answer.status_code == 404 and "needs attention" in answer.json()["sentence"]
