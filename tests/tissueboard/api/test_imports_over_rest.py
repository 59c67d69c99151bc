"""A clinical table and a slide come in over REST as they do in the browser."""

import io
import json

import pytest

from tissueboard.cohorts.models import Patient
from tissueboard.jobs.models import Job

pytestmark = pytest.mark.django_db
IMPORTS = "/api/v1/imports/"


def send(client, name, content, **fields):
    file = io.BytesIO(content)
    file.name = name
    return client.post(IMPORTS, {"cohort": "lung", "kind": "clinical", "file": file} | fields, format="multipart")


def test_a_table_is_checked_first_and_imported_when_confirmed(people):
    client = people.api("contributor")
    sent = send(client, "ages.csv", b"patient_id,age\nLU-000,77\nLU-001,78\n")
    assert sent.status_code == 202, sent.content
    body = sent.json()
    assert body["state"] == "ready" and body["dry_run"] is True
    assert Patient.objects.get(code="LU-000").clinical["age"] == 50
    done = client.post(f"{IMPORTS}{body['id']}/confirm/")
    assert done.status_code == 200 and done.json()["dry_run"] is False
    assert Patient.objects.get(code="LU-000").clinical["age"] == 77
    again = client.post(f"{IMPORTS}{body['id']}/confirm/")
    assert again.status_code == 409 and again.json()["code"] == "IMPORT_STATE"


def test_a_table_with_a_wrong_cell_says_where(people):
    body = send(people.api("contributor"), "ages.csv", b"patient_id,age\nLU-000,old\n").json()
    assert body["state"] != "ready" and any("2" in f["where"] and f["severity"] == "error" for f in body["findings"])


def test_a_discarded_file_is_not_imported(people):
    client = people.api("manager")
    assert client.post(f"{IMPORTS}{people.lung.import_.pk}/discard/").json()["state"] == "rejected"
    assert client.post(f"{IMPORTS}{people.lung.import_.pk}/confirm/").status_code == 409


def test_a_slide_goes_to_the_queue_with_its_options(people):
    sent = send(people.api("contributor"), "LU-000.svs", b"no slide at all", kind="slide", options=json.dumps({"mpp": 0.5}), dry_run="true")
    assert sent.status_code == 202, sent.content
    body = sent.json()
    assert body["options"]["mpp"] == 0.5 and body["dry_run"] is True
    assert Job.objects.get(pk=body["job_id"]).kind == "intake.import_slide"


def test_imports_are_for_contributors(people):
    assert people.api("viewer").get(IMPORTS).json()["count"] == 0
    answer = people.api("viewer").get(f"{IMPORTS}{people.lung.import_.pk}/")
    assert answer.status_code == 403 and "contributor" in answer.json()["sentence"]
    assert [i["file_name"] for i in people.api("manager").get(IMPORTS, {"kind": "clinical"}).json()["results"]] == ["Jane Rosenthal.csv"]
