"""Where the niches lie: a label map and the soft fields of tissue architecture that cells and pictures follow.

All maps have GRID_UM um per cell, row = y, column = x, (0, 0) at the slide's top-left corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from ml.simulate.config import SimulatorConfig

GRID_UM = 4.0
NICHES: tuple[str, ...] = ("background", "tumour_core", "invasive_margin", "tls", "stroma", "necrosis", "normal")
BACKGROUND, TUMOUR_CORE, MARGIN, TLS, STROMA, NECROSIS, NORMAL = range(len(NICHES))

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Vessel:
    """One cut vessel: centre, half axes (um) of the lumen, angle (rad), whether it holds red cells."""

    x_um: float
    y_um: float
    a_um: float
    b_um: float
    angle: float
    blood: bool


@dataclass(frozen=True)
class Architecture:
    """Label map and soft fields of one tissue; every map (rows, cols) at GRID_UM.

    labels: uint8, index into NICHES. outline: signed distance to the glass in um, positive in tissue.
    epithelium: level field, tumour nests where > 0 (about +-1 across a nest border).
    lumen: level field, white holes (gland lumina, alveolar air) where > 0.
    flow: potential in um whose level lines are the stromal fibres.
    lymphoid: 0..1 density of infiltrating leukocytes. hypoxia: 0..1, rises towards necrosis.
    histology: "adenocarcinoma" or "squamous cell carcinoma".
    """

    labels: NDArray[np.uint8]
    outline: Map
    epithelium: Map
    lumen: Map
    flow: Map
    lymphoid: Map
    hypoxia: Map
    vessels: tuple[Vessel, ...]
    histology: str


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_um: float) -> Map:
    """Gaussian noise with correlation length sigma_um, mean 0, sd 1; (rows, cols) float32."""
    step = max(1, int(sigma_um / GRID_UM / 2.5))
    rows, cols = shape[0] // step + 5, shape[1] // step + 5
    noise = rng.standard_normal((rows + 12, cols + 12)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_um / GRID_UM / step, mode="wrap", truncate=3.0)[6:-6, 6:-6]
    if step > 1:
        box = (2.0, 2.0, 2.0 + shape[1] / step, 2.0 + shape[0] / step)
        noise = np.asarray(Image.fromarray(noise).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box))
    else:
        noise = noise[2 : 2 + shape[0], 2 : 2 + shape[1]]
    return ((noise - noise.mean()) / (noise.std() + 1e-9)).astype(np.float32)


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Map:
    rows, cols = shape
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    y, x = (y - rows / 2) / (rows / 2), (x - cols / 2) / (cols / 2)
    tilt = rng.uniform(0, np.pi)
    u, v = x * np.cos(tilt) + y * np.sin(tilt), -x * np.sin(tilt) + y * np.cos(tilt)
    power = rng.uniform(2.4, 3.6)
    radius = (np.abs(u / rng.uniform(0.98, 1.08)) ** power + np.abs(v / rng.uniform(0.86, 1.0)) ** power) ** (1 / power)
    ragged = 0.10 * smooth_noise(rng, shape, 90.0) + 0.02 * smooth_noise(rng, shape, 22.0) + 0.006 * smooth_noise(rng, shape, 7.0)
    frame = np.clip((np.maximum(np.abs(x), np.abs(y)) - 0.88) / 0.12, 0, 1)
    inside = radius + ragged + 0.4 * frame**2 < 0.93
    inside[[0, 1, -1, -2], :] = False
    inside[:, [0, 1, -1, -2]] = False
    pieces, n = ndimage.label(inside)
    if n > 1:
        sizes = np.bincount(pieces.ravel())[1:]
        inside = np.isin(pieces, 1 + np.flatnonzero(sizes > 0.01 * sizes.sum()))
    inside = ndimage.binary_fill_holes(inside)
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return (signed * GRID_UM).astype(np.float32)


def _top_share(field: Map, where: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The share of `where` in which field is highest."""
    if share <= 0 or not where.any():
        return np.zeros_like(where)
    return where & (field > np.quantile(field[where], 1 - min(share, 1.0)))


