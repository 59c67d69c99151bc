"""Pages for refusals: what is missing, what to do."""

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse

from frontend.pages import errors


def test_an_unknown_address_is_a_page_with_a_sentence(people, words):
    answer = people.client("viewer").get("/nothing/here/")
    assert answer.status_code == 404 and "There is no page at this address" in words(answer)


def test_a_form_without_its_token_changes_nothing_and_says_so(people, words):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.contributor)
    answer = client.post(reverse("case_decision", args=[people.lung.patient.pk]), {"decision": "x", "owner": "y"})
    assert answer.status_code == 403 and "sent without its security token" in words(answer)


def test_characters_that_no_text_holds_are_refused_before_the_database(people, words):
    answer = people.client("viewer").get(reverse("cases"), {"q": "a\x00"})
    assert answer.status_code == 400 and "no text (NUL)" in words(answer)


def test_the_page_for_our_own_mistakes_needs_no_database():
    answer = errors.server_error(RequestFactory().get("/"))
    assert answer.status_code == 500 and b"Something went wrong on the server." in answer.content


@pytest.mark.parametrize(("view", "status"), [(errors.bad_request, 400), (errors.forbidden, 403), (errors.not_found, 404)])
def test_rest_gets_json(view, status):
    answer = view(RequestFactory().get("/api/v1/x/"))
    assert answer.status_code == status and answer["Content-Type"] == "application/json"


def test_who_opens_a_page_below_slides_reads_a_page_and_a_viewer_json(people):
    client, slide = people.client("outsider"), people.lung.slides[0]
    address = reverse("slide_regions", args=[slide.pk])
    person = client.get(address, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert person.status_code == 404 and person["Content-Type"].startswith("text/html")
    viewer = client.get(address, headers={"accept": "image/avif,image/webp,*/*;q=0.8"})
    assert viewer.status_code == 404 and viewer.json()["code"] == "NOT_FOUND"
