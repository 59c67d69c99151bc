"""A simulated tissue is the same for the same seed, has every niche over a cohort, and its assay follows its truth."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ml.hex.panel import HEX_PANEL
from ml.simulate import (
    CELL_TYPES,
    NICHES,
    SimulatorConfig,
    niche_at,
    niche_fractions,
    simulate_cohort,
    simulate_patient,
    simulate_tissue,
    tile_labels,
)
from ml.types import TileGrid

SMALL = SimulatorConfig(size_px=1024)


def grid_of(tissue, tile_px=112):
    corners = np.arange(0, tissue.size_px - tile_px + 1, tile_px)
    x, y = np.meshgrid(corners, corners)
    xy = np.stack([x.ravel(), y.ravel()], 1).astype(np.int64)
    return TileGrid(xy, float(tile_px), tissue.mpp, (tissue.size_px, tissue.size_px))


def inside(tissue, grid):
    return niche_at(tissue, grid.centres * grid.mpp) > 0


@pytest.fixture(scope="module")
def cohort():
    return list(simulate_cohort(16, seed=3, site="Site A"))


def test_same_seed_same_tissue_and_another_seed_another():
    one, two = (simulate_tissue(np.random.default_rng(5), SMALL) for _ in range(2))
    other = simulate_tissue(np.random.default_rng(6), SMALL)
    assert np.array_equal(one.proteins, two.proteins)
    assert np.array_equal(one.niche_map, two.niche_map)
    assert not np.array_equal(one.niche_map, other.niche_map)


def test_patients_do_not_depend_on_order(cohort):
    alone = simulate_patient(4, seed=3, site="Site A")
    assert alone.code == cohort[4].code == "SIM-A-005"
    assert np.array_equal(alone.tissue.proteins, cohort[4].tissue.proteins)
    assert alone.outcome == cohort[4].outcome
    assert alone.treatments == cohort[4].treatments and alone.markers == cohort[4].markers


def test_start_continues_a_cohort(cohort):
    third = next(simulate_cohort(1, seed=3, site="Site A", start=2))
    assert third.code == cohort[2].code
    assert np.array_equal(third.tissue.cells.x_um, cohort[2].tissue.cells.x_um)


def test_every_niche_and_cell_type_appears_over_a_cohort(cohort):
    mean = {name: np.mean([p.fractions[name] for p in cohort]) for name in NICHES[1:]}
    assert min(mean.values()) > 0.02, mean
    kinds = set(np.concatenate([np.unique(p.tissue.cells.kind) for p in cohort]))
    assert kinds == set(range(len(CELL_TYPES)))


def test_composition_varies_strongly_between_patients(cohort):
    for name in ("tumour_core", "tls", "necrosis", "invasive_margin"):
        assert np.std([p.fractions[name] for p in cohort]) > 0.04, name


def test_fractions_sum_to_one_and_glass_surrounds_the_tissue(cohort):
    for p in cohort[:6]:
        assert sum(niche_fractions(p.tissue).values()) == pytest.approx(1)
        edge = np.concatenate([p.tissue.niche_map[0], p.tissue.niche_map[-1], p.tissue.niche_map[:, 0], p.tissue.niche_map[:, -1]])
        assert (edge == 0).all()


def test_cells_lie_in_tissue_and_carry_their_lineage(cohort):
    tissue = cohort[0].tissue
    assert tissue.proteins.shape == (len(tissue.cells), 40) and tissue.proteins.dtype == np.float32
    assert (tissue.proteins >= 0).all() and np.isfinite(tissue.proteins).all()
    assert (niche_at(tissue, np.stack([tissue.cells.x_um, tissue.cells.y_um], 1)) == tissue.cells.niche).all()
    assert (tissue.cells.niche > 0).mean() > 0.99
    for kind, marker in (
        ("tumour", "Pan-Cytokeratin"),
        ("b_cell", "CD20"),
        ("cd8_t", "CD8"),
        ("endothelial", "CD31"),
        ("macrophage", "CD68"),
    ):
        level = tissue.proteins[:, HEX_PANEL.index(marker)]
        assert level[tissue.cells.of(kind)].mean() > 5 * level[~tissue.cells.of(kind, "pneumocyte")].mean(), (kind, marker)


def test_necrosis_lies_inside_tumour_and_is_hypoxic(cohort):
    tissue = max(cohort, key=lambda p: p.fractions["necrosis"]).tissue
    labels = tile_labels(tissue, grid_of(tissue))
    at = niche_at(tissue, labels.grid.centres * tissue.mpp)
    hif = labels.values[:, HEX_PANEL.index("HIF1A")]
    assert hif[at == NICHES.index("necrosis")].mean() > 2 * hif[at == NICHES.index("stroma")].mean()


def test_tile_labels_are_40_values_in_0_1_that_vary_within_the_slide(cohort):
    tissue = cohort[1].tissue
    grid = grid_of(tissue)
    labels = tile_labels(tissue, grid)
    assert labels.values.shape == (len(grid), 40) and labels.values.dtype == np.float32
    assert labels.markers == HEX_PANEL and labels.grid is grid
    assert labels.values.min() >= 0 and labels.values.max() <= 1
    assert (labels.values[inside(tissue, grid)].std(axis=0) > 0.015).all()
    assert np.array_equal(labels.values, tile_labels(tissue, grid).values)


def test_tile_labels_follow_the_cells_they_hold(cohort):
    tissue = cohort[1].tissue
    grid = grid_of(tissue)
    labels = tile_labels(tissue, grid)
    column, row = ((v * tissue.mpp / grid.tile_um).astype(int) for v in (tissue.cells.x_um / tissue.mpp, tissue.cells.y_um / tissue.mpp))
    n = tissue.size_px // 112
    ok = (column < n) & (row < n)
    counted = np.bincount((row * n + column)[ok], tissue.proteins[ok, HEX_PANEL.index("EpCAM")], minlength=n * n)
    assert spearmanr(counted, labels.values[:, HEX_PANEL.index("EpCAM")]).statistic > 0.9


def test_a_grid_of_another_resolution_is_refused(cohort):
    grid = TileGrid(np.zeros((1, 2), np.int64), 224.0, 0.25, (2048, 2048))
    with pytest.raises(ValueError, match=r"0\.25 um per px"):
        tile_labels(cohort[0].tissue, grid)


def test_mean_cd20_follows_the_share_of_tls(cohort):
    cd20 = []
    for p in cohort:
        labels = tile_labels(p.tissue, grid_of(p.tissue))
        cd20.append(labels.values[inside(p.tissue, labels.grid), HEX_PANEL.index("CD20")].mean())
    assert spearmanr([p.fractions["tls"] for p in cohort], cd20).statistic > 0.7
