"""Training a VirTues on cohorts and taking one into use: what is counted, refused beforehand, learnt and kept of it."""

import json

import pytest
import tiny_virtues as tiny

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import hash_of
from tissueboard.pipelines.errors import ConfigInvalid
from tissueboard.pipelines.training import default_choice, plan_training, start_training
from tissueboard.pipelines.training_checks import ground_of
from tissueboard.pipelines.training_kinds import presets, training_named
from tissueboard.predictions.virtues_weights import load_virtues


@pytest.fixture
def images(people):
    return [tiny.image_of(patient, seed, ("broad", "lymphoid")[seed % 2]) for seed, patient in enumerate(people.lung.patients[:4])]


@pytest.fixture
def simulated(people):
    Cohort.objects.filter(pk=people.lung.cohort.pk).update(simulated=True)
    people.lung.cohort.refresh_from_db()


def start(people, what="virtues", values=tiny.TRAINING, user=None, **choices):
    return start_training(
        user or people.contributor, what, cohorts=[people.lung.cohort], name=f"new {what}", values=values, choices=choices
    )


def test_a_cohort_of_two_panels_is_learnt_held_out_by_patient(people, images, simulated):
    job = tiny.done(start(people))
    assert job.state == "succeeded", job.error_sentence
    version = ModelVersion.objects.get(family="virtues", name="new virtues")
    assert version.label == "trained on simulated tissue" and version.provenance["embeddings"].startswith("random vectors")
    assert not version.cohorts.exists() and version.is_current and version.pitch_um == 1.0
    weights = load_virtues(version)
    assert set(weights.standards) == {f"cohort {people.lung.cohort.pk} imc"} and set(version.panel) == set(weights.bank.embeddings)
    assert version.config["embed"] == {"crop_px": 32, "cell_stride_px": 10, "cell_pad_px": 24}
    rows = version.metrics["reconstruction"]
    assert {(row["masking"], row["method"]) for row in rows} == {
        (masking, method)
        for masking in ("independent", "marker", "niche")
        for method in ("network", "visible mean", "nearest patch", "partner")
    }
    assert version.metrics["patients_held_out"] == 1 and all(row["patients"] == 1 for row in rows)
    seen = Member.objects.filter(version=version).values_list("patient_hash", flat=True)
    assert len(seen) == 3 and set(seen) <= {hash_of(p) for p in people.lung.patients}
    check = version.metrics["stain_check"]
    assert check and set(check) <= set(version.panel) and all(0 <= one["r2"] <= 1 for one in check.values())
    assert json.loads(json.dumps(version.metrics)) == version.metrics
    assert version.provenance["inputs"].keys() == {f"multiplex image {image.pk}" for image in images}


def test_going_on_from_a_version_keeps_its_bank_and_those_it_saw_out_of_the_figures(people, images):
    older = tiny.released()
    patients = people.lung.patients
    Member.objects.bulk_create(Member(version=older, fold=0, patient_hash=hash_of(p)) for p in patients[:3])
    job = tiny.done(start(people, start=older.pk))
    assert job.state == "succeeded", job.error_sentence
    version = ModelVersion.objects.get(family="virtues", name="new virtues")
    assert (
        version.label == "trained here" and list(version.parents.all()) == [older] and list(version.cohorts.all()) == [people.lung.cohort]
    )
    assert (
        version.licence == "MIT"
        and version.pretraining_overlap == "unknown"
        and version.provenance["embeddings"] == older.provenance["embeddings"]
    )
    assert {hash_of(p) for p in patients[:3]} <= set(Member.objects.filter(version=version).values_list("patient_hash", flat=True))
    assert version.metrics["patients_held_out"] <= 1


def test_without_embeddings_the_proteins_and_where_to_get_them_are_named(people, images):
    with pytest.raises(TissueboardError) as told:
        start(people)
    assert told.value.code == "BANK_MISSING" and "A0" not in told.value.sentence and "P0" in told.value.sentence
    assert "add_virtues" in told.value.hint and "MARKER_BANK" in told.value.hint
    assert plan_training(
        people.contributor, "virtues", cohorts=[people.lung.cohort], name="n", values=tiny.TRAINING, choices={"bank": tiny.released().pk}
    ).params["bank"]


def test_the_servers_folder_of_embeddings_is_read_by_its_names(people, images, settings, tmp_path):
    import torch

    known = tiny.bank().embeddings
    name = sorted(known)[0]
    settings.MARKER_BANK = str(tmp_path)
    torch.save(torch.from_numpy(known[name]), tmp_path / f"{name}.pt")
    ground = ground_of(training_named("virtues"), [people.lung.cohort], default_choice(people.contributor, training_named("virtues"), []))
    assert ground.refusal is None and "without an embedding, and left out" in ground.words and name not in ground.words
    (tmp_path / f"{name}.pt").rename(tmp_path / "Q9Y6K9.pt")
    ground = ground_of(training_named("virtues"), [people.lung.cohort], default_choice(people.contributor, training_named("virtues"), []))
    assert ground.refusal.code == "NO_KNOWN_MARKER"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"held_out": 0.1}, "held_out"),
        ({"leave_out": "elsewhere"}, "leave_out"),
        ({"crop": 512, "subimage": 512}, "crop"),
        ({"pitch_um": 0.3}, "crop"),
        ({"network": {**tiny.NETWORK, "model_dim": 32}}, "network.model_dim"),
    ],
)
def test_settings_that_cannot_be_are_said_before_anything_is_queued(people, images, change, field):
    with pytest.raises(ConfigInvalid) as told:
        start(people, values={**tiny.TRAINING, **change}, start=tiny.released().pk)
    assert field in dict(told.value.fields), told.value.fields


def test_nobody_without_images_can_train_or_take_into_use(people):
    with pytest.raises(TissueboardError) as told:
        start(people)
    assert told.value.code == "TOO_FEW_PATIENTS"
    with pytest.raises(TissueboardError) as told:
        start(people, "virtues_adopt", tiny.EMBED, model=tiny.released().pk)
    assert told.value.code == "NO_IMAGES"
    with pytest.raises(TissueboardError) as told:
        start(people, "virtues_adopt", tiny.EMBED)
    assert told.value.code == "VERSION_UNKNOWN"
    with pytest.raises(TissueboardError) as told:
        start(people, user=people.viewer)
    assert told.value.status == 403


def test_taking_into_use_is_asked_for_like_a_training(people, images):
    weights = tiny.released()
    job = tiny.done(start(people, "virtues_adopt", {"min_tissue": 0.1}, model=weights.pk))
    assert job.state == "succeeded", job.error_sentence
    version = ModelVersion.objects.get(family="virtues", name="new virtues_adopt")
    assert {name: version.config["embed"][name] for name in tiny.EMBED} == tiny.EMBED
    assert version.metrics["images_of"] == {f"cohort {people.lung.cohort.pk} imc": 4} and list(version.cohorts.all()) == [
        people.lung.cohort
    ]
    assert load_virtues(version).standards.keys() == version.config["standards"].keys()


def test_the_published_recipe_is_offered():
    assert [one.name for one in presets(training_named("virtues"))] == ["default", "released"]
    assert presets(training_named("virtues"))[1].values["network"]["model_dim"] == 512
