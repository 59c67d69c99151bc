"""Discovery on pages and over REST: the form that never guesses, the honest estimate first, files for contributors."""

import json

import pytest
import tiny_virtues as tiny
from planted_cells import QUICK, QUICK_GROUPS, found, planted

from tissueboard.accounts.models import AccessLog
from tissueboard.jobs.models import Job
from tissueboard.outcomes.models import Discovery


@pytest.fixture
def version(people):
    return planted(people.lung.cohort, people.lung.jobs["done"])


@pytest.fixture
def address(people):
    return f"/cohorts/{people.lung.cohort.pk}/discover/"


def form(version, **more):
    texts = {f"config-{group}.{name}": value for group, values in QUICK.items() for name, value in values.items()}
    return {"kind": "biomarkers", "version": version.pk, "response": json.dumps(["pcr", "yes"]), **texts, **more}


def test_without_cells_the_page_says_what_it_takes(people, address, words):
    page = words(people.client("contributor").get(address))
    assert "It cannot start yet. No image of lung has cells under a version of VirTues." in page
    assert "it is never guessed" in page
    assert "It cannot start yet" not in words(people.client("viewer").get(address))
    assert people.client("viewer").post(address, {}).status_code == 403


def test_the_form_asks_which_value_is_response_and_keeps_what_was_typed(people, version, address, words):
    client = people.client("contributor")
    page = words(client.get(address))
    assert "Complete response is yes (12 patients)" in page and "Complete response is no (11 patients)" in page
    assert "grade is" not in page and f"{version.name} (24 patients, 24 images)" in page
    answer = client.post(address, form(version, response="", **{"config-leiden.last": "0.75"}))
    assert answer.status_code == 409 and "No response is named." in words(answer)
    assert 'value="0.75"' in answer.content.decode() and not Job.objects.filter(kind="outcomes.discover").exists()
    for wrong in ("[", '["pcr"]', '["pcr", 1]', '{"a": 1}'):
        assert client.post(address, form(version, response=wrong)).status_code == 409
    answer = client.post(address, form(version, **{"config-leiden.step": "0", "config-graph.neighbours": "many"}))
    assert answer.status_code == 400 and "2 fields do not fit" in words(answer)
    assert client.post(address, form(version) | {"version": "x" * 40}).status_code == 409
    assert "it is never guessed" in words(client.get(address + "?kind=nonsense"))
    assert "Groups" in words(client.get(address + "?kind=risk groups"))


def test_from_the_form_to_the_result(people, version, address, words):
    client = people.client("contributor")
    answer = client.post(address, form(version))
    job = Job.objects.get(kind="outcomes.discover")
    assert answer.status_code == 302 and answer.url == f"/jobs/{job.pk}/"
    assert "queued" in words(client.get(address, headers={"HX-Request": "true"}))
    tiny.done(job)
    made = Discovery.objects.get(job=job)
    assert client.post(address, form(version)).url == f"/discoveries/{made.pk}/"
    page = words(client.get(f"/discoveries/{made.pk}/"))
    assert page.index("Nested") < page.index("Printed") < page.index("Clusters that were chosen")
    assert "too good" in page and "in-sample" in page and "Research use only" in page and "p = 0.050" in page
    assert "Cells (Parquet)" in page and "pcr is yes" in words(client.get(address))
    answer = client.get(f"/discoveries/{made.pk}/files/patients/")
    assert answer["X-Content-SHA256"] == made.patients_sha256 and answer["Content-Type"].startswith("text/csv")
    assert client.get(f"/discoveries/{made.pk}/files/other/").status_code == 404


def test_what_is_no_finding_says_so_and_small_groups_are_hidden_from_viewers(people, version, address, words):
    people.lung.cohort.min_group_size = 5
    people.lung.cohort.save()
    made = found(people.lung.cohort, version, people.lung.jobs["done"])
    page = words(people.client("viewer").get(f"/discoveries/{made.pk}/"))
    assert "this is not told from chance" in page and "hidden: too few patients" in page and "no responder without it" in page
    assert "Cells (Parquet)" not in page and "1 cluster with fewer than 5 patients is not shown" in page
    assert "hidden: too few" not in words(people.client("manager").get(f"/discoveries/{made.pk}/"))
    assert people.client("viewer").get(f"/discoveries/{made.pk}/files/cells/").status_code == 403
    assert people.client("stranger").get(f"/discoveries/{made.pk}/").status_code == 404
    assert AccessLog.objects.filter(verb="read discovery").count() == 2
    Discovery.objects.filter(pk=made.pk).update(cells_key="", patients_key="")
    assert "were deleted when one of its patients was withdrawn" in words(people.client("manager").get(f"/discoveries/{made.pk}/"))


def test_over_rest_it_is_asked_for_and_read(people, version):
    api, address = people.api("contributor"), f"/api/v1/cohorts/{people.lung.cohort.pk}/discoveries/"
    asked = {"kind": "risk groups", "version": version.pk, "endpoint": "OS", "config": QUICK_GROUPS}
    refused = api.post(address, asked | {"config": {"groups": 1, "colour": 3}}, format="json")
    assert refused.status_code == 400 and {one["where"] for one in refused.json()["errors"]} == {"config.groups", "config.colour"}
    assert api.post(address, asked | {"endpoint": ""}, format="json").json()["code"] == "ENDPOINT_UNKNOWN"
    assert api.post(address, asked | {"kind": "typing"}, format="json").status_code == 400
    started = api.post(address, asked, format="json")
    assert started.status_code == 202
    tiny.done(Job.objects.get(pk=started.json()["id"]))
    (row,) = api.get(address).json()["results"]
    one = api.get(f"/api/v1/discoveries/{row['id']}/").json()
    assert one == row and one["research_use_only"] and one["asked"] == "OS" and list(one["result"]["out_of_fold"]) == ["p", "z"]
    assert api.get(one["files"]["cells"]).status_code == 200
    seen = people.api("viewer").get(f"/api/v1/discoveries/{row['id']}/").json()
    assert seen["files"] == {"cells": None, "patients": None} and seen["n"] == 24
    assert people.api("viewer").post(address, asked, format="json").status_code == 403
