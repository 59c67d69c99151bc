"""Bags for MICA without pictures: H&E features, measured and virtual proteins, and survival of known hazard, in one of three worlds.

Tissue and proteins are the simulator's. The features stand for an encoder: a fixed random network over what a picture would show
of a tile (nuclei by look, not by type; their size; necrosis, airspace, glass), moved by the slide's stain and by noise. Virtual
proteins are real predictions: a ridge on the features of other simulated patients with their measured proteins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.evaluate import columns_r
from ml.hex.group_ridge import GroupRidge, group_ridge
from ml.hex.panel import HEX_PANEL
from ml.simulate.assay import box_means, measured, tile_amounts
from ml.simulate.biology import Tissue, simulate_tissue
from ml.simulate.cohort import stream
from ml.simulate.config import SimulatorConfig
from ml.simulate.niches import NECROSIS, NORMAL, TLS
from ml.simulate.programmes import CELL_TYPES
from ml.simulate.rendering import BODIES, LOOKS
from ml.simulate.worlds import World, hidden_amounts, hidden_markers, neighbours, tissue_grid
from ml.types import TileGrid

F32, F64 = NDArray[np.float32], NDArray[np.float64]
FEATURES = 64
REFERENCE_START = 100_000  # indices of the reference patients: nobody of the cohort
# What the log hazard is made of: means over the tissue's tiles, and of products of two proteins in a tile (they lie together), with signs.
# The first three are of proteins that the mixed world shows, the others of proteins that it hides.
DRIVERS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("CD66b",), 1.0),
    (("CD138",), -1.0),
    (("CD45", "Pan-Cytokeratin"), -1.0),
    (("CD20",), -1.0),
    (("FAP",), 1.0),
    (("CD8", "E-cadherin"), -1.0),
)
LIMIT_SD = 2.5  # a driver counts up to this far from its mean, so that no patient decides alone
HAZARD_SD = 1.4
SUMMARY = ("mean", "sd", "5%", "25%", "50%", "75%", "95%", "share above the reference median", "correlation with the next tile")


@dataclass(frozen=True)
class SimulatedBag:
    """One patient.

    he: (M, 64) float32 features per tile. measured, virtual: (M, 40) float32 proteins per tile, 0..1 (virtual may leave it).
    codex_measured, codex_virtual: (40, 360) float32, `map_tokens` of them, in units of the reference's measured maps. xy_um: (M, 2) corners
    of the tiles. log_hazard: true, mean 0 and sd 1.4 over the reference patients. time: days; event: death seen.
    """

    patient: str
    he: F32
    measured: F32
    virtual: F32
    codex_measured: F32
    codex_virtual: F32
    xy_um: F64
    log_hazard: float
    time: float
    event: bool


@dataclass(frozen=True)
class _Biology:
    """What is the same in all worlds: (M, c) what a picture shows, (M, 40) true amounts and those of the hidden proteins."""

    index: int
    seed: int
    grid: TileGrid
    shown: F64
    amounts: F64
    hidden: F64


def simulate_bags(n: int = 400, world: World = "visible", seed: int = 0, reference: int = 80, size_px: int = 1280) -> list[SimulatedBag]:
    """n patients; everything depends on the arguments alone, and the tissue, its features and the streams of survival not on the world.

    reference: patients on whom the virtual proteins are fitted and the units of the hazard measured; never part of the answer.
    """
    people, others = biology(n, seed, 0, size_px), biology(reference, seed, REFERENCE_START, size_px)
    noise = SimulatorConfig().label_noise
    truth, other_truth = [_amounts(b, world) for b in people], [_amounts(b, world) for b in others]
    seen = [_measured(b, a, noise) for b, a in zip(people, truth)]
    other_seen = [_measured(b, a, noise) for b, a in zip(others, other_truth)]
    features, other_features = _features(people, others), _features(others, others)
    owner = np.repeat(np.arange(reference), [len(b.grid) for b in others])
    ridge = group_ridge(np.concatenate(other_features), np.concatenate(other_seen), owner)
    unit = TokenUnit.of(other_seen, [b.grid for b in others])
    hazards = _hazards(truth, other_truth)
    return [_bag(b, f, m, ridge, unit, float(h)) for b, f, m, h in zip(people, features, seen, hazards)]


def _bag(b: _Biology, he: F32, seen: F32, ridge: GroupRidge, unit: TokenUnit, hazard: float) -> SimulatedBag:
    virtual = ridge.predict(he).astype(np.float32)
    time, event = _survival(stream(b.seed, b.index, "bag survival"), hazard)
    codex_measured, codex_virtual = (map_tokens(values, b.grid, unit) for values in (seen, virtual))
    place = b.grid.xy * b.grid.mpp
    return SimulatedBag(f"SIM-{b.seed}-{b.index:04d}", he, seen, virtual, codex_measured, codex_virtual, place, hazard, time, event)


@lru_cache(maxsize=4)
def biology(n: int, seed: int, start: int, size_px: int) -> tuple[_Biology, ...]:
    """Tissue of n patients from index `start`, kept because the worlds share it."""
    config = SimulatorConfig(size_px=size_px)
    return tuple(_draw(index, seed, config) for index in range(start, start + n))


def _draw(index: int, seed: int, config: SimulatorConfig) -> _Biology:
    tissue = simulate_tissue(stream(seed, index, "bag biology"), config)
    grid = tissue_grid(tissue)
    hidden = hidden_amounts(config, grid, HEX_PANEL, seed, seed, index)
    return _Biology(index, seed, grid, _shown(tissue, grid), tile_amounts(tissue, grid, config), hidden)


def _shown(tissue: Tissue, grid: TileGrid) -> F64:
    """(M, c) what a picture shows of each tile: nuclei per look and body, their mean size, area that is glass, dead, airspace, lymphoid."""
    looks = [(LOOKS.get(name, "lymphoid"), name in BODIES) for name in CELL_TYPES]
    kinds = sorted(set(looks))
    kind = np.array([kinds.index(look) for look in looks])[tissue.cells.kind]
    side = grid.tile_um
    corner = np.stack([tissue.cells.x_um, tissue.cells.y_um], 1) // side
    columns = int(tissue.size_um // side) + 2
    where = (corner[:, 1] * columns + corner[:, 0]).astype(int)
    tile = (np.rint(grid.xy / grid.tile_px0) @ [1, columns]).astype(int)
    size = columns**2
    counts = np.stack([np.bincount(where[kind == k], minlength=size)[tile] for k in range(len(kinds))], 1).astype(float)
    nuclei = np.bincount(where, minlength=size)[tile]
    major = np.bincount(where, tissue.cells.major_um, minlength=size)[tile] / np.maximum(nuclei, 1)
    areas = np.stack([tissue.niche_map == niche for niche in (0, NECROSIS, NORMAL, TLS)]).astype(np.float32)
    share = box_means(areas, grid.xy[:, 0] * grid.mpp, grid.xy[:, 1] * grid.mpp, side)
    return np.concatenate([np.sqrt(counts), major[:, None], share], axis=1)


def _amounts(b: _Biology, world: World) -> F64:
    columns = [HEX_PANEL.index(m) for m in hidden_markers(world)]
    amounts = b.amounts.copy()
    amounts[:, columns] = b.hidden[:, columns]
    return amounts


def _measured(b: _Biology, amounts: F64, noise: float) -> F32:
    return measured(amounts, stream(b.seed, b.index, "bag assay"), noise)


def _features(people: tuple[_Biology, ...], others: tuple[_Biology, ...]) -> list[F32]:
    """(M, 64) per patient: two fixed random layers over what is shown in units of the others, a shift per slide (stain), noise per tile."""
    pool = np.concatenate([b.shown for b in others])
    mean, sd = pool.mean(axis=0), np.maximum(pool.std(axis=0), 1e-6)
    law = np.random.default_rng(4711)
    first = law.normal(0, 1, (len(mean), 128)) / np.sqrt(len(mean))
    second = law.normal(0, 1, (128, FEATURES)) / np.sqrt(128)
    bias, stains = law.normal(0, 0.5, 128), law.normal(0, 1, (4, FEATURES))
    out = []
    for b in people:
        rng = stream(b.seed, b.index, "bag picture")
        clean = np.tanh(1.5 * (b.shown - mean) / sd @ first + bias) @ second
        out.append((clean + 0.15 * rng.normal(0, 1, 4) @ stains + rng.normal(0, 0.25, clean.shape)).astype(np.float32))
    return out


def _drivers(amounts: list[F64]) -> F64:
    """(n, drivers) means over tiles of the proteins, or of the products of two."""
    columns = [[HEX_PANEL.index(m) for m in names] for names, _ in DRIVERS]
    return np.array([[a[:, c].prod(axis=1).mean() for c in columns] for a in amounts])


def _hazards(truth: list[F64], other_truth: list[F64]) -> F64:
    """(n,) log hazard: logs of the drivers in reference sds, cut at LIMIT_SD, summed with signs; both halves weigh the same."""
    pool, signs = np.log(_drivers(other_truth) + 1e-3), np.array([sign for _, sign in DRIVERS])
    mean, sd = pool.mean(axis=0), np.maximum(pool.std(axis=0), 1e-9)

    def halves(drivers: F64) -> F64:
        parts = np.clip((np.log(drivers + 1e-3) - mean) / sd, -LIMIT_SD, LIMIT_SD) * signs
        return np.stack([parts[:, :3].sum(axis=1), parts[:, 3:].sum(axis=1)], axis=1)

    own = halves(_drivers(other_truth))
    total = (own / own.std(axis=0)).sum(axis=1)
    return ((halves(_drivers(truth)) / own.std(axis=0)).sum(axis=1) - total.mean()) / total.std() * HAZARD_SD


def _survival(rng: np.random.Generator, hazard: float) -> tuple[float, bool]:
    """Weibull proportional hazards, median 1,200 days at log hazard 0; follow-up ends between 1 and 5 years: about half are seen to die."""
    death = 1200 * (rng.exponential() / (np.log(2) * np.exp(hazard))) ** (1 / 1.15)
    end = rng.uniform(365.25, 5 * 365.25)
    return float(max(round(min(death, end)), 1)), bool(death <= end)


@dataclass(frozen=True)
class TokenUnit:
    """median: (P,) of the reference's measured tiles. mean, sd: (P, 9) of its slides' summaries."""

    median: F64
    mean: F64
    sd: F64

    @classmethod
    def of(cls, maps: list[F32], grids: list[TileGrid]) -> TokenUnit:
        """From the reference patients' maps, each (M, P)."""
        median = np.median(np.concatenate(maps), axis=0)
        each = np.stack([summary(values, grid, median) for values, grid in zip(maps, grids)])
        return cls(median, each.mean(axis=0), np.maximum(each.std(axis=0), 1e-3))


