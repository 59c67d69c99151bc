"""What a laboratory's multiplex assay does to the amounts in a tissue. Drawn from laboratory, batch and image, never from the biology."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.simulate.multiplex_panel import Marker

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class AssayLaw:
    """How one image is measured. gain: (C,) factor of the counts. background: (C,) counts per px without any antigen.

    spillover: (C, C) float32, row i column j: share of channel i's signal that is read in channel j, too (diagonal 1).
    blur_px: sd of the optics or of the ablation spot. hot: share of px with a burst of counts.
    """

    gain: F32
    background: F32
    spillover: F32
    blur_px: float
    hot: float


@dataclass(frozen=True)
class Pathologies:
    """Strengths of what is wrong with measurements: log sd of gains by site, batch and image; counts of background and its log sd by site;
    greatest share that spills into a neighbouring channel."""

    site_sd: float
    batch_sd: float
    image_sd: float
    background: float
    background_sd: float
    spillover: float
    hot: float


def _stream(*names: object) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(str(name).encode()) for name in names])


def assay_law(
    markers: tuple[Marker, ...], site: int, batch: int, image: np.random.Generator, strength: Pathologies, laboratories: int = 0
) -> AssayLaw:
    """The law of one image of batch `batch` of laboratory `site`.

    A laboratory treats a marker alike in every panel and cohort. laboratories: another number gives other laboratories.
    """
    gain, background = np.empty(len(markers), np.float32), np.empty(len(markers), np.float32)
    for k, marker in enumerate(markers):
        here = _stream("site", laboratories, site, marker.name).normal(0, 1, 2)
        drift = _stream("batch", laboratories, site, batch, marker.name).normal()
        gain[k] = np.exp(strength.site_sd * here[0] + strength.batch_sd * drift + strength.image_sd * image.normal())
        background[k] = strength.background * np.exp(strength.background_sd * here[1])
    leak = _stream("spillover", laboratories, site, batch).uniform(0.1, 1.0, (2, len(markers))) * strength.spillover
    spillover = np.eye(len(markers), dtype=np.float32)
    spillover[np.arange(len(markers) - 1), np.arange(1, len(markers))] = leak[0, :-1]
    spillover[np.arange(1, len(markers)), np.arange(len(markers) - 1)] = leak[1, 1:]
    blur = float(_stream("blur", laboratories, site).uniform(0.5, 0.9))
    return AssayLaw(gain, background, spillover, blur, strength.hot)


def measure(amounts: F32, ground: F32, law: AssayLaw, rng: np.random.Generator) -> F32:
    """(C, H, W) mean counts of antigen -> (C, H, W) float32 whole counts: blur, gain, spillover, background, Poisson, hot px.

    ground: (H, W) relative unspecific binding (1 in tissue, less on glass, more in necrosis). `amounts` is overwritten.
    """
    for k in range(len(amounts)):
        ndimage.gaussian_filter(amounts[k], law.blur_px, output=amounts[k], truncate=2.5)
    channels, height, width = amounts.shape
    mixed = (law.spillover.T * law.gain) @ amounts.reshape(channels, -1)  # gain of the antibody, then spread over neighbours
    mixed += law.background[:, None] * ground.reshape(1, -1)
    counts = rng.poisson(mixed).astype(np.float32)
    hot = rng.integers(0, counts.size, rng.binomial(counts.size, law.hot))
    counts.reshape(-1)[hot] += rng.integers(30, 300, len(hot))
    return counts.reshape(channels, height, width)
