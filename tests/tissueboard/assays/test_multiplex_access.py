"""Who sees which multiplex image; its tiles carry a token and are logged once, when the image is opened."""

import pytest
from django.core import signing
from django.core.cache import cache
from django.test import override_settings
from django.urls import reverse
from multiplex_pictures import image_of

from tissueboard.accounts.models import AccessLog
from tissueboard.assays.errors import AssayRefused
from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.selectors import get_image, images_for, images_of_patient
from tissueboard.assays.services import SALT, check_token, shown_channels, tile_token
from tissueboard.errors import NotVisible
from tissueboard.store import store

VIEW = {"c": "0:4d6dff:0:250"}


@pytest.fixture
def image(people):
    cache.clear()
    return image_of(people.lung.sample)


def url(image, token, level=0, col=0, row=0):
    return reverse("multiplex_tile", args=[image.pk, token, level, col, row])


def test_images_are_seen_by_members_only(people, image):
    theirs = image_of(people.breast.sample)
    assert list(images_for(people.viewer)) == [image] and not images_for(people.outsider).exists()
    assert list(images_of_patient(people.viewer, people.lung.patient)) == [image]
    for user, hidden in ((people.viewer, theirs), (people.stranger, image), (people.staff, image)):
        with pytest.raises(NotVisible):
            get_image(user, hidden.pk)
        with pytest.raises(NotVisible):
            tile_token(user, hidden)


def test_images_are_found_by_state_and_text(people, image):
    waiting = image_of(people.lung.sample, "needs attention")
    assert set(images_for(people.viewer, cohort=people.lung.cohort)) == {image, waiting}
    assert list(images_for(people.viewer, state="ready")) == [image]
    assert list(images_for(people.viewer, search=f" {waiting.name[:6].lower()} ")) == [waiting]
    assert images_for(people.viewer, search="lu-000").count() == 2


def test_opening_leaves_one_row_in_the_access_log_and_tiles_none(people, image, client):
    page = people.client("viewer").get(reverse("multiplex_image", args=[image.pk]))
    assert page.status_code == 200
    for col in (0, 1):
        assert client.get(url(image, tile_token(people.viewer, image), 0, col), VIEW).status_code == 200
    row = AccessLog.objects.get(verb="read multiplex image")
    assert (row.username, row.patient_code, row.object_id) == ("viewer", image.sample.patient.code, str(image.pk))


def test_panning_asks_the_database_nothing(people, image, client, django_assert_num_queries):
    token = tile_token(people.viewer, image)
    client.get(url(image, token), VIEW)
    with django_assert_num_queries(0):
        assert {client.get(url(image, token, 0, col, row), VIEW).status_code for col in (0, 1) for row in (0, 1)} == {200}


