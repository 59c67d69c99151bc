"""A finer map: asked for by those who may, at strides that make sense, kept beside the map that everything else stands on."""

import numpy as np
import pytest
import zarr
from momentary_hex import MARKERS, calibration, momentary_version

from ml.hex.maps import to_map
from tissueboard.accounts.models import AccessLog
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.jobs import services
from tissueboard.jobs.models import State
from tissueboard.model_registry.services import weights_path
from tissueboard.predictions import dense_maps, hex_dense
from tissueboard.predictions.dense_maps import ask_dense_map
from tissueboard.predictions.maps import load_channel, load_map
from tissueboard.predictions.models import Prediction
from tissueboard.slides.regions import draw_region
from tissueboard.slides.tiling import grid_of, open_working
from tissueboard.store import store

pytestmark = pytest.mark.django_db


@pytest.fixture
def virtual_map(people):
    """The virtual map of lung's first slide, as of a HEX that can be run here."""
    version = momentary_version(effective_resolution_um=112.0, conformal=calibration(20).to_dict())
    found = people.lung.map
    Prediction.objects.filter(pk=found.pk).update(version=version, facts={**found.facts, "names": list(MARKERS)})
    return Prediction.objects.select_related("version", "slide").get(pk=found.pk)


@pytest.fixture
def ask(people, run_jobs, virtual_map):
    """Asks for a stride on lung's first slide and does the work."""

    def run(stride_um):
        job = ask_dense_map(people.contributor, people.lung.slide, stride_um)
        run_jobs()
        job.refresh_from_db()
        return job

    return run


def dense():
    return Prediction.objects.get(kind="dense map")


def test_its_cells_are_means_of_what_the_model_says_of_overlapping_tiles(ask, people, virtual_map):
    from ml.hex.checkpoint import load
    from ml.hex.predict import infer

    job = ask(28)
    assert (job.state, job.error_sentence, [o.kind for o in job.outputs.all()]) == (State.SUCCEEDED, "", ["dense map"])
    found, virtual = dense(), load_map(dense())
    with open_working(people.lung.slide) as opened:
        grid = grid_of(people.lung.slide, opened, 56.0, 28.0)
        answer = infer(load(weights_path(virtual_map.version)), opened.tile_array(grid, 112, "torch"))
    laid = to_map(answer.values, grid, MARKERS, answer.out_of_range, step_um=28.0)
    np.testing.assert_allclose(virtual.values, laid.values, atol=1e-5)
    np.testing.assert_allclose(virtual.out_of_range, laid.out_of_range, rtol=1e-4)
    assert virtual.spread is None and "not on means of overlapping ones" in found.facts["interval"]["why_none"]
    assert (virtual.pitch_um, found.facts["pitch_um"], found.facts["stride_um"], found.facts["tile_um"]) == (28, 28, 28, 56)
    assert found.facts["effective_resolution_um"] == virtual.effective_resolution_um == 112, "a finer pitch is no finer resolution"
    assert found.facts["n_tiles"] == len(grid) > 200
    one = load_channel(found, 1)
    assert one.names == ("CD68",) and one.values.shape[0] == 1
    np.testing.assert_array_equal(one.values[0], virtual.values[1])


def test_the_file_opens_with_channels_scale_and_place(ask):
    ask(28)
    ome = zarr.open_group(str(store.path(dense().key)), mode="r").attrs["ome"]
    assert [c["label"] for c in ome["omero"]["channels"]] == list(MARKERS)
    scale, shift = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1.0, 28.0, 28.0]
    origin = dense().facts["origin_px0"]
    assert shift["translation"] == [0.0, *(0.5 * (o + 28) for o in reversed(origin))]


def test_the_map_and_what_stands_on_it_stay_as_they_are(ask, people, virtual_map):
    before = list(Prediction.objects.order_by("pk").values("pk", "kind", "sha256", "job_id"))
    assert ask(28).state == State.SUCCEEDED
    after = list(Prediction.objects.order_by("pk").values("pk", "kind", "sha256", "job_id"))
    assert after[:-1] == before and after[-1]["kind"] == "dense map"


