"""Biology: from a random stream to a tissue of niches, cells and proteins. Knows nothing of stains or survival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ml.hex.panel import HEX_PANEL
from ml.simulate.config import SimulatorConfig
from ml.simulate.niches import GRID_UM, MARGIN, NECROSIS, NORMAL, STROMA, TLS, TUMOUR_CORE, Architecture, draw_architecture
from ml.simulate.programmes import CELL_TYPES, CODE, HIDDEN, programme_matrix

F32 = NDArray[np.float32]

# Nucleus: mean long axis (um), mean short/long ratio, log sd of size.
NUCLEI: dict[str, tuple[float, float, float]] = {
    "tumour": (9.8, 0.78, 0.16),
    "fibroblast": (13.0, 0.22, 0.2),
    "myofibroblast": (14.0, 0.27, 0.18),
    "endothelial": (11.0, 0.30, 0.12),
    "follicular_dendritic": (9.5, 0.75, 0.1),
    "plasma": (7.2, 0.88, 0.08),
    "macrophage": (8.8, 0.66, 0.12),
    "dendritic": (8.8, 0.55, 0.12),
    "neutrophil": (7.0, 0.80, 0.08),
    "pneumocyte": (7.6, 0.62, 0.14),
    "ghost": (4.2, 0.80, 0.4),
}
LYMPHOCYTE_NUCLEUS = (6.6, 0.90, 0.08)


@dataclass(frozen=True)
class Cells:
    """One row per cell. x_um, y_um, angle (rad, of the long axis), major_um, minor_um (nucleus axes): (n,) float32;
    kind: (n,) uint8, index into CELL_TYPES; niche: (n,) uint8, index into NICHES."""

    x_um: F32
    y_um: F32
    kind: NDArray[np.uint8]
    niche: NDArray[np.uint8]
    angle: F32
    major_um: F32
    minor_um: F32

    def __len__(self) -> int:
        return len(self.x_um)

    def of(self, *names: str) -> NDArray[np.bool_]:
        """(n,) bool, cells of these types."""
        return np.isin(self.kind, [CODE[name] for name in names])


@dataclass(frozen=True)
class Tissue:
    """The truth of one tissue.

    proteins: (n_cells, 40) float32 >= 0 in the order of HEX_PANEL. seed: for everything measured on it later.
    truth: facts drawn for this patient (e.g. pd_l1_positive: share of tumour cells that carry PD-L1, 0..1).
    """

    architecture: Architecture
    cells: Cells
    proteins: F32
    size_px: int
    mpp: float
    seed: int
    truth: dict[str, float]
    markers: tuple[str, ...] = HEX_PANEL

    @property
    def niche_map(self) -> NDArray[np.uint8]:
        """(rows, cols) uint8 index into NICHES, GRID_UM um per cell."""
        return self.architecture.labels

    @property
    def size_um(self) -> float:
        """Side of the slide in um."""
        return self.size_px * self.mpp


def sample_map(field: NDArray[Any], x_um: F32, y_um: F32, order: int = 1) -> NDArray[Any]:
    """Values of a GRID_UM map at points in um; order 0 takes the cell itself, 1 interpolates."""
    if order == 0:
        rows = np.clip((y_um / GRID_UM).astype(int), 0, field.shape[0] - 1)
        cols = np.clip((x_um / GRID_UM).astype(int), 0, field.shape[1] - 1)
        value: NDArray[Any] = field[rows, cols]
        return value
    coordinates = np.stack([y_um / GRID_UM - 0.5, x_um / GRID_UM - 0.5])
    return np.asarray(ndimage.map_coordinates(field.astype(np.float32), coordinates, order=1, mode="nearest"))


def _lattice(rng: np.random.Generator, size_um: float, spacing: float, jitter: float = 0.2) -> tuple[F32, F32]:
    """Jittered hexagonal lattice over the slide, x and y in um."""
    rows, cols = int(size_um / (spacing * 0.866)) + 1, int(size_um / spacing) + 1
    j, i = np.mgrid[0:rows, 0:cols].astype(np.float32)
    x = (i + 0.5 * (j % 2)) * spacing + rng.normal(0, jitter * spacing, i.shape)
    y = j * 0.866 * spacing + rng.normal(0, jitter * spacing, i.shape)
    keep = (x > 0) & (x < size_um - 1) & (y > 0) & (y < size_um - 1)
    return x[keep].astype(np.float32), y[keep].astype(np.float32)


def _choose(rng: np.random.Generator, n: int, shares: dict[str, float]) -> NDArray[np.uint8]:
    weights = np.array(list(shares.values()), float)
    return rng.choice(np.array([CODE[name] for name in shares], np.uint8), n, p=weights / weights.sum())


class _Placer:
    """Collects cells compartment by compartment; later ones make way where two would overlap."""

    def __init__(self, rng: np.random.Generator, config: SimulatorConfig, arch: Architecture) -> None:
        self.rng, self.config, self.arch = rng, config, arch
        self.parts: list[tuple[F32, F32, NDArray[np.uint8]]] = []

    def points(self, spacing: float, jitter: float = 0.2) -> dict[str, NDArray[Any]]:
        """Candidate places with the architecture sampled at them, only inside tissue."""
        x, y = _lattice(self.rng, self.config.size_um, spacing, jitter)
        inside = sample_map(self.arch.outline, x, y) > 4
        x, y = x[inside], y[inside]
        fields = {name: sample_map(getattr(self.arch, name), x, y) for name in ("epithelium", "lumen", "lymphoid", "hypoxia")}
        return {"x": x, "y": y, "niche": sample_map(self.arch.labels, x, y, order=0), **fields}

    def add(self, p: dict[str, NDArray[Any]], keep: NDArray[np.bool_], shares: dict[str, float]) -> None:
        """Take the candidates in `keep` and give them types by these shares."""
        self.parts.append((p["x"][keep], p["y"][keep], _choose(self.rng, int(keep.sum()), shares)))

    def gathered(self) -> tuple[F32, F32, NDArray[np.uint8]]:
        """All cells without overlaps (4.6 um between centres) and without cells inside vessels."""
        x, y, kind = (np.concatenate(column) for column in zip(*self.parts))
        keep = np.ones(len(x), bool)
        pairs = cKDTree(np.stack([x, y], 1)).query_pairs(4.6, output_type="ndarray")
        keep[pairs.max(axis=1)] = False
        for v in self.arch.vessels:
            inside = np.hypot(x - v.x_um, y - v.y_um) < v.a_um + 5
            keep &= ~inside | (kind == CODE["endothelial"])
        return x[keep], y[keep], kind[keep]


def _place_cells(rng: np.random.Generator, config: SimulatorConfig, arch: Architecture, immune: dict[str, float]) -> _Placer:
    d, place = config.densities, _Placer(rng, config, arch)
    for v in arch.vessels:
        n = max(3, int(np.pi * (v.a_um + v.b_um) / 13))
        t = np.linspace(0, 2 * np.pi, n, endpoint=False) + rng.uniform(0, 6.3)
        ex, ey = (v.a_um + 1.5) * np.cos(t), (v.b_um + 1.5) * np.sin(t)
        c, s = np.cos(v.angle), np.sin(v.angle)
        x, y = v.x_um + ex * c - ey * s, v.y_um + ex * s + ey * c
        place.parts.append((x.astype(np.float32), y.astype(np.float32), np.full(n, CODE["endothelial"], np.uint8)))

    p = place.points(d.lymphoid, 0.16)
    depth = ndimage.distance_transform_edt(arch.labels == TLS) * GRID_UM
    depth_at = sample_map(depth, p["x"], p["y"])
    inside = p["niche"] == TLS
    centre = inside & (depth_at > rng.uniform(38, 52))
    place.add(p, centre, {"b_cell": 0.84, "follicular_dendritic": 0.08, "cd4_t": 0.06, "macrophage": 0.02})
    place.add(p, inside & ~centre & (depth_at > 24), {"b_cell": 0.6, "cd4_t": 0.26, "cd8_t": 0.1, "dendritic": 0.04})
    place.add(
        p, inside & (depth_at <= 24), {"cd4_t": 0.45, "cd8_t": 0.2, "b_cell": 0.15, "plasma": 0.1, "dendritic": 0.05, "regulatory_t": 0.05}
    )

    p = place.points(d.tumour * rng.uniform(0.9, 1.15), 0.15)
    nests = (p["epithelium"] > 0.05) & (p["lumen"] < -0.1) & np.isin(p["niche"], (TUMOUR_CORE, MARGIN))
    place.add(p, nests, {"tumour": 1.0})

    p = place.points(d.normal, 0.15)
    normal = p["niche"] == NORMAL
    place.add(p, normal & (p["lumen"] < 0.1), {"pneumocyte": 0.74, "endothelial": 0.22, "macrophage": 0.04})
    place.add(p, normal & (p["lumen"] > 0.6) & (rng.random(len(p["x"])) < 0.012), {"macrophage": 1.0})

    p = place.points(d.necrosis, 0.3)
    dead = p["niche"] == NECROSIS
    place.add(p, dead & (rng.random(len(dead)) < 0.42), {"ghost": 0.78, "neutrophil": 0.16, "macrophage": 0.06})

    p = place.points(d.infiltrate, 0.25)
    outside = ~np.isin(p["niche"], (TLS, NECROSIS)) & (p["lumen"] < 0)
    chance = p["lymphoid"] * np.where(p["epithelium"] > 0, 0.3, 1.0)
    place.add(p, outside & (rng.random(len(chance)) < chance), immune)

    p = place.points(d.stroma, 0.25)
    fibrous = np.isin(p["niche"], (STROMA, MARGIN, TUMOUR_CORE)) & (p["epithelium"] < -0.05) & (p["lumen"] < 0)
    near = fibrous & np.isin(p["niche"], (MARGIN, TUMOUR_CORE))
    place.add(p, near, {"myofibroblast": 0.68, "fibroblast": 0.25, "endothelial": 0.07})
    place.add(p, fibrous & ~near, {"fibroblast": 0.72, "myofibroblast": 0.12, "endothelial": 0.09, "macrophage": 0.07})
    return place


def _shape_cells(rng: np.random.Generator, arch: Architecture, x: F32, y: F32, kind: NDArray[np.uint8]) -> Cells:
    n = len(x)
    law = np.array([NUCLEI.get(name, LYMPHOCYTE_NUCLEUS) for name in CELL_TYPES], np.float32)[kind]
    grade = np.float32(rng.lognormal(0.0, 0.1))
    pleomorphism = rng.uniform(0.8, 1.6)
    tumour = kind == CODE["tumour"]
    spread = law[:, 2] * np.where(tumour, pleomorphism, 1.0)
    major = law[:, 0] * np.exp(rng.normal(0, 1, n) * spread) * np.where(tumour, grade, 1.0)
    depth = sample_map(ndimage.distance_transform_edt(arch.labels == TLS) * GRID_UM, x, y)
    major *= np.where(kind == CODE["b_cell"], 1 + 0.3 * np.clip((depth - 50) / 20, 0, 1), 1.0)
    ratio = np.clip(law[:, 1] + rng.normal(0, 0.09, n) * np.minimum(1, law[:, 1] * 1.6), 0.18, 1.0)
    gy, gx = (np.asarray(g) for g in np.gradient(arch.flow))
    fibre = np.arctan2(sample_map(gx, x, y), -sample_map(gy, x, y))
    aligned = np.isin(kind, [CODE[name] for name in ("fibroblast", "myofibroblast", "endothelial")])
    angle = np.where(aligned, fibre + rng.normal(0, 0.22, n), rng.uniform(0, np.pi, n)).astype(np.float32)
    wall = (kind == CODE["pneumocyte"]) | ((kind == CODE["endothelial"]) & (sample_map(arch.labels, x, y, 0) == NORMAL))
    ly, lx = (np.asarray(g) for g in np.gradient(arch.lumen))
    angle[wall] = np.arctan2(sample_map(lx, x, y), -sample_map(ly, x, y))[wall]
    for v in arch.vessels:
        ring = np.flatnonzero((kind == CODE["endothelial"]) & (np.hypot(x - v.x_um, y - v.y_um) < v.a_um + 4))
        c, s = np.cos(v.angle), np.sin(v.angle)
        dx, dy = x[ring] - v.x_um, y[ring] - v.y_um
        u, w = (dx * c + dy * s) / v.a_um, (-dx * s + dy * c) / v.b_um
        angle[ring] = v.angle + np.arctan2(v.b_um * u, -v.a_um * w)
    niche = np.asarray(sample_map(arch.labels, x, y, 0), np.uint8)
    return Cells(x, y, kind, niche, angle, major.astype(np.float32), (major * ratio).astype(np.float32))


def _proteins(rng: np.random.Generator, config: SimulatorConfig, arch: Architecture, cells: Cells, truth: dict[str, float]) -> F32:
    """(n_cells, 40) float32: programme of the type x patient offset x scatter per cell, then the states of cells."""
    m = HEX_PANEL.index
    hidden = np.array([name in HIDDEN for name in HEX_PANEL])
    patient = np.exp(rng.normal(0, 1, len(HEX_PANEL)) * np.where(hidden, config.hidden_protein_sd, config.visible_protein_sd))
    patient[m("DAPI")] = 1.0
    scatter = rng.standard_normal((len(cells), len(HEX_PANEL)), dtype=np.float32) * np.where(hidden, 0.5, 0.3).astype(np.float32)
    values = programme_matrix()[cells.kind] * np.exp(scatter) * patient.astype(np.float32)
    hypoxia, lymphoid = sample_map(arch.hypoxia, cells.x_um, cells.y_um), sample_map(arch.lymphoid, cells.x_um, cells.y_um)
    values[:, m("HIF1A")] += hypoxia * rng.gamma(4, 0.25, len(cells))
    tumour = cells.of("tumour")
    margin = cells.niche == MARGIN
    cycling = tumour & (rng.random(len(cells)) < truth["proliferation"] * np.where(margin, 1.5, 1.0) * (1 - 0.6 * hypoxia))
    germinal = cells.of("b_cell") & (cells.niche == TLS) & (rng.random(len(cells)) < 0.35)
    values[cycling | germinal, m("Ki67")] += 1.0
    positive = tumour & (rng.random(len(cells)) < truth["pd_l1_propensity"] * (0.6 + 0.8 * lymphoid))
    values[positive, m("PD-L1")] += rng.gamma(6, 1 / 6, int(positive.sum()))
    truth["pd_l1_positive"] = float(positive.sum() / max(1, tumour.sum()))
    truth["ki67_positive"] = float(cycling.sum() / max(1, tumour.sum()))
    values[tumour & margin, m("E-cadherin")] *= 0.6
    values[tumour & margin, m("MMP9")] += 0.35
    return np.maximum(values, 0).astype(np.float32)


def simulate_tissue(rng: np.random.Generator, config: SimulatorConfig, histology: str = "adenocarcinoma") -> Tissue:
    """One tissue drawn from `rng`.

    Its niche fractions, immune composition, proliferation and PD-L1 vary by patient. histology: "adenocarcinoma"
    (gland lumina in the nests) or "squamous cell carcinoma" (solid nests).
    """
    seed = int(rng.integers(2**31))
    truth = {
        "proliferation": float(rng.beta(2.0, 4.5)),
        "pd_l1_propensity": float(rng.beta(0.6, 1.0)),
        "cd8_share": float(rng.beta(3, 5)),
        "myeloid_share": float(rng.beta(2, 5)),
    }
    t, myeloid = (1 - truth["myeloid_share"]), truth["myeloid_share"]
    cd8 = truth["cd8_share"]
    immune = {
        "cd8_t": 0.8 * t * cd8,
        "cd4_t": 0.65 * t * (1 - cd8),
        "regulatory_t": 0.12 * t * (1 - cd8),
        "b_cell": 0.06 * t,
        "plasma": 0.22 * t * (1 - cd8),
        "macrophage": 0.75 * myeloid,
        "dendritic": 0.1 * myeloid,
        "neutrophil": 0.15 * myeloid,
    }
    arch = draw_architecture(rng, config, histology)
    x, y, kind = _place_cells(rng, config, arch, immune).gathered()
    cells = _shape_cells(rng, arch, x, y, kind)
    proteins = _proteins(rng, config, arch, cells, truth)
    return Tissue(arch, cells, proteins, config.size_px, config.mpp, seed, truth)
