"""What is true of a simulated field: its niches as vectors, the distance between two of them, and a histogram of colours to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.simulate.multiplex import SimulatedMultiplex
from ml.simulate.niches import NICHES
from ml.simulate.programmes import CELL_TYPES
from ml.transport.wasserstein import wasserstein2

NICHE_PX = 128
CENTRAL = 4
F64 = NDArray[np.float64]


def central_boxes(shape: tuple[int, int], side: int = NICHE_PX, most: int = CENTRAL) -> NDArray[np.int64]:
    """(k, 2) row and column of the corners of the central grid of at most `most` x `most` boxes of `side` px, row by row.

    ValueError where the image is smaller than a box.
    """
    rows, cols = (min(most, v // side) for v in shape)
    if not rows or not cols:
        raise ValueError(f"An image of {shape[0]} x {shape[1]} px holds no box of {side} px.")
    top, left = (shape[0] - rows * side) // 2, (shape[1] - cols * side) // 2
    return np.array([(top + i * side, left + j * side) for i in range(rows) for j in range(cols)], np.int64)


def kept_boxes(tissue_mask: NDArray[np.bool_], least: float = 0.3) -> NDArray[np.int64]:
    """(k, 2) those of the central boxes with at least `least` of tissue; the fullest one where none has as much."""
    boxes = central_boxes(tissue_mask.shape)  # type: ignore[arg-type]
    share = np.array([tissue_mask[r : r + NICHE_PX, c : c + NICHE_PX].mean() for r, c in boxes])
    return boxes[share >= min(least, float(share.max()))]


def true_niches(m: SimulatedMultiplex) -> F64:
    """(k, 15 + 6) of each kept box: its cells' share per type, then its tissue's share per niche; each part sums to 1 or is 0."""
    boxes, vectors = kept_boxes(m.tissue_mask), []
    for r, c in boxes:
        inside = (m.cells.y_um >= r) & (m.cells.y_um < r + NICHE_PX) & (m.cells.x_um >= c) & (m.cells.x_um < c + NICHE_PX)
        kinds = np.bincount(m.cells.kind[inside], minlength=len(CELL_TYPES)).astype(float)
        areas = np.bincount(m.niche_map[r : r + NICHE_PX, c : c + NICHE_PX].ravel(), minlength=len(NICHES))[1:].astype(float)
        vectors.append(np.concatenate([part / max(part.sum(), 1) for part in (kinds, areas)]))
    return np.array(vectors)


def true_distance(a: SimulatedMultiplex | F64, b: SimulatedMultiplex | F64) -> float:
    """Exact 2-Wasserstein distance between the true compositions of the niches of two fields, uniform weights. 0 (alike) to 2.

    a, b: fields, or their `true_niches`, for many distances.
    """
    x, y = (true_niches(v) if isinstance(v, SimulatedMultiplex) else v for v in (a, b))
    return wasserstein2(x, np.full(len(x), 1 / len(x)), y, np.full(len(y), 1 / len(y)))


def majority_niches(m: SimulatedMultiplex, side: int) -> NDArray[np.uint8]:
    """(H // side, W // side) uint8: the niche that covers most of each square of `side` px, glass included."""
    rows, cols = (v // side for v in m.niche_map.shape)
    squares = m.niche_map[: rows * side, : cols * side].reshape(rows, side, cols, side)
    return np.asarray(np.stack([(squares == k).sum(axis=(1, 3)) for k in range(len(NICHES))]).argmax(axis=0), np.uint8)


def colour_histogram(picture: NDArray[np.uint8], bins: int = 8) -> NDArray[np.float32]:
    """(bins^3,) float32 share of the px per cell of the RGB cube. picture: (h, w, 3) uint8. It sums to 1."""
    step = (picture.reshape(-1, 3).astype(np.int64) * bins) >> 8
    counts = np.bincount(step @ np.array([bins * bins, bins, 1]), minlength=bins**3)
    return (counts / counts.sum()).astype(np.float32)
