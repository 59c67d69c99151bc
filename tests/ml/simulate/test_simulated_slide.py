"""The picture: opens as a slide with its mpp, looks like tissue on glass, and the laboratory changes nothing of the biology."""

import json
import subprocess
import sys

import numpy as np
import openslide
import pytest

from ml.simulate import NICHES, SITES, SimulatorConfig, niche_at, simulate_patient, write_pyramid

SMALL = SimulatorConfig(size_px=1024)


@pytest.fixture(scope="module")
def patient():
    return simulate_patient(2, seed=3, site="Site A", config=SMALL)


@pytest.fixture(scope="module")
def image(patient):
    return patient.render()


def test_slide_opens_in_openslide_with_mpp_and_levels(tmp_path_factory):
    patient = simulate_patient(0, seed=3, site="Site B")
    path = patient.write_slide(tmp_path_factory.mktemp("slides") / "SIM-B-001.tif")
    with openslide.OpenSlide(str(path)) as slide:
        assert slide.dimensions == (2048, 2048)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5, rel=1e-3)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.5, rel=1e-3)
        assert slide.level_dimensions == ((2048, 2048), (1024, 1024), (512, 512), (256, 256))
        read = np.asarray(slide.read_region((0, 0), 0, (2048, 2048)).convert("RGB")).astype(int)
    assert np.abs(read - patient.render()).mean() < 6, "JPEG keeps the picture"


def test_levels_may_shrink_by_four(tmp_path, image):
    with openslide.OpenSlide(str(write_pyramid(tmp_path / "four.tif", image, 0.25, 90, factor=4))) as slide:
        assert slide.level_dimensions == ((1024, 1024), (256, 256))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25, rel=1e-3)


def test_what_is_no_picture_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match="uint8"):
        write_pyramid(tmp_path / "a.tif", image.astype(np.float32), 0.5)
    with pytest.raises(ValueError, match="2 or 4"):
        write_pyramid(tmp_path / "a.tif", image, 0.5, factor=3)


def test_rendering_is_deterministic(patient, image):
    assert image.shape == (1024, 1024, 3) and image.dtype == np.uint8
    assert np.array_equal(image, patient.render())


def test_glass_is_white_and_tissue_is_pink_to_purple(patient, image):
    y, x = np.mgrid[0:1024:4, 0:1024:4]
    at = niche_at(patient.tissue, np.stack([x.ravel(), y.ravel()], 1) * patient.tissue.mpp)
    colours = image[::4, ::4].reshape(-1, 3).astype(float)
    glass, tissue = colours[at == 0], colours[at > 0]
    assert np.median(glass, axis=0).min() > 220
    red, green, blue = tissue.mean(axis=0)
    assert green < red - 15 and green < blue - 10, "eosin and hematoxylin both take green"


def test_lymphoid_aggregates_are_bluer_and_darker_than_stroma():
    patient = next(p for p in (simulate_patient(i, seed=3) for i in range(20)) if p.fractions["tls"] > 0.05)
    image = patient.render()
    y, x = np.mgrid[0:2048:4, 0:2048:4]
    at = niche_at(patient.tissue, np.stack([x.ravel(), y.ravel()], 1) * patient.tissue.mpp)
    colours = image[::4, ::4].reshape(-1, 3).astype(float)
    tls, stroma = (colours[at == NICHES.index(name)].mean(axis=0) for name in ("tls", "stroma"))
    assert tls.sum() < stroma.sum() - 60
    assert tls[2] - tls[0] > stroma[2] - stroma[0] + 10


def test_the_site_changes_the_picture_and_nothing_of_the_biology(patient, image):
    elsewhere = simulate_patient(2, seed=3, site="Site B", config=SMALL)
    assert np.array_equal(patient.tissue.proteins, elsewhere.tissue.proteins)
    assert np.array_equal(patient.tissue.niche_map, elsewhere.tissue.niche_map)
    assert patient.clinical == elsewhere.clinical and patient.outcome == elsewhere.outcome
    assert patient.scanner != elsewhere.scanner and patient.code != elsewhere.code
    assert patient.stain_batch in SITES["Site A"].batches and elsewhere.stain_batch in SITES["Site B"].batches
    difference = np.abs(image.astype(float).mean((0, 1)) - elsewhere.render().astype(float).mean((0, 1)))
    assert difference.max() > 3


def test_an_unknown_site_or_batch_is_named():
    with pytest.raises(KeyError, match="Site A, Site B"):
        simulate_patient(0, seed=1, site="Site Z")
    with pytest.raises(KeyError, match="A-batch-1"):
        SITES["Site A"].draw(np.random.default_rng(0), "B-batch-1")


def test_the_simulator_needs_no_torch():
    code = "import json, sys, ml.simulate; print(json.dumps(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'django'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert json.loads(done.stdout) == []
