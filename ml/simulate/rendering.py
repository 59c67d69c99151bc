"""Rendering: from a tissue and a stain law to an H&E-like picture. Reads the truth, never changes it.

Two concentration fields (hematoxylin and eosin) and a third for red cells are painted and turned into light by
Beer-Lambert: I = white * exp(-(H*h + E*e + B*b)) per colour. Another renderer only needs the signature of `render`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ml.simulate import textures as tx
from ml.simulate.biology import Tissue
from ml.simulate.niches import GRID_UM, MARGIN, NECROSIS, NORMAL, TLS
from ml.simulate.programmes import CELL_TYPES
from ml.simulate.stain import StainLaw

F32 = NDArray[np.float32]

LOOKS: dict[str, str] = {
    "tumour": "vesicular",
    "fibroblast": "spindle",
    "myofibroblast": "spindle",
    "endothelial": "spindle",
    "follicular_dendritic": "pale",
    "plasma": "clock",
    "macrophage": "pale",
    "dendritic": "pale",
    "neutrophil": "lobed",
    "pneumocyte": "lymphoid",
    "ghost": "pyknotic",
}
# Cell bodies: diameter (um; 0 = in proportion to the nucleus), eosin and hematoxylin they add.
BODIES: dict[str, tuple[float, float, float]] = {
    "tumour": (0.0, 0.30, 0.10),
    "macrophage": (15.0, 0.22, 0.06),
    "plasma": (11.0, 0.18, 0.30),
    "neutrophil": (9.5, 0.30, 0.0),
    "pneumocyte": (12.0, 0.22, 0.05),
    "myofibroblast": (19.0, 0.22, 0.02),
}


class _Canvas:
    """Concentration fields of one slide at full resolution and the maps painted from; all (size, size) float32."""

    def __init__(self, tissue: Tissue, rng: np.random.Generator) -> None:
        self.tissue, self.rng, self.mpp, self.size = tissue, rng, tissue.mpp, tissue.size_px
        self.shape = (self.size, self.size)
        self.grain = tx.tiled(tx.grain_texture(self.mpp), self.shape, self._offset())
        self.clump = tx.tiled(tx.clump_texture(self.mpp), self.shape, self._offset())

    def _offset(self) -> tuple[int, int]:
        return int(self.rng.integers(tx.SIDE)), int(self.rng.integers(tx.SIDE))

    def enlarge(self, field: NDArray[np.generic]) -> F32:
        """A GRID_UM map at full resolution, bicubic."""
        side = field.shape[0] * GRID_UM / self.mpp
        box = (0.0, 0.0, field.shape[1] * self.size / side, field.shape[0] * self.size / side)
        image = Image.fromarray(np.ascontiguousarray(field, np.float32))
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))

    def stretch(self, field: NDArray[np.generic]) -> F32:
        """A coarse field over the whole slide at full resolution, bicubic."""
        image = Image.fromarray(np.ascontiguousarray(field, np.float32))
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def niche(self, *codes: int) -> F32:
        """Soft 0..1 mask of niches."""
        mask = np.isin(self.tissue.niche_map, codes).astype(np.float32)
        return np.clip(self.enlarge(ndimage.gaussian_filter(mask, 1.2, truncate=2.5)), 0, 1)

    def fibres(self) -> F32:
        """0..1 texture whose strands follow the level lines of the tissue's flow."""
        flow = self.enlarge(self.tissue.architecture.flow)
        rows = np.arange(self.size, dtype=np.float32)
        tilt = self.rng.uniform(0, 6.28)
        along = (np.float32(np.cos(tilt)) * rows[:, None] + np.float32(np.sin(tilt)) * rows[None, :]) * np.float32(0.5)
        i = (flow * np.float32(1 / self.mpp)).astype(np.int32) + self._offset()[0]
        j = along.astype(np.int32)
        return tx.fibre_texture(self.mpp)[i & (tx.SIDE - 1), j & (tx.SIDE - 1)]


