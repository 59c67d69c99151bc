"""Signing in and out."""

from django.urls import reverse
from people import PASSWORD


def test_login_leads_back_to_the_page_that_was_asked_for(people, words):
    client = people.client("anonymous")
    case = reverse("case", args=[people.lung.patient.pk])
    first = client.get(case)
    assert first.url == f"/login/?next={case}"
    assert "Sign in to open the page you asked for." in words(client.get(first.url))
    answer = client.post("/login/", {"username": "viewer", "password": PASSWORD, "next": case})
    assert answer.url == case


def test_a_wrong_password_tells_nothing_about_the_name(people, words):
    client = people.client("anonymous")
    said = [words(client.post("/login/", {"username": name, "password": "wrong"})).replace(name, "") for name in ("viewer", "nobody")]
    assert "do not belong together" in said[0]
    assert said[0] == said[1]


def test_signing_out_takes_a_post(people):
    client = people.client("viewer")
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").url == "/login/"
    assert client.get("/").status_code == 302
