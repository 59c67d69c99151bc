"""Multiplex images with known truth: a field of the simulator's tissue, its cells as labels, and what an assay counts per channel and px.

Biology is `simulate_tissue`'s; what the laboratory does comes from streams of its own (`multiplex_assay`). 1 um per px throughout.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from ml.simulate import textures as tx
from ml.simulate.assay import niche_fractions
from ml.simulate.biology import Cells, Tissue, simulate_tissue
from ml.simulate.config import Composition, SimulatorConfig
from ml.simulate.multiplex_assay import Pathologies, assay_law, measure
from ml.simulate.multiplex_panel import Marker, marker_levels, panel_markers
from ml.simulate.niches import GRID_UM, MARGIN, NECROSIS, STROMA
from ml.simulate.programmes import CELL_TYPES, CODE

F32, I32 = NDArray[np.float32], NDArray[np.int32]
MPP = 1.0
REACH_UM = 2.5  # a cell's body reaches this far beyond its nucleus
WIDE_UM = {"tumour": 3.5, "macrophage": 4.0, "pneumocyte": 3.0}
BLEED_UM = 3.0
HALF = 14  # half side in px of the window in which a nucleus is painted
# share of the full amount in the nucleus, in the rim of the body, and between the two
SHARES = {"nucleus": (1.0, 0.06, 0.06), "membrane": (0.25, 1.0, 0.5), "cytoplasm": (0.3, 0.8, 1.0), "matrix": (0.1, 0.4, 0.3)}


class MultiplexConfig(BaseModel):
    """What a simulated multiplex image is like. Frozen, so that it can key a cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int = Field(default=512, ge=128, le=4096, multiple_of=4, description="width and height of the image, px of 1 um")
    panel: str = Field(default="broad", description="a key of PANELS: broad (20 markers), lymphoid (16), stroma (14)")
    site: int = Field(default=0, ge=0, description="number of the laboratory")
    batch: int = Field(default=0, ge=0, description="number of the batch in that laboratory")
    laboratories: int = Field(default=0, ge=0, description="another number gives other laboratories")
    counts: float = Field(default=0.45, gt=0, description="factor of every marker's counts")
    cut_sd: float = Field(default=0.35, ge=0, description="log sd of how much of a cell lies in the section: all its channels alike")
    cell_sd: float = Field(default=0.5, ge=0, description="log sd of a cell's signal in one channel, beside its protein level")
    bleed: float = Field(
        default=0.3, ge=0, le=0.9, description="share of the signal that is spread by BLEED_UM, from cells above and below"
    )
    site_sd: float = Field(default=0.25, ge=0, description="log sd of a channel's gain between laboratories")
    batch_sd: float = Field(default=0.12, ge=0, description="log sd of a channel's gain between batches of one laboratory")
    image_sd: float = Field(default=0.08, ge=0, description="log sd of a channel's gain between images of one batch")
    background: float = Field(default=0.25, ge=0, description="counts per px without antigen")
    background_sd: float = Field(default=0.25, ge=0, description="log sd of a channel's background between laboratories")
    spillover: float = Field(
        default=0.05, ge=0, le=0.5, description="greatest share of a channel's signal read in its neighbour, per batch"
    )
    hot: float = Field(default=2e-5, ge=0, le=0.01, description="share of px with a burst of counts")
    composition: Composition = Composition()

    @property
    def slide(self) -> SimulatorConfig:
        """The tissue that fields are cut from: three fields wide, at least 640 um."""
        return SimulatorConfig(size_px=max(640, 3 * self.size_px), mpp=MPP, composition=self.composition)

    @property
    def pathologies(self) -> Pathologies:
        """The strengths of what the laboratory does."""
        return Pathologies(self.site_sd, self.batch_sd, self.image_sd, self.background, self.background_sd, self.spillover, self.hot)


