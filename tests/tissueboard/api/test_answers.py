"""What each address of the API answers to a member, held against the rows it comes from."""

import csv
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from people import PASSWORD

from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import Membership
from tissueboard.jobs.models import Job
from tissueboard.outcomes.services import survival
from tissueboard.predictions.maps import load_map

pytestmark = pytest.mark.django_db
V1 = "/api/v1"


@pytest.fixture
def get(people):
    def ask(path, person="viewer", **query):
        answer = people.api(person).get(f"{V1}/{path}", query)
        assert answer.status_code == 200, answer.content
        return answer.json()

    return ask


def test_cohorts_say_my_role_and_what_they_hold(people, get):
    (row,) = get("cohorts/", "contributor")["results"]
    assert (row["name"], row["my_role"], row["n_patients"], row["n_slides"], row["n_ready"], row["n_attention"]) == (
        "lung", "contributor", 6, 3, 2, 1,
    )  # fmt: skip
    one = get(f"cohorts/{row['id']}/")
    assert one["my_role"] == "viewer" and one["endpoints"] == ["OS"]
    assert {v["name"]: v["unit"] for v in one["variables"]} == {"age": "years", "stage": "", "smoker": ""}
    assert {g["name"] for g in one["groupings"]} == {"age", "stage", "smoker", "risk"}


def test_patients_are_found_by_cohort_and_code(people, get):
    assert [p["code"] for p in get("patients/")["results"]] == [f"LU-{i:03}" for i in range(6)]
    assert [p["code"] for p in get("patients/", search="-004")["results"]] == ["LU-004"]
    by_name = get("patients/", cohort="lung")
    assert by_name == get("patients/", cohort=str(people.lung.cohort.pk)) and by_name["count"] == 6


def test_a_patient_comes_with_all_that_hangs_on_her(people, get):
    one = get(f"patients/{people.lung.patient.pk}/")
    assert {v["name"]: v["value"] for v in one["clinical"]} == {"age": 50, "stage": "II", "smoker": None}
    assert [s["code"] for s in one["samples"]] == ["LU-000-S1"] and [s["id"] for s in one["slides"]] == [people.lung.slide.pk]
    assert {(e["kind"], e["state"]) for e in one["events"]} >= {("mutation", "pending"), ("treatment", "done")}
    assert one["endpoints"] == [
        {"name": "OS", "time_days": 200.0, "event": False, "entry_days": 0.0, "time_zero": "sampling", "source": "outcomes.csv"}
    ]


def test_slides_are_filtered_by_state_and_cohort(people, get):
    ready = get("slides/", state="ready", cohort="lung")["results"]
    assert [s["id"] for s in ready] == [s.pk for s in people.lung.slides[:2]] and {s["state"] for s in ready} == {"ready"}
    (waiting,) = get("slides/", state="needs attention")["results"]
    assert waiting["id"] == people.lung.waiting.pk and waiting["n_findings"] == 1 and waiting["mpp"] is None


@pytest.mark.parametrize(("person", "told"), [("viewer", False), ("contributor", True)])
def test_findings_hide_file_names_from_viewers(people, get, person, told):
    """A file's name can be a patient's name."""
    (finding,) = get(f"slides/{people.lung.waiting.pk}/", person)["findings"]
    assert finding["code"] == "MPP_MISSING" and finding["hint"].endswith(".")
    assert (finding.get("file") == "Jane Rosenthal.svs") is told


