"""Where crops are taken from a tissue: greedy tiles that cover it, or random sub-images (spec 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.virtues.errors import VirtuesError

Mask = NDArray[np.bool_]
Corners = NDArray[np.int64]
# Of the greedy tiling, as the published example was made.
COVERAGE_GOAL, MIN_GAIN = 0.95, 0.1
# Sub-images that are looked at for one that is kept, at most.
TRIES = 50


def flush_starts(length: int, size: int, stride: int) -> list[int]:
    """Starts 0, stride, 2 stride, ... of windows of `size` within `length`, and a last one flush with the end. size <= length."""
    starts = list(range(0, length - size + 1, stride))
    return starts if starts[-1] == length - size else [*starts, length - size]


class Shares:
    """Share of True in any square of a mask (h, w), from a summed-area table."""

    def __init__(self, mask: Mask) -> None:
        self.table = np.pad(np.cumsum(np.cumsum(mask, axis=0, dtype=np.int64), axis=1), ((1, 0), (1, 0)))

    def counts(self, corners: Corners, size: int) -> NDArray[np.int64]:
        """(n,) True pixels of the squares at corners (n, 2) row, column."""
        r, c = np.asarray(corners).reshape(-1, 2).T
        t = self.table
        found: NDArray[np.int64] = t[r + size, c + size] - t[r, c + size] - t[r + size, c] + t[r, c]
        return found

    def of(self, corners: Corners, size: int) -> NDArray[np.float64]:
        """(n,) shares, 0..1."""
        return self.counts(corners, size) / size**2


def greedy_tiles(
    tissue: Mask,
    size: int = 128,
    stride: int | None = None,
    min_tissue: float = 0.05,
    goal: float = COVERAGE_GOAL,
    min_gain: float = MIN_GAIN,
    allowed: Mask | None = None,
) -> Corners:
    """(n, 2) int64 row, column of tiles that cover the tissue, in the order in which they were taken.

    tissue: (h, w). Candidates lie every `stride` (half a tile) px and flush with the far edges, and hold at least min_tissue of tissue.
    Again and again the one that covers most uncovered tissue is taken (the first of equals, row by row), until the best would add less than
    min_gain of its area once `goal` of the tissue is covered. allowed: (h, w), pixels that a tile may touch. VirtuesError: image_small.
    """
    _large_enough(tissue, size)
    step = stride or size // 2
    corners = np.array([(r, c) for r in flush_starts(tissue.shape[0], size, step) for c in flush_starts(tissue.shape[1], size, step)])
    kept = Shares(tissue).of(corners, size) >= min_tissue
    if allowed is not None:
        kept &= Shares(allowed).counts(corners, size) == size**2
    corners, uncovered, total = corners[kept], tissue.copy(), int(tissue.sum())
    taken = []
    gains = Shares(uncovered).counts(corners, size)
    while len(corners) and (best := int(np.argmax(gains))) >= 0 and gains[best] > 0:
        if gains[best] < min_gain * size**2 and 1 - uncovered.sum() / total >= goal:
            break
        row, col = corners[best]
        taken.append((row, col))
        uncovered[row : row + size, col : col + size] = False
        gains = Shares(uncovered).counts(corners, size)
    return np.array(taken, np.int64).reshape(-1, 2)


def random_subimages(
    tissue: Mask, size: int, per_area: int, min_tissue: float, rng: np.random.Generator, allowed: Mask | None = None
) -> Corners:
    """(n, 2) int64 corners of random squares with at least min_tissue of tissue; n = per_area x the squares that the tissue's area holds.

    Fewer where hardly any square will do: fifty are looked at for one (a tissue with none gives none). allowed: as in `greedy_tiles`.
    VirtuesError: image_small.
    """
    _large_enough(tissue, size)
    wanted = per_area * max(1, round(float(tissue.sum()) / size**2))
    tried = rng.integers(0, np.array(tissue.shape) - size + 1, (wanted * TRIES, 2))
    kept = Shares(tissue).of(tried, size) >= min_tissue
    if allowed is not None:
        kept &= Shares(allowed).counts(tried, size) == size**2
    return tried[kept][:wanted].astype(np.int64)


def _large_enough(tissue: Mask, size: int) -> None:
    if min(tissue.shape) < size:
        said = f"An image of {tissue.shape[0]} x {tissue.shape[1]} px has no room for a square of {size} px."
        raise VirtuesError("image_small", said, "Leave it out, or take smaller squares.")
