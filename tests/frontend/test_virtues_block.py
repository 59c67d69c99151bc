"""VirTues on the page of a multiplex image, and over REST: what is shown, to whom, and what may be taken away."""

import io
import json

import pandas as pd
import pytest
import tiny_virtues as tiny

from tissueboard.accounts.models import AccessLog
from tissueboard.jobs.models import Job
from tissueboard.model_registry.models import Member
from tissueboard.model_registry.services import hash_of
from tissueboard.predictions.models import Prediction
from tissueboard.store import store


@pytest.fixture
def image(people):
    return tiny.image_of(people.lung.patient, 0, cells=True, empty=("CD20",))


@pytest.fixture
def seen(people, image):
    version = tiny.adopted(people.lung.cohort)
    Member.objects.create(version=version, fold=0, patient_hash=hash_of(people.lung.patient))
    tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    return Prediction.objects.get(image=image, kind="embedding")


def test_without_a_model_the_page_says_where_one_comes_from(people, image, words):
    page = words(people.client("contributor").get(f"/assays/{image.pk}/"))
    assert "There is no model of the family virtues" in page and "Train or take one into use" in page and "Run VirTues" not in page
    assert "Train or take one into use" not in words(people.client("viewer").get(f"/assays/{image.pk}/"))


def test_a_model_that_was_never_taken_into_use_here_is_not_run(people, image, words):
    from tissueboard.model_registry.models import ModelVersion

    ModelVersion.objects.filter(pk=tiny.released().pk).update(is_current=True)
    page = words(people.client("contributor").get(f"/assays/{image.pk}/"))
    assert "has no means and deviations of this cohort’s images" in page and "Run VirTues" not in page


def test_a_contributor_starts_it_and_the_page_follows_the_job(people, image, words):
    tiny.adopted(people.lung.cohort)
    client = people.client("contributor")
    assert "Run VirTues" in words(client.get(f"/assays/{image.pk}/"))
    assert "Run VirTues" not in words(people.client("viewer").get(f"/assays/{image.pk}/"))
    assert client.post(f"/assays/{image.pk}/virtues/run/").status_code == 302
    job = Job.objects.get(kind="predictions.virtues")
    assert f"job {job.pk} queued" in words(client.get(f"/assays/{image.pk}/"))
    assert people.client("viewer").post(f"/assays/{image.pk}/virtues/run/").status_code == 403


def test_the_block_shows_source_niches_markers_and_what_was_dropped(people, seen, words):
    answer = people.client("viewer").get(f"/assays/{seen.image_id}/")
    page, html = words(answer), answer.content.decode()
    assert "virtues adopted" in page and "licence MIT" in page and "in-sample" in page
    assert html.count("<title>group") == seen.facts["n_niches"] and "CD20 : it carries no signal" in page
    assert "Marker embeddings are random vectors" in page and "Research use only" in page
    assert "It forgets how much the marker gets in all" in page
    other = words(people.client("viewer").get(f"/assays/{seen.image_id}/?importance=attended"))
    assert "this ranks markers by how much they get" in other
    assert people.client("viewer").get(f"/assays/{seen.image_id}/?importance=nonsense&virtues=99999999999999").status_code == 200


def test_files_are_given_whole_and_logged_and_never_changed_ones(people, seen):
    client = people.client("viewer")
    cells = Prediction.objects.get(image=seen.image, kind="cells")
    answer = client.get(f"/assays/{seen.image_id}/virtues/{cells.pk}/file/")
    assert answer["X-Content-SHA256"] == cells.sha256 and "parquet" in answer["Content-Type"]
    assert len(pd.read_parquet(io.BytesIO(b"".join(answer.streaming_content)))) == cells.facts["n_cells"]
    assert AccessLog.objects.filter(verb="export cells", username="viewer").count() == 1
    assert people.client("stranger").get(f"/assays/{seen.image_id}/virtues/{cells.pk}/file/").status_code == 404
    store.path(seen.key).write_bytes(b"other")
    assert client.get(f"/assays/{seen.image_id}/virtues/{seen.pk}/file/").status_code == 409


