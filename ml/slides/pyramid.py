"""Halving a picture again and again while it streams past, in memory that grows with its width only.

Every side is halved and rounded up, as Deep Zoom does it, so that a viewer can be given the tiles of the file as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

TILE = 256
SMALLEST = 512  # the last level is not larger than this on its longer side


class PyramidLevel:
    """One level below the base. Takes rows, keeps their halves as JPEG tiles in a temporary file and hands them to the next level."""

    def __init__(self, width: int, height: int, quality: int, tile: int = TILE) -> None:
        self.width, self.height = -(-width // 2), -(-height // 2)
        self.quality = quality
        self.tile = tile
        self.tile_bytes: list[int] = []
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        self._rows: list[NDArray[np.uint8]] = []
        self._pending = 0
        self._odd: NDArray[np.uint8] | None = None
        self.next = PyramidLevel(self.width, self.height, quality, tile) if max(self.width, self.height) > SMALLEST else None

    def push(self, rows: NDArray[np.uint8]) -> None:
        """Take rows (h, width of the level above, 3) uint8 from top to bottom, any h."""
        if self._odd is not None:
            rows = np.concatenate([self._odd, rows])
        even = len(rows) - len(rows) % 2
        self._odd = rows[even:].copy() if even < len(rows) else None
        if even:
            self._keep(halve(rows[:even]))

    def finish(self) -> None:
        """No more rows: an odd last one is halved alone, and the last, partly filled tile row is written."""
        if self._odd is not None:
            self._keep(halve(self._odd))
            self._odd = None
        if self._pending:
            self._encode(np.concatenate(self._rows))
            self._rows, self._pending = [], 0
        if self.next:
            self.next.finish()

    def tiles(self) -> Iterator[bytes]:
        """The encoded tiles in row-major order."""
        self._spool.seek(0)
        for size in self.tile_bytes:
            yield self._spool.read(size)

    def close(self) -> None:
        """Remove the temporary files of this level and of those below."""
        self._spool.close()
        if self.next:
            self.next.close()

    def all(self) -> list[PyramidLevel]:
        """This level and those below it, from large to small."""
        return [self, *(self.next.all() if self.next else [])]

    def _keep(self, rows: NDArray[np.uint8]) -> None:
        if self.next:
            self.next.push(rows)
        self._rows.append(rows)
        self._pending += len(rows)
        if self._pending >= self.tile:
            stack = np.concatenate(self._rows)
            while len(stack) >= self.tile:
                self._encode(stack[: self.tile])
                stack = stack[self.tile :]
            self._rows, self._pending = ([stack.copy()], len(stack)) if len(stack) else ([], 0)

    def _encode(self, rows: NDArray[np.uint8]) -> None:
        for tile in encode_row(rows, self.quality, self.tile):
            self.tile_bytes.append(self._spool.write(tile))


def halve(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 -> (ceil(h/2), ceil(w/2), 3): the mean of every 2 x 2 pixels; an odd last row or column is its own neighbour."""
    height, width = rows.shape[:2]
    even = np.pad(rows, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    total = even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def encode_row(rows: NDArray[np.uint8], quality: int, tile: int = TILE) -> Iterator[bytes]:
    """JPEG tiles of tile x tile (YCbCr, 4:2:0) of one tile row (h <= tile, w, 3); edges are padded with their last pixel."""
    height, width = rows.shape[:2]
    padded = np.pad(rows, ((0, tile - height), (0, -width % tile), (0, 0)), mode="edge")
    for left in range(0, padded.shape[1], tile):
        part = np.ascontiguousarray(padded[:, left : left + tile])
        yield bytes(imagecodecs.jpeg8_encode(part, level=quality, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"))
