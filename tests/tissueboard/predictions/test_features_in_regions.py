"""Features of a slide with regions: only the tiles inside, the regions named among the inputs, and made again when they change."""

import pytest
from small_tissue import SIDE

from ml.slides.features import read_bag
from tissueboard.jobs import services
from tissueboard.jobs.models import State
from tissueboard.model_registry.encoders import ensure_builtin_encoders
from tissueboard.predictions.feature_jobs import KIND
from tissueboard.predictions.models import Prediction
from tissueboard.slides.processing import restriction_of
from tissueboard.slides.regions import draw_region, remove_region
from tissueboard.slides.tiling import input_key
from tissueboard.store import store

pytestmark = pytest.mark.django_db
LEFT = {"type": "Polygon", "coordinates": [[[0, 0], [SIDE / 2, 0], [SIDE / 2, SIDE], [0, SIDE], [0, 0]]]}
SPECK = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}


@pytest.fixture
def features(people, run_jobs):
    """Asks for the features of lung's first slide and does the work; gives the job and the bag."""
    version, slide = ensure_builtin_encoders()[0], people.lung.slide

    def run():
        params = {"slide": slide.pk, "version": version.pk}
        job = services.enqueue(people.contributor, KIND, params, cohorts=[people.lung.cohort], key=input_key(slide))
        run_jobs()
        job.refresh_from_db()
        return job, Prediction.objects.filter(slide=slide, kind="feature bag", version=version).first()

    return run


def test_features_follow_the_regions_there_and_back(people, features):
    slide = people.lung.slide
    whole = features()[1]
    n_whole = whole.facts["n_tiles"]
    assert "regions" not in whole.inputs
    region, _ = draw_region(people.contributor, slide, geometry=LEFT, role="analyse")
    half = features()[1]
    grid = read_bag(store.path(half.key)).grid
    assert 0 < half.facts["n_tiles"] == len(grid) < n_whole
    assert grid.centres[:, 0].max() < SIDE / 2 + grid.tile_px0 / 2
    assert half.inputs["regions"] == restriction_of(slide).sha256
    remove_region(people.contributor, region)
    again = features()[1]
    assert again.facts["n_tiles"] == n_whole and "regions" not in again.inputs


def test_regions_without_a_tile_end_the_job_with_a_sentence(people, features):
    draw_region(people.contributor, people.lung.slide, geometry=SPECK, role="analyse")
    job, bag = features()
    assert (job.state, job.error_code, bag) == (State.FAILED, "NO_TILE_IN_REGIONS", None)
    assert job.error_sentence.endswith(".") and job.error_hint