def map_tokens(values: NDArray[Any], grid: TileGrid, unit: TokenUnit) -> F32:
    """(M, P) protein map -> (P, P * 9) float32 tokens, one per marker: its nine numbers in the marker's own slot, zeros elsewhere.

    They stand for the vectors of an image encoder. The slot tells the network, which knows no position, whose token it is. Numbers count
    up to five reference deviations.
    """
    markers = values.shape[1]
    tokens = np.zeros((markers, markers, len(SUMMARY)), np.float32)
    tokens[np.arange(markers), np.arange(markers)] = np.clip((summary(values, grid, unit.median) - unit.mean) / unit.sd, -5, 5)
    return tokens.reshape(markers, -1)


def summary(values: NDArray[Any], grid: TileGrid, median: F64) -> F64:
    """(P, 9) the numbers of SUMMARY of each marker's map (M, P)."""
    values = np.asarray(values, np.float64)
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    above = (values > median).mean(axis=0)
    return np.stack([values.mean(axis=0), values.std(axis=0), *quantiles, above, _neighbour_r(values, grid)], axis=1)


def _neighbour_r(values: F64, grid: TileGrid) -> F64:
    """(P,) correlation of a tile with the one to its right or below; 0 where nothing varies or too few lie so."""
    one, two = neighbours(grid, 1)
    return columns_r(values[one], values[two]) if len(one) > 10 else np.zeros(values.shape[1])