def test_every_read_of_a_slide_case_map_and_export_is_logged(people, get):
    w, code = people.lung, people.lung.patient.code
    client = people.api("viewer")
    paths = {
        f"patients/{w.patient.pk}/": "read case",
        f"patients/{w.patient.pk}/risk/": "read case",
        f"slides/{w.slide.pk}/": "read slide",
        f"slides/{w.slide.pk}/tiles.dzi": "read slide",
        f"slides/{w.slide.pk}/maps/{w.map.pk}/": "read map",
        f"slides/{w.slide.pk}/maps/{w.map.pk}/values.csv": "export map",
    }
    for path, verb in paths.items():
        before = AccessLog.objects.count()
        assert client.get(f"{V1}/{path}").status_code == 200
        assert AccessLog.objects.count() == before + 1
        row = AccessLog.objects.order_by("pk").last()
        assert (row.verb, row.patient_code, row.username, row.path) == (verb, code, "viewer", f"{V1}/{path}")


def test_the_descriptor_leads_to_tiles_that_need_no_login(people):
    answer = people.api("viewer").get(f"{V1}/slides/{people.lung.slide.pk}/tiles.dzi")
    image = ElementTree.fromstring(answer.content)
    size = image.find("{http://schemas.microsoft.com/deepzoom/2008}Size")
    assert answer["Content-Type"] == "application/xml" and (size.get("Width"), size.get("Height")) == ("1120", "1120")
    url = image.get("Url")
    assert url.startswith("http://testserver/slides/") and url.endswith("/")
    tile = people.client("anonymous").get(f"{url}11/0_0.jpeg")
    assert tile.status_code == 200 and tile.content[:2] == b"\xff\xd8"
    other = url.replace(f"/slides/{people.lung.slide.pk}/", f"/slides/{people.breast.slide.pk}/")
    assert people.client("anonymous").get(f"{other}11/0_0.jpeg").status_code == 404


def test_a_client_that_knows_only_deep_zoom_s_folder_name_finds_the_same_tile(people):
    answer = people.api("viewer").get(f"{V1}/slides/{people.lung.slide.pk}/tiles_files/11/1_0.jpeg")
    assert answer.status_code == 302
    assert people.client("anonymous").get(answer["Location"]).content[:2] == b"\xff\xd8"


def test_a_slide_that_waits_has_no_picture_yet(people):
    answer = people.api("viewer").get(f"{V1}/slides/{people.lung.waiting.pk}/tiles.dzi")
    assert answer.status_code == 409 and answer.json()["code"] == "SLIDE_NOT_READY"


def test_maps_say_what_they_stand_on(people, get):
    (one,) = get(f"slides/{people.lung.slide.pk}/maps/")["results"]
    found = people.lung.map
    assert one["id"] == found.pk and one["label"] == "trained on simulated tissue" and one["research_use_only"] is True
    assert one["names"] == [c["name"] for c in one["channels"]] == ["CD8", "Pan-Cytokeratin", "CD68", "Mac2/Galectin-3"]
    assert {c["name"]: c["locked"] for c in one["channels"]}["CD68"] is True and one["channels"][0]["low"] == 0.0
    assert (one["facts"]["rows"], one["facts"]["pitch_um"], one["facts"]["effective_resolution_um"]) == (10, 56.0, 112.0)
    assert one["provenance"]["job"] == people.lung.jobs["done"].pk and one["provenance"]["inputs"] == found.inputs
    assert get(f"slides/{people.lung.slide.pk}/maps/{found.pk}/") == one
    assert get(f"slides/{people.lung.waiting.pk}/maps/")["results"] == []


def test_a_map_belongs_to_its_slide(people):
    client, own, other = people.api("viewer"), people.lung, people.lung.slides[1]
    for path in (
        f"{other.pk}/maps/{own.map.pk}/",
        f"{own.slide.pk}/maps/{own.niche_set.pk}/",
        f"{own.slide.pk}/maps/{people.breast.map.pk}/",
    ):
        assert client.get(f"{V1}/slides/{path}").status_code == 404


