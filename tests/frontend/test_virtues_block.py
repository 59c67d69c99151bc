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
