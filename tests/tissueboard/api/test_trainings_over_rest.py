"""Families, trainings and starting one, over REST: as the schema says, with every refusal in the house's one shape."""

import pytest
from jsonschema import Draft202012Validator
from trainable_cohort import mapped, measured

from ml import families
from tissueboard.jobs.models import Job, JobCurve
from tissueboard.pipelines.training_kinds import trainings

pytestmark = pytest.mark.django_db
V1 = "/api/v1"
DAYS, EVENTS = [100.0, 250, 400, 600, 800, 1000], [1, 1, 1, 0, 1, 1]


@pytest.fixture
def ask(people):
    """Sends a training of HEX on lung, changed by `body`."""
    measured(people.lung.cohort, 4)

    def send(person="contributor", **body):
        about = {"what": "hex", "cohorts": ["lung"], "name": "new", "config": {"epochs": 2}}
        return people.api(person).post(f"{V1}/trainings/", about | body, format="json")

    return send


def test_families_say_what_they_take_and_give_with_the_schema_of_each_task(people):
    body = people.api("outsider").get(f"{V1}/families/").json()
    assert [one["name"] for one in body["results"]] == list(families.FAMILIES)
    (hex_,) = (one for one in body["results"] if one["name"] == "hex")
    (fit,) = (task for task in hex_["tasks"] if task["name"] == "fit")
    assert fit["takes"] == ["TileImages", "TileLabels", "Split"]
    lr = fit["config_schema"]["properties"]["lr"]
    assert lr["source"].startswith("paper") and lr["description"] and lr["exclusiveMinimum"] == 0
    for one in body["results"]:
        for task in one["tasks"]:
            Draft202012Validator.check_schema(task["config_schema"])


def test_trainings_list_what_to_choose_and_recipes_that_can_be_sent(people, ask):
    found = {one["name"]: one for one in people.api("viewer").get(f"{V1}/trainings/").json()["results"]}
    assert list(found) == [one.name for one in trainings()] and found["risk"]["chooses"] == ["version", "endpoint"]
    assert "tile_um" not in found["hex"]["config_schema"]["properties"] and found["hex"]["several"] is True
    recipe = found["hex"]["presets"][0]
    Draft202012Validator(found["hex"]["config_schema"]).validate(recipe["values"])
    assert ask(config=recipe["values"]).status_code == 201


def test_a_training_is_started_with_its_size(people, ask):
    answer = ask(config={"epochs": 4, "batch": 3})
    body = answer.json()
    assert answer.status_code == 201 and (body["kind"], body["state"]) == ("predictions.fit_hex", "queued")
    assert body["size"] == {"patients": 4, "events": None, "tiles": 12, "steps": 16, "seconds": None, "most_seconds": 1200.0}
    job = Job.objects.get(pk=body["id"])
    assert job.params["config"]["batch"] == 3 and job.created_by == people.contributor
    assert ask(config={"epochs": 4, "batch": 3}).json()["id"] == job.pk


def test_a_risk_names_version_and_endpoint(people, ask):
    version = people.versions["hex"]
    version.metrics["card"]["CD20"] = version.metrics["card"]["CD8"]
    version.save()
    mapped(people.lung.cohort, version, DAYS, EVENTS)
    answer = ask(what="risk", config={}, version=version.pk, endpoint="OS")
    assert answer.status_code == 201 and Job.objects.get(pk=answer.json()["id"]).params["endpoint"] == "OS"
    assert answer.json()["size"]["events"] == 6


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        ({"config": {"lr": "fast", "nonsense": 1}}, 400, "CONFIG_INVALID", "config.lr"),
        ({"config": {"fds": True}}, 400, "CONFIG_INVALID", "config"),
        ({"config": [1]}, 400, "VALIDATION", "config"),
        ({"config": {"hidden": ["a\x00"]}}, 400, "VALIDATION", "config"),
        ({"name": "small hex"}, 409, "NAME_TAKEN", "name"),
        ({"name": ""}, 400, "VALIDATION", "name"),
        ({"name": "x" * 81}, 400, "VALIDATION", "name"),
        ({"what": "astrology"}, 404, "UNKNOWN_TRAINING", "what"),
        ({"cohorts": []}, 400, "VALIDATION", "cohorts"),
        ({"cohorts": ["breast"]}, 404, "NOT_FOUND", ""),
        ({"version": 1}, 400, "BAD_REQUEST", "version"),
        ({"what": "risk", "config": {}}, 409, "VERSION_UNKNOWN", "version"),
        ({"what": "risk", "config": {}, "version": 10**9, "endpoint": "OS"}, 400, "VERSION_UNKNOWN", "version"),
        ({"what": "risk", "version": "first"}, 400, "VALIDATION", "version"),
    ],
)
def test_refusals_say_what_where_and_what_to_do(ask, body, status, code, where):
    before = Job.objects.count()
    answer = ask(**body)
    told = answer.json()
    assert (answer.status_code, told["code"], told["where"]) == (status, code, where), told
    assert told["sentence"].endswith(".") and told["hint"].endswith(".") and Job.objects.count() == before


def test_every_setting_is_told_at_once(ask):
    told = ask(config={"lr": "fast", "nonsense": 1}).json()
    assert [one["where"] for one in told["errors"]] == ["config.lr", "config.nonsense"]
    assert told["sentence"] == told["errors"][0]["sentence"] == "lr is “fast”; it takes a number above 0 and at most 1."


def test_a_low_role_and_a_stranger(ask):
    assert ask("viewer").json()["code"] == "ROLE_MISSING" and ask("outsider").status_code == 404 and ask("anonymous").status_code == 401


def test_the_curves_of_a_job_are_given(people):
    job = people.lung.jobs["done"]
    JobCurve.objects.create(job=job, series="fold 1 training", x=[0.5, 1.0], y=[2.0, 1.5], each=4)
    curves = people.api("viewer").get(f"{V1}/jobs/{job.pk}/").json()["curves"]
    assert curves == {"fold 1 training": {"x": [0.5, 1.0], "y": [2.0, 1.5], "each": 4}}
    assert people.api("viewer").get(f"{V1}/jobs/{people.lung.jobs['queued'].pk}/").json()["curves"] == {}
