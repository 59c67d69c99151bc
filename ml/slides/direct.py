"""Tiles of a TIFF or SVS decoded straight from the file: the pixels of OpenSlide's `read_region`, without what lies around the decoding.

JPEG is decoded by libjpeg-turbo with its defaults (accurate DCT, smooth upsampling), as OpenSlide does, and as strictly: a damaged
stream is refused, never shown half. Whatever cannot be decoded here is left to OpenSlide, which has the last word on it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ml.slides.findings import SlideError
from ml.slides.jpeg import whole_jpeg
from ml.slides.tiff_index import JPEG, TiledLevel, tiled_levels
from ml.slides.tile_cache import TileCache

Rgb = NDArray[np.uint8]
ReadLevel = Callable[[int, int, int, int, int], Rgb]

APERIO, GENERIC = "aperio", "generic-tiff"  # the formats whose levels are plain grids of tiles; others overlap, shift or join them
PROBES, PROBE_PX = 4, 64
ON_A_PIXEL = 1e-3  # of a level pixel: nearer than this OpenSlide does not interpolate
CACHED_ROWS = 4  # rows of tiles that a grid in reading order comes back to
CACHE_BYTES = (8 << 20, 256 << 20)  # what lies in the processor's own cache is copied from twice as fast


class Undecodable(Exception):
    """This tile cannot be decoded here; OpenSlide has to be asked."""


@dataclass(frozen=True)
class Reading:
    """How a slide's pixels are read. how: "direct JPEG", "direct JPEG 2000" or "OpenSlide". why: a sentence for people."""

    how: str
    why: str


