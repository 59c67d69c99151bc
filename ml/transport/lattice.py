"""Which tiles make up which niche: squares of a lattice anchored at the slide's origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.transport.errors import TransportError
from ml.types import TileGrid

DROPPED = -1


@dataclass(frozen=True)
class NicheAssignment:
    """The kept niches of a slide, row by row of the lattice.

    tile_niche: (n,) int64, the niche of each tile, -1 where its niche was not kept.
    boxes: (k, 4) float64, x, y, width, height in px0. tissue: (k,) float64, estimated share of the niche that is tissue.
    n_found: niches with at least one tile, kept or not.
    """

    tile_niche: NDArray[np.int64]
    boxes: NDArray[np.float64]
    tissue: NDArray[np.float64]
    n_found: int

    @property
    def n_tiles(self) -> NDArray[np.int64]:
        """(k,) tiles per kept niche."""
        return np.bincount(self.tile_niche[self.tile_niche != DROPPED], minlength=len(self.boxes))


def niches_of(grid: TileGrid, min_tissue: float = 0.30, niche_um: float = 128.0) -> NicheAssignment:
    """Assign tiles to niches by their centre and keep niches with enough tissue.

    Niche (row, col) covers px0 x in [col*s, (col+1)*s) and y in [row*s, (row+1)*s), s = niche_um / mpp; a tile belongs
    to the one its centre lies in (a centre on a line belongs to the right or lower niche). Its tissue share is the sum
    over its tiles of (tissue share x tile area) / (niche area), clipped to 1; the niche area is always the whole
    square, also at the slide's edge, and tissue without a tile counts as none. Tiles are taken not to overlap.
    A niche is kept when that share is at least min_tissue.

    Raises TransportError: tissue_unknown, tissue_range, tile_too_large, empty.
    """
    if not len(grid):
        raise TransportError("empty", "The slide has no tiles.", "Check the tissue mask of the slide.")
    if grid.tissue is None:
        hint = "Measure it with the tissue mask, or give 1 for each tile of a grid that lists tissue tiles only."
        raise TransportError("tissue_unknown", "The tiles carry no tissue share.", hint)
    tissue = np.asarray(grid.tissue, dtype=np.float64)
    if tissue.shape != (len(grid),) or not ((tissue >= 0) & (tissue <= 1)).all():
        raise TransportError("tissue_range", "The tissue shares are not one number from 0 to 1 per tile.", "Measure them again.")
    if grid.tile_um > niche_um:
        sentence = f"A tile of {grid.tile_um:.4g} um is larger than a niche of {niche_um:.4g} um."
        raise TransportError("tile_too_large", sentence, "Use smaller tiles or larger niches.")
    side = niche_um / grid.mpp
    col_row = np.floor(grid.centres / side).astype(np.int64)
    found, which = np.unique(col_row[:, ::-1], axis=0, return_inverse=True)  # (row, col): row by row
    which = which.reshape(-1)
    share = np.minimum(np.bincount(which, weights=tissue) * (grid.tile_um / niche_um) ** 2, 1.0)
    kept = share >= min_tissue
    number = np.where(kept, np.cumsum(kept) - 1, DROPPED)
    corner = found[kept][:, ::-1] * side
    boxes = np.concatenate([corner, np.full_like(corner, side)], axis=1)
    return NicheAssignment(number[which], boxes, share[kept], len(found))
