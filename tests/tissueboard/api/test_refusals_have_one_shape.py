"""A refusal is {code, sentence, where, hint}, whoever raised it; and nothing that a stranger sends is a 500."""

import io
import json

import pytest
from django.core.cache import cache
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from tissueboard.jobs.models import Job

pytestmark = pytest.mark.django_db
V1 = "/api/v1"
FIELDS = {"code", "sentence", "where", "hint"}
LISTS = ("cohorts", "patients", "slides", "imports", "jobs", "models")
QUERIES = {
    "cohorts": ("page", "page_size"),
    "patients": ("cohort", "search", "page", "page_size"),
    "slides": ("state", "cohort", "search", "page", "page_size"),
    "imports": ("cohort", "kind", "state", "page"),
    "jobs": ("state", "cohort", "page", "page_size"),
    "models": ("family", "page"),
    "kaplan-meier": ("cohort", "endpoint", "group_by"),
}
HUGE = "9" * 5000


@pytest.fixture(autouse=True)
def no_earlier_guesses():
    cache.clear()


def check(answer, *statuses):
    """The refusal's body, after its shape was checked."""
    assert answer.status_code in statuses, (answer.status_code, answer.content[:500])
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    assert set(body) >= FIELDS and body["code"] == body["code"].upper() and body["code"]
    assert body["sentence"].endswith((".", "?", "!")), body
    return body


@pytest.mark.parametrize(
    "path", [*LISTS, "kaplan-meier", "slides/1", "patients/1", "jobs/1", "models/1", "slides/1/maps", "slides/1/tiles.dzi"]
)
def test_without_a_token_it_is_401(people, path):
    answer = people.api("anonymous").get(f"{V1}/{path}" + ("" if path.endswith("dzi") else "/"))
    assert check(answer, 401)["code"] == "NOT_AUTHENTICATED" and answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_unknown_addresses_are_404_for_everybody(db, method):
    for path in ("nonsense/", "cohorts", "slides/abc/", "slides/-1/", f"slides/{HUGE}/", "patients/1/2/3", "%00/", ""):
        body = check(getattr(APIClient(), method)(f"{V1}/{path}"), 404)
        assert body["code"] == "NOT_FOUND" and ("slash" in body["hint"]) is (not f"{V1}/{path}".endswith("/"))


def test_a_low_role_is_named(people):
    client = people.api("viewer")
    for path in (f"jobs/{people.lung.jobs['queued'].pk}/cancel/", f"slides/{people.lung.slide.pk}/pipeline/"):
        body = check(client.post(f"{V1}/{path}"), 403)
        assert body["code"] == "ROLE_MISSING" and "contributor" in body["sentence"] and "lung" in body["sentence"]
    assert "contributor" in check(client.get(f"{V1}/imports/", {"cohort": "lung"}), 403)["sentence"]


@pytest.mark.parametrize(
    ("method", "path"), [("post", "cohorts/"), ("delete", "patients/"), ("get", "retrieval/"), ("put", "token/"), ("get", "token/")]
)
def test_a_wrong_method_is_405_and_says_which_are_right(people, method, path):
    answer = getattr(people.api("viewer"), method)(f"{V1}/{path}")
    assert check(answer, 405)["where"] == method.upper() and answer["Allow"]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"state": "fine"}, "state"),
        ({"cohort": ""}, "cohort"),
        ({"cohort": "\x00"}, "cohort"),
        ({"cohort": "x" * 81}, "cohort"),
        ({"search": "a\x00b"}, "search"),
    ],
)
def test_a_wrong_parameter_is_named(people, query, where):
    body = check(people.api("viewer").get(f"{V1}/slides/", query), 400)
    assert (body["code"], body["where"]) == ("VALIDATION", where) and body["errors"][0]["where"] == where