class DirectTiles:
    """The directly decodable levels of one open file. Thread-safe; the file is closed when nobody holds this any more.

    Decoded tiles are kept for a while, because a grid of 224 px needs each tile of 256 px several times.
    """

    def __init__(self, path: Path, levels: dict[int, TiledLevel], cache_bytes: int | None = None) -> None:
        self.levels = levels
        if cache_bytes is None:
            finest = levels[min(levels)]
            cache_bytes = min(max(CACHED_ROWS * finest.across * finest.tile_bytes, CACHE_BYTES[0]), CACHE_BYTES[1])
        shapes = {(level.tile[1], level.tile[0], 3) for level in levels.values()}
        caches = {shape: TileCache(shape, cache_bytes // len(shapes)) for shape in shapes}
        self.caches = {number: caches[level.tile[1], level.tile[0], 3] for number, level in levels.items()}
        self.decoded = 0  # tiles decoded so far
        self._counting = threading.Lock()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._end = os.fstat(self._descriptor).st_size

    def region(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        """(height, width, 3) uint8 RGB of the level's own pixels from (x, y) on, white beyond it. Error: Undecodable."""
        out = np.empty((height, width, 3), np.uint8)
        self.read_into(out, level, x, y)
        return out

    def read_into(self, out: Rgb, level: int, x: int, y: int) -> None:
        """`region` into an array that exists: out (height, width, 3) uint8, any strides."""
        stored = self.levels[level]
        (width, height), (tile_w, tile_h) = stored.size, stored.tile
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + out.shape[1], width), min(y + out.shape[0], height)
        if right - left < out.shape[1] or bottom - top < out.shape[0]:
            out[:] = 255
            if right <= left or bottom <= top:
                return
        if (left, top) == (x, y) and self._whole_tile(out, level, x, y):
            return
        for row in range(top // tile_h, -(-bottom // tile_h)):
            y0, y1 = max(top, row * tile_h), min(bottom, (row + 1) * tile_h)
            for col in range(left // tile_w, -(-right // tile_w)):
                x0, x1 = max(left, col * tile_w), min(right, (col + 1) * tile_w)
                inside = (slice(y0 - row * tile_h, y1 - row * tile_h), slice(x0 - col * tile_w, x1 - col * tile_w))
                self._paste(out[y0 - y : y1 - y, x0 - x : x1 - x], inside, level, row * stored.across + col)

    def _whole_tile(self, out: Rgb, level: int, x: int, y: int) -> bool:
        """Decode without a copy where exactly one tile is asked for that is not kept."""
        stored = self.levels[level]
        (tile_w, tile_h), index = stored.tile, y // stored.tile[1] * stored.across + x // stored.tile[0]
        fits = out.shape[:2] == (tile_h, tile_w) and x % tile_w == 0 and y % tile_h == 0
        inside = x + tile_w <= stored.size[0] and y + tile_h <= stored.size[1]
        if not (fits and inside and out.flags.c_contiguous and stored.counts[index]) or (level, index) in self.caches[level]:
            return False
        self._decode(stored, index, out)
        return True

    def _paste(self, out: Rgb, inside: tuple[slice, slice], level: int, index: int) -> None:
        """The part `inside` of a tile into `out`; white for a tile that was left out of the file (OpenSlide: transparent)."""
        stored = self.levels[level]
        if stored.counts[index] == 0:
            out[:] = 255
            return
        cache, key = self.caches[level], (level, index)
        lent = cache.lend(key, lambda pixels: self._decode(stored, index, pixels))
        try:
            out[:] = lent.pixels[inside]
        finally:
            cache.give_back(key, lent)

    def _decode(self, stored: TiledLevel, index: int, out: Rgb) -> None:
        """One tile into out (tile height, tile width, 3), contiguous. Error: Undecodable."""
        offset, count = int(stored.offsets[index]), int(stored.counts[index])
        data = os.pread(self._descriptor, count, offset) if offset + count <= self._end else b""
        if len(data) != count:
            raise Undecodable("the file ends before it")
        with self._counting:
            self.decoded += 1
        if stored.codec == JPEG:
            _decode_jpeg(data, stored, out)
        else:
            _decode_jpeg_2000(data, stored, out)


def direct_tiles(
    path: Path, vendor: str, sizes: tuple[tuple[int, int], ...], downsamples: tuple[float, ...], reference: ReadLevel
) -> tuple[DirectTiles | None, Reading]:
    """(DirectTiles or None, Reading): the reader of a slide's tiles, if its file suits and its pixels are OpenSlide's.

    sizes: (width, height) of OpenSlide's levels; downsamples: theirs. reference(x px0, y px0, width, height, level): OpenSlide's pixels;
    it is asked for one small region of each level, and a level that differs takes the whole slide back to OpenSlide.
    """
    if vendor not in (APERIO, GENERIC):
        return None, Reading("OpenSlide", f"The format is {vendor}; only tiled TIFF and Aperio SVS are decoded directly.")
    levels, left_out = tiled_levels(path, sizes)
    if vendor == APERIO:
        levels, left_out = _without_filled_levels(levels, left_out)
    if not levels:
        return None, Reading("OpenSlide", f"No level can be decoded directly ({left_out}).")
    try:
        tiles = DirectTiles(path, levels)
    except OSError as error:
        return None, Reading("OpenSlide", f"The file cannot be opened a second time ({error.strerror}).")
    for number in levels:
        doubt = _compare(tiles, number, downsamples[number], reference)
        if doubt:
            return None, Reading("OpenSlide", doubt)
    codec = " and ".join(sorted({level.codec for level in levels.values()}))
    rest = f"; OpenSlide reads the rest ({left_out})" if left_out else ""
    return tiles, Reading(
        f"direct {codec}", f"The {codec} tiles are decoded straight from the file; samples of them equal OpenSlide's{rest}."
    )


def _without_filled_levels(levels: dict[int, TiledLevel], left_out: str) -> tuple[dict[int, TiledLevel], str]:
    """OpenSlide draws an Aperio level from the finer one wherever a tile of it, or of a finer level, was left out: not to be imitated."""
    gaps = [number for number, level in levels.items() if (level.counts == 0).any()]
    filled = [number for number in levels if number > 0 and gaps and number >= min(gaps)]
    if not filled:
        return levels, left_out
    told = f"level {', '.join(map(str, filled))}: tiles that the scanner left out are drawn from the finer level"
    return {n: level for n, level in levels.items() if n not in filled}, "; ".join(filter(None, [left_out, told]))


def _compare(tiles: DirectTiles, number: int, scale: float, reference: ReadLevel) -> str:
    """Why a level is not to be trusted, in words, or "". A damaged tile says nothing about the others: the next one is asked."""
    reason = ""
    for x, y in _probes(tiles.levels[number], scale):
        width, height = (min(PROBE_PX, side - start) for side, start in zip(tiles.levels[number].size, (x, y)))
        try:
            own = tiles.region(number, x, y, width, height)
            expected = reference(round(x * scale), round(y * scale), width, height, number)
        except (Undecodable, SlideError) as error:
            reason = f"Tiles of level {number} cannot be decoded directly ({str(error).rstrip('.')})."
            continue
        if not np.array_equal(own, expected):
            return f"Decoded directly, level {number} would have other pixels than OpenSlide gives."
        return ""
    return reason


def _probes(stored: TiledLevel, scale: float) -> list[tuple[int, int]]:
    """Level pixels where a comparison says most: in the tiles of most bytes, where OpenSlide can be asked without interpolating."""
    (width, height), (tile_w, tile_h) = stored.size, stored.tile
    xs, ys = _on_a_pixel(width, tile_w, scale), _on_a_pixel(height, tile_h, scale)
    counts = stored.counts.reshape(stored.down, stored.across)[np.ix_(ys // tile_h, xs // tile_w)]
    order = np.argsort(counts, axis=None, kind="stable")[::-1][:PROBES]
    return [(int(xs[i % len(xs)]), int(ys[i // len(xs)])) for i in order.tolist()]


def _on_a_pixel(side: int, tile: int, scale: float) -> NDArray[np.int64]:
    """One level coordinate per tile that lies on a whole px0 and leaves room for a probe, where the tile has one; 0 always has."""
    places = np.arange(max(side - PROBE_PX, 0) + 1)
    places = places[np.abs(np.rint(places * scale) / scale - places) < ON_A_PIXEL]
    return places[np.unique(places // tile, return_index=True)[1]]


def _decode_jpeg(data: bytes, stored: TiledLevel, out: Rgb) -> None:
    stream = whole_jpeg(data, stored.tables, stored.rgb)
    if stream is None:
        raise Undecodable("it is no JPEG stream")
    try:  # a stream that claims to be larger than `out` is refused before it is decoded
        tile = simplejpeg.decode_jpeg(stream, "RGB", fastdct=False, fastupsample=False, buffer=out, strict=True)
    except (ValueError, RuntimeError) as error:
        raise Undecodable(str(error)) from error
    if tile.shape != out.shape:
        raise Undecodable("it has another size than its level's tiles")


def _decode_jpeg_2000(data: bytes, stored: TiledLevel, out: Rgb) -> None:
    # Bytes 8 to 23 of a codestream are Xsiz, Ysiz, XOsiz, YOsiz (ITU-T T.800, A.5.1): checked before anything of that size is allocated.
    size = np.frombuffer(data[8:24], ">u4").astype(np.int64) if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24 else None
    if size is None or (size[0] - size[2], size[1] - size[3]) != stored.tile:
        raise Undecodable("it is no JPEG 2000 codestream of its level's tile size")
    try:
        tile = imagecodecs.jpeg2k_decode(data)
    except Exception as error:  # imagecodecs has an error class per codec
        raise Undecodable(str(error)) from error
    if tile.dtype != np.uint8 or tile.shape != out.shape:
        raise Undecodable("it has other samples than three of 8 bits")
    out[:] = tile
