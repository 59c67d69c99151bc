"""Textures that repeat without a seam and sprites of nuclei, made once per resolution and kept.

They are the same for every slide; a slide takes them with its own offsets and variants.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 1024
ANGLES = 16
VARIANTS = 6

F32 = NDArray[np.float32]


def _noise(seed: int, sigma: tuple[float, float]) -> F32:
    """(SIDE, SIDE) float32 periodic noise, mean 0, sd 1, sigma in px."""
    noise = np.random.default_rng([7, seed]).standard_normal((SIDE, SIDE)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3.0)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


@lru_cache(maxsize=4)
def fibre_texture(mpp: float) -> F32:
    """(SIDE, SIDE) float32 in 0..1: rows run across fibres (mpp um per row), columns along them (2 mpp um per column)."""
    px = 1 / mpp
    bundles = _noise(1, (2.6 * px, 14 * px))
    strands = _noise(2, (1.1 * px, 9 * px))
    fibrils = _noise(3, (0.5 * px, 5 * px))
    waves = _noise(11, (0.9 * px, 3 * px))
    mix = 0.7 * bundles + 0.65 * strands + 0.75 * fibrils + 0.45 * waves
    return np.clip(0.5 + 0.27 * mix / mix.std(), 0, 1).astype(np.float32)


@lru_cache(maxsize=4)
def grain_texture(mpp: float) -> F32:
    """(SIDE, SIDE) float32, mean 0, sd 1: fine granules with some larger clumps (cytoplasm, debris)."""
    px = 1 / mpp
    mix = 0.7 * _noise(4, (0.45 * px,) * 2) + 0.6 * _noise(5, (1.1 * px,) * 2) + 0.5 * _noise(6, (3.0 * px,) * 2)
    return (mix / mix.std()).astype(np.float32)


@lru_cache(maxsize=4)
def clump_texture(mpp: float) -> F32:
    """(SIDE, SIDE) float32, mean 0, sd 1: blobs of some 8 um with ragged edges."""
    px = 1 / mpp
    mix = _noise(8, (5.0 * px,) * 2) + 0.5 * _noise(9, (1.6 * px,) * 2) + 0.25 * _noise(10, (0.6 * px,) * 2)
    return (mix / mix.std()).astype(np.float32)


@lru_cache(maxsize=4)
def sensor_texture() -> F32:
    """(SIDE, SIDE) float32 slightly correlated sensor noise, sd 1."""
    return _noise(12, (0.5, 0.5))


def tiled(texture: F32, shape: tuple[int, int], offset: tuple[int, int]) -> F32:
    """The texture over `shape`, shifted by `offset` px."""
    rows = (np.arange(shape[0]) + offset[0]) % SIDE
    cols = (np.arange(shape[1]) + offset[1]) % SIDE
    return texture[rows[:, None], cols[None, :]]


# family: chromatin base, rim, texture amplitude, texture grain (um), nucleoli, outline wobble
NUCLEUS_LOOKS: dict[str, tuple[float, float, float, float, int, float]] = {
    "vesicular": (0.74, 0.32, 0.24, 0.75, 2, 0.07),
    "lymphoid": (1.28, 0.08, 0.20, 0.55, 0, 0.04),
    "spindle": (0.98, 0.12, 0.16, 0.60, 0, 0.05),
    "pale": (0.60, 0.28, 0.15, 0.70, 1, 0.06),
    "clock": (1.12, 0.22, 0.34, 0.80, 0, 0.03),
    "lobed": (1.35, 0.05, 0.12, 0.50, 0, 0.05),
    "pyknotic": (1.30, 0.0, 0.10, 0.50, 0, 0.12),
}


@lru_cache(maxsize=60000)
def nucleus(look: str, major_um: float, minor_um: float, angle_bin: int, variant: int, mpp: float) -> F32:
    """Hematoxylin concentration of one nucleus, (side, side) float32 with side odd.

    major_um, minor_um: full axes. angle_bin: 0..ANGLES-1 over pi.
    """
    base, rim, amplitude, grain_um, nucleoli, wobble = NUCLEUS_LOOKS[look]
    rng = np.random.default_rng([sorted(NUCLEUS_LOOKS).index(look), int(major_um * 8), int(minor_um * 8), angle_bin, variant])
    half = int(np.ceil(0.62 * major_um / mpp)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * mpp
    angle = np.pi * angle_bin / ANGLES
    u, v = (x * np.cos(angle) + y * np.sin(angle)) * 2 / major_um, (-x * np.sin(angle) + y * np.cos(angle)) * 2 / minor_um
    if look == "spindle":
        v = v + rng.normal(0, 0.28) * (u**2 - 0.4)
        r = np.sqrt(np.abs(u) ** 1.8 + v**2)
    elif look == "lobed":
        r = _lobes(rng, u, v)
    else:
        r = np.hypot(u, v)
    theta = np.arctan2(v, u)
    for m in (2, 3, 4, 5):
        r = r * (1 + rng.normal(0, wobble / np.sqrt(m - 1)) * np.cos(m * theta + rng.uniform(0, 6.28)))
    edge = np.clip((1 - r) * minor_um / 2 / 0.55 + 0.5, 0, 1)
    grain = ndimage.gaussian_filter(rng.standard_normal(x.shape), grain_um / mpp, truncate=3.0)
    grain /= grain.std() + 1e-9
    density = base * rng.uniform(0.86, 1.14) + amplitude * grain + rim * np.exp(-(((r - 0.9) / 0.16) ** 2))
    if look == "clock":
        density += 0.25 * np.cos(5 * theta) * np.clip(r, 0, 1)
    for _ in range(int(rng.integers(0, nucleoli + 1))):
        cu, cv, size = rng.uniform(-0.45, 0.45), rng.uniform(-0.45, 0.45), rng.uniform(0.5, 0.9)
        spot = ((u - cu) * major_um / 2) ** 2 + ((v - cv) * minor_um / 2) ** 2
        density += rng.uniform(0.45, 0.8) * np.exp(-spot / size**2)
    return (np.clip(density, 0.15, 2.0) * edge).astype(np.float32)


def _lobes(rng: np.random.Generator, u: F32, v: F32) -> F32:
    r = np.full(u.shape, 9.0, np.float32)
    turn = rng.uniform(0, 6.28)
    for k in range(3):
        cu, cv = 0.5 * np.cos(turn + 2.1 * k), 0.5 * np.sin(turn + 2.1 * k)
        r = np.minimum(r, np.hypot(u - cu, v - cv) / 0.46)
    return r


@lru_cache(maxsize=512)
def body(diameter_um: float, aspect: float, angle_bin: int, variant: int, mpp: float) -> F32:
    """Soft cell body, (side, side) float32 in 0..1 with a thin darker membrane."""
    rng = np.random.default_rng([int(diameter_um * 4), int(aspect * 100), angle_bin, variant])
    half = int(np.ceil(0.6 * diameter_um / mpp)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * mpp
    angle = np.pi * angle_bin / ANGLES
    u, v = (x * np.cos(angle) + y * np.sin(angle)), (-x * np.sin(angle) + y * np.cos(angle)) / aspect
    r, theta = np.hypot(u, v) * 2 / diameter_um, np.arctan2(v, u)
    for m in (2, 3, 4, 6):
        r = r * (1 + rng.normal(0, 0.06) * np.cos(m * theta + rng.uniform(0, 6.28)))
    shape = np.clip((1 - r) * diameter_um / 2 / 1.2 + 0.5, 0, 1) * (0.8 + 0.2 * np.exp(-(((r - 0.9) / 0.12) ** 2)))
    return shape.astype(np.float32)