def test_all_wrong_fields_are_listed(people):
    body = check(people.api("viewer").post(f"{V1}/retrieval/", {"slide": "x", "k": 1000, "other_sites_only": "perhaps"}), 400)
    assert {e["where"] for e in body["errors"]} == {"slide", "k", "other_sites_only"}
    assert body["where"] == body["errors"][0]["where"]


def test_the_names_of_other_people_s_cohorts_are_like_names_that_nobody_has(people):
    client = people.api("viewer")
    told = [
        check(client.get(f"{V1}/{path}/", {"cohort": name}), 404) for path in ("slides", "kaplan-meier") for name in ("breast", "nowhere")
    ]
    assert all(body == told[0] for body in told)


JUNK = (
    "",
    "0",
    "-1",
    "1.5",
    HUGE,
    str(2**63),
    str(2**64),
    "NaN",
    "null",
    "[]",
    "a\x00b",
    "' OR 1=1 --",
    "%",
    "\\",
    "ready",
    "🩺" * 40,
    "x" * 10_000,
    "²",
)


@pytest.mark.parametrize("path", QUERIES)
def test_junk_in_the_query_is_an_answer_or_a_refusal(people, path):
    client = people.api("contributor")
    for name in QUERIES[path]:
        for value in JUNK:
            answer = client.get(f"{V1}/{path}/", {name: value} if path != "kaplan-meier" else {"cohort": "lung"} | {name: value})
            if answer.status_code != 200:
                check(answer, 400, 404)


@pytest.mark.parametrize("path", ["cohorts", "patients", "slides", "imports", "jobs", "models"])
def test_junk_in_the_address_is_404(people, path):
    for number in ("0", str(2**31), str(2**63 - 1), str(2**63), str(10**40), HUGE):
        check(people.api("contributor").get(f"{V1}/{path}/{number}/"), 404)


def test_tiles_that_do_not_exist_are_404(people):
    client, start = people.api("viewer"), f"{V1}/slides/{people.lung.slide.pk}/tiles_files"
    for tail in ("999/0_0", "0/999_999", f"{HUGE}/0_0", "99999999999/0_0"):
        answer = client.get(f"{start}/{tail}.jpeg")
        if answer.status_code == 302:
            answer = people.client("anonymous").get(answer["Location"])
        check(answer, 404)


BODIES = (
    b"", b"{", b"[]", b"null", b"17", b'"text"', b"\xff\xfe", b"{}" * 2, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"slide": 1e400}', b'{"slide": NaN}', b'{"slide": ' + HUGE.encode() + b"}", b'{"slide": true}', b'{"slide": [1]}',
    b'{"slide": {"id": 1}}', b'{"slide": "1\\u0000"}', b'{"slide": 99999999999999999999}', b'{"slide": 1, "k": 0}',
    b'{"slide": 1, "k": 1e9}', b'{"slide": 1, "cohort": {"a": 1}}', b'{"slide": 1, "cohort": "\\ud800"}', b'{"slide": 1, "cohort": true}',
    b'{"name": "\\ud800"}', b'{"name": ["case"]}', b'{"name": null}',
    b'{"username": "\\ud800", "password": "x"}', b'{"username": {"$gt": ""}, "password": "x"}',
    b'{"username": "viewer\\u0000", "password": "x"}', b'{"options": []}', b'{"options": {"a": "\\u0000"}}',
    b'{"options": {"mpp": 1e400}}', b'{"options": {"sheet": {"x": [1]}, "endpoints": 3}}', b'{"options": {"decimal": 3, "ignored": 1}}',
    b'{"options": {"variables": [1], "patient": []}}', b'{"options": {"table": ["x"]}}',
)  # fmt: skip


