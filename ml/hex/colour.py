"""Plain colour and texture of a tile: for the baselines that HEX has to beat, and for judging whether a tile is inside its range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows: optical density per RGB of hematoxylin, eosin and a residual (Ruifrok and Johnston 2001).
STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_UNMIX = np.linalg.inv(np.array(STAINS)).astype(np.float32)
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


def stain_density(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, S, S, 3) uint8 RGB -> (n, S, S, 3) float32 optical density of hematoxylin, eosin, residual."""
    return _DENSITY[images] @ _UNMIX


def nuclear_density(images: NDArray[np.uint8], block: int = 512) -> NDArray[np.float32]:
    """(n,) float32 mean hematoxylin density of each tile: what anybody can see of how many nuclei there are."""
    return np.concatenate([stain_density(images[i : i + block])[..., 0].mean(axis=(1, 2)) for i in range(0, len(images), block)])


def tile_statistics(images: Any, block: int = 512) -> NDArray[np.float32]:
    """(n, 24) float32 of tiles (n, S, S, 3) uint8 (an array, or anything that gives slices of one): per stain the mean, sd, four
    percentiles (of some 512 pixels) and texture at two scales.

    Texture is the mean absolute difference of pixels 1 and 4 apart.
    """
    return np.concatenate([_statistics(stain_density(images[i : i + block])) for i in range(0, len(images), block)])


def _statistics(density: NDArray[np.float32]) -> NDArray[np.float32]:
    n, s = density.shape[:2]
    pixels = density.reshape(n, s * s, 3)
    some = np.sort(pixels[:, :: max(1, s * s // 512)], axis=1)
    percentiles = [some[:, int(q * (some.shape[1] - 1))] for q in (0.05, 0.25, 0.75, 0.95)]
    texture = [
        0.5
        * (
            np.abs(density[:, step:] - density[:, :-step]).mean(axis=(1, 2))
            + np.abs(density[:, :, step:] - density[:, :, :-step]).mean(axis=(1, 2))
        )
        for step in (1, 4)
    ]
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1), *percentiles, *texture], axis=1)