def test_values_as_csv_are_the_map_s_own_and_say_where_they_come_from(people):
    answer = people.api("viewer").get(f"{V1}/slides/{people.lung.slide.pk}/maps/{people.lung.map.pk}/values.csv", {"channel": "CD8"})
    lines = b"".join(answer.streaming_content).decode().splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert "Research use only" in head[0] and "trained on simulated tissue" in head[1]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines[len(head) :]))))
    virtual = load_map(people.lung.map)
    assert len(rows) == int(np.isfinite(virtual.values[0]).sum()) == 99
    for row in rows:
        assert float(row["CD8"]) == pytest.approx(virtual.values[0, int(row["row"]), int(row["col"])], rel=1e-5)
        assert float(row["x_px0"]) == (int(row["col"]) + 0.5) * 112
    assert rows[-1]["out_of_range"] == "1.5"


def test_similar_cases_are_other_patients_of_my_cohorts(people):
    ask = people.api("viewer").post
    found = ask(f"{V1}/retrieval/", {"slide": people.lung.slide.pk, "k": 5}).json()
    (hit,) = found["hits"]
    assert hit["patient"]["code"] == "LU-001" and found["n_candidates"] == found["n_fully_compared"] == 1
    assert hit["distance"] > 0 and 0 <= hit["percentile"] <= 100
    assert sum(m["mass"] for m in hit["matches"]) <= 1 + 1e-9 and all(len(m["query_box"]) == 4 for m in hit["matches"])
    assert "CD68" not in hit["match_markers"] + [d["name"] for d in hit["differ_markers"]]
    assert [t["name"] for t in hit["treatments"]] == ["carboplatin"] and hit["outcome"]["time_days"] == 350.0
    assert found["version"]["label"] == "trained on simulated tissue" and not hit["same_site"]


def test_similar_cases_reach_as_far_as_the_asker_s_cohorts(people):
    Membership.objects.create(cohort=people.breast.cohort, user=people.viewer, role="viewer")
    ask = people.api("viewer").post
    query = {"slide": people.lung.slide.pk}
    everywhere = ask(f"{V1}/retrieval/", query).json()
    assert {h["cohort"]["name"] for h in everywhere["hits"]} == {"lung", "breast"} and everywhere["n_candidates"] == 3
    one = ask(f"{V1}/retrieval/", query | {"cohort": people.breast.cohort.pk, "k": 1}).json()
    assert [h["cohort"]["name"] for h in one["hits"]] == ["breast"]
    away = ask(f"{V1}/retrieval/", query | {"cohort": "breast", "other_sites_only": True}).json()
    assert [h["slide"]["site"] for h in away["hits"]] == ["site 1"] and away["same_site_share"] == 0.0


def test_a_slide_without_niches_has_no_neighbours_and_says_why(people):
    found = people.api("viewer").post(f"{V1}/retrieval/", {"slide": people.lung.waiting.pk}).json()
    assert found["hits"] == [] and found["version"] is None and found["note"].endswith(".")


def test_kaplan_meier_is_the_analysis_of_the_house(people, get):
    told = get("kaplan-meier/", "manager", cohort="lung", endpoint="OS", group_by="stage")
    ours = survival(people.manager, people.lung.cohort, "OS", "stage")
    assert (told["n"], told["events"], told["unit"]) == (6, 4, "days")
    assert told["logrank"]["p"] == ours.logrank.p and [g["name"] for g in told["groups"]] == [g.name for g in ours.groups]
    assert told["groups"][0]["survival"] == ours.groups[0].survival and told["groups"][0]["at_risk"]["n"] == ours.groups[0].at_risk.n
    assert get("kaplan-meier/", cohort=str(people.lung.cohort.pk))["n"] == 6


@pytest.mark.parametrize(("query", "code"), [({"endpoint": "XYZ"}, "UNKNOWN_ENDPOINT"), ({"group_by": "shoe size"}, "UNKNOWN_GROUPING")])
def test_kaplan_meier_names_what_it_does_not_know(people, query, code):
    answer = people.api("viewer").get(f"{V1}/kaplan-meier/", {"cohort": "lung"} | query)
    assert answer.status_code in (400, 404) and answer.json()["code"] == code