def test_a_tile_that_the_browser_has_is_not_sent_again(people, image, client):
    token = tile_token(people.viewer, image)
    first = client.get(url(image, token), VIEW)
    assert first["Content-Type"] == "image/jpeg" and first["Cache-Control"].startswith("private, max-age=")
    again = client.get(url(image, token), VIEW, headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304 and again.content == b""
    other = client.get(url(image, token), {"c": "0:4d6dff:0:100"})
    assert other["ETag"] != first["ETag"] and other.content != first.content


def test_forged_expired_and_other_tokens_are_refused(people, image, client):
    other = image_of(people.lung.slides[1].sample)
    token = tile_token(people.viewer, image)
    assert client.get(url(other, token), VIEW).status_code == 404
    for value, salt in (([image.pk, 1], "tissueboard.slides.tiles"), ([image.pk], SALT), ("x", SALT)):
        with pytest.raises(NotVisible):
            check_token(signing.dumps(value, salt=salt), image.pk)
    with override_settings(TILE_TOKEN_SECONDS=-1):
        assert client.get(url(image, token), VIEW).status_code == 404


def test_tiles_and_channels_that_are_not_there(people, image, client):
    token = tile_token(people.viewer, image)
    for place, query, code in (
        ((9, 0, 0), VIEW, "TILE_NOT_THERE"),
        ((0, 7, 0), VIEW, "TILE_NOT_THERE"),
        ((0, 0, 0), {"c": "3:ffffff:0:1"}, "CHANNEL_NOT_THERE"),
    ):
        answer = client.get(url(image, token, *place), query)
        assert answer.status_code == 404 and answer.json()["code"] == code
    MultiplexImage.objects.filter(pk=image.pk).update(key="small/lost.zarr")
    cache.clear()
    answer = client.get(url(image, token), VIEW)
    assert answer.status_code == 404 and answer.json()["code"] == "FILE_MISSING"
    waiting = image_of(people.lung.sample, "needs attention")
    assert client.get(url(waiting, tile_token(people.viewer, waiting)), VIEW).status_code == 404


def test_a_lost_part_of_the_pyramid_is_told_and_not_drawn_black(people, image, client, settings, tmp_path):
    import shutil

    shutil.copytree(store.path(image.key), tmp_path / "store" / image.key)
    settings.STORE_ROOT = tmp_path / "store"
    cache.clear()
    (store.path(image.key) / "0" / "c" / "0" / "0" / "0").unlink()
    token = tile_token(people.viewer, image)
    answer = client.get(url(image, token), VIEW)
    assert answer.status_code == 422 and answer.json()["code"] == "MULTIPLEX_UNREADABLE"
    assert client.get(url(image, token), {"c": "1:00ff00:0:250"}).status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        "x",
        "0:fff:0:1",
        "0:zzzzzz:0:1",
        "-1:ffffff:0:1",
        "0:ffffff:1:1",
        "0:ffffff:nan:1",
        "0:ffffff:0:inf",
        "0:ffffff:0:1:2",
        "²:ffffff:0:1",
    ],
)
def test_what_is_no_channel_to_draw_is_refused(asked):
    with pytest.raises(AssayRefused) as refused:
        shown_channels([asked])
    assert refused.value.code == "BAD_CHANNELS"


def test_six_channels_are_drawn_and_not_seven():
    assert [s.channel for s in shown_channels([f"{i}:ffffff:-1.5:2e3" for i in range(6)])] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(AssayRefused):
        shown_channels(["0:ffffff:0:1"] * 7)


def test_rest_gives_the_channels_their_facts_and_tiles(people, image, client):
    people.breast.image = image_of(people.breast.sample)
    viewer = people.api("viewer")
    listed = viewer.get("/api/v1/assays/", {"cohort": "lung"}).json()["results"]
    assert [row["id"] for row in listed] == [image.pk]
    detail = viewer.get(f"/api/v1/assays/{image.pk}/").json()
    assert detail["channels"] == image.channels and len(detail["signal"]) == 3 and detail["mpp"] == 0.5
    tile = client.get(detail["tiles"].format(level=0, col=0, row=0))
    assert tile.status_code == 200 and tile["Content-Type"] == "image/jpeg"
    assert viewer.get(f"/api/v1/assays/{people.breast.image.pk}/").status_code == 404


def test_rest_finishes_a_waiting_image_for_a_contributor(people):
    waiting = image_of(people.lung.sample, "needs attention")
    address = f"/api/v1/assays/{waiting.pk}/complete/"
    assert people.api("viewer").post(address, {"mpp": 0.5}).status_code == 403
    contributor = people.api("contributor")
    assert contributor.post(address, {}).json()["code"] == "NOTHING_GIVEN"
    answer = contributor.post(address, {"channels": ["a", "b", "c"], "mpp": 0.5})
    assert answer.status_code == 202 and answer.json()["kind"] == "assays.complete_multiplex"
    assert contributor.post(f"/api/v1/assays/{image_of(people.lung.sample).pk}/complete/", {"mpp": 1}).status_code == 409
    detail = people.api("viewer").get(f"/api/v1/assays/{waiting.pk}/").json()
    assert detail["tiles"] is None and "file" not in detail["findings"][0]
