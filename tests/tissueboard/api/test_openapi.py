"""The schema describes every address, without a warning, and what it promises is what is sent."""

import pytest
import yaml
from django.core.management import call_command
from django.urls import get_resolver
from jsonschema import Draft202012Validator

pytestmark = pytest.mark.django_db
V1 = "/api/v1"


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path))
    return yaml.safe_load(path.read_text())


def test_every_address_is_in_it(schema):
    (api,) = [p for p in get_resolver().url_patterns if str(p.pattern) == "api/v1/"]
    names = {p.name for p in api.url_patterns} - {"schema", "unknown"}
    assert len(schema["paths"]) == len(names)


def test_it_is_served_to_anybody(people):
    answer = people.api("anonymous").get(f"{V1}/schema/")
    assert answer.status_code == 200 and yaml.safe_load(answer.content)["info"]["title"] == "Tissueboard"


def validator(schema, path, method="get", status="200"):
    answer = schema["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return Draft202012Validator(answer | {"components": nullable(schema["components"])})


def nullable(node):
    """OpenAPI 3.0 writes `nullable: true` where JSON schema writes a second type."""
    if isinstance(node, list):
        return [nullable(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    node = {key: nullable(inner) for key, inner in node.items()}
    if node.pop("nullable", False) is True:
        return {"anyOf": [node, {"type": "null"}]}
    return node


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/cohorts/", "/cohorts/"),
        ("/cohorts/{cohort_id}/", "/cohorts/{cohort}/"),
        ("/patients/", "/patients/"),
        ("/patients/{patient_id}/", "/patients/{patient}/"),
        ("/patients/{patient_id}/risk/", "/patients/{patient}/risk/"),
        ("/slides/", "/slides/"),
        ("/slides/{slide_id}/", "/slides/{waiting}/"),
        ("/slides/{slide_id}/labels/", "/slides/{slide}/labels/"),
        ("/slides/{slide_id}/maps/", "/slides/{slide}/maps/"),
        ("/jobs/", "/jobs/"),
        ("/jobs/{job_id}/", "/jobs/{failed}/"),
        ("/models/", "/models/"),
        ("/models/{version_id}/", "/models/{version}/"),
        ("/imports/", "/imports/"),
        ("/imports/{import_id}/", "/imports/{import_}/"),
        ("/kaplan-meier/", "/kaplan-meier/?cohort=lung&group_by=stage"),
    ],
)
def test_answers_are_as_the_schema_promises(people, schema, path, address):
    w = people.lung
    ids = {"cohort": w.cohort.pk, "patient": w.patient.pk, "slide": w.slide.pk, "waiting": w.waiting.pk, "failed": w.jobs["failed"].pk}
    ids |= {"version": people.versions["lung"].pk, "import_": w.import_.pk}
    answer = people.api("contributor").get(V1 + address.format(**ids))
    assert answer.status_code == 200
    validator(schema, V1 + path).validate(answer.json())


def test_what_became_of_a_label_table_is_as_the_schema_promises(people, schema):
    from django.core.files.uploadedfile import SimpleUploadedFile
    from label_tables import csv_of

    address = f"{V1}/slides/{people.lung.slide.pk}/labels/"
    for status in ("201", "200"):  # added, there already
        file = SimpleUploadedFile("labels.csv", csv_of(people.lung.slide))
        answer = people.api("contributor").post(address, {"file": file}, format="multipart")
        assert str(answer.status_code) == status
        validator(schema, f"{V1}/slides/{{slide_id}}/labels/", "post", status).validate(answer.json())
    listed = people.api("viewer").get(address).json()
    assert listed["results"]
    validator(schema, f"{V1}/slides/{{slide_id}}/labels/").validate(listed)


def test_similar_cases_are_as_the_schema_promises(people, schema):
    answer = people.api("viewer").post(f"{V1}/retrieval/", {"slide": people.lung.slide.pk})
    assert answer.json()["hits"]
    validator(schema, f"{V1}/retrieval/", "post").validate(answer.json())
