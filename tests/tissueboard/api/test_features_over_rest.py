"""Feature bags over REST and as a download: what is said of them, the file itself, and the row in the access log."""

import h5py
import pytest
from django.urls import reverse
from feature_bags import imported_bag

from tissueboard.accounts.models import AccessLog
from tissueboard.store import store

pytestmark = pytest.mark.django_db


def test_the_list_says_where_each_bag_is_from(people):
    bag = imported_bag(people.lung.slide)
    (row,) = people.api("viewer").get(reverse("api:features", args=[bag.slide_id])).json()["results"]
    assert (row["id"], row["label"], row["version"]["name"]) == (bag.pk, "imported", "by hand (imported)")
    assert (row["facts"]["n_tiles"], row["facts"]["imported"], row["facts"]["tiles_per_second"]) == (6, "trident", None)
    assert (
        row["sha256"] == bag.sha256 and row["research_use_only"] and row["file"] == reverse("api:feature_file", args=[bag.slide_id, bag.pk])
    )


@pytest.mark.parametrize("where", ["page", "rest"])
def test_the_file_is_sent_whole_and_logged(people, tmp_path, where):
    bag = imported_bag(people.lung.slide)
    client, name = (people.client("viewer"), "feature_file") if where == "page" else (people.api("viewer"), "api:feature_file")
    answer = client.get(reverse(name, args=[bag.slide_id, bag.pk]))
    content = b"".join(answer.streaming_content)
    assert content == store.path(bag.key).read_bytes() and int(answer["Content-Length"]) == len(content)
    assert answer["X-Content-SHA256"] == bag.sha256 and "imported" in answer["X-Model-Version"]
    assert f'filename="{bag.slide.name}-by_hand__imported_.h5"' in answer["Content-Disposition"]
    (tmp_path / "got.h5").write_bytes(content)
    with h5py.File(tmp_path / "got.h5") as file:
        assert file["features"].shape == (6, 4)
    rows = AccessLog.objects.filter(verb="export features", user_id=people.viewer.pk, patient_code=bag.patient.code)
    assert rows.count() == 1


def test_a_bag_without_its_file_is_told_and_a_map_is_no_bag(people):
    bag = imported_bag(people.lung.slide)
    client = people.api("viewer")
    assert client.get(reverse("api:feature_file", args=[bag.slide_id, people.lung.map.pk])).status_code == 404
    assert client.get(reverse("api:feature_file", args=[people.lung.slides[1].pk, bag.pk])).status_code == 404
    store.delete(bag.key)
    answer = client.get(reverse("api:feature_file", args=[bag.slide_id, bag.pk]))
    assert (answer.status_code, answer.json()["code"]) == (409, "BAG_MISSING")
    bag.delete()


def test_the_case_page_names_the_bags_of_its_slide(people):
    bag = imported_bag(people.lung.slide)
    page = people.client("viewer").get(reverse("case", args=[people.lung.patient.pk])).content.decode()
    assert "Features of the tiles (1)" in page and reverse("feature_file", args=[bag.slide_id, bag.pk]) in page and "imported" in page
