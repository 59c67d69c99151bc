"""fixed-map-descriptors: 46 fixed descriptors of one marker's map. Nothing is trained and no weights are needed.

They stand where DINOv2's weights are not at hand. They say how much of the marker there is, how it is spread over values, on what scale it
is patchy, and roughly where; a bag says that it was made by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FIXED_MAP_DESCRIPTORS = "fixed-map-descriptors"
QUANTILES = (5, 10, 25, 50, 75, 90, 95, 99)
LEVELS = (0.1, 0.25, 0.5, 0.75)
SCALES = (1, 2, 4, 8)  # side of a block in cells of the map
GRID = 4

NAMES: tuple[str, ...] = (
    "mean",
    "sd",
    *(f"q{q:02}" for q in QUANTILES),
    *(f"share_above_{level}" for level in LEVELS),
    *(f"{what}_{scale}" for scale in SCALES for what in ("sd_of_blocks", "neighbour_correlation", "neighbour_step", "roughness")),
    *(f"grid_{row}{column}" for row in range(GRID) for column in range(GRID)),
)
DIM = len(NAMES)


def describe_maps(maps: NDArray[Any]) -> NDArray[np.float32]:
    """(P, 46) float32 in the order of NAMES, of maps (H, W, P) in 0..1.

    Only tissue counts: cells that are NaN, or exactly zero for all markers (the background of released maps), are no tissue. Where a figure
    is not defined (no neighbours on that scale, no variation) it is 0.
    """
    maps = np.asarray(maps, np.float64)
    tissue = np.isfinite(maps).all(axis=2) & (np.nan_to_num(maps) != 0).any(axis=2)
    if not tissue.any():
        return np.zeros((maps.shape[2], DIM), np.float32)
    rows, columns = np.flatnonzero(tissue.any(axis=1)), np.flatnonzero(tissue.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    tissue, inside = tissue[box], np.clip(np.nan_to_num(maps[box]), 0, 1)
    values = inside[tissue]  # (cells, P)
    parts = [values.mean(axis=0, keepdims=True), values.std(axis=0, keepdims=True), np.percentile(values, QUANTILES, axis=0)]
    parts.append(np.stack([(values > level).mean(axis=0) for level in LEVELS]))
    parts.extend(_texture(inside * tissue[..., None], tissue, scale) for scale in SCALES)
    parts.append(_grid(inside * tissue[..., None], tissue))
    return np.concatenate(parts).T.astype(np.float32)


def _blocks(values: NDArray[Any], tissue: NDArray[np.bool_], scale: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Means over the tissue of blocks of scale x scale cells, (h, w, P), and which blocks hold tissue."""
    tall, wide = -tissue.shape[0] % scale, -tissue.shape[1] % scale
    values, share = np.pad(values, ((0, tall), (0, wide), (0, 0))), np.pad(tissue, ((0, tall), (0, wide))).astype(float)
    shape = (values.shape[0] // scale, scale, values.shape[1] // scale, scale)
    count = share.reshape(shape).sum(axis=(1, 3))
    sums = values.reshape(*shape, -1).sum(axis=(1, 3))
    return sums / np.maximum(count, 1)[..., None], count > 0


def _texture(values: NDArray[Any], tissue: NDArray[np.bool_], scale: int) -> NDArray[np.float64]:
    """(4, P) of the blocks of one scale: deviation, correlation and mean step of neighbouring blocks, and the step in deviations."""
    means, known = _blocks(values, tissue, scale)
    deviation = means[known].std(axis=0)
    pairs = [
        (a[both], b[both])
        for a, b, both in (
            (means[1:], means[:-1], known[1:] & known[:-1]),
            (means[:, 1:], means[:, :-1], known[:, 1:] & known[:, :-1]),
        )
    ]
    one, other = (np.concatenate(side) for side in zip(*pairs))
    if len(one) < 2:
        return np.stack([deviation, *np.zeros((3, values.shape[2]))])
    step = np.abs(one - other).mean(axis=0)
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norm = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    correlation = np.divide((one * other).sum(axis=0), norm, out=np.zeros_like(norm), where=norm > 1e-12)
    roughness = np.divide(step, deviation, out=np.zeros_like(step), where=deviation > 1e-6)
    return np.stack([deviation, correlation, step, roughness])


def _grid(values: NDArray[Any], tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(16, P): mean over the tissue of each cell of a 4 x 4 grid over the tissue's box; 0 where a cell has none."""
    parts = []
    for rows in np.array_split(np.arange(tissue.shape[0]), GRID):
        for columns in np.array_split(np.arange(tissue.shape[1]), GRID):
            place = np.ix_(rows, columns)
            parts.append(values[place].reshape(-1, values.shape[2]).sum(axis=0) / max(int(tissue[place].sum()), 1))
    return np.stack(parts)
