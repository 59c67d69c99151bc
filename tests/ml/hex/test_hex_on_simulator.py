"""A small HEX, fitted on a few simulated patients of two sites, tells where proteins are in slides that it never saw."""

import numpy as np
import pytest

from ml.hex.baselines import baselines
from ml.hex.config import HexFitConfig
from ml.hex.evaluate import evaluate
from ml.hex.panel import HEX_PANEL

VISIBLE = ("DAPI", "Pan-Cytokeratin", "E-cadherin", "CD45", "Collagen IV")


@pytest.fixture(scope="module")
def cohort():
    from ml.hex.data import resize
    from ml.simulate import SimulatorConfig, simulate_patient, tile_labels
    from ml.types import TileGrid

    config = SimulatorConfig(size_px=1024)
    corners = np.arange(0, 1024 - 111, 112)
    xy = np.array([(x, y) for y in corners for x in corners], np.int64)
    grid = TileGrid(xy, 112.0, 0.5, (1024, 1024))
    images, labels, patients, sites = [], [], [], {}
    for index in range(6):
        site = "Site A" if index % 2 else "Site B"
        patient = simulate_patient(index, seed=11, site=site, config=config)
        slide = patient.render()
        images.append(resize(np.stack([slide[y : y + 112, x : x + 112] for x, y in xy]), HexFitConfig().input_px))
        labels.append(tile_labels(patient.tissue, grid, config).values)
        patients += [patient.code] * len(grid)
        sites[patient.code] = site
    return np.concatenate(images), np.concatenate(labels), patients, sites


@pytest.fixture(scope="module")
def fitted(cohort):
    from ml.hex.train import fit

    images, labels, patients, sites = cohort
    return fit(images, labels, patients, patients, HEX_PANEL, HexFitConfig(epochs=10, batch=32), strata=sites)


def test_it_beats_the_slide_mean_within_slides_of_held_out_patients(cohort, fitted):
    images, labels, patients, _ = cohort
    figures = {f.marker: f for f in fitted.figures}
    for marker in VISIBLE:
        assert figures[marker].r2_within > 0.2 and figures[marker].r_within > 0.5, figures[marker]
    scaled = fitted.weights.scale.apply(labels)
    oracle = evaluate(
        baselines(images, scaled, patients, patients, fitted.fold_of)["slide mean"], scaled, patients, patients, HEX_PANEL, draws=10
    )
    assert fitted.metrics()["median_r2_within"] > max(f.r2_within for f in oracle) + 0.1


def test_each_fold_has_both_sites(cohort, fitted):
    sites = cohort[3]
    assert {(fold, sites[patient]) for patient, fold in fitted.fold_of.items()} == {(f, s) for f in (0, 1) for s in ("Site A", "Site B")}


def test_shuffled_tiles_teach_nothing(cohort, fitted):
    """The same recipe on labels that are exchanged between tiles of a slide: nothing is left within slides."""
    from ml.hex.train import fit

    images, labels, patients, sites = cohort
    rng, mixed = np.random.default_rng(0), labels.copy()
    for patient in sites:
        rows = np.flatnonzero(np.array(patients) == patient)
        mixed[rows] = labels[rng.permutation(rows)]
    null = fit(images, mixed, patients, patients, HEX_PANEL, HexFitConfig(epochs=2, batch=32), strata=sites)
    assert np.median([f.r2_within for f in null.figures]) < 0.02
    assert np.median([abs(f.r_within) for f in null.figures]) < 0.15 < fitted.metrics()["median_r_within"]