def _scatter_tls(rng: np.random.Generator, config: SimulatorConfig, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Round lymphoid aggregates, 150-300 um across, with a wobbling edge."""
    law = config.composition
    area_mm2 = allowed.size * GRID_UM**2 / 1e6
    rate = rng.gamma(0.9, law.tls_mean / 0.9)
    count = int(min(rng.poisson(rate * area_mm2), 6 * max(area_mm2, 1)))
    mask = np.zeros(allowed.shape, bool)
    rows, cols = np.nonzero(allowed)
    if not len(rows):
        return mask
    y, x = np.mgrid[0 : allowed.shape[0], 0 : allowed.shape[1]]
    centres: list[tuple[float, float, float]] = []
    for _ in range(count * 8):
        if len(centres) == count:
            break
        k = rng.integers(len(rows))
        radius = rng.uniform(*law.tls_diameter_um) / 2
        cy, cx = float(rows[k]), float(cols[k])
        if any(np.hypot(cy - a, cx - b) * GRID_UM < radius + r + 30 for a, b, r in centres):
            continue
        centres.append((cy, cx, radius))
        angle = np.arctan2(y - cy, x - cx)
        wobble = sum(rng.normal(0, 0.06) * np.cos(m * angle + rng.uniform(0, 6.3)) for m in (2, 3, 4, 5))
        mask |= np.hypot(y - cy, x - cx) * GRID_UM < radius * (1 + wobble)
    return mask


def draw_niches(rng: np.random.Generator, config: SimulatorConfig) -> tuple[Map, NDArray[np.uint8]]:
    """Signed distance to the glass in um, (rows, cols) float32, and niche labels, (rows, cols) uint8.

    Margin lies between core and the rest, necrosis deep inside the core, lymphoid structures in margin or stroma.
    """
    side = int(np.ceil(config.size_um / GRID_UM))
    outline = _outline(rng, (side, side))
    law, shape, tissue = config.composition, outline.shape, outline > 0
    core, stroma, normal = (rng.gamma(a) + 0.15 for a in (law.tumour_core, law.stroma, law.normal))
    necrosis_share = float(rng.beta(*law.necrosis_share))
    margin_um = float(rng.uniform(*law.margin_um))
    total = core + stroma + normal
    large, medium, small = smooth_noise(rng, shape, 150.0), smooth_noise(rng, shape, 60.0), smooth_noise(rng, shape, 18.0)
    bulk = large + 0.35 * medium + 0.08 * small + 0.002 * np.minimum(outline, 150)
    tumour = _top_share(bulk, tissue, max(0.12, core / total))
    inward = ndimage.distance_transform_edt(~tissue | tumour).astype(np.float32) * GRID_UM
    outward = ndimage.distance_transform_edt(~tumour).astype(np.float32) * GRID_UM
    labels = np.where(tissue, STROMA, BACKGROUND).astype(np.uint8)
    wavy = margin_um * np.exp(0.35 * smooth_noise(rng, shape, 70.0))
    rest = tissue & ~tumour & (outward > wavy)
    far = outward * 0.006 + smooth_noise(rng, shape, 110.0) + 0.1 * small
    labels[_top_share(far, rest, normal / (normal + stroma))] = NORMAL
    labels[tumour] = TUMOUR_CORE
    inward = np.minimum(inward, 400)
    deep = np.minimum(inward, outline + 20) * 0.012 + 0.8 * smooth_noise(rng, shape, 55.0) + 0.12 * smooth_noise(rng, shape, 10.0)
    labels[_top_share(deep, tumour & (inward > 45) & (outline > 25), necrosis_share * 1.2)] = NECROSIS
    band = tissue & (outward <= wavy) & (inward <= 0.35 * wavy)
    labels[band & (labels != NECROSIS)] = MARGIN
    allowed = np.isin(labels, (MARGIN, STROMA)) & (outline > 60) & (outward > 20)
    aggregate = _scatter_tls(rng, config, allowed) & tissue & (labels != NECROSIS) & (outline > 12)
    labels[aggregate] = TLS
    return outline, labels


def _soft(mask: NDArray[np.bool_], sigma_um: float) -> Map:
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), sigma_um / GRID_UM, truncate=3.0), np.float32)


def _alveoli(rng: np.random.Generator, shape: tuple[int, int], spacing_um: float) -> Map:
    """Distance in um to the walls between airspaces (jittered Voronoi cells); (rows, cols) float32."""
    extent = np.array(shape[::-1]) * GRID_UM
    n = int(extent[0] * extent[1] / spacing_um**2)
    seeds = rng.uniform(-spacing_um, extent + spacing_um, (max(n, 4), 2))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    points = np.stack([x.ravel(), y.ravel()], 1) * GRID_UM
    points = points + np.stack([9 * smooth_noise(rng, shape, 25.0).ravel(), 9 * smooth_noise(rng, shape, 25.0).ravel()], 1)
    near, _ = cKDTree(seeds).query(points, k=2)
    return np.asarray(((near[:, 1] - near[:, 0]) / 2).reshape(shape), np.float32)


def _vessels(rng: np.random.Generator, labels: NDArray[np.uint8], outline: Map, epithelium: Map) -> tuple[Vessel, ...]:
    ok = np.isin(labels, (STROMA, MARGIN)) & (outline > 40) & (_soft(epithelium > 0, 14.0) < 0.2)
    rows, cols = np.nonzero(ok)
    vessels: list[Vessel] = []
    target = int(rng.poisson(26 * len(rows) * GRID_UM**2 / 1e6 + 2)) if len(rows) else 0
    for _ in range(target * 4):
        if len(vessels) == target:
            break
        k = rng.integers(len(rows))
        x, y = (cols[k] + 0.5) * GRID_UM, (rows[k] + 0.5) * GRID_UM
        a = float(np.clip(rng.lognormal(2.1, 0.5), 4, 32))
        if any(np.hypot(x - v.x_um, y - v.y_um) < a + v.a_um + 30 for v in vessels):
            continue
        vessels.append(Vessel(x, y, a, a * rng.uniform(0.35, 0.9), rng.uniform(0, np.pi), bool(rng.random() < 0.6)))
    return tuple(vessels)


def _nests(rng: np.random.Generator, labels: NDArray[np.uint8], glandular: bool) -> Map:
    """Level field of tumour nests: dense in the core, scattered islands in the margin, none elsewhere."""
    fine = smooth_noise(rng, labels.shape, 11.0 if glandular else 16.0) + 0.5 * smooth_noise(rng, labels.shape, 30.0)
    solid, invading = _soft(np.isin(labels, (TUMOUR_CORE, NECROSIS)), 10.0), _soft(labels == MARGIN, 10.0)
    core_bias, margin_bias = rng.uniform(0.55, 1.1), rng.uniform(-0.75, -0.35)
    level = fine / fine.std() + solid * core_bias + invading * margin_bias - 6.0 * np.clip(1 - solid - invading, 0, 1)
    return np.asarray(level - 8.0 * _soft(labels == TLS, 4.0), np.float32)


def _lumina(rng: np.random.Generator, labels: NDArray[np.uint8], epithelium: Map, glandular: bool) -> Map:
    """Level field of holes: gland lumina inside nests, air between the walls of normal lung."""
    shape = labels.shape
    lumen = np.full(shape, -1.0, np.float32)
    if glandular:
        ring = smooth_noise(rng, shape, 9.0)
        lumen = np.maximum(lumen, np.where((epithelium > 1.0) & (labels == TUMOUR_CORE), ring - rng.uniform(0.9, 1.6), -1.0))
    walls = _alveoli(rng, shape, rng.uniform(48.0, 80.0))
    thickness = 5.0 + 1.8 * smooth_noise(rng, shape, 40.0)
    air = np.clip((walls - np.maximum(thickness, 2.8)) / 3.0, -1, 2)
    normal = _soft(labels == NORMAL, 6.0)
    return np.asarray(np.maximum(lumen, np.minimum(air, (normal - 0.6) * 5)), np.float32)


def _flow(rng: np.random.Generator, outline: Map, epithelium: Map) -> Map:
    """Potential whose level lines are fibres: a drift, folds, and sheets parallel to nests and to the outer edge."""
    shape = outline.shape
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) * GRID_UM
    tilt = rng.uniform(0, 2 * np.pi)
    flow = 0.55 * (x * np.cos(tilt) + y * np.sin(tilt))
    flow += 55 * smooth_noise(rng, shape, 70.0) + 9 * smooth_noise(rng, shape, 22.0)
    flow += 16 * ndimage.gaussian_filter(epithelium.clip(-2, 2), 5.0) + 0.5 * np.clip(outline, 0, 120)
    return np.asarray(flow, np.float32)


def _infiltrate(rng: np.random.Generator, labels: NDArray[np.uint8]) -> Map:
    """0..1 density of infiltrating leukocytes: patchy, most in the margin and around lymphoid structures."""
    immune = rng.beta(1.3, 1.8)
    patchy = 1 / (1 + np.exp(-2.2 * (smooth_noise(rng, labels.shape, 35.0) - 0.6)))
    weights = {STROMA: 0.45, MARGIN: 0.95, TUMOUR_CORE: 0.18, NECROSIS: 0.18, NORMAL: 0.12}
    where = sum(weight * _soft(labels == niche, 11.0) for niche, weight in weights.items())
    return np.asarray(np.clip(patchy * (0.15 + immune) * where + 0.55 * _soft(labels == TLS, 22.0), 0, 1), np.float32)


def draw_architecture(rng: np.random.Generator, config: SimulatorConfig, histology: str) -> Architecture:
    """Niche labels and architecture fields of one tissue."""
    glandular = histology == "adenocarcinoma"
    outline, labels = draw_niches(rng, config)
    epithelium = _nests(rng, labels, glandular)
    dead = labels == NECROSIS
    hypoxia = np.exp(-ndimage.distance_transform_edt(~dead) * GRID_UM / 60.0) if dead.any() else np.zeros(labels.shape)
    return Architecture(
        labels=labels,
        outline=outline,
        epithelium=epithelium,
        lumen=_lumina(rng, labels, epithelium, glandular),
        flow=_flow(rng, outline, epithelium),
        lymphoid=_infiltrate(rng, labels),
        hypoxia=np.asarray(hypoxia, np.float32),
        vessels=_vessels(rng, labels, outline, epithelium),
        histology=histology,
    )
