"""Finer maps and intervals over REST."""

import pytest

from tissueboard.predictions.models import Prediction

pytestmark = pytest.mark.django_db
V1 = "/api/v1"


@pytest.fixture
def address(people):
    return f"{V1}/slides/{people.lung.slide.pk}"


def test_asking_twice_finds_the_same_job(people, address):
    client = people.api("contributor")
    first = client.post(f"{address}/dense-map/", {"stride_um": 14})
    assert first.status_code == 202 and (first.json()["kind"], first.json()["state"]) == ("predictions.dense_map", "queued")
    assert client.post(f"{address}/dense-map/", {"stride_um": 14.0}).json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"stride_um": 56}, 400, "STRIDE_INVALID"),
        ({"stride_um": 0.1}, 400, "STRIDE_TOO_FINE"),
        ({"stride_um": "NaN"}, 400, "VALIDATION"),
        ({"stride_um": "fine"}, 400, "VALIDATION"),
        ({}, 400, "VALIDATION"),
    ],
)
def test_a_stride_that_makes_no_sense_is_refused(people, address, body, status, code):
    answer = people.api("contributor").post(f"{address}/dense-map/", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code) and answer.json()["sentence"].endswith(".")


def test_a_dense_map_is_listed_after_the_map_and_says_its_kind(people, address):
    like = people.lung.map
    fields = {name: getattr(like, name) for name in ("patient", "slide", "version", "job", "inputs", "code_version", "key", "sha256")}
    dense = Prediction.objects.create(kind="dense map", facts={**like.facts, "pitch_um": 14.0, "tile_um": 56.0}, **fields)
    client = people.api("viewer")
    rows = client.get(f"{address}/maps/").json()["results"]
    assert [(r["id"], r["kind"]) for r in rows] == [(like.pk, "virtual map"), (dense.pk, "dense map")]
    assert (rows[1]["facts"]["pitch_um"], rows[1]["facts"]["tile_um"], rows[1]["facts"]["effective_resolution_um"]) == (14.0, 56.0, 112.0)
    assert client.get(f"{address}/maps/{dense.pk}/").json() == rows[1]


def test_a_map_tells_alpha_patients_and_measured_coverage_or_why_there_is_no_interval(people, address):
    client, found = people.api("viewer"), people.lung.map
    one = client.get(f"{address}/maps/{found.pk}/").json()
    assert one["interval"] == {"alpha": None, "percent": None, "patients": 0, "why_none": "this version was never calibrated"}
    assert one["channels"][0]["half_width"] is None and one["channels"][0]["coverage"] is None
    csv = b"".join(client.get(f"{address}/maps/{found.pk}/values.csv").streaming_content).decode()
    assert "# No interval: this version was never calibrated.\n" in csv
    told = {"alpha": 0.1, "percent": 90, "patients": 38, "why_none": "", "half_width": {"CD8": 0.22}}
    told |= {"coverage": {"CD8": 0.91}, "coverage_patients": {"CD8": 0.89}}
    Prediction.objects.filter(pk=found.pk).update(facts={**found.facts, "interval": told})
    one = client.get(f"{address}/maps/{found.pk}/").json()
    assert one["interval"] == {"alpha": 0.1, "percent": 90, "patients": 38, "why_none": ""}
    first, second = one["channels"][:2]
    assert (first["half_width"], first["coverage"], first["coverage_patients"], second["half_width"]) == (0.22, 0.91, 0.89, None)
    csv = b"".join(client.get(f"{address}/maps/{found.pk}/values.csv", {"channel": "CD8"}).streaming_content).decode()
    assert "# Interval of 90%, 38 calibration patients, none where out_of_range is above 1; half-width: CD8 0.22.\n" in csv
