"""Tiles of many slides as one stream of batches, for a whole run: no start-up per slide, a bad tile is told and not fatal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.slides.findings import SlideError
from ml.slides.reader import Slide, open_slide
from ml.types import TileGrid


@dataclass(frozen=True)
class TileSource:
    """What to read of one slide. rows: (n,) int64, which tiles of the grid, in this order; None means all. mpp: um per px0 or None."""

    path: Path
    grid: TileGrid
    mpp: float | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TileBatch:
    """Tiles of one slide.

    source: index of the TileSource. rows: (b,) int64 rows of its grid. tiles: (b, px, px, 3) uint8 RGB.
    readable: (b,) bool; a tile that cannot be decoded is white. reasons: row -> why, for those.
    """

    source: int
    rows: NDArray[np.int64]
    tiles: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)


def tile_batches(sources: Iterable[TileSource], out_px: int, batch: int = 256) -> Iterator[TileBatch]:
    """Batches of at most `batch` tiles, sources in order, rows in order, never two slides in one batch.

    Errors: SlideError of a source that cannot be opened at all (FILE_MISSING, OPEN_FAILED ...).
    """
    for number, source in enumerate(sources):
        rows = np.arange(len(source.grid)) if source.rows is None else np.asarray(source.rows, np.int64)
        with open_slide(source.path, mpp=source.mpp) as slide:
            for start in range(0, len(rows), batch):
                yield _read(number, slide, source.grid, rows[start : start + batch], out_px)


def _read(number: int, slide: Slide, grid: TileGrid, rows: NDArray[np.int64], out_px: int) -> TileBatch:
    tiles = np.full((len(rows), out_px, out_px, 3), 255, np.uint8)
    readable, reasons = np.ones(len(rows), bool), {}
    for i, row in enumerate(rows):
        x, y = grid.xy[row]
        try:
            tiles[i] = slide.read(float(x), float(y), out_px, grid.tile_um / out_px)
        except SlideError as error:
            readable[i], reasons[int(row)] = False, error.sentence
    return TileBatch(number, rows, tiles, readable, reasons)
