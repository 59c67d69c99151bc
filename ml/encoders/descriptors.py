"""he-descriptors: 32 fixed colour and texture descriptors of an H&E tile. Nothing is trained, so nothing can have been seen before.

Ten are those of ml.slides.morphology, here in plain optical density instead of relative to the slide: an encoder sees a tile, no slide.
They serve as a baseline, and make everything behind feature extraction work before anybody has brought weights.
"""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ml.slides.morphology import BLOCK, MORPHOLOGY, StainScale, tile_morphology, unmix

QUANTILES = (5, 25, 50, 75, 95)
LAGS_UM = (2, 4, 8)
STAINS = ("hematoxylin", "eosin")
# One optical density is the unit: no scale of the slide, so a tile's vector depends on the tile alone.
UNIT = StainScale(1.0, 1.0)

NAMES: tuple[str, ...] = (
    *MORPHOLOGY,
    *(f"{stain}_q{q:02}" for stain in STAINS for q in QUANTILES),  # optical density, of every fourth pixel
    *(f"{channel}_{what}" for what in ("mean", "sd") for channel in ("red", "green", "blue")),  # 0..1
    *(f"{stain}_step_{um}um" for stain in STAINS for um in LAGS_UM),  # mean absolute difference of two pixels that far apart
)
# Goes into every version's checksum: raise it whenever a value may change.
REVISION = 1


def fingerprint() -> str:
    """SHA-256 of what defines the descriptors; stands where other encoders have the checksum of their weights."""
    return sha256(json.dumps(["he-descriptors", REVISION, NAMES]).encode()).hexdigest()


def describe(tiles: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """(n, 32) float32 in the order of NAMES from (n, S, S, 3) uint8 RGB tiles of `mpp` um per pixel.

    Raises MorphologyError (shape, mpp), as ml.slides.morphology does.
    """
    tiles = np.asarray(tiles)
    out = np.empty((len(tiles), len(NAMES)), np.float32)
    out[:, : len(MORPHOLOGY)] = tile_morphology(tiles, UNIT, mpp)
    for first in range(0, len(tiles), BLOCK):
        block = slice(first, first + BLOCK)
        out[block, len(MORPHOLOGY) :] = np.concatenate(_colours(tiles[block], mpp), axis=1)
    return out


def _colours(tiles: NDArray[np.uint8], mpp: float) -> list[NDArray[np.float32]]:
    """Stain quantiles (n, 10), channel means and deviations (n, 6), and steps (n, 6) of a block of tiles."""
    stains = unmix(tiles)
    quantiles = [np.percentile(stain[:, ::2, ::2], QUANTILES, axis=(1, 2)).T for stain in stains]
    planes = [tiles[..., channel].reshape(len(tiles), -1).astype(np.float32) / 255 for channel in range(3)]
    means = [plane.mean(axis=1, keepdims=True) for plane in planes]
    deviations = [plane.std(axis=1, keepdims=True) for plane in planes]
    return [*quantiles, *means, *deviations, *(_steps(stain, mpp) for stain in stains)]


def _steps(stain: NDArray[np.float32], mpp: float) -> NDArray[np.float32]:
    """(n, lags): mean absolute difference between pixels a lag apart, over rows and columns."""
    columns = []
    for um in LAGS_UM:
        lag = max(round(um / mpp), 1)
        across = np.abs(stain[:, :, lag:] - stain[:, :, :-lag]).mean(axis=(1, 2))
        down = np.abs(stain[:, lag:] - stain[:, :-lag]).mean(axis=(1, 2))
        columns.append((across + down) / 2)
    return np.stack(columns, axis=1)
