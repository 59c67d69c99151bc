"""The page of a patient's clinical values: one is corrected with a reason, and everybody reads what was there before."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import ClinicalChange, ClinicalVariable
from tissueboard.cohorts.services import correct_value


@pytest.fixture
def url(people):
    return reverse("case_values", args=[people.lung.patient.pk])


def test_a_contributor_corrects_and_a_viewer_reads_old_new_who_and_why(people, words, url):
    answer = people.client("contributor").post(url, {"variable": "age", "value": "61.5", "why": "Typing error <in> the table"})
    assert answer.status_code == 302 and answer.url == url
    people.lung.patient.refresh_from_db()
    assert people.lung.patient.clinical["age"] == 61.5
    text = words(people.client("viewer").get(url))
    assert "Age : 50 years → became 61.5 years Typing error <in> the table contributor," in text
    assert "Nothing was corrected" not in text


def test_every_reading_leaves_a_row_in_the_log(people, url):
    people.client("viewer").get(url)
    people.client("contributor").post(url, {"variable": "age", "value": "old", "why": "x"})
    log = AccessLog.objects.filter(patient_code=people.lung.patient.code).order_by("pk")
    assert list(log.values_list("username", "verb")) == [("viewer", "read case"), ("contributor", "read case")]


@pytest.mark.parametrize(
    ("form", "status", "place", "sentence"),
    [
        ({"value": "old"}, 400, "value-error", "is no number for age."),
        ({"value": "1" * 501}, 400, "value-error", "at most 500 characters"),
        ({"value": "50"}, 409, "value-error", "Age is recorded like this already."),
        ({"why": " "}, 400, "why-error", "A correction needs a reason."),
        ({"why": "x" * 201}, 400, "why-error", "at most 200 characters"),
        ({"variable": "height"}, 400, "", "The cohort has no variable height."),
        ({"variable": "stage", "value": "IX"}, 400, "value-error", "Allowed are I, II."),
    ],
)
def test_what_does_not_fit_is_said_in_its_place_and_changes_nothing(people, words, url, form, status, place, sentence):
    answer = people.client("contributor").post(url, {"variable": "age", "value": "61", "why": "as typed"} | form)
    page = answer.content.decode()
    assert answer.status_code == status and sentence in words(answer)
    assert [one for one in ("value-error", "why-error") if f'id="{one}"' in page] == ([place] if place else [])
    assert "as typed" in page or place == "why-error" or not place
    people.lung.patient.refresh_from_db()
    assert people.lung.patient.clinical == {"age": 50, "stage": "II"} and not ClinicalChange.objects.exists()


def test_the_field_suits_the_kind_and_holds_what_is_recorded(people, url):
    ClinicalVariable.objects.create(cohort=people.lung.cohort, name="born", kind="date")
    people.lung.patient.clinical |= {"age": 0.123456789, "smoker": False, "born": "1960-01-31"}
    people.lung.patient.save()
    client = people.client("contributor")
    pages = {name: client.get(url, {"variable": name}).content.decode() for name in ("age", "stage", "smoker", "born")}
    assert 'value="0.123456789"' in pages["age"] and 'inputmode="decimal"' in pages["age"]
    assert "<option selected>II</option>" in pages["stage"] and "<option>I</option>" in pages["stage"]
    assert "<option selected>no</option>" in pages["smoker"]
    assert 'type="date"' in pages["born"] and 'value="1960-01-31"' in pages["born"]


def test_a_viewer_gets_no_form(people, url):
    page = people.client("viewer").get(url, {"variable": "age"}).content.decode()
    assert "Recorded" in page and 'name="why"' not in page and ">Correct<" not in page
    assert people.client("viewer").post(url, {"variable": "age", "value": "61", "why": "x"}).status_code == 403
    assert people.client("stranger").post(url, {"variable": "age", "value": "61", "why": "x"}).status_code == 404
    assert not ClinicalChange.objects.exists()


def test_what_is_recorded_beyond_the_dictionary_is_shown_and_not_corrected(people, words, url):
    people.lung.patient.clinical["shoe size"] = 38
    people.lung.patient.save()
    assert "shoe size 38 not in the dictionary" in words(people.client("contributor").get(url))


def test_the_case_page_has_the_door_and_asks_no_more_of_the_database(people, words, url):
    case, client = reverse("case", args=[people.lung.patient.pk]), people.client("contributor")
    client.get(case)
    with CaptureQueriesContext(connection) as before:
        page = client.get(case)
    assert url in page.content.decode() and "Correct a value, or see what was corrected" in words(page)
    for age in range(60, 70):
        correct_value(people.contributor, people.lung.patient, "age", age, "again")
    with CaptureQueriesContext(connection) as after:
        client.get(case)
    assert len(after) == len(before)
    with CaptureQueriesContext(connection) as values:
        client.get(url)
    assert len(values) < len(before)
    assert "See what was corrected" in words(people.client("viewer").get(case))
