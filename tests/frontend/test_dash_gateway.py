"""The door to Dash: login, right, CSRF, shape of the body, policy; and nothing remembered between requests."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import Client
from django.urls import reverse

OUTPUT = "..curves.figure...said.children...download.href.."
INPUTS = (("endpoint", "OS"), ("group-by", "-"), ("unit", "months"), ("bands", ["on"]))


def body(**values):
    inputs = [{"id": name, "property": "value", "value": values.get(name.replace("-", "_"), value)} for name, value in INPUTS]
    outputs = [{"id": i, "property": p} for i, p in (("curves", "figure"), ("said", "children"), ("download", "href"))]
    return {"output": OUTPUT, "outputs": outputs, "inputs": inputs, "changedPropIds": ["endpoint.value"], "parsedChangedPropsIds": []}


def url(part, path="_dash-update-component"):
    return reverse("dash_part", kwargs={"cohort_id": part.cohort.pk, "path": path})


def call(client, part, sent):
    return client.post(url(part), sent if isinstance(sent, bytes | str) else json.dumps(sent), content_type="application/json")


def test_the_page_stands_in_our_frame_with_its_own_address(people):
    answer = people.client("viewer").get(reverse("dash", args=[people.lung.cohort.pk]))
    text = answer.content.decode()
    assert answer.status_code == 200 and "Research use only." in text and "_dash-renderer" in text
    assert f"/dash/km/{people.lung.cohort.pk}/_dash-component-suites/" in text
    assert "-placeholder-" not in text


def test_the_policy_allows_one_script_by_hash_and_inline_style_here_only(people):
    policy = people.client("viewer").get(reverse("dash", args=[people.lung.cohort.pk]))["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert "'sha256-" in rules["script-src"] and "unsafe" not in rules["script-src"]
    assert rules["style-src"] == "'self' 'unsafe-inline'"
    assert "http" not in policy


def test_a_callback_draws_the_cohort_of_the_address(people):
    answer = call(people.client("viewer"), people.lung, body())
    assert answer.status_code == 200
    response = answer.json()["response"]
    assert response["download"]["href"] == f"/cohorts/{people.lung.cohort.pk}/kaplan-meier.csv?endpoint=OS"
    assert "6 patients, 4 events" in json.dumps(response["said"])
    lines = [t for t in response["curves"]["figure"]["data"] if t.get("line", {}).get("shape") == "hv"]
    assert len(lines) == 1


def test_groups_units_and_bands_follow_the_controls(people):
    client = people.client("viewer")
    months, days = (
        call(client, people.lung, body(group_by="stage", unit=unit, bands=[])).json()["response"] for unit in ("months", "days")
    )
    lines = [[t for t in r["curves"]["figure"]["data"] if t.get("line", {}).get("shape") == "hv"] for r in (months, days)]
    assert [len(found) for found in lines] == [2, 2]
    assert not [t for t in months["curves"]["figure"]["data"] if t.get("fill")]
    ends = [found[0]["x"] for found in lines]
    assert max(map(float, ends[1])) == pytest.approx(max(map(float, ends[0])) * 30.4375)


def test_what_the_platform_refuses_is_said_in_the_figures_place(people):
    response = call(people.client("viewer"), people.lung, body(group_by="shoe size")).json()["response"]
    assert "cannot be grouped by shoe size" in json.dumps(response["said"])


def test_anonymous_and_strangers_do_not_get_in(people):
    assert call(people.client("anonymous"), people.lung, body()).status_code == 302
    for person in ("outsider", "stranger", "staff"):
        answer = call(people.client(person), people.lung, body())
        assert answer.status_code == 404 and b"LU-" not in answer.content
    for path in ("", "_dash-layout", "_dash-dependencies"):
        address = url(people.lung, path) if path else reverse("dash", args=[people.lung.cohort.pk])
        assert people.client("outsider").get(address).status_code == 404


def test_a_callback_without_the_csrf_token_is_refused(people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people.viewer)
    assert call(client, people.lung, body()).status_code == 403
    client.get(reverse("dash", args=[people.lung.cohort.pk]))
    token = client.cookies["csrftoken"].value
    sent = client.post(url(people.lung), json.dumps(body()), content_type="application/json", headers={"X-CSRFToken": token})
    assert sent.status_code == 200


MALFORMED = {
    "empty object": {},
    "no json": b"{",
    "a list": [],
    "text": b'"x"',
    "unknown key": body() | {"user": 1},
    "unknown output": body() | {"output": "x.y"},
    "output of another type": body() | {"output": 3},
    "inputs of another shape": body() | {"inputs": [[]]},
    "too few inputs": body() | {"inputs": body()["inputs"][:2]},
    "other inputs": body() | {"inputs": [{**one, "id": "x"} for one in body()["inputs"]]},
    "state that is not declared": body() | {"state": [{"id": "a", "property": "b", "value": 1}]},
    "changed of another type": body() | {"changedPropIds": {"a": 1}},
    "outputs missing": {k: v for k, v in body().items() if k != "outputs"},
    "outputs of another callback": body() | {"outputs": [{"id": "curves", "property": "figure"}]},
    "a value that is no text": body(endpoint={"a": 1}),
    "a value that is nothing": body(group_by=None),
    "a character that is no text": body(endpoint="O\x00S"),
    "half a surrogate pair": json.dumps(body(endpoint="\ud800")),
    "no unit of time": body(unit="fortnights"),
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_400_with_a_sentence(people, sent):
    client = people.client("viewer")
    answer = client.post(
        url(people.lung),
        sent if isinstance(sent, bytes | str) else json.dumps(sent),
        content_type="application/json",
        headers={"accept": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["sentence"].endswith(".")


def test_a_large_body_is_refused(people):
    answer = call(people.client("viewer"), people.lung, json.dumps(body(endpoint="x" * 300_000)))
    assert answer.status_code in (400, 413)


def test_only_callbacks_may_be_posted(people):
    assert people.client("viewer").post(url(people.lung, "_dash-layout"), "{}", content_type="application/json").status_code == 404


def test_a_file_outside_is_not_served(people):
    assert people.client("viewer").get(url(people.lung, "assets/../../manage.py")).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_parallel_callbacks_each_see_their_own_inputs_and_cohort(people):
    """django-plotly-dash mixed these up; here each answer is compared with its question."""
    from django.db import connection

    wanted = [
        ("viewer", people.lung, "-", "All patients"),
        ("viewer", people.lung, "stage", "stage: I"),
        ("stranger", people.breast, "-", "breast"),
    ]

    def ask(i):
        person, part, group, mark = wanted[i % 3]
        try:
            answer = call(people.client(person), part, body(group_by=group))
            response = answer.json()["response"]
            whole = mark in json.dumps(response) and f"/cohorts/{part.cohort.pk}/" in response["download"]["href"]
            return "" if whole else f"{person} asked for {mark} and got {json.dumps(response)[:300]}"
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert not [wrong for wrong in pool.map(ask, range(18)) if wrong]


def test_a_fresh_process_serves_scripts_before_any_page(people):
    """Another process drew the page: this one's very first requests are its scripts, all at once (they were 500 once)."""
    import re
    import threading

    from frontend.dash import gateway

    url = reverse("dash", args=[people.lung.cohort.pk])
    client = people.client("viewer")
    scripts = re.findall(r'src="([^"]*_dash-component-suites[^"]*)"', client.get(url).content.decode())
    assert len(scripts) > 5
    gateway._apps.clear()
    app = gateway.app_of("km")
    answers = []
    start = threading.Barrier(len(scripts))

    def ask(path: str) -> None:
        start.wait()
        answers.append(app.server.test_client().get("/" + path.split("?", maxsplit=1)[0].removeprefix(url)).status_code)

    threads = [threading.Thread(target=ask, args=(path,)) for path in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * len(scripts)
