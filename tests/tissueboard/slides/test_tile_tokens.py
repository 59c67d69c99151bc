"""A token carries the right to one slide for a while; nothing else opens its tiles."""

import io

import numpy as np
import pytest
from django.core import signing
from django.test import override_settings
from django.urls import reverse
from PIL import Image

from ml.slides.reader import open_slide
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


def test_a_tile_is_sent_as_the_file_holds_it(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    answer = client.get(tile_url(slide, token, 10, 1, 1))
    with open_slide(working_file(slide.pk)[0]) as opened:
        expected = opened.read_level(256, 256, 256, 256)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected)
    assert b'TileSize="256"' in client.get(dzi_url(slide, token)).content


def test_a_weakened_tag_is_still_the_tile_that_the_browser_has(client, people, make_slide):
    """A proxy that compresses turns a tag into W/"..." and a browser may send several."""
    slide = make_slide("P1")
    url = tile_url(slide, tile_token(people["viewer"], slide), 9)
    etag = client.get(url)["ETag"]
    for sent, status in ((f'"other", W/{etag}', 304), (etag, 304), ('"other"', 200), (etag.strip('"'), 200)):
        assert client.get(url, headers={"If-None-Match": sent}).status_code == status


def test_a_slide_without_a_colour_profile_says_so(client, people, make_slide):
    slide = make_slide("P1")
    url = tile_url(slide, tile_token(people["viewer"], slide), 9)
    answer = client.get(url + "?icc=1")
    assert answer.status_code == 404 and answer.json()["code"] == "NO_COLOUR_PROFILE" and answer.json()["hint"]
    assert client.get(url + "?icc=0").content == client.get(url).content


def test_a_colour_profile_is_applied_on_request(client, people, make_slide, tmp_path):
    import tifffile
    from PIL import ImageCms

    from ml.slides.scrub import make_working

    slide = make_slide("P1")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ")
    common = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    picture = np.full((700, 900, 3), (220, 60, 90), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", picture, iccprofile=profile.replace(b"swap", b"gXYZ"), **common)
    slide.working_sha256 = make_working(tmp_path / "a.tif", working_file(slide.pk)[0], mpp=0.5).sha256
    slide.save()
    url = tile_url(slide, tile_token(people["viewer"], slide), 10)
    plain, drawn = client.get(url), client.get(url + "?icc=1")
    seen = [np.asarray(Image.open(io.BytesIO(answer.content)))[100, 100].astype(int) for answer in (plain, drawn)]
    assert np.abs(seen[0] - (220, 60, 90)).max() < 4 and seen[1][1] > seen[1][0] + 100, "red and green have changed places"
    assert plain["ETag"] != drawn["ETag"]
    assert client.get(url + "?icc=1", headers={"If-None-Match": drawn["ETag"]}).status_code == 304
    assert client.get(url, headers={"If-None-Match": drawn["ETag"]}).status_code == 200


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


def test_a_token_ends_with_the_key_that_signed_it(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    assert client.get(tile_url(slide, token)).status_code == 200
    with override_settings(SECRET_KEY="another key, after the first one leaked"):
        assert client.get(tile_url(slide, token)).status_code == 404


def test_an_expired_token_is_refused(client, people, make_slide):
    slide = make_slide("P1")
    token = tile_token(people["viewer"], slide)
    assert client.get(tile_url(slide, token)).status_code == 200, "and is remembered"
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
