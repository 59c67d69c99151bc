"""A real worker is killed with -9 while it makes features: the job succeeds after all, and at most one block is encoded twice."""

import numpy as np
import pytest
from live_worker import wait_for

from ml.encoders.runtime import load_encoder
from ml.simulate.write import write_pyramid
from ml.slides.blocks import rows_per_block
from ml.slides.features import read_bag
from tissueboard.jobs import services, sweeper
from tissueboard.jobs.context import work_folder
from tissueboard.jobs.models import Job, State
from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.predictions.models import Prediction
from tissueboard.slides.tiling import grid_of, input_key, open_working
from tissueboard.store import store

pytestmark = pytest.mark.django_db(transaction=True)
SIDE, MPP = 4480, 0.5  # 20 x 20 tiles of 112 um


@pytest.fixture
def slide(people):
    """The slide of the cohort, larger, and tissue all over."""
    rng = np.random.default_rng(5)
    squares = (rng.integers(0, 60, (SIDE // 16, SIDE // 16, 3)) + (150, 60, 130)).astype(np.uint8)
    temp = store.new_temp(".tif")
    write_pyramid(temp, squares.repeat(16, axis=0).repeat(16, axis=1), MPP)
    slide = people.lung.slide
    slide.working_key = "tests/large.tif"
    slide.working_sha256 = store.save(temp, slide.working_key)
    slide.width = slide.height = SIDE
    slide.save()
    return slide


def encoded(log) -> int:
    """Tiles of the slide that any process encoded."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return sum(int(tiles) for _, tiles, what in lines if what == "work")


def ended(job: Job) -> bool:
    job.refresh_from_db()
    return job.state in (State.SUCCEEDED, State.FAILED, State.CRASHED)


def test_killed_in_the_middle_of_a_slide(start_worker, people, slide, tmp_path, settings):
    log = tmp_path / "encoded"
    quick = {"JOBS_HEARTBEAT_SECONDS": "0.3", "JOBS_EXTRA_HANDLERS": "handlers_for_tests,count_encoded", "COUNT_ENCODED": str(log)}
    worker = start_worker(queues=("gpu",), **quick)
    version = ensure_builtin_encoders()[0]
    params = {"slide": slide.pk, "version": version.pk}
    job = services.enqueue(people.contributor, "predictions.features", params, cohorts=[people.lung.cohort], key=input_key(slide))
    blocks = work_folder(job.pk) / "features"
    wait_for(lambda: len(list(blocks.glob("[0-9]*.block"))) >= 5, 60, lambda: worker.log.read_text()[-3000:])
    worker.kill()
    finished = list(blocks.glob("[0-9]*.block"))
    worker = start_worker(queues=("gpu",), **quick)
    settings.JOBS_SILENT_SECONDS = 1.5
    wait_for(lambda: sweeper.sweep()["revived"] == 1, 30)
    wait_for(lambda: ended(job), 60, lambda: worker.log.read_text()[-3000:])

    assert (job.state, job.attempt, job.error_sentence) == (State.SUCCEEDED, 2, "")
    bag = Prediction.objects.get(slide=slide, kind="feature bag")
    with open_working(slide) as opened:
        grid = grid_of(slide, opened, 112.0)
        expected = load_encoder("he-descriptors")(opened.tile_array(grid, 112))
    assert np.array_equal(read_bag(store.path(bag.key)).features, expected)
    n, rows = len(grid), rows_per_block(len(grid))
    assert 5 <= len(finished) < n / rows and bag.facts["done_before"] == len(finished) * rows
    assert 0 <= encoded(log) - n <= rows
    assert not work_folder(job.pk).exists()