def test_over_rest_the_same_is_told(people, seen):
    answer = people.api("viewer").get(f"/api/v1/assays/{seen.image_id}/virtues/").json()
    one = answer["results"][0]
    assert (one["version"]["name"], one["licence"], one["in_sample"], one["n_niches"]) == ("adopted", "MIT", True, seen.facts["n_niches"])
    assert {row["channel"] for row in one["dropped"]} == {"CD20"} and one["n_cells"] > 20
    assert [row["channel"] for row in one["importance"]["paper"]] != [row["channel"] for row in one["importance"]["attended"]]
    assert people.api("viewer").get(one["file"]).status_code == people.api("viewer").get(one["cells_file"]).status_code == 200
    assert json.dumps(one)


@pytest.fixture
def paintable(people):
    """An image without vimentin, seen by a version that was measured on painting it, and on CAIX, badly."""
    from ml.multiplex.uniprot import default_protein

    image = tiny.image_of(people.lung.patient, 1, "lymphoid")
    assert "Vimentin" not in image.channels and "CAIX" not in image.channels
    version = tiny.adopted(people.lung.cohort)
    good, bad = (default_protein(name).uniprot for name in ("Vimentin", "CAIX"))
    version.metrics["stain_check"] = {
        good: {"r": 0.6, "r2": 0.36, "patients": 4, "marker": "Vimentin"}, bad: {"r": 0.2, "r2": 0.04, "patients": 4, "marker": "CAIX"},
    }  # fmt: skip
    version.save()
    tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    return image, version, good, bad


def test_a_marker_is_painted_only_where_that_was_measured_to_work(people, paintable, words):
    image, version, good, bad = paintable
    client, stain = people.client("contributor"), f"/assays/{image.pk}/virtues/stain/"
    html = client.get(f"/assays/{image.pk}/").content.decode()
    assert f'value="{good}"' in html and bad not in html
    for protein, said in (
        (bad, "R² where it was left out is 0.04"),
        ("Q9Y6K9", "has no embedding of Q9Y6K9"),
        ("", "no embedding of nothing"),
    ):
        page = words(client.post(stain, {"protein": protein, "version": version.pk}, follow=True))
        assert said in page
    present = Prediction.objects.get(image=image, kind="embedding").facts["proteins"][0]
    assert "is measured in this image" in words(client.post(stain, {"protein": present, "version": version.pk}, follow=True))
    assert not Job.objects.filter(kind="predictions.virtues_stain").exists()
    assert "The virtual stain is asked for" in words(client.post(stain, {"protein": good, "version": version.pk}, follow=True))
    job = tiny.done(Job.objects.get(kind="predictions.virtues_stain"))
    assert job.state == "succeeded", job.error_sentence
    made = Prediction.objects.get(image=image, kind="virtual stain")
    page = words(people.client("viewer").get(f"/assays/{image.pk}/"))
    assert "virtual" in page and "r = 0.60 in 4 patients held out" in page and "Not a measurement" in page and "Ask for it" not in page
    picture = people.client("viewer").get(f"/assays/{image.pk}/virtues/{made.pk}/picture.png")
    assert picture["Content-Type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    assert people.client("viewer").get(f"/assays/{image.pk}/virtues/{made.pk}/file/").status_code == 200
    other = Prediction.objects.get(image=image, kind="embedding")
    assert people.client("viewer").get(f"/assays/{image.pk}/virtues/{other.pk}/picture.png").status_code == 404
    assert people.client("viewer").post(stain, {"protein": good}).status_code == 403


def test_over_rest_a_locked_marker_is_a_refusal(people, paintable):
    image, version, good, bad = paintable
    api, address = people.api("contributor"), f"/api/v1/assays/{image.pk}/virtues/stain/"
    answer = api.post(address, {"version": version.pk, "protein": bad})
    assert (answer.status_code, answer.json()["code"]) == (409, "MARKER_LOCKED")
    assert api.post(address, {"version": version.pk, "protein": good}).status_code == 202
