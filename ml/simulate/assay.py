"""What an assay would measure on a tissue: tile intensities, niche fractions, the niche at a place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.hex.panel import HEX_PANEL
from ml.simulate.biology import Tissue, sample_map, simulate_tissue
from ml.simulate.config import SimulatorConfig
from ml.simulate.niches import GRID_UM, NICHES
from ml.types import TileGrid, TileLabels

CELL_AREA_UM2 = 90.0
REFERENCE_TILE_UM = 56.0


def niche_fractions(tissue: Tissue) -> dict[str, float]:
    """Share of the tissue area per niche (glass left out); the values sum to 1."""
    return label_fractions(tissue.niche_map)


def label_fractions(labels: NDArray[np.uint8]) -> dict[str, float]:
    """The same from a label map alone, (rows, cols) uint8."""
    counts = np.bincount(labels.ravel(), minlength=len(NICHES)).astype(float)
    counts[0] = 0
    counts /= max(counts.sum(), 1)
    return {name: float(counts[i]) for i, name in enumerate(NICHES) if i}


def niche_at(tissue: Tissue, xy_um: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Niche (index into NICHES) at points xy_um: (n, 2), um from the slide's top-left corner; (n,) uint8."""
    points = np.asarray(xy_um, np.float32).reshape(-1, 2)
    return np.asarray(sample_map(tissue.niche_map, points[:, 0], points[:, 1], order=0), np.uint8)


def protein_density(tissue: Tissue) -> NDArray[np.float32]:
    """(40, rows, cols) float32 mean level per GRID_UM cell of the map: each cell's protein over its footprint."""
    shape = tissue.niche_map.shape
    rows = np.clip((tissue.cells.y_um / GRID_UM).astype(int), 0, shape[0] - 1)
    cols = np.clip((tissue.cells.x_um / GRID_UM).astype(int), 0, shape[1] - 1)
    where, weight = rows * shape[1] + cols, CELL_AREA_UM2 / GRID_UM**2
    maps = np.empty((len(HEX_PANEL), *shape), np.float32)
    for k in range(len(HEX_PANEL)):
        summed = np.bincount(where, tissue.proteins[:, k] * weight, minlength=shape[0] * shape[1]).reshape(shape)
        maps[k] = ndimage.uniform_filter(summed.astype(np.float32), 3, mode="constant")
    return maps


def box_means(maps: NDArray[np.float32], x0: NDArray[np.float64], y0: NDArray[np.float64], side: float) -> NDArray[np.float32]:
    """(n, channels) means over squares (um), exact for squares that cut map cells; squares are cropped to the slide."""
    rows, cols = maps.shape[1:]
    left, right = (np.clip(v / GRID_UM, 0, cols) for v in (x0, x0 + side))
    top, bottom = (np.clip(v / GRID_UM, 0, rows) for v in (y0, y0 + side))
    area = np.maximum((right - left) * (bottom - top), 1e-6)
    values = np.empty((len(x0), len(maps)), np.float32)
    for k, image in enumerate(maps):
        integral = np.zeros((rows + 1, cols + 1))
        integral[1:, 1:] = image.astype(np.float64).cumsum(0).cumsum(1)
        corners = ((bottom, right), (top, right), (bottom, left), (top, left))
        b = [ndimage.map_coordinates(integral, np.stack(c), order=1, mode="nearest") for c in corners]
        values[:, k] = (b[0] - b[1] - b[2] + b[3]) / area
    return values


def _tile_means(tissue: Tissue, x0: NDArray[np.float64], y0: NDArray[np.float64], side_um: float) -> NDArray[np.float32]:
    return box_means(protein_density(tissue), x0, y0, side_um)


@lru_cache(maxsize=4)
def channel_scale(config: SimulatorConfig) -> NDArray[np.float32]:
    """(40,) 99th percentile of the tile means of eight reference tissues: the "p99_global" scaling of HEX spec 1.2.

    The reference tissues have fixed seeds and half the width of the configured slide (at least 512 um), so that one
    scale serves every patient and slides stay comparable.
    """
    side_px = int(max(512.0, config.size_um / 2) / config.mpp)
    small = config.model_copy(update={"size_px": side_px})
    means = []
    for k in range(8):
        tissue = simulate_tissue(np.random.default_rng([977, k]), small)
        corners = np.arange(0, tissue.size_um - REFERENCE_TILE_UM, REFERENCE_TILE_UM)
        y0, x0 = (v.ravel() for v in np.meshgrid(corners, corners, indexing="ij"))
        means.append(_tile_means(tissue, x0, y0, REFERENCE_TILE_UM))
    scale: NDArray[np.float32] = np.maximum(np.percentile(np.concatenate(means), 99, axis=0), 1e-3).astype(np.float32)
    return scale


def tile_labels(tissue: Tissue, grid: TileGrid, config: SimulatorConfig | None = None) -> TileLabels:
    """Mean protein intensity per tile as an assay would give it: scaled to 0..1 by channel_scale, with measurement noise.

    Noise: a gain per channel and slide, a relative error per tile, and a small offset; drawn from the tissue's seed, so
    the same tissue and grid give the same labels. ValueError where the grid's mpp is not the tissue's.
    """
    config = config or SimulatorConfig(size_px=tissue.size_px, mpp=tissue.mpp)
    values = measured(tile_amounts(tissue, grid, config), np.random.default_rng([tissue.seed, 11]), config.label_noise)
    return TileLabels(values, HEX_PANEL, grid)


def tile_amounts(tissue: Tissue, grid: TileGrid, config: SimulatorConfig) -> NDArray[np.float64]:
    """(n, 40) what there really is in each tile, in the unit of channel_scale: no noise, not clipped. ValueError for another mpp."""
    if abs(grid.mpp - tissue.mpp) > 1e-3 * tissue.mpp:
        raise ValueError(f"The grid has {grid.mpp} um per px and the tissue {tissue.mpp}; make the grid on this tissue's slide.")
    xy = grid.xy.astype(np.float64) * grid.mpp
    amounts: NDArray[np.float64] = _tile_means(tissue, xy[:, 0], xy[:, 1], grid.tile_um) / channel_scale(config)
    return amounts


def measured(amounts: NDArray[np.float64], rng: np.random.Generator, noise: float) -> NDArray[np.float32]:
    """(n, p) amounts of one slide -> (n, p) float32 in 0..1 as the assay reads them; noise: log sd of a tile's relative error."""
    gain = np.exp(rng.normal(0, noise / 2, amounts.shape[1]))
    values = amounts * gain * np.exp(rng.normal(0, noise, amounts.shape)) + rng.normal(0, 0.1 * noise, amounts.shape)
    return np.clip(values, 0, 1).astype(np.float32)