def _ramp(field: F32, low: float, high: float) -> F32:
    """0 at low, 1 at high, linear between."""
    return np.clip((field - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)


def _paint_ground(c: _Canvas) -> tuple[F32, F32, F32]:
    """Hematoxylin and eosin of everything but cells, and the share of each pixel that is tissue."""
    arch = c.tissue.architecture
    grain, clump, fibre = c.grain, c.clump, c.fibres()
    nest = c.enlarge(arch.epithelium) + np.float32(0.05) * clump
    cyto = _ramp(nest, -0.05, 0.12)
    tls, dead, normal, margin = c.niche(TLS), c.niche(NECROSIS), c.niche(NORMAL), c.niche(MARGIN)
    cyto *= 1 - np.maximum(dead, normal)

    gaps = _ramp(fibre, 0.10, 0.34)
    fibrous = gaps * (np.float32(0.28) + np.float32(0.62) * fibre) + np.float32(0.05)
    fibrous *= np.float32(0.82) + np.float32(0.14) * clump + np.float32(0.25) * margin + np.float32(0.07) * grain
    keratin = _ramp(nest, 0.9, 1.9) * np.float32(0.30) if arch.histology.startswith("squamous") else np.float32(0.0)
    eosin = fibrous + (np.float32(0.30) + keratin + np.float32(0.05) * grain - fibrous) * cyto
    eosin += (np.float32(0.20) + np.float32(0.10) * fibre + np.float32(0.03) * grain - eosin) * tls
    eosin += (np.float32(0.42) + np.float32(0.13) * grain + np.float32(0.10) * clump - eosin) * _ramp(
        dead + np.float32(0.08) * clump, 0.35, 0.65
    )
    eosin += (np.float32(0.45) + np.float32(0.06) * grain + np.float32(0.25) * fibre - eosin) * normal * np.float32(0.8)
    hem = np.float32(0.04) + np.float32(0.10) * cyto + np.float32(0.10) * tls + np.float32(0.03) * margin
    hem += dead * (np.float32(0.05) + np.float32(0.07) * np.maximum(grain, 0))
    np.maximum(eosin, 0.02, out=eosin)

    cover = _ramp(c.enlarge(arch.outline) + np.float32(1.2) * clump, -1.0, 2.5)
    cover *= 1 - _ramp(c.enlarge(arch.lumen) + np.float32(0.05) * clump, -0.12, 0.12) * np.float32(0.97)
    cleft = _ramp(nest, -0.30, -0.14) * (1 - _ramp(nest, -0.12, 0.0)) * _ramp(clump, -0.2, 0.9)
    cover *= 1 - np.float32(0.85) * cleft * (1 - tls) * (1 - normal)
    return hem, eosin, cover


def _paint_vessels(c: _Canvas, eosin: F32, blood: F32, cover: F32) -> None:
    for v in c.tissue.architecture.vessels:
        half = int((v.a_um + 8) / c.mpp)
        cx, cy = int(v.x_um / c.mpp), int(v.y_um / c.mpp)
        if min(cx, cy) < half or max(cx, cy) + half >= c.size:
            continue
        box = (slice(cy - half, cy + half + 1), slice(cx - half, cx + half + 1))
        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * c.mpp
        co, si = np.cos(v.angle), np.sin(v.angle)
        u, w = (x * co + y * si) / v.a_um, (-x * si + y * co) / v.b_um
        level = (1 - np.hypot(u, w)) * np.float32(v.b_um) + np.float32(0.35) * c.clump[box]
        lumen = _ramp(level, -0.5, 0.5)
        wall = _ramp(level, -4.5, -3.0) * (1 - lumen)
        eosin[box] = np.maximum(eosin[box], wall * (np.float32(0.55) + np.float32(0.05) * c.grain[box]))
        cover[box] *= 1 - lumen
        if v.blood:
            _paint_red_cells(c, v.a_um, v.b_um, v.angle, (cx, cy), blood)


def _paint_red_cells(c: _Canvas, a_um: float, b_um: float, angle: float, centre: tuple[int, int], blood: F32) -> None:
    n = int(min(a_um * b_um * np.pi / 32 * c.rng.uniform(0.3, 1.0), 120))
    r, t = np.sqrt(c.rng.uniform(0, 1, n)), c.rng.uniform(0, 6.28, n)
    u, w = r * np.cos(t) * max(a_um - 3, 0.5), r * np.sin(t) * max(b_um - 3, 0.5)
    xs = centre[0] + (u * np.cos(angle) - w * np.sin(angle)) / c.mpp
    ys = centre[1] + (u * np.sin(angle) + w * np.cos(angle)) / c.mpp
    for x, y, k in zip(xs.astype(int), ys.astype(int), c.rng.integers(0, 4, n)):
        disc = tx.body(6.5, 0.85, int(k) * 3, int(k), c.mpp)
        _stamp(blood, disc, int(x), int(y), np.float32(0.62))


def _stamp(field: F32, sprite: F32, x: int, y: int, strength: np.float32, add: bool = False) -> None:
    half = sprite.shape[0] // 2
    if x < half or y < half or x + half >= field.shape[1] or y + half >= field.shape[0]:
        return
    window = field[y - half : y + half + 1, x - half : x + half + 1]
    if add:
        window += sprite * strength
    else:
        np.maximum(window, sprite * strength, out=window)


def _paint_cells(c: _Canvas, hem: F32, eosin: F32, cover: F32) -> None:
    cells, rng, n = c.tissue.cells, c.rng, len(c.tissue.cells)
    xs, ys = (cells.x_um / c.mpp).astype(int), (cells.y_um / c.mpp).astype(int)
    major = np.round(cells.major_um * 2) / 2
    minor = np.maximum(np.round(cells.minor_um * 2) / 2, 1.5)
    angles = (np.round(cells.angle / np.pi * tx.ANGLES).astype(int)) % tx.ANGLES
    variants, strength = rng.integers(0, tx.VARIANTS, n), rng.uniform(0.82, 1.12, n).astype(np.float32)
    names = [CELL_TYPES[k] for k in cells.kind]
    strength *= np.where(cells.of("b_cell") & (cells.major_um > 7.4), np.float32(0.72), np.float32(1.0))
    for k in range(n):
        if names[k] in BODIES:
            size, e, h = BODIES[names[k]]
            size = size or min(float(major[k]) * 1.35, 24.0)
            sprite = tx.body(round(size * 2) / 2, 0.8, int(angles[k]), int(variants[k]) % 3, c.mpp)
            _stamp(eosin, sprite, xs[k], ys[k], np.float32(e) * strength[k], add=True)
            _stamp(hem, sprite, xs[k], ys[k], np.float32(h) * strength[k], add=True)
            _stamp(cover, sprite, xs[k], ys[k], np.float32(1.0))
    for k in range(n):
        look = LOOKS.get(names[k], "lymphoid")
        sprite = tx.nucleus(look, float(major[k]), float(minor[k]), int(angles[k]), int(variants[k]), c.mpp)
        _stamp(hem, sprite, xs[k], ys[k], strength[k])
        _stamp(cover, sprite, xs[k], ys[k], np.float32(1.0))


def _develop(c: _Canvas, stain: StainLaw, hem: F32, eosin: F32, blood: F32) -> NDArray[np.uint8]:
    """Light through the slide: Beer-Lambert, scanner blur, tone and noise; (size, size, 3) uint8."""
    sigma = stain.blur_um / c.mpp
    thick = 1 + stain.uneven * c.stretch(c.rng.standard_normal((7, 7)))
    hem, eosin = (ndimage.gaussian_filter(f, sigma, truncate=2.5) for f in (hem, eosin))
    hem *= thick * np.float32(stain.hematoxylin_scale)
    eosin *= thick * np.float32(stain.eosin_scale)
    noise = tx.tiled(tx.sensor_texture(), c.shape, c._offset())
    image = np.empty((*c.shape, 3), np.uint8)
    for k in range(3):
        density = hem * np.float32(-stain.hematoxylin[k] * stain.gamma)
        density -= eosin * np.float32(stain.eosin[k] * stain.gamma)
        density -= blood * np.float32(stain.blood[k] * stain.gamma)
        light = np.exp(density, out=density)
        light *= np.float32(stain.white[k])
        light += np.roll(noise, (37 * k, 91 * k), (0, 1)) * np.float32(stain.noise)
        image[..., k] = np.clip(light, 0, 255)
    return image


def render(tissue: Tissue, stain: StainLaw, rng: np.random.Generator) -> NDArray[np.uint8]:
    """H&E-like picture of the tissue, (size_px, size_px, 3) uint8 RGB at tissue.mpp.

    rng decides only what biology does not: texture offsets, variants of nuclei, sensor noise.
    """
    c = _Canvas(tissue, rng)
    hem, eosin, cover = _paint_ground(c)
    blood = np.zeros(c.shape, np.float32)
    _paint_vessels(c, eosin, blood, cover)
    _paint_cells(c, hem, eosin, cover)
    hem *= cover
    eosin *= cover
    return _develop(c, stain, hem, eosin, blood)