@pytest.mark.parametrize("path", ["token/", "retrieval/", "slides/{slide}/pipeline/", "imports/{import_}/confirm/"])
def test_junk_in_the_body_is_refused(people, path):
    address = f"{V1}/{path}".format(slide=people.lung.slide.pk, import_=people.lung.import_.pk)
    client = people.api("contributor")
    for body in BODIES:
        cache.clear()
        answer = client.generic("POST", address, body, content_type="application/json")
        # An empty body, or one whose fields this address does not know, leaves the defaults: that may be a fine request.
        if answer.status_code not in (200, 202):
            check(answer, 400, 401, 404, 409)


def test_another_kind_of_body_is_refused(people):
    client = people.api("contributor")
    for kind in ("text/plain", "application/xml", "multipart/form-data", "multipart/form-data; boundary=", "", "junk"):
        for path in ("retrieval", "imports"):
            check(client.generic("POST", f"{V1}/{path}/", b"slide=1", content_type=kind), 400, 415)


def test_headers_that_ask_for_something_else_get_json_all_the_same(people):
    for accept in ("text/html", "application/xml", "junk", "*/*;q=x"):
        assert people.api("viewer").get(f"{V1}/cohorts/", {"format": "xml"}, HTTP_ACCEPT=accept).status_code == 200
    for header in ("Bearer", "Bearer \xff", "Bearer " + "x" * 10_000, "bearer a b c", "Bearer \x00"):
        check(people.api("anonymous").get(f"{V1}/cohorts/", HTTP_AUTHORIZATION=header), 401)


def test_a_refused_upload_leaves_nothing(people):
    client, jobs = people.api("contributor"), Job.objects.count()
    cases = (
        {},
        {"cohort": "lung", "kind": "slide"},
        {"cohort": "lung", "kind": "lunch", "file": io.BytesIO(b"x")},
        {"cohort": "lung", "kind": "slide", "file": "not a file"},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": "{"},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": "[1]"},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": "[" * 50_000},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": json.dumps({"stain": "a\x00"})},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": json.dumps({"mpp": -1})},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "options": json.dumps({"colour": "red"})},
        {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x"), "dry_run": "perhaps"},
    )
    for data in cases:
        check(client.post(f"{V1}/imports/", data, format="multipart"), 400)
    check(client.post(f"{V1}/imports/", {"cohort": "breast", "kind": "slide", "file": io.BytesIO(b"x")}, format="multipart"), 404)
    check(
        people.api("viewer").post(f"{V1}/imports/", {"cohort": "lung", "kind": "slide", "file": io.BytesIO(b"x")}, format="multipart"), 403
    )
    assert client.get(f"{V1}/imports/").json()["count"] == 1 and Job.objects.count() == jobs


anything = st.one_of(
    st.text(max_size=60), st.integers().map(str), st.floats().map(str), st.sampled_from(("lung", "OS", "age", "risk", "ready", *JUNK[:8]))
)


@pytest.mark.parametrize("path", QUERIES)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_query_at_all_makes_a_500(people, path, data):
    names = st.sampled_from((*QUERIES[path], "format", "unknown"))
    query = data.draw(st.dictionaries(names, anything, max_size=4))
    answer = people.api("manager").get(f"{V1}/{path}/", query)
    if answer.status_code != 200:
        check(answer, 400, 404)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["slide", "k", "cohort", "other_sites_only", "name", "options"]), inner, max_size=5)
        ),
        max_leaves=6,
    )
)
def test_no_body_at_all_makes_a_500(people, body):
    client = people.api("viewer")
    for path in ("retrieval/", f"slides/{people.lung.waiting.pk}/pipeline/"):
        answer = client.post(f"{V1}/{path}", body)
        if answer.status_code not in (200, 202):
            check(answer, 400, 403, 404, 409)


def test_a_request_that_is_too_large_is_told_so(people):
    geometry = {"type": "Point", "coordinates": [5, 5], "more": "x" * (5 << 20)}
    slide = people.lung.slides[0].pk
    answer = people.api("contributor").post(f"{V1}/slides/{slide}/regions/", {"geometry": geometry}, format="json")
    assert check(answer, 413)["code"] == "TOO_LARGE"
