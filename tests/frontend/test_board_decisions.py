"""Block 8: what the board decided, who disagreed, who sees to it, what comes next."""

import pytest
from django.urls import reverse

from tissueboard.cohorts.models import Event

PARTS = {"decision": "Adjuvant  chemotherapy", "dissent": "Dr. A: too frail", "owner": "Dr. B", "next_test": "ECG"}


def send(people, person, **parts):
    return people.client(person).post(reverse("case_decision", args=[people.lung.patient.pk]), PARTS | parts)


def test_a_contributor_records_it_and_everybody_reads_it(people, words):
    answer = send(people, "contributor")
    assert answer.status_code == 302 and answer.url.endswith("#decision")
    text = words(people.client("viewer").get(reverse("case", args=[people.lung.patient.pk])))
    assert "Adjuvant chemotherapy Dissent Dr. A: too frail Owner Dr. B Next test ECG" in text
    assert "entered by contributor" in text


def test_two_decisions_stay_two_newest_first(people, words):
    send(people, "contributor")
    send(people, "manager", decision="Wait and see")
    text = words(people.client("viewer").get(reverse("case", args=[people.lung.patient.pk])))
    assert text.index("Wait and see") < text.index("Adjuvant chemotherapy")


@pytest.mark.parametrize(("part", "value"), [("decision", "  "), ("owner", ""), ("dissent", "x" * 121)])
def test_an_incomplete_one_is_refused_with_what_was_typed_still_there(people, words, part, value):
    answer = send(people, "contributor", **{part: value})
    assert answer.status_code == 400
    assert "Dr. A" in answer.content.decode() or part == "dissent"
    assert "is missing." in words(answer) or "has 121 characters" in words(answer)
    assert not Event.objects.filter(kind="decision").exists()


def test_a_viewer_is_told_the_role_and_a_stranger_nothing(people, words):
    refused = send(people, "viewer")
    assert refused.status_code == 403 and "This takes the role contributor in the cohort lung." in words(refused)
    assert send(people, "stranger").status_code == 404
    assert not Event.objects.filter(kind="decision").exists()
