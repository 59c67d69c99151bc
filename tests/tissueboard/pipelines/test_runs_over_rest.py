"""/api/v1/runs/: plan, start, look, change."""

import pytest
from cohort_of_slides import PIPELINE, lung, more_slides, steps  # noqa: F401
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tissueboard.accounts.services import issue_token
from tissueboard.pipelines.models import CohortRun
from tissueboard.slides.models import Slide

URL = "/api/v1/runs/"


@pytest.fixture
def client(lung):  # noqa: F811
    def sign_in(name):
        made = APIClient()
        made.default_format = "json"
        made.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(getattr(lung, name))[0]}")
        return made

    return sign_in


def test_a_plan_counts_and_starts_nothing(lung, client):  # noqa: F811
    more_slides(lung.cohort, 1, state="needs attention")
    plan = client("contributor").post(f"{URL}plan/", {"cohort": "lung", "pipeline": PIPELINE}).json()
    assert (plan["n_slides"], plan["n_run"], plan["n_exists"], plan["n_skip"]) == (4, 9, 0, 3)
    assert plan["steps"][0]["version"]["id"] == lung.versions["hex"].pk and plan["steps"][0]["n_skip"] == 1
    assert plan["skipped"][0] == {
        "patient": "P-00003", "slide": "P-00003-S", "kind": "tests.bag", "code": "SLIDE_NOT_READY",
        "reason": "The slide P-00003-S is not ready: needs attention.",
    }  # fmt: skip
    assert plan["estimate"]["seconds"] is None and plan["estimate"]["why_no_time"] and plan["estimate"]["free_bytes"] > 0
    assert not CohortRun.objects.exists()


def test_a_run_from_start_to_end(lung, client, run_jobs):  # noqa: F811
    Slide.objects.filter(pk=lung.slides[2].pk).update(facts={"refuse": True})
    me, viewer = client("contributor"), client("viewer")
    started = me.post(URL, {"cohort": "lung", "pipeline": PIPELINE})
    assert started.status_code == 202 and started.json()["state"] == "running"
    one = f"{URL}{started.json()['id']}/"
    assert me.post(URL, {"cohort": "lung", "pipeline": PIPELINE}).json()["id"] == started.json()["id"]
    assert me.post(f"{one}pause/").json()["state"] == "paused" and me.post(f"{one}resume/").json()["state"] == "running"
    while run_jobs():
        seen = viewer.get(one).json()
    assert seen["state"] == "done" and seen["progress"]["counts"]["succeeded"] == 6 and seen["progress"]["done"] == 1
    assert [(f["code"], f["n"]) for f in seen["progress"]["failures"]] == [("NO_TISSUE", 1), ("DEPENDENCY_FAILED", 2)]
    items = viewer.get(f"{one}items/", {"state": "failed", "kind": "tests.bag"}).json()
    assert items["count"] == 1 and items["results"][0]["why"]["code"] == "NO_TISSUE" and items["results"][0]["patient"]["code"] == "P-00002"
    assert viewer.get(f"{one}items/").json()["results"][0]["why"] is None
    assert me.post(f"{one}retry/").json()["state"] == "running"
    more_slides(lung.cohort, 1)
    assert me.post(f"{one}extend/").json()["progress"]["to_run"] == 12
    assert me.post(f"{one}cancel/").json()["state"] == "cancelled"
    again = me.post(f"{one}cancel/")
    assert (again.status_code, again.json()["code"]) == (409, "RUN_ENDED")
    assert viewer.get(URL, {"cohort": "lung", "state": "cancelled"}).json()["count"] == 1
    assert client("outsider").get(URL).json()["count"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"cohort": "lung", "pipeline": "nothing"}, 404, "UNKNOWN_PIPELINE"),
        ({"cohort": "lung"}, 400, "VALIDATION"),
        ({"cohort": "lung", "pipeline": "bags"}, 400, "VERSION_NOT_CHOSEN"),
        ({"cohort": "lung", "pipeline": "bags", "options": {"hex": "x"}}, 400, "VALIDATION"),
        ({"cohort": "lung", "pipeline": "bags", "options": {"hex": 2**63 - 1}}, 400, "VERSION_UNKNOWN"),
        ({"cohort": "lung", "pipeline": PIPELINE, "options": {"encoder": 1}}, 400, "OPTION_UNKNOWN"),
        ({"cohort": "elsewhere", "pipeline": PIPELINE}, 404, "NOT_FOUND"),
    ],
)
def test_what_is_wrong_is_named(lung, client, body, status, code):  # noqa: F811
    answer = client("contributor").post(URL, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_viewer_looks_and_changes_nothing(lung, client):  # noqa: F811
    one = f"{URL}{client('contributor').post(URL, {'cohort': 'lung', 'pipeline': PIPELINE}).json()['id']}/"
    viewer, outsider = client("viewer"), client("outsider")
    assert viewer.get(one).status_code == 200 and outsider.get(one).status_code == outsider.get(f"{one}items/").status_code == 404
    for verb in ("pause", "resume", "retry", "extend", "cancel"):
        assert viewer.post(f"{one}{verb}/").status_code == 403 and outsider.post(f"{one}{verb}/").status_code == 404
    assert viewer.post(URL, {"cohort": "lung", "pipeline": PIPELINE}).status_code == 403


def test_lists_ask_the_database_as_often_for_many_as_for_one(lung, client):  # noqa: F811
    from tissueboard.pipelines.run_services import cancel, start_run

    viewer, asked = client("viewer"), []
    for more in (1, 3):
        for _ in range(more):
            run = start_run(lung.contributor, lung.cohort, PIPELINE)
            cancel(lung.contributor, run)
        more_slides(lung.cohort, more)
        with CaptureQueriesContext(connection) as queries:
            assert viewer.get(URL).json()["count"] and viewer.get(f"{URL}{run.pk}/items/").json()["count"]
        asked.append(len(queries))
    assert asked[0] == asked[1]


def test_a_single_slide_takes_a_chosen_version_too(lung, client):  # noqa: F811
    one = f"/api/v1/slides/{lung.slides[0].pk}/pipeline/"
    refused = client("contributor").post(one, {"name": "features"})
    assert (refused.status_code, refused.json()["code"]) == (409, "NOTHING_TO_RUN")
    chosen = client("contributor").post(one, {"name": "features", "options": {"encoder": lung.versions["hex"].pk}})
    assert (chosen.status_code, chosen.json()["code"]) == (400, "VERSION_UNKNOWN")
    lung.versions["hex"].__class__.objects.filter(pk=lung.versions["hex"].pk).update(family="encoder")
    started = client("contributor").post(one, {"name": "features", "options": {"encoder": lung.versions["hex"].pk}})
    assert started.status_code == 202 and [job["kind"] for job in started.json()] == ["predictions.features"]
