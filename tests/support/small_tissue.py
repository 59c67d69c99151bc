"""Real files for a hand-made cohort, in the store of the test run: slides that open, a virtual map, a niche model. Written once per run."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ml.simulate.write import write_pyramid
from ml.slides.map_files import write_map
from ml.transport.config import NicheConfig
from ml.transport.niches import NicheModel, all_niches, fit, summarise, vectors
from ml.types import NicheSet, TileGrid, VirtualMap
from tissueboard.store import store

MPP, TILE_UM, SIDE = 0.5, 56.0, 1120
PANEL = ("CD8", "Pan-Cytokeratin", "CD68", "Mac2/Galectin-3")
TILE_PX0 = TILE_UM / MPP


@dataclass(frozen=True)
class Tissue:
    """One slide with what models gave about it; keys and checksums in the store."""

    slide_key: str
    slide_sha256: str
    map_key: str
    map_sha256: str
    map_facts: dict[str, Any]
    niches: NicheSet
    proteins: list[dict[str, float]]


@dataclass(frozen=True)
class SmallWorld:
    tissues: list[Tissue]
    niche_key: str
    niche_sha256: str


def _grid() -> TileGrid:
    steps = np.arange(int(SIDE // TILE_PX0)) * int(TILE_PX0)
    xy = np.array([[x, y] for y in steps for x in steps], dtype=np.int64)
    return TileGrid(xy, TILE_PX0, MPP, (SIDE, SIDE), np.ones(len(xy), np.float32))


def _picture(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    inside = ((x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2) < (0.45 * SIDE) ** 2
    picture = np.full((SIDE, SIDE, 3), (240, 238, 241), np.uint8)
    picture[inside] = (220, 150, 190)
    picture[inside & (rng.random((SIDE, SIDE)) < 0.03)] = (90, 50, 130)
    return picture


def _tissue(index: int, grid: TileGrid, proteins: np.ndarray, model: NicheModel, niches: Any, rng: np.random.Generator) -> Tissue:
    slide_key, map_key = f"small/slide-{index}.tif", f"small/map-{index}.ome.zarr"
    temp = store.new_temp(".tif")
    write_pyramid(temp, _picture(rng), MPP)
    slide_sha = store.save(temp, slide_key)
    n = int(len(grid) ** 0.5)
    values = proteins.T.reshape(len(PANEL), n, n).astype(np.float32)
    values[:, 0, 0] = np.nan
    far = np.full((n, n), 0.5, np.float32)
    far[-1, -1] = 1.5
    virtual = VirtualMap(values, PANEL, TILE_UM, (0.0, 0.0), TILE_PX0, effective_resolution_um=112.0, out_of_range=far)
    temp = store.new_temp(".zarr")
    write_map(temp, virtual, MPP)
    map_sha = store.save(temp, map_key)
    facts = {
        "names": list(PANEL),
        "pitch_um": TILE_UM,
        "effective_resolution_um": 112.0,
        "rows": n,
        "cols": n,
        "origin_px0": [0.0, 0.0],
        "step_px0": TILE_PX0,
        "out_of_range_share": 1 / n**2,
        "out_of_range_median": 0.5,
        "n_tiles": len(grid),
        "unit": virtual.unit,
    }
    chosen = summarise(vectors(model, niches), niches.boxes, model.config)
    by_box = {tuple(box): row for row, box in enumerate(niches.boxes.tolist())}
    means = [dict(zip(PANEL, map(float, niches.protein_mean[by_box[tuple(box)]]))) for box in chosen.boxes.tolist()]
    return Tissue(slide_key, slide_sha, map_key, map_sha, facts, chosen, means)


def small_world(n: int = 4) -> SmallWorld:
    """n tissues of 560 um with maps of four markers, and the niche model fitted on them; made again where a test took files away."""
    world = _small_world(n)
    if not all(store.exists(key) for tissue in world.tissues for key in (tissue.slide_key, tissue.map_key)):
        _small_world.cache_clear()
        world = _small_world(n)
    return world


@lru_cache(maxsize=1)
def _small_world(n: int) -> SmallWorld:
    rng = np.random.default_rng(7)
    grid, config = _grid(), NicheConfig(max_medoids=4)
    proteins = [rng.random((len(grid), len(PANEL))).astype(np.float32) * (1 + i) / n for i in range(n)]
    niches = [all_niches(grid, p, rng.random((len(grid), 3)).astype(np.float32), config) for p in proteins]
    model = fit(niches, config)
    folder = store.new_temp()
    folder.mkdir(parents=True)
    (folder / "niche.json").write_text(json.dumps({"model": model.to_json(), "within_tumour": [0.5, 1.0, 2.0, 4.0]}))
    sha = store.save(folder, "small/niche")
    tissues = [_tissue(i, grid, p, model, k, rng) for i, (p, k) in enumerate(zip(proteins, niches))]
    return SmallWorld(tissues, "small/niche", sha)