@dataclass(frozen=True)
class CellTable:
    """One row per cell that is visible in the mask, ids ascending. id: (n,) int32 label. kind: (n,) uint8, index into CELL_TYPES.
    niche: (n,) uint8, index into NICHES. x_um, y_um: (n,) float32, centroid of its px, um from the image's top-left corner."""

    id: I32
    kind: NDArray[np.uint8]
    niche: NDArray[np.uint8]
    x_um: F32
    y_um: F32

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class SimulatedMultiplex:
    """image: (C, H, W) float32 whole counts at 1 um per px; markers: C, in order. mask: (H, W) int32, 0 outside of cells, ids with gaps.
    niche_map: (H, W) uint8, index into NICHES. tissue: the field's truth. site, batch: who measured it."""

    image: F32
    markers: tuple[Marker, ...]
    mask: I32
    cells: CellTable
    niche_map: NDArray[np.uint8]
    tissue: Tissue
    site: int
    batch: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(m.name for m in self.markers)

    @property
    def uniprot(self) -> tuple[str, ...]:
        """UniProt accessions of the channels."""
        return tuple(m.uniprot for m in self.markers)

    @property
    def tissue_mask(self) -> NDArray[np.bool_]:
        """(H, W) bool."""
        return self.niche_map > 0

    @property
    def composition(self) -> dict[str, float]:
        """True share of the tissue area per niche."""
        return niche_fractions(self.tissue)


