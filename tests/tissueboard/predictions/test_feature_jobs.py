"""The job that makes a feature bag: what it publishes, what it refuses, and what a second attempt finds."""

import errno
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from small_tissue import MPP

from ml.encoders.runtime import load_encoder
from ml.slides.features import check_bag, read_bag
from ml.slides.loader import tile_batches
from tissueboard.cohorts.models import Patient
from tissueboard.jobs import services
from tissueboard.jobs.context import work_folder
from tissueboard.jobs.models import Job, State
from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.predictions.feature_jobs import KIND, estimate_features
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import grid_of, input_key, open_working
from tissueboard.store import checksum, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def version():
    return ensure_builtin_encoders()[0]


@pytest.fixture
def ask(people, run_jobs, version):
    """Asks for the features of a slide and does the work; gives the job as it ended."""

    def run(slide=None):
        slide = slide or people.lung.slide
        job = services.enqueue(
            people.contributor, KIND, {"slide": slide.pk, "version": version.pk}, cohorts=[people.lung.cohort], key=input_key(slide)
        )
        run_jobs()
        job.refresh_from_db()
        return job

    return run


def bag_of(slide) -> Prediction:
    return Prediction.objects.get(slide=slide, kind="feature bag")


def test_the_bag_is_published_with_everything_that_made_it(ask, people, version):
    slide = people.lung.slide
    assert estimate_features(slide, version).seconds is None
    job = ask()
    assert (job.state, job.error_sentence) == (State.SUCCEEDED, "")
    bag = bag_of(slide)
    with open_working(slide) as opened:
        grid = grid_of(slide, opened, 112.0)
        expected = load_encoder("he-descriptors")(opened.tile_array(grid, 112))
    found = read_bag(store.path(bag.key))
    assert np.array_equal(found.features, expected) and np.array_equal(found.grid.xy, grid.xy)
    assert found.grid.mpp == MPP and bag.sha256 == checksum(store.path(bag.key))
    assert bag.inputs == {"working slide": slide.working_sha256, "weights": version.sha256}
    assert (bag.job, bag.version, bag.patient, bag.in_sample, bag.fold) == (job, version, slide.sample.patient, False, None)
    facts = bag.facts
    assert (facts["n_tiles"], facts["n_skipped"], facts["dim"], facts["tile_um"]) == (len(grid), 0, 32, 112.0)
    assert facts["encoder"] == "he-descriptors" and facts["tiles_per_second"] > 0 and facts["skipped"] == {}
    with open_working(slide) as opened:
        assert facts["reading"]["how"] == opened.reading.how and facts["reading"]["waited_seconds"] <= facts["seconds"]
    assert job.outputs.get().sha256 == bag.sha256 and not work_folder(job.pk).exists()
    assert check_bag(store.path(bag.key)).attrs["weights"] == version.sha256

    after = estimate_features(slide, version)
    assert after.tiles == len(grid) and after.seconds == pytest.approx(len(grid) / facts["tiles_per_second"], rel=1e-6)
    assert after.bytes > bag.facts["n_tiles"] * 32 * 4


def test_an_estimate_needs_no_open_slide(people, version):
    slide = people.lung.slide
    assert estimate_features(slide, version).tiles == round(slide.tissue_mm2 * 1e6 / 112**2)
    slide.tissue_mm2 = None
    assert estimate_features(slide, version).tiles == round((slide.width * MPP / 112) ** 2)


def test_made_again_the_old_file_goes(ask, people, django_capture_on_commit_callbacks):
    ask()
    first = bag_of(people.lung.slide)
    Slide.objects.filter(pk=people.lung.slide.pk).update(regions_revision=1)
    with django_capture_on_commit_callbacks(execute=True):
        again = ask(Slide.objects.get(pk=people.lung.slide.pk))
    second = bag_of(people.lung.slide)
    assert again.state == State.SUCCEEDED and (second.pk, second.job) == (first.pk, again)
    assert store.exists(second.key) and (store.exists(first.key) == (first.key == second.key))


def without(rows):
    """The loader of a slide whose tiles `rows` cannot be decoded."""

    def batches(sources, out_px, batch=256, **more):
        for found in tile_batches(sources, out_px, batch, **more):
            bad = np.isin(found.rows, rows)
            found.tiles[bad] = 255
            yield replace(found, readable=found.readable & ~bad, reasons={int(r): "A part cannot be decoded." for r in found.rows[bad]})

    return batches


