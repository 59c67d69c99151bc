"""Cell tokens: patch summaries of many shifted crops, weighted by how much of a patch is the cell (spec 8, Cell)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ml.virtues.errors import VirtuesError

# Not a multiple of the patch, so that the patch grid of every crop lies elsewhere on a cell.
STRIDE = 42
# Zeros around the raw image, so that cells at its border are seen as often as inner ones.
PAD = 120
# (n, C, h, w) crops to (n, H, W, D) patch summaries.
Encode = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class CellTokens:
    """ids: (n,) int64 ascending, labels of the mask. tokens: (n, D) float32. weight: (n,) px by which a cell was seen, over all crops."""

    ids: NDArray[np.int64]
    tokens: NDArray[np.float32]
    weight: NDArray[np.float64]


def crop_origins(height: int, width: int, tile: int = 128, stride: int = STRIDE) -> NDArray[np.int64]:
    """(n, 2) row and column of the crops, row by row: every stride, and one flush with each far edge.

    VirtuesError: image_too_small.
    """
    if min(height, width) < tile:
        said = f"An image of {height} x {width} px is smaller than a crop of {tile} px."
        raise VirtuesError("image_too_small", said, f"It needs at least {tile} px in both directions at the model's um per px.")
    rows, cols = (sorted({*range(0, size - tile + 1, stride), size - tile}) for size in (height, width))
    return np.array([(row, col) for row in rows for col in cols], np.int64)


class CellSums:
    """What was seen of each cell so far. Its state can be kept between crops, so that work goes on where it stopped."""

    def __init__(self, segmentation: NDArray[Any], dim: int) -> None:
        """segmentation: (h, w) whole numbers >= 0, 0 = background. VirtuesError: no_cells."""
        self.ids, places = np.unique(segmentation, return_inverse=True)
        self.place = places.reshape(segmentation.shape)
        if self.ids[0] == 0:
            self.ids, self.place = self.ids[1:], self.place - 1
        if not len(self.ids):
            raise VirtuesError("no_cells", "The cell mask holds no cell.", "Give a mask with a number per cell and 0 between them.")
        self.sums = np.zeros((len(self.ids), dim))
        self.weight = np.zeros(len(self.ids))

    def touches(self, origin: NDArray[np.int64], tile: int) -> bool:
        """Whether any cell lies in a crop."""
        return bool((self._crop(origin, tile) >= 0).any())

    def add(self, origin: NDArray[np.int64], summaries: NDArray[np.float32], patch: int) -> None:
        """Adds one crop. origin: its row and column. summaries: (H, W, D) of it."""
        height, width = summaries.shape[:2]
        crop = self._crop(origin, height * patch)
        row, col = np.nonzero(crop >= 0)
        which = (row // patch) * width + col // patch
        shares = sparse.csr_matrix((np.ones(len(row)), (crop[row, col], which)), shape=(len(self.ids), height * width))
        seen = np.flatnonzero(np.diff(shares.indptr))
        self.sums[seen] += shares[seen] @ summaries.reshape(height * width, -1)
        self.weight[seen] += np.asarray(shares[seen].sum(axis=1)).ravel()

    def result(self) -> CellTokens:
        """Tokens of the cells that were seen; the others are left out."""
        seen = self.weight > 0
        tokens = self.sums[seen] / self.weight[seen, None]
        return CellTokens(self.ids[seen].astype(np.int64), tokens.astype(np.float32), self.weight[seen])

    def _crop(self, origin: NDArray[np.int64], tile: int) -> NDArray[np.int64]:
        row, col = (int(v) for v in origin)
        return self.place[row : row + tile, col : col + tile]


def batches(origins: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Origins in groups of at most `size`."""
    for start in range(0, len(origins), size):
        yield origins[start : start + size]


def cut(image: NDArray[np.float32], origins: Iterable[NDArray[np.int64]], tile: int) -> NDArray[np.float32]:
    """(n, C, tile, tile) crops of an image (C, h, w)."""
    return np.stack([image[:, row : row + tile, col : col + tile] for row, col in origins])


def cell_tokens(
    encode: Encode, image: NDArray[np.float32], segmentation: NDArray[Any], *, tile: int, patch: int, dim: int, stride: int = STRIDE,
    batch: int = 8,
) -> CellTokens:  # fmt: skip
    """Tokens of all cells of a preprocessed image (C, h, w) with its cell mask (h, w). Crops without a cell are not encoded.

    VirtuesError: shape, image_too_small, no_cells.
    """
    if segmentation.shape != image.shape[1:]:
        said = f"The cell mask has {segmentation.shape} px, the image {image.shape[1:]}."
        raise VirtuesError("shape", said, "Give the mask of this very image, at the same um per px.")
    sums = CellSums(segmentation, dim)
    origins = np.array([o for o in crop_origins(*image.shape[1:], tile, stride) if sums.touches(o, tile)], np.int64)
    for group in batches(origins, batch):
        for origin, summaries in zip(group, encode(cut(image, group, tile))):
            sums.add(origin, summaries, patch)
    return sums.result()
