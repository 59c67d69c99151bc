"""VirTues of multiplex images: what a job makes, what it says of the channels, and every refusal as a sentence."""

import json

import numpy as np
import pytest
import tiny_virtues as tiny

from ml.virtues.embedding_files import read_embedding
from tissueboard.assays.models import MultiplexImage
from tissueboard.assays.proteins import set_protein
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import hash_of
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.virtues_images import dataset_of, image_keys
from tissueboard.store import store


@pytest.fixture
def image(people):
    return tiny.image_of(people.lung.patient, 0)


@pytest.fixture
def segmented(people):
    return tiny.image_of(people.lung.patient, 0, cells=True, empty=("CD20",))


def embedding_of(image):
    return Prediction.objects.get(image=image, kind="embedding")


def test_an_image_becomes_niches_and_cells_with_all_that_was_dropped(people, segmented):
    image = segmented
    version = tiny.adopted(people.lung.cohort)
    job = tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert job.state == "succeeded", job.error_sentence
    made = embedding_of(image)
    found = read_embedding(store.path(made.key))
    assert found.niches.shape == (len(found.boxes), 16) and np.isfinite(found.niches).all()
    assert found.boxes[:, 2].tolist() == [tiny.CROP] * len(found.boxes) and found.boxes[:, :2].max() <= tiny.SIDE - tiny.CROP
    assert found.intensity.shape == (len(found.niches), len(found.names)) and 0 <= found.intensity.min() <= found.intensity.max() <= 1
    assert dict(map(tuple, made.facts["dropped"]))["CD20"].startswith("it carries no signal")
    assert set(made.facts["names"]) == set(tiny.field(0).names) - {"CD20"} and not made.in_sample
    assert len(made.facts["importance"]["paper"]) == len(made.facts["names"]) == len(made.facts["importance"]["attended"])
    assert set(made.inputs) == {"multiplex image", "proteins of channels", "weights", "standard", "cell mask", "cell table"}

    import pandas as pd

    cells = Prediction.objects.get(image=image, kind="cells")
    table = pd.read_parquet(store.path(cells.key))
    mask = tiny.field(0).mask
    assert set(table.cell_id) <= set(np.unique(mask)) and len(table) == cells.facts["n_cells"] > 20
    assert len(table.token[0]) == 16 and table.cell_type.notna().all()
    row = table.iloc[len(table) // 2]
    y, x = np.nonzero(mask == row.cell_id)
    assert (row.x_px0, row.y_px0) == pytest.approx((x.mean() + 0.5, y.mean() + 0.5))


def test_a_patient_whom_the_weights_saw_is_in_sample(people, image):
    version = tiny.adopted(people.lung.cohort)
    Member.objects.create(version=version, fold=0, patient_hash=hash_of(people.lung.patient))
    tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert embedding_of(image).in_sample
    assert read_embedding(store.path(embedding_of(image).key)).about["in_sample"]


def test_cells_go_with_their_mask(people, segmented):
    image = segmented
    from tissueboard.assays.cells import remove_cells
    from tissueboard.jobs.services import enqueue

    version = tiny.adopted(people.lung.cohort)
    tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    before = image_keys([image])[image.pk]
    remove_cells(people.contributor, image)
    assert image_keys([image])[image.pk] != before
    again = enqueue(None, "predictions.virtues", {"image": image.pk, "version": version.pk}, key="after the mask went")
    tiny.done(again)
    assert not Prediction.objects.filter(image=image, kind="cells").exists()


def small(image, **fields):
    MultiplexImage.objects.filter(pk=image.pk).update(**fields)


def no_proteins(people, image):
    for channel in image.channels:
        set_protein(people.contributor, people.lung.cohort, channel, "none")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda w, i: small(i, mpp=3.0), "PITCH_TOO_FINE", "3 um per px, coarser than the 1 um per px"),
        (lambda w, i: small(i, mpp=0.2), "IMAGE_TOO_SMALL", "26 x 26 px at 1 um per px, less than a crop of 32 px"),
        (lambda w, i: small(i, technology="mibi"), "NO_STANDARD", "no means and deviations of the images (MIBI)"),
        (lambda w, i: small(i, state="needs attention"), "IMAGE_NOT_READY", "is not ready"),
        (no_proteins, "NO_KNOWN_MARKER", "None of the 20 markers"),
    ],
)
def test_what_cannot_be_seen_is_refused_in_a_sentence(people, image, change, code, words):
    version = tiny.adopted(people.lung.cohort)
    change(people, image)
    job = tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert (job.state, job.error_code) == ("failed", code)
    assert words in job.error_sentence and job.error_sentence.endswith(".") and job.error_hint.endswith(".")
    assert not Prediction.objects.filter(image=image).exists()


