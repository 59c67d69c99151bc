"""Bearer tokens: kept as a digest, valid for a while, and only for who may sign in."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone
from people import PASSWORD

from tissueboard.accounts.models import AccessLog, Token
from tissueboard.accounts.services import digest_of, issue_token

pytestmark = pytest.mark.django_db
COHORTS = "/api/v1/cohorts/"


@pytest.fixture(autouse=True)
def no_earlier_guesses():
    cache.clear()


def ask(client, username="viewer", password=PASSWORD):
    return client.post("/api/v1/token/", {"username": username, "password": password})


def test_a_token_opens_the_api_and_its_text_is_not_kept(people):
    answer = ask(people.api("anonymous"))
    assert answer.status_code == 200
    plain = answer.json()["token"]
    kept = Token.objects.get()
    assert kept.digest == digest_of(plain) and plain not in str(vars(kept))
    assert kept.expires_at > timezone.now() + timedelta(days=1)
    client = people.api("anonymous")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    assert [c["name"] for c in client.get(COHORTS).json()["results"]] == ["lung"]
    assert AccessLog.objects.filter(verb="issue token", user_id=people.viewer.pk).count() == 1


def test_a_form_works_as_well_as_json(people):
    answer = people.client("anonymous").post("/api/v1/token/", {"username": "viewer", "password": PASSWORD})
    assert answer.status_code == 200 and answer.json()["token"]


@pytest.mark.parametrize(("username", "password"), [("viewer", "wrong"), ("nobody", PASSWORD)])
def test_wrong_credentials_say_the_same_whether_the_user_exists_or_not(people, username, password):
    answer = ask(people.api("anonymous"), username, password)
    assert answer.status_code == 401
    assert answer.json()["code"] == "WRONG_CREDENTIALS" and username not in answer.content.decode()
    assert not Token.objects.exists()


def test_nobody_guesses_more_often_than_the_rate_allows(people):
    client = people.api("anonymous")
    codes = [
        client.post("/api/v1/token/", {"username": "viewer", "password": "x"}, HTTP_X_FORWARDED_FOR=f"10.0.0.{i}").status_code
        for i in range(21)
    ]
    assert codes == [401] * 20 + [429]
    refused = ask(client)
    assert refused.status_code == 429 and refused.json()["code"] == "THROTTLED" and int(refused["Retry-After"]) > 0


@pytest.mark.parametrize("spoil", ["expired", "inactive", "unknown", "two words", "basic"])
def test_a_token_that_does_not_count_is_401(people, spoil):
    plain, token = issue_token(people.viewer)
    header = f"Bearer {plain}"
    if spoil == "expired":
        Token.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    elif spoil == "inactive":
        people.viewer.is_active = False
        people.viewer.save()
    elif spoil == "unknown":
        header = "Bearer " + plain[::-1]
    elif spoil == "two words":
        header += " more"
    else:
        header = "Basic dmlld2VyOng="
    answer = people.api("anonymous").get(COHORTS, HTTP_AUTHORIZATION=header)
    assert answer.status_code == 401 and answer["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == {"code", "sentence", "where", "hint"}


def test_a_digest_belongs_to_one_token(people):
    _, token = issue_token(people.viewer)
    with pytest.raises(IntegrityError), transaction.atomic():
        Token.objects.create(user=people.manager, digest=token.digest, expires_at=token.expires_at)
