"""The numbers behind a Kaplan-Meier figure."""

import csv
import io

from django.urls import reverse


def rows(answer):
    text = [line for line in answer.content.decode().splitlines() if not line.startswith(("#", '"#'))]
    return list(csv.DictReader(io.StringIO("\n".join(text))))


def test_the_file_holds_every_step_and_says_what_it_is(people):
    answer = people.client("viewer").get(reverse("km_csv", args=[people.lung.cohort.pk]), {"endpoint": "OS", "group_by": "stage"})
    assert answer["Content-Disposition"] == 'attachment; filename="lung-os-stage.csv"'
    assert answer.content.startswith(b"# Research use only")
    found = rows(answer)
    assert {row["group"] for row in found} == {"stage: I", "stage: II"}
    assert sum(float(row["n_event"]) for row in found) == 4
    assert float(found[0]["n_risk"]) == 3


def test_an_unknown_endpoint_is_a_sentence(people, words):
    answer = people.client("viewer").get(reverse("km_csv", args=[people.lung.cohort.pk]), {"endpoint": "XX"})
    assert answer.status_code == 404 and "has no endpoint XX" in words(answer)


def test_small_groups_stay_hidden_from_viewers(people):
    people.lung.cohort.min_group_size = 4
    people.lung.cohort.save()
    query = {"endpoint": "OS", "group_by": "stage"}
    url = reverse("km_csv", args=[people.lung.cohort.pk])
    assert rows(people.client("viewer").get(url, query)) == []
    assert rows(people.client("manager").get(url, query))
