"""The slide's block: the wish for a finer map, the choice of pitch, and what is said of a value's interval."""

import json
import re
from html import unescape

import numpy as np
import pytest
from django.urls import reverse

from ml.slides.map_files import write_map
from ml.types import VirtualMap
from tissueboard.jobs.models import Job
from tissueboard.predictions.models import Prediction
from tissueboard.store import store

PANEL = ("CD8", "Pan-Cytokeratin", "CD68", "Mac2/Galectin-3")


@pytest.fixture
def dense(people):
    """A map of half the pitch beside the map of lung's first slide."""
    values = np.linspace(0, 1, 4 * 20 * 20, dtype=np.float32).reshape(4, 20, 20)
    far = np.zeros((20, 20), np.float32)
    far[3, 4] = 2.0
    temp = store.new_temp(".zarr")
    write_map(temp, VirtualMap(values, PANEL, 28.0, (0.0, 0.0), 56.0, effective_resolution_um=112.0, out_of_range=far), 0.5)
    key = f"tests/dense-{people.lung.map.pk}.zarr"
    sha = store.save(temp, key)
    like = people.lung.map
    shape = {"rows": 20, "cols": 20, "pitch_um": 28.0, "step_px0": 56.0, "tile_um": 56.0, "stride_um": 28.0}
    fields = {name: getattr(like, name) for name in ("patient", "slide", "version", "job", "inputs", "code_version", "fold")}
    return Prediction.objects.create(kind="dense map", key=key, sha256=sha, facts={**like.facts, **shape}, **fields)


def page(people, person="viewer"):
    return people.client(person).get(reverse("case", args=[people.lung.patient.pk]))


def map_data(response):
    return json.loads(unescape(re.search(r'data-map="([^"]*)"', response.content.decode())[1]))


def ask(people, stride, person="contributor"):
    return people.client(person).post(reverse("slide_dense_map", args=[people.lung.slide.pk]), {"stride_um": stride})


def test_contributors_find_the_form_and_viewers_do_not(people):
    assert 'name="stride_um"' in page(people, "contributor").content.decode()
    assert 'name="stride_um"' not in page(people, "viewer").content.decode()


def test_asking_leads_to_the_job_also_with_a_decimal_comma(people):
    answer = ask(people, " 3,5 ")
    job = Job.objects.get(kind="predictions.dense_map")
    assert answer.status_code == 302 and answer.url == reverse("job", args=[job.pk])
    assert job.params["stride_um"] == 3.5 and list(job.cohorts.all()) == [people.lung.cohort]


@pytest.mark.parametrize(
    ("stride", "said"), [("56", "below the tile of 56 um was expected."), ("", "The stride is missing"), ("<b>", "<b>")]
)
def test_a_refusal_is_said_beside_the_form_and_what_was_typed_stays(people, words, stride, said):
    answer = ask(people, stride)
    assert answer.status_code == 400 and said in words(answer)
    assert 'aria-invalid="true"' in answer.content.decode() and "is <b>" not in answer.content.decode()
    assert answer.context["dense_entered"] == stride and answer.context["slide"] == people.lung.slide


def test_only_contributors_may_ask(people):
    for person, status in (("viewer", 403), ("outsider", 404), ("stranger", 404), ("anonymous", 302)):
        assert ask(people, "14", person).status_code == status
    assert not Job.objects.filter(kind="predictions.dense_map").exists()


def test_without_a_finer_map_there_is_nothing_to_choose(people):
    answer = page(people)
    assert 'id="pitch"' not in answer.content.decode() and len(map_data(answer)["layers"]) == 1


def test_a_finer_map_is_a_choice_of_pitch_at_the_same_resolution(people, dense, words):
    answer = page(people)
    text = words(answer)
    assert "56 µm, tiles side by side 28 µm, overlapping tiles averaged" in text and "effective resolution 112 µm" in text
    coarse, fine = map_data(answer)["layers"]
    assert (coarse["prediction"], coarse["pitch"], coarse["step"]) == (people.lung.map.pk, "56", 112.0)
    assert (fine["prediction"], fine["pitch"], fine["step"], fine["rows"]) == (dense.pk, "28", 56.0, 20)
    client = people.client("viewer")
    for name in ("png", "values"):
        assert client.get(fine[name].replace("{channel}", "0")).status_code == 200
        assert client.get(fine[name].replace("{channel}", "2")).status_code == 409, "a locked marker is locked at every pitch"
    body = client.get(fine["values"].replace("{channel}", "1")).json()
    assert (body["rows"], body["name"], body["far"]) == (20, "Pan-Cytokeratin", [3 * 20 + 4])
    assert body["values"][0] == pytest.approx(400 / 1599, abs=1e-3)
    assert client.get(fine["range"]).status_code == 200


def test_a_finer_map_of_other_regions_says_so(people, dense, words):
    dense.inputs = {**dense.inputs, "regions": "0" * 64}
    dense.save()
    assert "overlapping tiles averaged, made with other regions" in words(page(people))


def told(**more):
    half = {"CD8": 0.22, "Pan-Cytokeratin": None}
    share = {"CD8": 0.91, "Pan-Cytokeratin": 0.87}
    facts = {"alpha": 0.1, "percent": 90, "patients": 38, "why_none": "", "half_width": half, "coverage": share, "coverage_patients": share}
    return facts | more


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (None, "No intervals: this version was never calibrated."),
        (told(why_none="fewer than 9 calibration patients", half_width={}), "No intervals: fewer than 9 calibration patients."),
        (
            told(),
            "Intervals of 90% are calibrated on 38 held-out patients, each counting once. Leaving out one patient at a time they covered",
        ),
        (told(), "they covered 87% to 91% of her tiles (lowest and highest marker)."),
        (told(coverage={"CD8": None}), "how much they cover could not be measured on so few."),
    ],
)
def test_the_block_says_what_intervals_stand_on_and_what_they_cover(people, words, facts, said):
    if facts:
        Prediction.objects.filter(pk=people.lung.map.pk).update(facts={**people.lung.map.facts, "interval": facts})
    assert said in words(page(people))


def test_the_script_gets_half_widths_by_channel_and_the_reason_where_there_is_none(people):
    (layer,) = map_data(page(people))["layers"]
    assert layer["interval"] == {"percent": None, "patients": 0, "why": "this version was never calibrated", "half": [None] * 4}
    Prediction.objects.filter(pk=people.lung.map.pk).update(facts={**people.lung.map.facts, "interval": told()})
    (layer,) = map_data(page(people))["layers"]
    assert layer["interval"] == {"percent": 90, "patients": 38, "why": "", "half": [0.22, None, None, None]}
