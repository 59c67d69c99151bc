"""View tiles taken from a slide's file as they are: where its pyramid is Deep Zoom's own, a tile is sent and never decoded.

The working slides that ml.slides.scrub writes fit: levels halve and round up, all levels have the same square JPEG tiles, no overlap.
The few Deep Zoom levels below the smallest stored one are made once and kept in one small file beside the slide.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import threading
import weakref
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml.slides.files import whole_file
from ml.slides.findings import FindingCode, SlideError
from ml.slides.jpeg import whole_jpeg
from ml.slides.pyramid import halve

TILE_SIDES = (128, 1024)  # a viewer asks for too many smaller tiles, and waits too long for a larger one
SMALLEST_STORED = 2048  # px of the longer side of the smallest level; what lies below is made from it
KEPT_SUFFIX = ".small-levels"
QUALITY = 90
ICC_TAG = 34675
serials = itertools.count()  # tells two open slides apart, also after the first was closed
DZI = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" Overlap="0" '
    'TileSize="{tile}"><Size Height="{height}" Width="{width}" /></Image>'
)


@dataclass(frozen=True)
class StoredLevel:
    """One level of the file: tiles across and down, where each begins and how long it is (bytes), JPEGTables, RGB or YCbCr samples."""

    cols: int
    rows: int
    offsets: array[int]
    counts: array[int]
    tables: bytes | None
    rgb: bool


class StoredTiles:
    """An open slide whose Deep Zoom tiles are the file's. Thread-safe; the file is closed when nobody holds this any more.

    A tile at the right or lower edge is as large as the others: what lies beyond the slide repeats its last pixels, and a viewer draws
    only the part that the descriptor's size leaves (OpenSeadragon does).
    """

    broken = False  # nothing that a failed read could leave behind

    def __init__(
        self, path: Path, descriptor: int, size: tuple[int, int], tile_side: int, stored: list[StoredLevel], profile: bytes | None
    ) -> None:
        self.path, self.size, self.tile_side, self.profile = path, size, tile_side, profile
        self.serial = next(serials)
        self._shapes = level_sizes(size)
        self._stored = dict(enumerate(reversed(stored), start=len(self._shapes) - len(stored)))
        self._small: dict[tuple[int, int, int], bytes] | None = None
        self._making = threading.Lock()
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @property
    def level_count(self) -> int:
        """Levels are 0 (one pixel) to level_count - 1 (full resolution)."""
        return len(self._shapes)

    def dzi(self) -> str:
        """The .dzi descriptor (XML)."""
        return DZI.format(tile=self.tile_side, width=self.size[0], height=self.size[1])

    def tile(self, level: int, col: int, row: int) -> bytes:
        """JPEG bytes of one tile. Errors: SlideError TILE_NOT_THERE (no such tile), TILE_UNREADABLE (damaged file)."""
        stored = self._stored.get(level)
        if stored is None:
            return self._small_tile(level, col, row)
        if not (0 <= col < stored.cols and 0 <= row < stored.rows):
            raise not_there(level, col, row, self.level_count, (stored.cols, stored.rows))
        index = row * stored.cols + col
        count = stored.counts[index]
        data = os.pread(self._descriptor, count, stored.offsets[index])
        picture = whole_jpeg(data, stored.tables, stored.rgb) if len(data) == count else None
        if picture is None:
            raise unreadable("it is no JPEG picture", level, col, row)
        return picture

    def _small_tile(self, level: int, col: int, row: int) -> bytes:
        if not 0 <= level < self.level_count:
            raise not_there(level, col, row, self.level_count, None)
        if self._small is None:
            with self._making:
                if self._small is None:
                    self._small = self._kept() or self._make()
        tile = self._small.get((level, col, row))
        if tile is None:
            width, height = self._shapes[level]
            raise not_there(level, col, row, self.level_count, (-(-width // self.tile_side), -(-height // self.tile_side)))
        return tile

    def _kept(self) -> dict[tuple[int, int, int], bytes] | None:
        """The small levels from the file beside the slide; None if there is none or it was made of another file."""
        try:
            with kept_file(self.path).open("rb") as stream:
                head = json.loads(stream.readline())
                if head["of"] != self._identity():
                    return None
                tiles = {(level, col, row): stream.read(length) for level, col, row, length in head["tiles"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return tiles if all(tile.endswith(b"\xff\xd9") for tile in tiles.values()) else None

    def _make(self) -> dict[tuple[int, int, int], bytes]:
        """The small levels, halved from the smallest stored one, and kept if the folder can be written."""
        smallest = min(self._stored)
        picture = self._whole(smallest)
        tiles: dict[tuple[int, int, int], bytes] = {}
        for level in range(smallest - 1, -1, -1):
            picture = halve(picture)
            tiles |= {(level, col, row): data for col, row, data in _cut(picture, self.tile_side)}
        head = {"of": self._identity(), "tiles": [[*place, len(data)] for place, data in tiles.items()]}
        # A folder that cannot be written costs a second's work after each start, no tile.
        with suppress(OSError), whole_file(kept_file(self.path)) as part:
            part.write_bytes(json.dumps(head).encode() + b"\n" + b"".join(tiles.values()))
        return tiles

    def _whole(self, level: int) -> np.ndarray[Any, Any]:
        """All pixels of a stored level, (height, width, 3) uint8."""
        stored, side = self._stored[level], self.tile_side
        out = np.empty((stored.rows * side, stored.cols * side, 3), np.uint8)
        for row in range(stored.rows):
            for col in range(stored.cols):
                try:
                    with Image.open(io.BytesIO(self.tile(level, col, row))) as picture:
                        out[row * side : (row + 1) * side, col * side : (col + 1) * side] = picture
                except (OSError, ValueError) as error:
                    raise unreadable(type(error).__name__, level, col, row) from error
        return out[: self._shapes[level][1], : self._shapes[level][0]]

    def _identity(self) -> list[int]:
        """Which file this is: its bytes and its time (ns) when it was opened, and the side of its tiles."""
        stat = os.fstat(self._descriptor)
        return [stat.st_size, stat.st_mtime_ns, self.tile_side]


def stored_tiles(path: str | Path) -> StoredTiles | None:
    """The slide's own tiles as Deep Zoom tiles, or None if its grid is not a Deep Zoom grid (other levels, sides, codecs)."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    path = Path(path)
    try:
        with path.open("rb") as stream, tifffile.TiffFile(stream) as tif:
            pages: list[Any] = list(tif.pages)
            size, side = (pages[0].imagewidth, pages[0].imagelength), pages[0].tilewidth
            shapes = level_sizes(size)[::-1]
            smallest = max(shapes[len(pages) - 1]) if len(pages) <= len(shapes) else None
            fits = smallest is not None and smallest <= SMALLEST_STORED and TILE_SIDES[0] <= side <= TILE_SIDES[1]
            end = os.fstat(stream.fileno()).st_size
            fits = fits and all(page.subfiletype & 1 for page in pages[1:])  # OpenSlide, too, takes only these for levels
            if not (fits and all(_fits(page, shape, side, end) for page, shape in zip(pages, shapes))):
                return None
            levels = [_level(page) for page in pages]
            profile = pages[0].tags.get(ICC_TAG)
            return StoredTiles(path, os.dup(stream.fileno()), size, side, levels, None if profile is None else bytes(profile.value))
    except Exception:  # whatever is wrong with the file, OpenSlide says it better
        return None