def crop_tissue(tissue: Tissue, x_um: float, y_um: float, size_px: int) -> Tissue:
    """The square field of `size_px` whose corner is at (x_um, y_um), a tissue of its own.

    ValueError where the field leaves the tissue's slide or its corner or side is not a multiple of GRID_UM.
    """
    side = size_px * tissue.mpp
    if any(v % GRID_UM for v in (x_um, y_um, side)):
        raise ValueError(f"A field's corner and side are multiples of {GRID_UM:g} um, not ({x_um}, {y_um}), {side}.")
    if min(x_um, y_um) < 0 or max(x_um, y_um) + side > tissue.niche_map.shape[0] * GRID_UM:
        raise ValueError(f"A field of {side:g} um at ({x_um}, {y_um}) leaves a slide of {tissue.size_um:g} um.")
    left, top, n = (int(v // GRID_UM) for v in (x_um, y_um, side))
    arch, cells = tissue.architecture, tissue.cells
    maps = ("labels", "outline", "epithelium", "lumen", "flow", "lymphoid", "hypoxia")
    parts = {name: getattr(arch, name)[top : top + n, left : left + n] for name in maps}
    vessels = tuple(
        replace(v, x_um=v.x_um - x_um, y_um=v.y_um - y_um)
        for v in arch.vessels
        if x_um <= v.x_um < x_um + side and y_um <= v.y_um < y_um + side
    )
    x, y = cells.x_um - np.float32(x_um), cells.y_um - np.float32(y_um)
    keep = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    columns = (x, y, cells.kind, cells.niche, cells.angle, cells.major_um, cells.minor_um)
    return replace(
        tissue,
        architecture=replace(arch, **parts, vessels=vessels),
        cells=Cells(*(c[keep] for c in columns)),  # type: ignore[arg-type]
        proteins=tissue.proteins[keep],
        size_px=size_px,
    )


def choose_fields(tissue: Tissue, size_px: int, n: int, rng: np.random.Generator, least: float = 0.7) -> list[tuple[float, float]]:
    """Corners (x, y) in um of up to n fields that do not overlap, drawn among those with `least` of tissue; never none: the fullest field
    is taken where no field has as much."""
    side, size = int(size_px * tissue.mpp / GRID_UM), tissue.niche_map.shape[0]
    step = max(1, side // 16)
    total = np.zeros((size + 1, size + 1))
    total[1:, 1:] = (tissue.niche_map > 0).astype(float).cumsum(0).cumsum(1)
    corner = np.arange(0, size - side + 1, step)
    rows, cols = (v.ravel() for v in np.meshgrid(corner, corner, indexing="ij"))
    share = (total[rows + side, cols + side] - total[rows, cols + side] - total[rows + side, cols] + total[rows, cols]) / side**2
    good = np.flatnonzero(share >= least)
    chosen: list[int] = []
    for k in rng.permutation(good if len(good) else [int(share.argmax())]):
        if len(chosen) < n and all(max(abs(rows[k] - rows[j]), abs(cols[k] - cols[j])) >= side for j in chosen):
            chosen.append(int(k))
    return [(float(cols[k] * GRID_UM), float(rows[k] * GRID_UM)) for k in chosen]


def simulate_multiplex(config: MultiplexConfig | None = None, seed: int = 0) -> SimulatedMultiplex:
    """One image of one tissue. The tissue depends on the seed (and composition and size) alone, not on panel, site or batch. KeyError for
    an unknown panel."""
    config = config or MultiplexConfig()
    tissue = simulate_tissue(np.random.default_rng([seed, 1]), config.slide)
    field = choose_fields(tissue, config.size_px, 1, np.random.default_rng([seed, 2]))[0]
    return image_field(crop_tissue(tissue, *field, config.size_px), config, np.random.default_rng([seed, 3]))


def image_field(tissue: Tissue, config: MultiplexConfig, rng: np.random.Generator) -> SimulatedMultiplex:
    """What the laboratory of `config` measures on a field. Labels come from the tissue's seed: every laboratory has the same."""
    markers = panel_markers(config.panel)
    niche_map = np.repeat(np.repeat(tissue.niche_map, int(GRID_UM), 0), int(GRID_UM), 1)
    nucleus, body = paint_cells(tissue)
    amounts = _amounts(tissue, markers, nucleus, body, config)
    law = assay_law(markers, config.site, config.batch, rng, config.pathologies, config.laboratories)
    ground = np.where(niche_map > 0, 1.0, 0.3) + 0.8 * (niche_map == NECROSIS)
    image = measure(amounts, ndimage.uniform_filter(ground.astype(np.float32), 9), law, rng)
    mask, table = _label(tissue, body)
    return SimulatedMultiplex(image, markers, mask, table, niche_map, tissue, config.site, config.batch)


def paint_cells(tissue: Tissue) -> tuple[I32, I32]:
    """Nuclei and bodies, each (H, W) int32: row of the cell + 1, 0 where there is none.

    Where nuclei overlap, the nearer in units of its own axes wins; a body is what lies nearest to its nucleus, up to its reach.
    """
    cells, size = tissue.cells, tissue.size_px
    offset = np.arange(-HALF, HALF + 1)
    px, py = cells.x_um.astype(int), cells.y_um.astype(int)
    cols, rows = px[:, None] + offset, py[:, None] + offset
    dx = (cols + np.float32(0.5) - cells.x_um[:, None])[:, None, :]
    dy = (rows + np.float32(0.5) - cells.y_um[:, None])[:, :, None]
    c, s = (f(cells.angle)[:, None, None].astype(np.float32) for f in (np.cos, np.sin))
    radius = ((dx * c + dy * s) * (2 / cells.major_um)[:, None, None]) ** 2
    radius += ((dy * c - dx * s) * (2 / np.maximum(cells.minor_um, 2.0))[:, None, None]) ** 2
    cell, i, j = np.nonzero(radius <= 1)
    y, x, near = rows[cell, i], cols[cell, j], radius[cell, i, j]
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    cell, y, x, near = cell[inside], y[inside], x[inside], near[inside]
    order = np.argsort(-near, kind="stable")  # of values written to one px, the last stays
    nucleus = np.zeros((size, size), np.int32)
    nucleus[y[order], x[order]] = cell[order] + 1
    if not len(cell):
        return nucleus, nucleus.copy()
    far, (row, col) = ndimage.distance_transform_edt(nucleus == 0, return_indices=True)
    body = nucleus[row, col]
    reach = np.full(len(CELL_TYPES), REACH_UM)
    for name, um in WIDE_UM.items():
        reach[CODE[name]] = um
    body[far > reach[cells.kind][body - 1]] = 0
    return nucleus, body


def _amounts(tissue: Tissue, markers: tuple[Marker, ...], nucleus: I32, body: I32, config: MultiplexConfig) -> F32:
    """(C, H, W) float32 mean counts before the laboratory: each cell's level over its nucleus, rim and body; collagen between cells.

    How a cell is cut, and how its channels scatter, comes from the tissue's seed and the marker's name.
    """
    n = len(tissue.cells)
    cut = np.random.default_rng([tissue.seed, 19]).normal(0, config.cut_sd, n)
    levels = np.zeros((n + 1, len(markers)), np.float32)
    levels[1:] = marker_levels(tissue.proteins, markers)
    for k, marker in enumerate(markers):
        scatter = np.random.default_rng([tissue.seed, 23, zlib.crc32(marker.name.encode())]).normal(0, config.cell_sd, n)
        levels[1:, k] *= np.exp(cut + scatter) * marker.counts * config.counts
    rim = (body > 0) & ~((body == np.roll(body, 1, 0)) & (body == np.roll(body, 1, 1)) & (body == np.roll(body, -1, 0)))
    part, fibres = np.where(rim, 1, np.where(nucleus > 0, 0, 2)), _fibres(tissue)
    amounts = np.empty((len(markers), *body.shape), np.float32)
    for k, marker in enumerate(markers):
        amounts[k] = levels[body, k] * np.array(SHARES[marker.place], np.float32)[part]
        if marker.place == "matrix":
            full = np.float32(marker.counts * config.counts)
            amounts[k] += fibres * np.where(body > 0, np.float32(0.3) * full, full)
        if config.bleed:
            wide = ndimage.gaussian_filter(amounts[k], BLEED_UM / MPP, truncate=2.5)
            amounts[k] += np.float32(config.bleed) * (wide - amounts[k])
    return amounts


def _fibres(tissue: Tissue) -> F32:
    """(H, W) float32 0..1: bundles along the level lines of the flow, in stroma and margin outside of nests."""
    arch, size = tissue.architecture, tissue.size_px
    fibrous = ndimage.gaussian_filter((np.isin(arch.labels, (STROMA, MARGIN)) & (arch.epithelium < 0)).astype(np.float32), 1.0)
    tilt = tissue.seed % 628 / 100
    row, col = np.mgrid[0:size, 0:size].astype(np.float32)
    across = _enlarge(arch.flow, size).astype(int) + tissue.seed
    along = ((np.cos(tilt) * row + np.sin(tilt) * col) * 0.5).astype(int)
    bundles = tx.fibre_texture(MPP)[across & (tx.SIDE - 1), along & (tx.SIDE - 1)]
    return np.asarray(np.clip(_enlarge(fibrous, size), 0, 1) * bundles, np.float32)


def _enlarge(field: NDArray[Any], size: int) -> F32:
    image = Image.fromarray(np.ascontiguousarray(field, np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _label(tissue: Tissue, body: I32) -> tuple[I32, CellTable]:
    """Ids with gaps, in no order of place, and the table of the cells that have a px."""
    n, rng = len(tissue.cells), np.random.default_rng([tissue.seed, 17])
    ids = np.concatenate([[0], rng.permutation(np.cumsum(rng.integers(1, 4, n)))]).astype(np.int32)
    area = np.bincount(body.ravel(), minlength=n + 1)[1:]
    y, x = np.indices(body.shape, dtype=np.float32) + np.float32(0.5)
    seen = np.flatnonzero(area)
    seen = seen[np.argsort(ids[seen + 1])]
    mean = [np.bincount(body.ravel(), v.ravel(), minlength=n + 1)[1:][seen] / area[seen] for v in (x, y)]
    table = CellTable(
        ids[seen + 1], tissue.cells.kind[seen], tissue.cells.niche[seen], mean[0].astype(np.float32), mean[1].astype(np.float32)
    )
    return ids[body], table
