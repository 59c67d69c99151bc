"""Every address of the house, asked by every person (DESIGNS 1). An address without a line in expected_routes.py fails the suite.

The addresses are read from the resolved URL configuration: pages, REST, tiles, Dash, downloads, and the admin as one group.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from expected_routes import ROUTES
from people import MEMBERS, PERSONS

pytestmark = pytest.mark.django_db
# Making the world of two cohorts takes longer than asking an address in it.
SHARES = [sorted(ROUTES)[first::8] for first in range(8)]
STRANGERS = ("outsider", "stranger", "staff", "anonymous")
# Codes of patients and words that only these cohorts have: they appear in no answer to somebody else.
MARKS = {"lung": (b"LU-00", b"lung by hand"), "breast": (b"BR-00", b"breast by hand")}
# What no page expects; each is sent to every address.
JUNK = {
    "q": "\x00",
    "search": "\x00",
    "page": "x\x00",
    "state": "\x00",
    "slide": "9" * 30,
    "endpoint": "\x00",
    "group_by": "\x00",
    "cohort": "\x00",
}


@dataclass(frozen=True)
class Address:
    name: str
    pattern: URLPattern
    route: str


def walk(patterns, namespace="", prefix=""):
    """Every address of the configuration, with its full name."""
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            inner = ":".join(filter(None, (namespace, pattern.namespace)))
            yield from walk(pattern.url_patterns, inner, path)
        else:
            yield Address(":".join(filter(None, (namespace, pattern.name or ""))), pattern, path)


def addresses():
    return list(walk(get_resolver().url_patterns))


def ours():
    return [a for a in addresses() if not a.name.startswith("admin:") and not a.route.startswith("admin/")]


def test_every_address_has_a_name_of_its_own_and_an_expectation():
    names = [a.name for a in ours()]
    unnamed = [a.route for a in ours() if not a.name or a.name.endswith(":")]
    assert not unnamed, f"Give these addresses a name: {unnamed}"
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"Two addresses share a name, so one of them is never asked: {twice}"
    missing = sorted(set(names) - set(ROUTES))
    assert not missing, f"Say in tests/support/expected_routes.py what these addresses answer, and to whom: {missing}"
    stale = sorted(set(ROUTES) - set(names))
    assert not stale, f"These expectations have no address any more: {stale}"


def test_every_expectation_names_every_person():
    for name, route in ROUTES.items():
        assert route.get or route.post, name
        for statuses in filter(None, (route.get, route.post)):
            assert set(statuses) == set(PERSONS), name


def clients_of(world):
    """A client per person: (pages, API)."""
    found = {}
    for person in PERSONS:
        pages, rest = world.client(person), world.api(person)
        pages.raise_request_exception = rest.raise_request_exception = False
        found[person] = (pages, rest)
    return found


def send(client, method, url, route, part, world):
    """One request, its traces taken back."""
    cache.clear()  # what counts the guesses at passwords
    point = transaction.savepoint()
    try:
        if method == "GET":
            answer = client.get(url, route.query(part, world))
        elif route.json and not route.facts.get("multipart"):
            answer = client.post(url, route.body(part, world), format="json")
        else:
            answer = client.post(url, route.body(part, world), **({"format": "multipart"} if route.json else {}))
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    finally:
        transaction.savepoint_rollback(point)
    return answer, content


def url_of(name, route, part, world):
    return reverse(name, kwargs=route.kwargs(part, world)) if name != "api:unknown" else "/api/v1/nothing/here/"


def as_seen_from(side, statuses, person):
    """What a person may expect on lung; on breast, lung's people are strangers and `stranger` manages."""
    if side == "lung" or person not in (*MEMBERS, "stranger"):
        return statuses[person]
    return statuses["manager"] if person == "stranger" else statuses["stranger"]


def knows(person, side):
    return person in MEMBERS if side == "lung" else person == "stranger"


@pytest.mark.parametrize("names", SHARES, ids=lambda names: f"{names[0]}...")
def test_each_person_gets_what_the_table_says_and_no_more(people, names):
    """A share of the addresses in one world: each request takes its traces back."""
    write_thumbnails(people)
    wrong = [line for name in names for line in wrong_answers(people, clients_of(people), name)]  # signing out is an address, too
    assert not wrong, "\n".join(wrong)