def test_asking_twice_is_one_job_and_another_stride_replaces_the_map(ask, people, django_capture_on_commit_callbacks):
    first = ask(28)
    assert ask(28.0) == first and ask("28") == first
    key = dense().key
    with django_capture_on_commit_callbacks(execute=True):
        second = ask(40)
    assert second != first and dense().facts["stride_um"] == 40 and not store.exists(key)
    again = ask(28)
    assert again not in (first, second) and again.state == State.SUCCEEDED and dense().facts["stride_um"] == 28
    assert store.exists(dense().key)


def test_it_is_made_again_where_the_regions_changed(ask, people):
    first = ask(28)
    slide = people.lung.slide
    corner = {"type": "Polygon", "coordinates": [[[300, 300], [800, 300], [800, 800], [300, 800], [300, 300]]]}
    draw_region(people.contributor, slide, geometry=corner, role="analyse")
    slide.refresh_from_db()
    tiles = dense().facts["n_tiles"]
    second = ask(28)
    assert second != first and dense().facts["n_tiles"] < tiles and dense().inputs["regions"]


@pytest.mark.parametrize(
    ("stride", "code", "said"),
    [
        (56, "STRIDE_INVALID", "below the tile of 56 um"),
        (0, "STRIDE_INVALID", "above 0"),
        (-3.5, "STRIDE_INVALID", "The stride is -3.5"),
        (float("nan"), "STRIDE_INVALID", "The stride is nan"),
        (float("inf"), "STRIDE_INVALID", "The stride is inf"),
        ("fine", "STRIDE_INVALID", "The stride is fine"),
        ("", "STRIDE_INVALID", "The stride is missing"),
        (0.49, "STRIDE_TOO_FINE", "less than a pixel of the slide (0.5 um)"),
    ],
)
def test_strides_that_make_no_sense_are_refused_before_any_work(people, virtual_map, stride, code, said):
    with pytest.raises(TissueboardError) as refused:
        ask_dense_map(people.contributor, people.lung.slide, stride)
    assert refused.value.code == code and said in refused.value.sentence and refused.value.hint.endswith(".")
    assert not services.Job.objects.filter(kind=dense_maps.KIND).exists()


def test_too_many_tiles_are_refused_with_a_stride_that_would_do(people, virtual_map):
    slide = people.lung.slide
    slide.tissue_mm2 = 200.0
    with pytest.raises(TissueboardError, match="about 16,326,531 tiles of the slide") as refused:
        ask_dense_map(people.contributor, slide, 3.5)
    assert refused.value.hint.startswith("Take a stride of 14.2 um or more")
    assert ask_dense_map(people.contributor, slide, 14.2).state == State.QUEUED


def test_the_job_counts_too_and_says_so(ask, monkeypatch):
    monkeypatch.setattr(hex_dense, "MOST_TILES", 100)
    job = ask(28)
    assert (job.state, job.error_code) == (State.FAILED, "TOO_MANY_TILES") and "at most 100" in job.error_sentence
    assert not Prediction.objects.filter(kind="dense map").exists()


def test_only_contributors_ask_and_only_for_a_slide_that_has_a_map(people, virtual_map):
    slide = people.lung.slide
    with pytest.raises(RoleMissing):
        ask_dense_map(people.viewer, slide, 14)
    with pytest.raises(NotVisible):
        ask_dense_map(people.stranger, slide, 14)
    ask_dense_map(people.contributor, slide, 14)
    row = AccessLog.objects.get(verb="ask for dense map")
    assert (row.username, row.patient_code) == ("contributor", people.lung.patient.code)
    Prediction.objects.filter(pk=virtual_map.pk).delete()
    for other, code in ((slide, "NO_MAP"), (people.lung.waiting, "SLIDE_NOT_READY")):
        with pytest.raises(TissueboardError) as refused:
            ask_dense_map(people.contributor, other, 14)
        assert refused.value.code == code
