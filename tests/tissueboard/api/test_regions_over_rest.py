"""Regions over REST: made, changed, removed, listed, sent as QuPath's GeoJSON and given back."""

import json
from io import BytesIO

import pytest
from qupath_files import FEATURES, collection, ring

from tissueboard.accounts.models import AccessLog
from tissueboard.slides.models import Region, RegionImport

pytestmark = pytest.mark.django_db
OUTLINE = {"type": "Polygon", "coordinates": [ring(100, 100, 200, 100)]}


@pytest.fixture
def base(people):
    return f"/api/v1/slides/{people.lung.slide.pk}/regions"


@pytest.fixture
def send(people, base):
    """Sends a file of regions as the contributor."""

    def call(content=None, **more):
        file = BytesIO(collection() if content is None else content)
        file.name = "front.geojson"
        return people.api("contributor").post(f"{base}/import/", {"file": file, **more}, format="multipart")

    return call


def test_a_region_lives_from_its_making_to_its_removal(people, base):
    client = people.api("contributor")
    made = client.post(f"{base}/", {"geometry": OUTLINE, "role": "analyse", "classification": "Tumor"})
    assert made.status_code == 201, made.content
    region = made.json()
    assert region["area_mm2"] == pytest.approx(200 * 100 * (people.lung.slide.mpp / 1000) ** 2)
    assert (region["role"], region["source"], region["created_by"], region["geometry"]) == ("analyse", "drawn", "contributor", OUTLINE)
    changed = people.api("manager").patch(f"{base}/{region['id']}/", {"note": "seen", "role": "exclude"}).json()
    assert (changed["note"], changed["role"], changed["classification"], changed["changed_by"]) == ("seen", "exclude", "Tumor", "manager")
    viewer = people.api("viewer")
    assert [r["id"] for r in viewer.get(f"{base}/", {"role": "exclude"}).json()["results"]] == [region["id"]]
    assert viewer.get(f"{base}/", {"role": "analyse"}).json()["results"] == []
    assert client.delete(f"{base}/{region['id']}/").status_code == 204
    assert viewer.get(f"{base}/{region['id']}/").status_code == 404
    verbs = set(AccessLog.objects.filter(patient_code=people.lung.patient.code).values_list("verb", flat=True))
    assert {"draw region", "edit region", "remove region", "read regions"} <= verbs


@pytest.mark.parametrize("person", ["viewer", "outsider", "stranger", "anonymous"])
def test_nobody_below_contributor_changes_or_removes(people, base, person):
    region = people.api("contributor").post(f"{base}/", {"geometry": OUTLINE}).json()
    expected = {"viewer": 403, "anonymous": 401}.get(person, 404)
    client = people.api(person)
    assert client.patch(f"{base}/{region['id']}/", {"note": "x"}).status_code == expected
    assert client.delete(f"{base}/{region['id']}/").status_code == expected
    assert Region.objects.filter(pk=region["id"], removed_at=None, note="").exists()


def test_a_region_of_another_slide_is_not_there(people, base):
    region = people.api("contributor").post(f"{base}/", {"geometry": OUTLINE}).json()
    other = people.lung.slides[1]
    assert people.api("viewer").get(f"/api/v1/slides/{other.pk}/regions/{region['id']}/").status_code == 404


def test_a_bad_outline_is_told_with_its_field(people, base):
    answer = people.api("contributor").post(f"{base}/", {"geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["where"]) == ("COORDINATES_INVALID", "geometry")


def test_a_file_is_only_checked_unless_told_otherwise(people, send):
    answer = send()
    assert answer.status_code == 200
    assert {row["classification"] for row in answer.json()["classes"]} >= {"Tumor", "Ignore*"}
    assert not Region.objects.exists()
    assert bytes(RegionImport.objects.get().content) == b""


def test_a_file_comes_in_with_roles_and_goes_out_again(people, base, send):
    answer = send(dry_run=False, roles=json.dumps({"Tumor": "analyse"}))
    assert (answer.status_code, answer.json()["state"]) == (201, "imported")
    listed = people.api("viewer").get(f"{base}/", {"role": "analyse"}).json()
    assert [r["classification"] for r in listed["results"]] == ["Tumor"]
    out = people.api("viewer").get(f"{base}.geojson")
    assert out["Content-Type"] == "application/geo+json"
    assert len(json.loads(out.content)["features"]) == len(FEATURES)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"dry_run": False, "roles": '{"Tumor": "delete"}'}, 400, "BAD_REQUEST"),
        ({"dry_run": False, "roles": '{"Mitosis": "analyse"}'}, 400, "ROLE_NEEDS_AREA"),
        ({"frame": "moon"}, 400, "VALIDATION"),
        ({"roles": "not json"}, 400, "VALIDATION"),
    ],
)
def test_what_a_file_cannot_be_used_for_is_refused(send, more, status, code):
    answer = send(**more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Region.objects.exists()


def test_a_file_that_is_none_is_rejected_with_findings(send):
    answer = send(b"<html>")
    assert (answer.status_code, answer.json()["state"]) == (200, "rejected")
    assert [f["code"] for f in answer.json()["findings"]] == ["NOT_GEOJSON"]