def level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(width, height) px of all Deep Zoom levels of a picture, from one pixel to full resolution."""
    sizes = [size]
    while max(sizes[-1]) > 1:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[::-1]


def kept_file(path: Path) -> Path:
    """Where the small levels of a slide are kept."""
    return path.with_name(path.name + KEPT_SUFFIX)


def not_there(level: int, col: int, row: int, levels: int, tiles: tuple[int, int] | None) -> SlideError:
    """SlideError TILE_NOT_THERE; tiles: columns and rows of the level, or None if there is no such level."""
    if tiles is None:
        return SlideError(FindingCode.TILE_NOT_THERE, f"There is no level {level}.", f"Levels are 0 to {levels - 1}.", f"level {level}")
    return SlideError(
        FindingCode.TILE_NOT_THERE,
        f"Level {level} has no tile in column {col}, row {row}.",
        f"It has columns 0 to {tiles[0] - 1} and rows 0 to {tiles[1] - 1}.",
        f"level {level}, column {col}, row {row}",
    )


def unreadable(reason: object, level: int, col: int, row: int) -> SlideError:
    """SlideError TILE_UNREADABLE."""
    return SlideError(
        FindingCode.TILE_UNREADABLE,
        f"The picture cannot be decoded here ({reason}).",
        "The working slide is damaged: make it again from the original.",
        f"level {level}, column {col}, row {row}",
    )


def _fits(page: Any, shape: tuple[int, int], side: int, end: int) -> bool:
    """Is this page the Deep Zoom level of that size: whole baseline JPEG tiles of 3 interleaved 8-bit samples, all inside the file?"""
    plain = page.is_tiled and page.compression == 7 and page.samplesperpixel == 3 and page.planarconfig == 1 and page.bitspersample == 8
    square = (page.tilewidth, page.tilelength) == (side, side) and (page.imagewidth, page.imagelength) == shape
    if not (plain and square and page.photometric in (2, 6)):
        return False
    tiles = -(-shape[0] // side) * -(-shape[1] // side)
    offsets, counts = np.asarray(page.dataoffsets, np.uint64), np.asarray(page.databytecounts, np.uint64)
    return len(offsets) == len(counts) == tiles and bool((counts > 0).all() and (offsets + counts <= end).all())


def _level(page: Any) -> StoredLevel:
    cols, rows = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
    return StoredLevel(cols, rows, array("Q", page.dataoffsets), array("Q", page.databytecounts), page.jpegtables, page.photometric == 2)


def _cut(picture: np.ndarray[Any, Any], side: int) -> Iterator[tuple[int, int, bytes]]:
    """(column, row, JPEG) of the tiles of a small picture."""
    for top in range(0, picture.shape[0], side):
        for left in range(0, picture.shape[1], side):
            out = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(picture[top : top + side, left : left + side])).save(
                out, "JPEG", quality=QUALITY, subsampling=0
            )
            yield left // side, top // side, out.getvalue()
