"""Intervals on a slide's map: half-widths of the version's calibration, abstaining cell by cell, or the reason why there are none."""

import numpy as np
import pytest
from momentary_hex import MARKERS, calibration, momentary_version

from tissueboard.jobs import services
from tissueboard.jobs.models import State
from tissueboard.model_registry.services import hash_of
from tissueboard.predictions.intervals import interval_facts
from tissueboard.predictions.maps import load_map
from tissueboard.predictions.models import Prediction
from tissueboard.slides.tiling import input_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def make(people, run_jobs):
    """Makes the map of lung's first slide with a version of these metrics; gives its prediction."""

    def run(seen_by=(), **metrics):
        version, slide = momentary_version(**metrics), people.lung.slide
        for fold in seen_by:
            version.members.create(fold=fold, patient_hash=hash_of(people.lung.patient))
        params = {"slide": slide.pk, "version": version.pk}
        job = services.enqueue(people.contributor, "predictions.virtual_map", params, cohorts=[people.lung.cohort], key=input_key(slide))
        run_jobs()
        job.refresh_from_db()
        assert job.state == State.SUCCEEDED, job.traceback
        return Prediction.objects.get(version=version, kind="virtual map")

    return run


def test_every_cell_has_the_half_width_of_its_marker_unless_it_is_out_of_range(make):
    found = calibration(20)
    prediction = make(conformal=found.to_dict())
    virtual, told = load_map(prediction), interval_facts(prediction)
    inside = virtual.out_of_range <= 1
    assert inside.any() and (virtual.out_of_range > 1).any(), "the slide has cells of both kinds"
    for layer, half in zip(virtual.spread, found.half_width):
        np.testing.assert_array_equal(np.isfinite(layer), inside)
        np.testing.assert_allclose(layer[inside], half, rtol=1e-6)
    assert (told["alpha"], told["percent"], told["patients"], told["why_none"]) == (0.1, 90, 20, "")
    assert told["half_width"] == pytest.approx(dict(zip(MARKERS, found.half_width)))
    assert told["coverage"] == pytest.approx(dict(zip(MARKERS, found.coverage)))
    assert told["coverage_patients"] == pytest.approx(dict(zip(MARKERS, found.coverage_patients)))


@pytest.mark.parametrize(
    ("patients", "seen_by", "why"),
    [
        (0, (), "this version was never calibrated"),
        (8, (), "fewer than 9 calibration patients"),
        (20, (0, 1), "the weights saw this patient"),
        (8, (0, 1), "fewer than 9 calibration patients"),
    ],
)
def test_a_map_without_intervals_says_why(make, patients, seen_by, why):
    prediction = make(seen_by, **({"conformal": calibration(patients).to_dict()} if patients else {}))
    assert load_map(prediction).spread is None
    assert interval_facts(prediction)["why_none"] == why and interval_facts(prediction)["half_width"] == {}
    assert prediction.in_sample == bool(seen_by)


def test_a_map_of_before_there_were_intervals_says_so(people):
    assert interval_facts(people.lung.map)["why_none"] == "this version was never calibrated"
