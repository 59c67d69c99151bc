"""A token carries the right to one slide for a while; nothing else opens its tiles."""

import pytest
from django.core import signing
from django.test import override_settings
from django.urls import reverse

from tissueboard.accounts.models import AccessLog
from tissueboard.errors import NotVisible
from tissueboard.slides.services import SALT, check_token, tile_token, working_file


def tile_url(slide, token, level=0, col=0, row=0) -> str:
    return reverse("slide_tile", args=[slide.pk, token, level, col, row])


def dzi_url(slide, token) -> str:
    return reverse("slide_dzi", args=[slide.pk, token])


def test_a_token_opens_its_slide_for_its_user(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    assert check_token(token, slide.pk) == people["viewer"].pk
    description = client.get(dzi_url(slide, token))
    assert description.status_code == 200 and b'Width="900"' in description.content and b'Height="700"' in description.content
    tile = client.get(tile_url(slide, token, 9))
    assert tile.status_code == 200 and tile["Content-Type"] == "image/jpeg" and tile.content.startswith(b"\xff\xd8\xff")


def test_opening_leaves_one_row_in_the_access_log_and_tiles_none(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    for url in (dzi_url(slide, token), tile_url(slide, token), tile_url(slide, token, 9)):
        client.get(url)
    row = AccessLog.objects.get(verb="read slide")
    assert (row.username, row.patient_code, row.object_id) == ("viewer", "P1", str(slide.pk))


def test_panning_asks_the_database_nothing(client, people, make_slide, django_assert_num_queries):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    client.get(dzi_url(slide, token))
    with django_assert_num_queries(0):
        assert {client.get(tile_url(slide, token, 10, col, row)).status_code for col in (0, 1) for row in (0, 1)} == {200}


def test_a_tile_that_the_browser_has_is_not_sent_again(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    first = client.get(tile_url(slide, token, 9))
    assert first["Cache-Control"].startswith("private, max-age=") and first["ETag"]
    again = client.get(tile_url(slide, token, 9), headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304 and again.content == b""
    assert client.get(tile_url(slide, token, 8))["ETag"] != first["ETag"]


def test_another_slides_token_is_refused(client, people, make_slide):
    one, two = make_slide("P1"), make_slide("P2")
    token = tile_token(people["viewer"], one)
    assert client.get(tile_url(two, token)).status_code == 404 and client.get(dzi_url(two, token)).status_code == 404


@pytest.mark.parametrize("token", ["x", "a:b:c", "", "é"])
def test_a_forged_token_is_refused(client, make_slide, token):
    slide = make_slide("P1")
    with pytest.raises(NotVisible):
        check_token(token, slide.pk)
    if token:
        assert client.get(tile_url(slide, token)).status_code == 404


def test_a_token_signed_for_something_else_is_refused(people, make_slide):
    slide = make_slide("P1")
    for value, salt in (([slide.pk, people["viewer"].pk], "another"), ([slide.pk], SALT), ("text", SALT), ({"a": 1}, SALT)):
        with pytest.raises(NotVisible):
            check_token(signing.dumps(value, salt=salt), slide.pk)


def test_an_expired_token_is_refused(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    with override_settings(TILE_TOKEN_SECONDS=-1):
        assert client.get(tile_url(slide, token)).status_code == 404


def test_a_deactivated_user_keeps_her_tiles_until_the_token_ends_and_gets_no_new_one(client, people, make_slide):
    slide, viewer = make_slide("P1"), people["viewer"]
    token = tile_token(viewer, slide)
    viewer.is_active = False
    viewer.save()
    assert client.get(tile_url(slide, token)).status_code == 200
    with pytest.raises(NotVisible):
        tile_token(viewer, slide)


def test_an_outsider_gets_no_token(people, make_slide):
    with pytest.raises(NotVisible):
        tile_token(people["outsider"], make_slide("P1"))


def test_tiles_that_are_not_there_and_slides_that_are_not_ready(client, people, make_slide):
    slide, waiting = make_slide("P1"), make_slide("P2", state="needs attention")
    token = tile_token(people["viewer"], slide)
    for place in ((99, 0, 0), (10, 50, 0), (10, 0, 50)):
        answer = client.get(tile_url(slide, token, *place))
        assert answer.status_code == 404 and answer.json()["code"] == "TILE_NOT_THERE"
    assert client.get(dzi_url(waiting, tile_token(people["viewer"], waiting))).status_code == 404
    assert client.post(tile_url(slide, token)).status_code == 405


def test_a_working_slide_that_vanished_is_told_and_no_500(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    working_file(slide.pk)[0].unlink()
    answer = client.get(tile_url(slide, token))
    assert answer.status_code == 404 and answer.json()["code"] == "FILE_MISSING" and answer.json()["hint"]
