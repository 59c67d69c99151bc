"""Anybody who is signed in makes a cohort; what does not fit is said beside its field."""

import pytest
from django.urls import reverse

from tissueboard.cohorts.models import Cohort


def test_who_makes_a_cohort_manages_it(people, words):
    client = people.client("outsider")
    assert reverse("cohort_new") in client.get(reverse("cohorts")).content.decode()
    answer = client.post(reverse("cohort_new"), {"name": "  colon ", "description": "Stage III, two sites"})
    made = Cohort.objects.get(name="colon")
    assert answer.url == reverse("cohort", args=[made.pk])
    text = words(client.get(answer.url))
    assert "The cohort colon is made" in text and "Stage III, two sites" in text and "Your role: manager." in text
    assert people.client("manager").get(answer.url).status_code == 404


@pytest.mark.parametrize(
    ("field", "value", "status", "sentence"),
    [
        ("name", "lung", 409, "The name lung is taken."),
        ("name", "x" * 81, 400, "1 to 80 characters"),
        ("name", "  ", 400, "Give it a name."),
        ("description", "x" * 501, 400, "at most 500 characters"),
    ],
)
def test_what_does_not_fit_is_said_beside_its_field_and_kept(people, words, field, value, status, sentence):
    form = {"name": "colon", "description": "kept as typed"} | {field: value}
    answer = people.client("viewer").post(reverse("cohort_new"), form)
    assert answer.status_code == status and sentence in words(answer)
    page = answer.content.decode()
    assert f'id="{field}-error"' in page and page.count("field-error") == 1
    assert ("kept as typed" in page) == (field == "name") and Cohort.objects.count() == 2
