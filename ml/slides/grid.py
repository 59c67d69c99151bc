"""Square tiles on the tissue of a slide, with the exact share of tissue in each from a summed-area table.

Crow FC. Summed-area tables for texture mapping. SIGGRAPH 1984.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.slides.reader import Slide
from ml.slides.tissue import TissueMask
from ml.types import TileGrid


def tile_grid(mask: TissueMask, slide: Slide, tile_um: float = 56.0, step_um: float = 56.0, min_tissue: float = 0.3) -> TileGrid:
    """Tiles of `tile_um` every `step_um` that lie wholly on the slide and are at least `min_tissue` (0..1) tissue, row by row.

    Corners are rounded to whole px0; sides stay floats. No tile fits or qualifies: an empty grid. Error: SlideError MPP_MISSING.
    """
    mpp = slide.need_mpp()
    tile_px0, step_px0 = tile_um / mpp, step_um / mpp
    xs, ys = (_starts(side, tile_px0, step_px0) for side in slide.size)
    if min_tissue > 0:
        # At a fine step most places of a slide lie far from a small piece of tissue: these are not measured at all.
        xs, ys = (_near(starts, tile_px0, mask.mask.any(axis=axis), mask.cell_px0) for axis, starts in enumerate((xs, ys)))
    share = tissue_share(mask.mask, mask.cell_px0, xs, ys, tile_px0)
    rows, cols = np.nonzero(share >= min_tissue)
    return TileGrid(
        xy=np.stack([xs[cols], ys[rows]], axis=1),
        tile_px0=tile_px0,
        mpp=mpp,
        slide_size=slide.size,
        tissue=share[rows, cols].astype(np.float32),
    )


def tissue_share(
    mask: NDArray[np.bool_], cell_px0: float, xs: NDArray[np.int64], ys: NDArray[np.int64], tile_px0: float
) -> NDArray[np.float64]:
    """(len(ys), len(xs)) float64 share of tissue, 0..1, of the tiles with corners (xs[j], ys[i]) px0; fractional edges are exact.

    The integral of a piecewise constant mask is bilinear inside a cell, so interpolating the table linearly loses nothing.
    """
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    table[1:, 1:] = mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    strips = _at(table, (ys + tile_px0) / cell_px0) - _at(table, ys / cell_px0)
    covered = _at(strips.T, (xs + tile_px0) / cell_px0) - _at(strips.T, xs / cell_px0)
    share: NDArray[np.float64] = np.clip(covered.T * (cell_px0 / tile_px0) ** 2, 0.0, 1.0)
    return share


def _starts(side_px0: int, tile_px0: float, step_px0: float) -> NDArray[np.int64]:
    """Corners (int64 px0) along one side whose whole tile lies inside."""
    count = int(np.floor((side_px0 - tile_px0) / step_px0 + 1e-9)) + 1
    starts = np.rint(np.arange(max(count, 0)) * step_px0).astype(np.int64)
    return starts[starts + tile_px0 <= side_px0 + 0.5]


def _near(starts: NDArray[np.int64], tile_px0: float, tissue: NDArray[np.bool_], cell_px0: float) -> NDArray[np.int64]:
    """The corners whose tiles reach into the span of tissue along one side. tissue: which cells of that side have any."""
    cells = np.flatnonzero(tissue)
    if not len(cells):
        return starts[:0]
    return starts[(starts + tile_px0 > cells[0] * cell_px0) & (starts < (cells[-1] + 1) * cell_px0)]


def _at(table: NDArray[np.float64], position: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of a table at float positions, linear between rows, constant beyond its ends."""
    position = np.clip(position, 0.0, table.shape[0] - 1)
    low = np.minimum(np.floor(position).astype(np.int64), table.shape[0] - 2)
    part = (position - low)[:, None]
    rows: NDArray[np.float64] = table[low] * (1 - part) + table[low + 1] * part
    return rows