def test_risk_comes_with_its_reference_or_with_a_reason(people, get):
    shown = get(f"patients/{people.lung.patient.pk}/risk/")
    assert (shown["probability"], shown["lower"], shown["upper"], shown["reference_n"]) == (0.3, 0.2, 0.5, 6)
    assert shown["version"]["label"] == "trained on simulated tissue" and shown["held_out"] is True
    none = get(f"patients/{people.lung.patients[5].pk}/risk/")
    assert none["probability"] is None and none["why_none"].endswith(".") and none["provenance"] is None


def test_models_that_stand_on_other_cohorts_are_not_listed(people, get):
    assert {m["name"] for m in get("models/")["results"]} == {"small hex", "small niche", "risk of lung"}
    assert [m["name"] for m in get("models/", family="niche")["results"]] == ["small niche"]
    one = get(f"models/{people.versions['hex'].pk}/")
    assert one["metrics"]["card"]["CD8"]["r2"] == 0.4 and one["label"] == "trained on simulated tissue"


def test_jobs_show_state_timeline_and_error_but_no_traceback(people, get):
    assert [j["id"] for j in get("jobs/", state="failed")["results"]] == [people.lung.jobs["failed"].pk]
    assert get("jobs/", cohort="lung")["count"] == 3
    one = get(f"jobs/{people.lung.jobs['failed'].pk}/")
    assert one["error"] == {"code": "NO_TISSUE", "sentence": "There is no tissue on this slide.", "hint": "Look at the slide."}
    assert [t["to_state"] for t in one["timeline"]] == ["failed"] and one["timeline"][0]["note"] == "by hand"
    assert "secret traceback" not in str(one) and [o["kind"] for o in get(f"jobs/{people.lung.jobs['done'].pk}/")["outputs"]] == ["text"]


def test_a_contributor_cancels_and_retries(people):
    client, jobs = people.api("contributor"), people.lung.jobs
    stopped = client.post(f"{V1}/jobs/{jobs['queued'].pk}/cancel/")
    assert stopped.status_code == 200 and stopped.json()["state"] == "cancelled"
    again = client.post(f"{V1}/jobs/{jobs['queued'].pk}/cancel/")
    assert again.status_code == 409 and again.json()["code"] == "NOT_CANCELLABLE"
    assert client.post(f"{V1}/jobs/{jobs['failed'].pk}/retry/").json()["state"] == "queued"
    assert client.post(f"{V1}/jobs/{jobs['done'].pk}/retry/").json()["code"] == "NOT_RETRYABLE"


def test_a_pipeline_starts_once_however_often_one_asks(people):
    path = f"{V1}/slides/{people.lung.slide.pk}/pipeline/"
    before = Job.objects.count()
    first = people.api("contributor").post(path, {"name": "case"})
    assert first.status_code == 202, first.content
    kinds = [j["kind"] for j in first.json()]
    assert kinds == ["predictions.virtual_map", "retrieval.niches", "predictions.risk"]
    second = people.api("manager").post(path)
    assert [j["id"] for j in second.json()] == [j["id"] for j in first.json()] and Job.objects.count() == before + 3
    refused = people.api("contributor").post(f"{V1}/slides/{people.lung.waiting.pk}/pipeline/", {"name": "case"})
    assert refused.status_code == 409 and refused.json()["code"] == "SLIDE_NOT_READY"


def test_a_session_may_ask_too_but_needs_its_csrf_token_to_change_anything(people):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    assert client.login(username="contributor", password=PASSWORD)
    assert client.get(f"{V1}/cohorts/").status_code == 200
    refused = client.post(f"{V1}/jobs/{people.lung.jobs['queued'].pk}/cancel/")
    assert refused.status_code == 403 and "CSRF" in refused.json()["sentence"]
    assert Job.objects.get(pk=people.lung.jobs["queued"].pk).state == "queued"
