"""Where the tiles of a TIFF's levels lie in the file, read once: offsets, byte counts, the shared JPEG tables and the colour space."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

JPEG, JPEG_2000 = "JPEG", "JPEG 2000"
CODECS = {7: JPEG, 33005: JPEG_2000}  # TIFF Technical Note 2; Aperio's JPEG 2000 of RGB samples (33003, YCbCr, is left to OpenSlide)
TILE_SIDES = (16, 4096)


@dataclass(frozen=True)
class TiledLevel:
    """One level of a slide as its file stores it.

    size, tile: (width, height) in pixels of this level. across, down: tiles per row and column. offsets, counts: (across * down,)
    uint64, where each tile begins and its length in bytes (0 = the tile was left out). tables: JPEGTables or None. rgb: samples are
    RGB, else YCbCr.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    across: int
    down: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    tables: bytes | None
    codec: str
    rgb: bool

    @property
    def tile_bytes(self) -> int:
        """Memory of one decoded tile."""
        return self.tile[0] * self.tile[1] * 3


def tiled_levels(path: Path, sizes: tuple[tuple[int, int], ...]) -> tuple[dict[int, TiledLevel], str]:
    """The levels of these (width, height) that can be decoded directly, by number; and why the others cannot, in words ("" = all can).

    A level is found by its size among the tiled pages; two pages of the same size leave it out. Never raises for a file's content:
    what tifffile cannot read is left out.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a damaged file is told by OpenSlide, in a sentence
    try:
        with tifffile.TiffFile(path) as tif:
            pages: list[Any] = list(tif.pages)
            return _of_pages([page for page in pages if page.is_tiled], sizes)
    except Exception as error:  # whatever is wrong with the file, OpenSlide decides whether it can be read
        return {}, f"its tile index cannot be read ({type(error).__name__})"


def _of_pages(pages: list[Any], sizes: tuple[tuple[int, int], ...]) -> tuple[dict[int, TiledLevel], str]:
    found: dict[int, TiledLevel] = {}
    reasons: dict[str, list[int]] = {}
    for number, size in enumerate(sizes):
        same = [page for page in pages if (page.imagewidth, page.imagelength) == size]
        reason = _unfit(same[0]) if len(same) == 1 else "its size fits several pages of the file" if same else "it is no tiled page"
        if reason:
            reasons.setdefault(reason, []).append(number)
        else:
            found[number] = _level(same[0])
    told = [f"level {', '.join(map(str, numbers))}: {reason}" for reason, numbers in reasons.items()]
    return found, "; ".join(told)


def _unfit(page: Any) -> str:
    """Why this page is not decoded directly, or ""."""
    codec = CODECS.get(int(page.compression))
    if codec is None:
        return f"its tiles are {getattr(page.compression, 'name', page.compression)}, not {' or '.join(CODECS.values())}"
    if (page.samplesperpixel, page.planarconfig, page.bitspersample, page.sampleformat, page.imagedepth) != (3, 1, 8, 1, 1):
        return "its pixels are not three interleaved samples of 8 bits"
    if page.photometric not in ((2, 6) if codec == JPEG else (2,)):
        return f"its colours are {getattr(page.photometric, 'name', page.photometric)}"
    if not all(TILE_SIDES[0] <= side <= TILE_SIDES[1] for side in (page.tilewidth, page.tilelength)):
        return f"its tiles are {page.tilewidth} x {page.tilelength} pixels"
    tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    if not len(page.dataoffsets) == len(page.databytecounts) == tiles:
        return "its tile index has another length than its size asks for"
    return ""


def _level(page: Any) -> TiledLevel:
    across, down = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
    return TiledLevel(
        size=(page.imagewidth, page.imagelength),
        tile=(page.tilewidth, page.tilelength),
        across=across,
        down=down,
        offsets=np.asarray(page.dataoffsets, np.uint64),
        counts=np.asarray(page.databytecounts, np.uint64),
        tables=page.jpegtables,
        codec=CODECS[int(page.compression)],
        rgb=int(page.photometric) == 2,
    )
