"""Which patches are hidden from the encoder: True = masked (spec 6 and 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Range = tuple[float, float]


def independent(rng: np.random.Generator, channels: int, grid: tuple[int, int], share: Range = (0.6, 1.0)) -> Mask:
    """(C, H, W): per channel a ratio r ~ U(share) and exactly ceil(r H W) patches, anywhere. As in training; r near 1 hides a channel."""
    size = grid[0] * grid[1]
    hidden = np.ceil(rng.uniform(*share, channels) * size).astype(np.int64)
    rank = rng.random((channels, size)).argsort(axis=1).argsort(axis=1)
    return (rank < hidden[:, None]).reshape(channels, *grid)


def marker(channels: int, grid: tuple[int, int], which: int) -> Mask:
    """(C, H, W): one channel whole, nothing else; the decoder then has the patch summaries only."""
    mask = np.zeros((channels, *grid), bool)
    mask[which] = True
    return mask


def niche(rng: np.random.Generator, channels: int, grid: tuple[int, int], share: Range = (0.6, 1.0)) -> Mask:
    """(C, H, W): one ratio and the same positions in every channel; at a masked position nothing at all is seen."""
    return np.repeat(independent(rng, 1, grid, share), channels, axis=0)
