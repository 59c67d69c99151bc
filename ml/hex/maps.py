"""Predictions of tiles -> a map over the slide, by physical size, at any stride.

A cell is one step of the grid. Where the step is finer than the tile, tiles overlap and a cell is the mean of all tiles over its centre:
a finer pitch, which is no finer resolution. The released code lets a later tile overwrite an earlier one (ml.hex.released_maps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from ml.hex.errors import HexDataError
from ml.types import TileGrid, VirtualMap

Cells = NDArray[np.int64]
# Corners are whole pixels: the first corner and a later one are each up to half a pixel off the grid that they stand for.
OFF_GRID_PX0 = 1.0 + 1e-6


def to_map(
    values: NDArray[np.float32],
    grid: TileGrid,
    names: Sequence[str],
    out_of_range: NDArray[np.float32] | None = None,
    effective_resolution_um: float | None = None,
    spread: NDArray[np.float32] | None = None,
    step_um: float | None = None,
) -> VirtualMap:
    """Lays predictions on the slide: values (n, P), row i of tile i of the grid -> VirtualMap over the tiles' bounding box.

    out_of_range: (n,) per tile. spread: (n, P) half-widths per tile, NaN where none; a cell has none where one of its tiles has none.
    step_um: distance of neighbouring tiles; None measures it from the corners. A corner is taken as the place of the grid that it was
    rounded from. Side by side, a cell is its tile; overlapping, the mean of the tiles over its centre; cells without a tile are NaN.
    Raises HexDataError: rows, tiles and names that do not fit, a value that is no number, corners that are not on the grid of step_um.
    """
    check_rows(values, grid, names)
    origin = grid.xy.min(axis=0).astype(float)
    step = grid_step(grid) if step_um is None else step_um / grid.mpp
    col, row = (cells := np.rint((grid.xy - origin) / step).astype(np.int64)).T
    if step_um is not None and (off := np.abs(grid.xy - origin - cells * step).max()) > OFF_GRID_PX0:
        raise HexDataError(
            "map_step", f"A tile lies {off:.1f} px off the grid of {step_um:g} um.", "Give the step that the tiles have.", "step_um"
        )
    lay = _Layout(row, col, tiles_over_centre(grid.tile_px0, step))
    return VirtualMap(
        values=lay.all(values),
        names=tuple(names),
        pitch_um=step * grid.mpp,
        origin_px0=(float(origin[0]), float(origin[1])),
        step_px0=step,
        effective_resolution_um=effective_resolution_um,
        out_of_range=None if out_of_range is None else lay.all(out_of_range[:, None])[0],
        spread=None if spread is None else lay.all(spread),
    )


def check_rows(values: NDArray[Any], grid: TileGrid, names: Sequence[str]) -> None:
    """HexDataError unless values are (tiles, names) finite numbers and there is a tile."""
    if values.shape != (len(grid), len(names)) or not len(grid):
        raise HexDataError(
            "map_shape", f"Values are {values.shape} for {len(grid)} tiles and {len(names)} names.", "Give one row per tile.", "values"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise HexDataError(
            "map_not_finite",
            f"The prediction of {names[column]} in row {row} is no number.",
            "Leave such tiles out, or predict again.",
            f"values[{row}]",
        )


def tiles_over_centre(tile_px0: float, step_px0: float) -> int:
    """How many cells in a row a tile counts for: those whose centre it covers, counted from its own corner; at least its own."""
    return max(1, math.ceil(tile_px0 / step_px0 - 0.5 - 1e-6))


class _Layout:
    """Where the tiles go. row, col: (n,) cell of each tile's corner. side: cells that a tile counts for, along x and along y."""

    def __init__(self, row: Cells, col: Cells, side: int) -> None:
        self.side = side
        self.places = (int(row.max()) + 1, int(col.max()) + 1)
        self.shape = (self.places[0] + side - 1, self.places[1] + side - 1)
        self.flat = row * self.places[1] + col
        self.count = np.bincount(self.flat, minlength=self.places[0] * self.places[1]).astype(float)
        self.plain = side == 1 and self.count.max() == 1
        self.covered = None if self.plain else self._box(self.count)

    def all(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, layers) per tile -> (layers, rows, cols) float32; one layer at a time, so that memory is that of the answer."""
        layers = np.full((rows.shape[1], *self.shape), np.nan, np.float32)
        for layer, column in zip(layers, rows.T):
            if self.plain:
                layer.reshape(-1)[self.flat] = column
            else:
                layer[:] = self._mean(column)
        return layers

    def _mean(self, column: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean over the tiles of each cell; NaN where there is none, or where one of them is NaN."""
        assert self.covered is not None
        lost = np.isnan(column)
        total = self._box(np.bincount(self.flat, np.where(lost, 0, column), len(self.count)))
        # Sums of whole numbers, divided by the window: half a tile is far from both 0 and 1.
        half = 0.5 / self.side**2
        mean: NDArray[np.float64] = np.divide(total, self.covered, out=np.full(self.shape, np.nan), where=self.covered > half)
        if lost.any():
            mean[self._box(np.bincount(self.flat, lost, len(self.count))) > half] = np.nan
        return mean

    def _box(self, summed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums per corner -> mean over the window of corners whose tiles lie over each cell (up and left of it)."""
        box = np.zeros(self.shape)
        box[: self.places[0], : self.places[1]] = summed.reshape(self.places)
        if self.side > 1:
            for axis in (0, 1):
                box = uniform_filter1d(box, self.side, axis, mode="constant", origin=(self.side - 1) // 2)
        return box


def grid_step(grid: TileGrid) -> float:
    """Step of the grid in px0. Corners are whole pixels and the step need not be: it is measured over the whole width."""
    steps = []
    for axis in (0, 1):
        places = np.unique(grid.xy[:, axis])
        gaps = np.diff(places)[np.diff(places) > 1]
        if len(gaps):
            span, usual = float(places[-1] - places[0]), gaps[gaps <= gaps.min() + 1].mean()
            steps.append(span / round(span / usual))
    step = min(steps, default=grid.tile_px0)
    return grid.tile_px0 if step > grid.tile_px0 - 1 else step
