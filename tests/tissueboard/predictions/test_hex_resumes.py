"""The virtual protein map is made in blocks too: a second attempt goes on inside the slide, and the numbers are those of one pass."""

import errno
import os

import h5py
import numpy as np
import pytest
from momentary_hex import momentary_version

from ml.slides.morphology import stain_scale, tile_morphology
from tissueboard.jobs import services
from tissueboard.jobs.context import work_folder
from tissueboard.jobs.models import State
from tissueboard.model_registry.services import weights_path
from tissueboard.predictions.maps import load_map
from tissueboard.predictions.models import Prediction
from tissueboard.slides.regions import draw_region
from tissueboard.slides.tiling import grid_of, input_key, open_working
from tissueboard.store import checksum, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def version(db):
    return momentary_version()


@pytest.fixture
def ask(people, run_jobs, version):
    def run(slide):
        params = {"slide": slide.pk, "version": version.pk}
        job = services.enqueue(people.contributor, "predictions.virtual_map", params, cohorts=[people.lung.cohort], key=input_key(slide))
        run_jobs()
        job.refresh_from_db()
        return job

    return run


def outputs(slide, version):
    bag = Prediction.objects.get(slide=slide, version=version, kind="feature bag")
    with h5py.File(store.path(bag.key)) as file:
        arrays = {name: np.asarray(file[name]) for name in ("features", "values", "morphology", "coords")}
    virtual = load_map(Prediction.objects.get(slide=slide, version=version, kind="virtual map"))
    return arrays | {"map": virtual.values, "far": virtual.out_of_range}, bag.facts


def test_the_numbers_are_those_of_the_same_batches_without_blocks(ask, people, version):
    from ml.hex.checkpoint import load
    from ml.hex.predict import infer

    slide = people.lung.slide
    assert ask(slide).state == State.SUCCEEDED
    found, facts = outputs(slide, version)
    weights = load(weights_path(version))
    with open_working(slide) as opened:
        grid = grid_of(slide, opened, 56.0)
        scale = stain_scale(opened.tile_array(grid, 112))  # fewer than 256 tiles: all of them
        batches = list(opened.tiles(grid, 112, batch=16))
    answers = [infer(weights, tiles, None) for tiles in batches]
    for name in ("features", "values"):
        np.testing.assert_array_equal(found[name], np.concatenate([getattr(a, name) for a in answers]))
    np.testing.assert_array_equal(found["morphology"], np.concatenate([tile_morphology(t, scale, mpp=0.5) for t in batches]))
    assert (facts["n_tiles"], facts["n_skipped"], facts["dim"]) == (len(grid), 0, found["features"].shape[1])


def test_a_second_attempt_goes_on_inside_the_slide(ask, people, version, monkeypatch):
    slide, inner, blocks = people.lung.slide, os.replace, []

    def die(part, target):
        inner(part, target)
        if str(target).endswith(".block"):
            blocks.append(target)
            if len(blocks) == 3:
                raise MemoryError("the worker is killed here")

    monkeypatch.setattr(os, "replace", die)
    job = ask(slide)
    assert job.state == State.CRASHED and not Prediction.objects.filter(version=version).exists()
    assert len(list((work_folder(job.pk) / "hex").glob("*.block"))) == 3
    assert ask(slide).state == State.SUCCEEDED
    assert len(set(blocks)) == len(blocks)  # no block was made twice
    resumed, _ = outputs(slide, version)

    monkeypatch.undo()
    Prediction.objects.filter(version=version).delete()
    services.Job.objects.filter(kind="predictions.virtual_map").delete()
    assert ask(slide).state == State.SUCCEEDED
    whole, _ = outputs(slide, version)
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array)


def test_a_later_job_that_ends_before_its_outputs_are_published_leaves_those_before_as_they_are(
    ask, people, version, monkeypatch, django_capture_on_commit_callbacks
):
    slide = people.lung.slide
    assert ask(slide).state == State.SUCCEEDED
    before = dict(Prediction.objects.filter(version=version).values_list("key", "sha256"))
    side = min(slide.width, slide.height) / 2
    corner = {"type": "Polygon", "coordinates": [[[0, 0], [side, 0], [side, side], [0, side], [0, 0]]]}
    draw_region(people.contributor, slide, geometry=corner, role="exclude")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tissueboard.predictions.hex_apply.save_map", full)
    assert ask(slide).state != State.SUCCEEDED
    assert {key: checksum(store.path(key)) for key in before} == before

    monkeypatch.undo()
    with django_capture_on_commit_callbacks(execute=True):
        assert ask(slide).state == State.SUCCEEDED
    after = dict(Prediction.objects.filter(version=version).values_list("key", "sha256"))
    assert {key: checksum(store.path(key)) for key in after} == after and not set(before) & set(after)
    assert not any(store.exists(key) for key in before), "what was replaced does not fill the disk"
