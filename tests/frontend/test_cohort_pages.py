"""Cohorts, their cases and slides, members, and the access log."""

from django.urls import reverse


def test_everybody_sees_her_own_cohorts_with_role_and_counts(people, words):
    text = words(people.client("viewer").get(reverse("cohorts")))
    assert "lung" in text and "viewer" in text and "breast" not in text
    assert "Cases 6" in text and "Slides 3" in text and "Ready 2" in text
    assert "1 slide needs attention" in text


def test_a_member_of_nothing_is_told_whom_to_ask(people, words):
    assert "You are not a member of any cohort yet." in words(people.client("outsider").get(reverse("cohorts")))


def test_cases_are_searched_by_part_of_the_code(people, words):
    client = people.client("viewer")
    assert "LU-003" in words(client.get(reverse("cases"), {"q": "u-003"}))
    text = words(client.get(reverse("cohort", args=[people.lung.cohort.pk]), {"q": "nobody"}))
    assert "No case has “nobody” in its code." in text
    assert "LU-000" not in text


def test_a_search_by_htmx_gets_the_rows_only(people):
    url = reverse("cohort", args=[people.lung.cohort.pk])
    answer = people.client("viewer").get(url, {"q": "LU-00"}, headers={"HX-Request": "true"})
    assert answer.content.decode().strip().startswith('<div id="case-rows">')
    assert "<html" not in answer.content.decode()


def test_doors_that_would_not_open_are_not_shown(people, words):
    url = reverse("cohort", args=[people.lung.cohort.pk])
    assert "Add a slide" not in words(people.client("viewer").get(url))
    contributor = words(people.client("contributor").get(url))
    assert "Add a slide" in contributor and "Access log" not in contributor
    assert "Access log" in words(people.client("manager").get(url))


def test_the_access_log_is_for_managers_and_says_which_role_is_missing(people, words):
    people.client("viewer").get(reverse("case", args=[people.lung.patient.pk]))
    url = reverse("cohort_access_log", args=[people.lung.cohort.pk])
    text = words(people.client("manager").get(url))
    assert "viewer read case" in text and people.lung.patient.code in text
    refused = people.client("contributor").get(url)
    assert refused.status_code == 403
    assert "This takes the role manager in the cohort lung." in words(refused)


def test_slides_are_shown_by_state(people, words):
    url = reverse("cohort_slides", args=[people.lung.cohort.pk])
    text = words(people.client("contributor").get(url, {"state": "needs attention"}))
    assert people.lung.waiting.name in text and people.lung.slide.name not in text
    assert "resolve" in text
    assert "resolve" not in words(people.client("viewer").get(url, {"state": "needs attention"}))
