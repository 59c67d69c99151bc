"""Three worlds with known truth: the proteins can be seen in H&E, half of them can, or none can.

What H&E shows is what the simulator paints. A protein that it does not show has the amounts, within a slide and between slides, of
another tissue that was never painted, laid out by a smooth random field of its own: same marginal law, similar correlation between
neighbouring tiles, and nothing to do with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.hex.evaluate import columns_r
from ml.hex.panel import HEX_PANEL
from ml.simulate.assay import box_means, measured, tile_amounts
from ml.simulate.biology import Tissue, simulate_tissue
from ml.simulate.cohort import SimulatedPatient, stream
from ml.simulate.config import SimulatorConfig
from ml.types import TileGrid

World = Literal["visible", "mixed", "invisible"]
# A field on a hundred tiles correlates less than its law says, since the slide's mean is taken away: fields of these higher laws are tried.
SHORT_OF = (0.04, 0.14, 0.26)
WORLDS: tuple[World, ...] = ("visible", "mixed", "invisible")
F64 = NDArray[np.float64]


def hidden_markers(world: World) -> tuple[str, ...]:
    """Names of the HEX panel that H&E does not show in this world: none, every second (CD8, CD3e, CD20, FAP, ...), or all."""
    if world not in WORLDS:
        raise KeyError(f"There is no world {world!r}; there are {', '.join(WORLDS)}.")
    return {"visible": (), "mixed": HEX_PANEL[1::2], "invisible": HEX_PANEL}[world]


def tissue_grid(tissue: Tissue, tile_um: float = 56.0, least: float = 0.5) -> TileGrid:
    """Tiles side by side over the slide, those with at least `least` of tissue."""
    side = tile_um / tissue.mpp
    corners = np.rint(np.arange(int(tissue.size_px // side)) * side).astype(np.int64)
    xy = np.array([(x, y) for y in corners for x in corners], np.int64)
    inside = (tissue.niche_map > 0).astype(np.float32)[None]
    share = box_means(inside, xy[:, 0] * tissue.mpp, xy[:, 1] * tissue.mpp, tile_um)[:, 0]
    keep = share >= least
    return TileGrid(xy[keep], side, tissue.mpp, (tissue.size_px, tissue.size_px), share[keep])


def world_labels(patient: SimulatedPatient, grid: TileGrid, world: World, seed: int) -> NDArray[np.float32]:
    """(n, 40) float32 in 0..1: what the assay reads on the grid's tiles in this world.

    A visible protein is that of `tile_labels`. seed: of the hidden proteins; each patient and marker has a stream of its own.
    """
    amounts = world_amounts(patient, grid, world, seed)
    return measured(amounts, np.random.default_rng([patient.tissue.seed, 11]), patient.config.label_noise)


def world_amounts(patient: SimulatedPatient, grid: TileGrid, world: World, seed: int) -> F64:
    """(n, 40) the truth behind `world_labels`: no noise, not clipped."""
    amounts = tile_amounts(patient.tissue, grid, patient.config)
    hidden = hidden_markers(world)
    if hidden:
        columns = [HEX_PANEL.index(m) for m in hidden]
        amounts[:, columns] = hidden_amounts(patient.config, grid, hidden, seed, patient.seed, patient.index)
    return amounts


def hidden_amounts(config: SimulatorConfig, grid: TileGrid, markers: Sequence[str], seed: int, cohort: int, index: int) -> F64:
    """(n, len(markers)) amounts of patient `index` of `cohort` that have nothing to do with her picture.

    Each marker: the Gaussian field, of several, whose ranks on the grid's tiles correlate over one and two tiles' distance most nearly as
    the donor's own amounts do, given the donor's quantiles. The donor is another tissue of the same law.
    """
    donor = simulate_tissue(stream(seed, index, "donor", str(cohort)), config)
    donor_grid = tissue_grid(donor, grid.tile_um)
    given = tile_amounts(donor, donor_grid, config)
    like = _correlations(given, donor_grid)
    out = np.empty((len(grid), len(markers)))
    for k, marker in enumerate(markers):
        column = HEX_PANEL.index(marker)
        rng = stream(seed, index, "hidden", str(cohort), marker)
        ranks = _ranks(np.stack([_field(rng, grid, *(like[:, column] + more)) for more in SHORT_OF], axis=1))
        miss = np.abs(_correlations(ranks, grid) - like[:, column, None]).sum(axis=0)
        out[:, k] = np.quantile(given[:, column], (ranks[:, int(np.argmin(miss))] + 0.5) / len(grid))
    return out


def _ranks(values: F64) -> NDArray[np.int64]:
    return np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0, kind="stable")


def neighbours(grid: TileGrid, lag: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the pairs of tiles that lie `lag` tiles apart along a row or a column."""
    col, row = np.rint(grid.xy / grid.tile_px0).astype(int).T
    at = np.full((row.max() + 3, col.max() + 3), -1)
    at[row, col] = np.arange(len(grid))
    one = np.concatenate([at[lag:].ravel(), at[:, lag:].ravel()])
    two = np.concatenate([at[:-lag].ravel(), at[:, :-lag].ravel()])
    both = (one >= 0) & (two >= 0)
    return one[both], two[both]


def _correlations(values: NDArray[Any], grid: TileGrid) -> F64:
    """(2, P) correlation of the ranks of tiles one and two steps apart; 0.3 and 0.1 where too few lie so."""
    ranks = _ranks(values)
    found = []
    for lag, otherwise in ((1, 0.3), (2, 0.1)):
        one, two = neighbours(grid, lag)
        found.append(columns_r(ranks[one], ranks[two]) if len(one) > 10 else np.full(ranks.shape[1], otherwise))
    return np.stack(found)


def _field(rng: np.random.Generator, grid: TileGrid, near: float, far: float) -> F64:
    """(n,) Gaussian field plus white noise on the tiles, with these correlations at one and two tiles' distance as far as it can have them.

    White noise smoothed with sd s has correlation exp(-d^2 / 4 s^2) at distance d; the share of the smooth part follows from `near`.
    """
    near = float(np.clip(near, 0.02, 0.97))
    far = float(np.clip(far, 0.01, 0.95 * near))
    spread = np.sqrt(3 / (4 * np.log(near / far)))
    share = min(near * np.exp(1 / (4 * spread**2)), 1.0)
    place = grid.xy[:, ::-1].T / grid.tile_px0
    margin = int(np.ceil(3 * spread)) + 1
    white = rng.standard_normal([int(v) + 2 + 2 * margin for v in place.max(axis=1)])
    smooth = ndimage.gaussian_filter(white, spread, truncate=3.0) * 2 * np.sqrt(np.pi) * spread
    smooth = ndimage.map_coordinates(smooth, place + margin, order=1)
    return np.asarray(np.sqrt(share) * smooth + np.sqrt(1 - share) * rng.standard_normal(len(grid)))