def wrong_answers(people, clients, name):
    """What is not as the table says of one address, a line each."""
    route, wrong = ROUTES[name], []
    for (side, part), person in itertools.product((("lung", people.lung), ("breast", people.breast)), PERSONS):
        url = url_of(name, route, part, people)
        client = clients[person][1 if route.json else 0]
        seen = {}
        for method, statuses in (("GET", route.get), ("POST", route.post)):
            answer, content = send(client, method, url, route, part, people)
            seen[method] = answer.status_code
            told = f"{method} {url} ({side}) by {person}: {answer.status_code}"
            if answer.status_code >= 500 and answer.status_code not in (statuses or {}).get(person, ()):
                wrong.append(f"{told}; nothing may be a 500")
            elif statuses is not None and answer.status_code not in as_seen_from(side, statuses, person):
                wrong.append(f"{told}, expected {as_seen_from(side, statuses, person)}: {content[:200]!r}")
            for other, marks in MARKS.items():
                if not knows(person, other) and any(mark in content for mark in marks):
                    wrong.append(f"{told}, and it tells of {other}")
        for method, statuses in (("GET", route.get), ("POST", route.post)):
            if statuses is None and seen[method] < 400 and seen[method] != 302 and seen["GET"] != seen["POST"]:
                wrong.append(f"{method} {url} ({side}) by {person} is open ({seen[method]}), but the table does not know the method")
    return wrong


def write_thumbnails(world):
    """Thumbnails lie where intake puts them."""
    from tissueboard.store import store

    for part in (world.lung, world.breast):
        path = store.path(f"slides/{part.slide.pk}/thumbnail.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xd9")


@pytest.mark.parametrize("person", ["manager", "outsider"])
def test_no_query_string_makes_a_500(people, person):
    pages, rest = clients_of(people)[person]
    broken = []
    for name, route in ROUTES.items():
        url = url_of(name, route, people.lung, people)
        client = rest if route.json else pages
        for key, value in JUNK.items():
            for query in ({key: [value, "-1"]}, route.query(people.lung, people) | {key: value}):
                answer = client.get(url, query)
                if answer.status_code >= 500 and name != "healthz":
                    broken.append(f"{url}?{query} by {person}: {answer.status_code}")
    assert not broken, "\n".join(broken)


def test_no_form_makes_a_500(people):
    broken = []
    for name, route in ROUTES.items():
        if route.post is None:
            continue
        url, client = url_of(name, route, people.lung, people), clients_of(people)["contributor"][1 if route.json else 0]
        fields = route.body(people.lung, people)
        for key, value in itertools.product(fields, ("a\x00b", "\N{REPLACEMENT CHARACTER}", "9" * 5000, "")):
            body = route.body(people.lung, people) | {key: value}
            point = transaction.savepoint()
            form = {"format": "multipart" if route.facts.get("multipart") else "json"}
            answer = client.post(url, body, **(form if route.json else {}))
            transaction.savepoint_rollback(point)
            if answer.status_code >= 500:
                broken.append(f"{url} with {key}={value[:20]!r}: {answer.status_code}")
    assert not broken, "\n".join(broken)


def test_a_page_changes_nothing_without_its_csrf_token(people):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(people.manager)
    pages = {name: route for name, route in ROUTES.items() if route.post and not name.startswith("api:") and name != "login"}
    taken = {}
    for name, route in pages.items():
        answer = client.post(url_of(name, route, people.lung, people), route.body(people.lung, people))
        if answer.status_code != 403:
            taken[name] = (answer.status_code, answer.content[:300])
    assert pages and not taken


ADMIN_VALUES = {"object_id": "1", "app_label": "accounts", "content_type_id": "1", "url": "nonsense/", "id": "1", "extra": ""}


def admin_urls():
    for address in addresses():
        if not address.name.startswith("admin:"):
            continue
        keys = set(address.pattern.pattern.converters) | set(getattr(address.pattern.pattern.regex, "groupindex", {}))
        if not address.pattern.name:
            yield "/admin/nonsense/"
        else:
            yield reverse(address.name, kwargs={key: ADMIN_VALUES[key] for key in keys})


def test_the_admin_is_for_staff_and_shows_no_patient(people):
    """Staff without further rights see its front page only; even a superuser finds no patient there."""
    from tissueboard.accounts.models import User

    urls = sorted(set(admin_urls()))
    assert len(urls) > 10
    clients = clients_of(people)
    root = Client(raise_request_exception=False)
    root.force_login(User.objects.create_superuser("root"))
    wrong = []
    for url in urls:
        for person in (*MEMBERS, "outsider", "stranger", "anonymous"):
            answer = clients[person][0].get(url)
            if not (answer.status_code in (302, 404, 405) or (url == "/admin/login/" and answer.status_code == 200)):
                wrong.append(f"{url} by {person}: {answer.status_code}")
        for who, client in (("staff", clients["staff"][0]), ("root", root)):
            answer = client.get(url)
            if answer.status_code >= 500 or any(mark in answer.content for mark in (b"LU-00", b"BR-00")):
                wrong.append(f"{url} by {who}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)
    assert clients["staff"][0].get("/admin/").status_code == 200
    assert clients["staff"][0].get(reverse("admin:accounts_user_changelist")).status_code == 403


def test_a_page_that_does_not_exist_is_404_for_everybody(people):
    for person in PERSONS:
        for path in ("/nothing/", "/api/", "/api/v2/", "/slides/1/forged/slide.dzi", "/dash/none/1/"):
            assert people.client(person).get(path).status_code == 404, (person, path)
    assert set(people.client("anonymous").get("/api/v2/").json()) == {"code", "sentence", "where", "hint"}