def test_bad_tiles_are_told_and_too_many_are_refused(ask, people, version, monkeypatch):
    monkeypatch.setattr("ml.slides.tile_run.tile_batches", without([3]))
    assert ask().state == State.SUCCEEDED
    facts = bag_of(people.lung.slide).facts
    assert (facts["n_skipped"], facts["skipped"]) == (1, {"A part cannot be decoded.": 1})
    assert facts["n_tiles"] == check_bag(store.path(bag_of(people.lung.slide).key)).n

    monkeypatch.setattr("ml.slides.tile_run.tile_batches", without([1, 2, 3]))
    slide = people.lung.slides[1]
    job = ask(slide)
    assert (job.state, job.error_code) == (State.FAILED, "TOO_MANY_BAD_TILES") and "may be skipped" in job.error_sentence
    assert not Prediction.objects.filter(slide=slide, kind="feature bag").exists()
    assert list((work_folder(job.pk) / "features").glob("*.block"))
    monkeypatch.undo()
    services.retry(people.contributor, job)
    assert ask(slide).state == State.SUCCEEDED


def test_a_disk_without_room_is_refused_before_the_work(ask, monkeypatch):
    monkeypatch.setattr("ml.slides.estimate.free_bytes", lambda folder: 1000)
    job = ask()
    assert (job.state, job.error_code) == (State.FAILED, "DISK_TOO_FULL") and job.error_hint.endswith("Nothing was started.")
    assert not list((work_folder(job.pk)).glob("*/*.block"))


def test_a_disk_that_becomes_full_keeps_the_blocks_and_the_retry_goes_on(ask, people, monkeypatch):
    inner, blocks = os.replace, []

    def full(part, target):
        if str(target).endswith(".block"):
            if blocks:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            blocks.append(target)
        inner(part, target)

    monkeypatch.setattr(os, "replace", full)
    job = ask()
    assert (job.state, job.error_code) == (State.FAILED, "DISK_FULL") and "what is finished is kept" in job.error_hint
    monkeypatch.undo()
    services.retry(people.contributor, job)
    assert ask().state == State.SUCCEEDED
    assert bag_of(people.lung.slide).facts["done_before"] == 16
    assert not list(store.path(".tmp").glob("*.h5"))


def test_cancelled_work_stops_at_the_next_block(ask, people, monkeypatch):
    inner = os.replace

    def cancel(part, target):
        inner(part, target)
        if str(target).endswith(".block"):
            Job.objects.filter(kind=KIND).update(cancel_requested=True)

    monkeypatch.setattr("tissueboard.jobs.context.PROGRESS_SECONDS", 0)
    monkeypatch.setattr(os, "replace", cancel)
    job = ask()
    assert job.state == State.CANCELLED and len(list((work_folder(job.pk) / "features").glob("*.block"))) == 1


def test_a_slide_whose_file_changed_is_not_read(ask, people):
    slide = people.lung.slide
    key = store.new_temp(".tif")
    key.write_bytes(store.path(slide.working_key).read_bytes() + b"x")
    slide.working_key = str(key.relative_to(store.root))
    slide.save()
    assert ask(slide).error_code == "FILE_CHANGED"


def test_listing_the_job_kinds_imports_no_reader_and_no_torch():
    code = "import django; django.setup(); import sys; from tissueboard.predictions.feature_jobs import estimate_features; "
    code += "print(sorted({'torch', 'openslide', 'tifffile', 'h5py', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.stdout.strip() == "[]"


def test_a_patient_of_another_cohort_is_no_part_of_it(ask, people):
    ask()
    assert set(Prediction.objects.filter(kind="feature bag").values_list("patient", flat=True)) == {people.lung.patient.pk}
    assert Patient.objects.filter(cohort=people.breast.cohort, predictions__kind="feature bag").count() == 0


@pytest.mark.parametrize("moment", ["tissueboard.store.Store.save", "tissueboard.predictions.feature_jobs.publish_output"])
def test_a_kill_between_the_last_block_and_the_published_bag_costs_no_tile(ask, people, monkeypatch, moment):
    def die(*args):
        raise MemoryError("the worker is killed here")

    monkeypatch.setattr(moment, die)
    assert ask().state == State.CRASHED and not Prediction.objects.filter(slide=people.lung.slide, kind="feature bag").exists()
    monkeypatch.undo()
    job = ask()
    facts = bag_of(people.lung.slide).facts
    assert (job.state, facts["done_before"]) == (State.SUCCEEDED, facts["n_tiles"])
    assert not work_folder(job.pk).exists()