def test_an_image_without_any_signal_is_refused(people):
    version_of = tiny.image_of(people.lung.patient, 1)
    version = tiny.adopted(people.lung.cohort)
    image = tiny.image_of(people.lung.patients[1], 2, empty=tiny.field(2).names)
    assert version_of.state == "ready"
    job = tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert (job.state, job.error_code) == ("failed", "NO_CHANNEL_LEFT"), job.error_sentence


def test_weights_that_are_gone_are_named(people, image):
    version = tiny.adopted(people.lung.cohort)
    store.delete(version.key)
    job = tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert (job.state, job.error_code) == ("failed", "WEIGHTS_MISSING") and version.key in job.error_sentence


def test_two_channels_of_one_protein_are_legal_and_said(people, image):
    set_protein(people.contributor, people.lung.cohort, "CD4", "P01732")
    version = tiny.adopted(people.lung.cohort)
    job = tiny.run("predictions.virtues", image=image.pk, version=version.pk)
    assert job.state == "succeeded", job.error_sentence
    assert sorted(next(iter(embedding_of(image).facts["shared"].values()))) == ["CD4", "CD8a"]


def test_taking_into_use_measures_each_data_set_and_binds_to_the_cohorts(people, image):
    other = tiny.image_of(people.lung.patients[1], 3, "lymphoid")
    small(other, technology="codex")
    other.refresh_from_db()
    version = tiny.adopted(people.lung.cohort)
    weights = version.parents.get()
    standards = version.config["standards"]
    assert (
        set(standards)
        == {dataset_of(image), dataset_of(other)}
        == {f"cohort {people.lung.cohort.pk} imc", f"cohort {people.lung.cohort.pk} codex"}
    )
    assert set(standards[dataset_of(other)]) == set(tiny.field(3, "lymphoid").names) and json.dumps(standards)
    assert (version.key, version.is_current, list(version.cohorts.all())) == (weights.key, True, [people.lung.cohort])
    assert not weights.is_current and version.licence == "MIT" and version.label == "released" and version.pretraining_overlap == "unknown"
    assert not ModelVersion.objects.visible_to(people.stranger).filter(pk=version.pk).exists()


def test_niches_of_an_image_become_rows_that_can_be_searched(people, image):
    from tissueboard.retrieval.models import Niche
    from tissueboard.retrieval.services import similar_cases

    other = tiny.image_of(people.lung.patients[1], 4)
    version = tiny.adopted(people.lung.cohort)
    for one in (image, other):
        assert tiny.run("predictions.virtues", image=one.pk, version=version.pk).state == "succeeded"
        job = tiny.run("retrieval.image_niches", image=one.pk, version=version.pk)
        assert job.state == "succeeded", job.error_sentence
    rows = Niche.objects.filter(image=image)
    assert sum(row.weight for row in rows) == pytest.approx(1) and set(rows[0].proteins) == set(embedding_of(image).facts["names"])
    answer = similar_cases(people.viewer, image)
    assert [hit.image for hit in answer.hits] == [other] and answer.version == version and answer.hits[0].distance > 0


def test_niches_without_an_embedding_say_what_comes_first(people, image):
    job = tiny.run("retrieval.image_niches", image=image.pk, version=tiny.adopted(people.lung.cohort).pk)
    assert (job.error_code, job.state) == ("NO_EMBEDDING", "failed") and "pipeline “virtues”" in job.error_hint
