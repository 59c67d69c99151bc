"""What training does to a crop before it is masked (spec 6)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def symmetry(crop: NDArray[np.float32], which: int) -> NDArray[np.float32]:
    """One of the eight symmetries of the square, 0 to 7: a quarter turn per 1, and a mirror on top from 4 on. crop: (C, n, n)."""
    turned = np.rot90(crop, which % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if which >= 4 else turned)


def kept_channels(rng: np.random.Generator, channels: int, least: float = 0.75) -> NDArray[np.int64]:
    """Which channels stay: a share f ~ U(least, 1), ceil(f C) of them without replacement, in random order."""
    count = math.ceil(rng.uniform(least, 1) * channels)
    chosen: NDArray[np.int64] = rng.permutation(channels)[:count]
    return chosen
