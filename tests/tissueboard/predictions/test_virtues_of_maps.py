"""VirTues of virtual maps: trained at their own pitch, locked markers left out, a model of images turned away at the gate."""

import numpy as np
import pytest
import tiny_virtues as tiny
from trainable_cohort import mapped

from ml.slides.map_files import write_map
from ml.types import VirtualMap
from ml.virtues.embedding_files import read_embedding
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.pipelines.cohort_plan import plan_cohort
from tissueboard.pipelines.training import start_training
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.virtues_maps import LOCKED
from tissueboard.store import checksum, store

SIDE, PITCH = 24, 112.0
TRAINING = {"network": {**tiny.NETWORK, "patch_size": 2}, "epochs": 1, "subimages": 1, "held_out": 0.25}


@pytest.fixture
def maps(people):
    """Four patients with a map of 24 x 24 cells of three markers, of which the card locks CD68; off the tissue nothing."""
    Cohort.objects.filter(pk=people.lung.cohort.pk).update(simulated=True)
    people.lung.cohort.refresh_from_db()
    version = people.versions["hex"]
    slides = mapped(people.lung.cohort, version, [100.0] * 4, [1] * 4)
    for number, slide in enumerate(slides):
        values = np.random.default_rng(number).gamma(2, 0.2, (len(version.panel), SIDE, SIDE)).astype(np.float32)
        values[:, :3] = np.nan
        virtual = VirtualMap(values, tuple(version.panel), PITCH, (100.0, 50.0), 224.0, effective_resolution_um=PITCH)
        key = f"tests/virtues-map-{slide.pk}.zarr"
        store.delete(key)
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        write_map(store.path(key), virtual, mpp=0.5)
        facts = {"pitch_um": PITCH, "tile_um": PITCH, "effective_resolution_um": PITCH}
        Prediction.objects.filter(slide=slide, kind="virtual map").update(key=key, sha256=checksum(store.path(key)), facts=facts)
    return slides


@pytest.fixture
def trained(people, maps):
    Prediction.objects.filter(slide=people.lung.slide, kind="virtual map").delete()
    job = start_training(
        people.contributor, "virtues_maps", cohorts=[people.lung.cohort], name="of maps", values=TRAINING,
        choices={"version": people.versions["hex"].pk},
    )  # fmt: skip
    job = tiny.done(job)
    assert job.state == "succeeded", job.error_sentence
    return ModelVersion.objects.get(family="virtues", name="of maps")


def test_a_version_of_maps_is_made_for_their_pitch_and_never_taken_by_itself(people, trained):
    assert (trained.pitch_um, trained.is_current, trained.config["maps"]) == (PITCH, False, True)
    assert people.versions["hex"] in trained.parents.all()
    assert any(LOCKED in one or "no protein" in one for one in trained.metrics["left_out"])
    assert plan_cohort(people.contributor, people.lung.cohort, "virtues").versions == {}


def test_a_slides_map_becomes_niches_on_the_slide(people, trained, maps):
    slide = maps[0]
    job = tiny.run("predictions.virtues_map", slide=slide.pk, version=trained.pk)
    assert job.state == "succeeded", job.error_sentence
    made = Prediction.objects.get(slide=slide, kind="embedding")
    found = read_embedding(store.path(made.key))
    assert dict(map(tuple, made.facts["dropped"]))["CD68"] == LOCKED and made.facts["values"] == "virtual"
    assert found.boxes[:, 2:].tolist() == [[16 * 224.0] * 2] * len(found.boxes) and found.boxes[0, 0] == 100.0
    job = tiny.run("retrieval.image_niches", slide=slide.pk, version=trained.pk)
    assert job.state == "succeeded", job.error_sentence
    niches = Prediction.objects.get(slide=slide, kind="niche set", version=trained)
    assert niches.facts["values"] == "virtual" and niches.niches.count() == niches.facts["n_medoids"]
    assert made.inputs["virtual map"] == Prediction.objects.get(slide=slide, kind="virtual map").sha256


def test_a_model_of_images_is_turned_away_with_both_numbers(people, maps):
    version = tiny.released()
    job = tiny.run("predictions.virtues_map", slide=maps[0].pk, version=version.pk)
    assert (job.state, job.error_code) == ("failed", "MAP_TOO_COARSE")
    assert "112 um" in job.error_sentence and "at most 4 um" in job.error_sentence and "own pitch" in job.error_hint


def test_a_slide_without_a_map_says_so(people, trained):
    job = tiny.run("predictions.virtues_map", slide=people.lung.waiting.pk, version=trained.pk)
    assert (job.state, job.error_code) == ("failed", "NO_MAP")


def test_the_pipeline_takes_the_version_that_a_person_chose(people, trained):
    plan = plan_cohort(people.contributor, people.lung.cohort, "virtues_maps")
    assert [p.code for p in plan.steps][1:] == ["VERSION_NOT_CHOSEN", "NEEDS_MISSING"]
    plan = plan_cohort(people.contributor, people.lung.cohort, "virtues_maps", {"virtues": trained.pk})
    assert [p.version for p in plan.steps] == [people.versions["hex"], trained, trained]
    other = plan_cohort(people.contributor, people.lung.cohort, "virtues_maps", {"virtues": tiny.released().pk})
    assert other.steps[1].code == "OTHER_PARENT"


def test_settings_and_cohorts_that_cannot_be_are_said_beforehand(people, maps):
    with pytest.raises(TissueboardError) as told:
        start_training(
            people.contributor, "virtues_maps", cohorts=[people.lung.cohort], name="x", values={**TRAINING, "maps": "dense"},
            choices={"version": people.versions["hex"].pk},
        )  # fmt: skip
    assert told.value.code == "CONFIG_INVALID" and "held_out" in told.value.sentence
