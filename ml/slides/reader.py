"""Whole-slide images by physical size: every read names its um per pixel, never a magnification or a level number.

This file chooses the level, resamples to exactly the size asked for and refuses to invent detail. The pixels come from OpenSlide or,
where the file's tiles can be decoded directly, from ml.slides.direct: the same pixels several times as fast.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from ml.slides.direct import DirectTiles, Reading, Undecodable, direct_tiles
from ml.slides.findings import FindingCode, SlideError
from ml.slides.resample import PILLOW, WHOLE, resize, resize_tiles
from ml.types import TileGrid

MAX_UPSAMPLING = 1.25  # a base up to 1.25x coarser than asked is interpolated; beyond it detail would be invented
LEVEL_TOLERANCE = 1.01  # a level of downsample 4.016 serves a request for 4
BLOCK = 2048  # level pixels per side of one region that many tiles are cut from
FILTER_MARGIN = 2  # output pixels of context that the resampling filter may look at
CHUNK = 16  # tiles resized in one call: enough to be fast, few enough to stay in the processor's cache

Rgb = NDArray[np.uint8]


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a whole-slide image of any format that OpenSlide reads.

    mpp: um per px0 stated by a person; it wins over the header. Errors: SlideError FILE_MISSING, UNSUPPORTED_FORMAT, OPEN_FAILED.
    """
    return Slide(path, mpp=mpp)


class Slide:
    """An open slide. Thread-safe for reading. Closed by `close`, `with`, or when nobody holds it any more.

    direct=False reads everything through OpenSlide.
    """

    def __init__(self, path: str | Path, mpp: float | None = None, osr: Any = None, direct: bool = True) -> None:
        self.path = Path(path)
        self.osr = _open(self.path) if osr is None else osr  # given for what OpenSlide does not open: ml.slides.flat
        self.size: tuple[int, int] = self.osr.dimensions
        self.vendor: str = self.osr.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.levels: tuple[float, ...] = tuple(float(d) for d in self.osr.level_downsamples)
        header = header_mpp(self.osr)
        self.header_mpp_xy = header
        self.mpp: float | None = float(mpp) if mpp is not None else (None if header is None else (header[0] + header[1]) / 2)
        self.mpp_source: str | None = "override" if mpp is not None else (None if header is None else "header")
        self._level_sizes: tuple[tuple[int, int], ...] = tuple(self.osr.level_dimensions)
        self._reading: Reading | None = None
        if osr is not None or not direct:
            self._reading = (
                Reading("OpenSlide", "It was asked for.") if osr is None else Reading(type(osr).__name__, "OpenSlide does not open it.")
            )
        self._tiles: DirectTiles | None = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the file; the slide cannot be read afterwards."""
        with self._lock:
            self._reading = self._reading or Reading("OpenSlide", "The slide was closed before anything was read.")
            self._tiles = None
        self.osr.close()

    @property
    def reading(self) -> Reading:
        """How the pixels are read (how: "direct JPEG", "direct JPEG 2000" or "OpenSlide") and why. Decided at the first read."""
        if self._reading is None:
            with self._lock:
                if self._reading is None:
                    self._tiles, self._reading = direct_tiles(self.path, self.vendor, self._level_sizes, self.levels, self._by_openslide)
        return self._reading

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def need_mpp(self) -> float:
        """um per px0, or SlideError MPP_MISSING."""
        if self.mpp is None:
            raise SlideError(
                FindingCode.MPP_MISSING,
                "The slide does not say how many micrometres a pixel is.",
                "Give the value of the scanner, e.g. --mpp 0.25 for a 40x or --mpp 0.5 for a 20x scan.",
            )
        return self.mpp

    def check_mpp(self, mpp: float) -> float:
        """Downsample (float) from level 0 to `mpp` um per pixel; SlideError LEVEL_TOO_LOW when it would invent detail."""
        base = self.need_mpp()
        if base > MAX_UPSAMPLING * mpp:
            raise SlideError(
                FindingCode.LEVEL_TOO_LOW,
                f"The finest level has {base:.4g} um per pixel; {mpp:.4g} um per pixel was asked for and cannot be read from it.",
                "Import the full-resolution scan (the other levels of this slide), not an overview of it.",
                "level 0",
            )
        return mpp / base

    def best_level(self, downsample: float) -> int:
        """The coarsest level that is not coarser than `downsample` (1% tolerance for rounded level sizes)."""
        fitting = [i for i, d in enumerate(self.levels) if d <= downsample * LEVEL_TOLERANCE]
        return max(fitting, key=lambda i: self.levels[i]) if fitting else 0

    def read(self, x0: float, y0: float, width_out: int, mpp: float, height_out: int | None = None) -> Rgb:
        """(height_out, width_out, 3) uint8 RGB of the rectangle whose top-left corner is (x0, y0) px0, at `mpp` um per pixel.

        height_out defaults to width_out. Beyond the slide, and where it is transparent, the picture is white.
        Errors: SlideError MPP_MISSING, LEVEL_TOO_LOW, TILE_UNREADABLE.
        """
        height_out = width_out if height_out is None else height_out
        return self._scaled(x0, y0, width_out, height_out, self.check_mpp(mpp), context=False)

    def tiles(self, grid: TileGrid, out_px: int, batch: int = 512, engine: str = PILLOW) -> Iterator[Rgb]:
        """The tiles of a grid as batches (b, out_px, out_px, 3) uint8 RGB, in grid order, b <= batch.

        Each tile is made of its own pixels alone, as if it had been cropped first. engine: "pillow", or "torch" where torch is loaded
        anyway: several times as fast, at most 2 grey levels different. Errors as `read`.
        """
        for start in range(0, len(grid), batch):
            yield self.cut(grid, np.arange(start, min(start + batch, len(grid))), out_px, engine)

    def tile_array(self, grid: TileGrid, out_px: int, engine: str = PILLOW) -> Rgb:
        """All tiles at once: (n, out_px, out_px, 3) uint8 RGB. Needs n * out_px^2 * 3 bytes; prefer `tiles` for whole slides."""
        return self.cut(grid, np.arange(len(grid)), out_px, engine)

    def overview(self, cell_px0: float) -> Rgb:
        """The whole slide with one pixel per `cell_px0` px0: (ceil(height / cell), ceil(width / cell), 3) uint8, in bounded memory."""
        width, height = (max(1, math.ceil(side / cell_px0 - 1e-9)) for side in self.size)
        out = np.empty((height, width, 3), np.uint8)
        per_block = max(1, int(BLOCK * self.levels[self.best_level(cell_px0)] / cell_px0))
        for top in range(0, height, per_block):
            for left in range(0, width, per_block):
                rows, cols = min(per_block, height - top), min(per_block, width - left)
                out[top : top + rows, left : left + cols] = self.read_scaled(left * cell_px0, top * cell_px0, cols, rows, cell_px0)
        return out

    def read_level(self, x: int, y: int, width: int, height: int, level: int = 0) -> Rgb:
        """(height, width, 3) uint8 RGB of `level`'s own pixels; x, y in px0. Error: SlideError TILE_UNREADABLE."""
        tiles, scale = self._direct(level), self.levels[level]
        if tiles is not None and abs(x / scale - round(x / scale)) < WHOLE and abs(y / scale - round(y / scale)) < WHOLE:
            with suppress(Undecodable):
                return tiles.region(level, round(x / scale), round(y / scale), width, height)
        return self._by_openslide(x, y, width, height, level)

    def read_scaled(self, x0: float, y0: float, width: int, height: int, downsample: float) -> Rgb:
        """(height, width, 3) uint8 RGB from (x0, y0) px0 on, one pixel per `downsample` px0; for slides of unknown mpp. Prefer `read`.

        The filter looks at what lies around, so that neighbouring reads fit without a seam.
        """
        return self._scaled(x0, y0, width, height, downsample, context=True)

    def cut(self, grid: TileGrid, rows: NDArray[np.int64], out_px: int, engine: str = PILLOW, out: Rgb | None = None) -> Rgb:
        """The tiles of these rows of a grid, (b, out_px, out_px, 3) uint8 RGB, in `out` if given. Errors and engine as `tiles`."""
        downsample = self.check_mpp(grid.tile_um / out_px)
        level = self.best_level(downsample)
        side = grid.tile_px0 / self.levels[level]
        if abs(side - round(side)) < WHOLE:
            side = float(round(side))
        corners = grid.xy[rows] / self.levels[level]
        out = np.empty((len(rows), out_px, out_px, 3), np.uint8) if out is None else out
        left = self._cut_direct(out, corners, side, level, engine)
        for members in _blocks(corners[left]):
            self._cut_block(out, left[members], corners, side, level, engine)
        return out

    def _direct(self, level: int) -> DirectTiles | None:
        """The direct reader, if it knows this level."""
        tiles = self._tiles if self.reading else None
        return tiles if tiles is not None and level in tiles.levels else None

    def _by_openslide(self, x: int, y: int, width: int, height: int, level: int) -> Rgb:
        """(height, width, 3) uint8 from (x, y) px0 on. Error: SlideError TILE_UNREADABLE."""
        handle = self.osr
        try:
            return np.asarray(on_white(handle.read_region((x, y), level, (width, height))))
        except openslide.OpenSlideError as error:
            with self._lock:
                return self._once_more(handle, error, (x, y), level, (width, height))

    def _once_more(self, handle: openslide.OpenSlide, error: Exception, place: tuple[int, int], level: int, size: tuple[int, int]) -> Rgb:
        """OpenSlide refuses every call after its first failed read: a fresh handle tells whether this place is bad or another one was."""
        if handle is self.osr:
            self.osr = _open(self.path)
        fresh = _open(self.path)
        try:
            return np.asarray(on_white(fresh.read_region(place, level, size)))
        except openslide.OpenSlideError as again:
            raise SlideError(
                FindingCode.TILE_UNREADABLE,
                f"A part of the picture cannot be decoded ({again}).",
                "The file is damaged or incomplete: copy it again from the scanner or archive and compare the sizes.",
                f"level {level}, x {place[0]}, y {place[1]} px0",
            ) from error
        finally:
            fresh.close()

    def _scaled(self, x0: float, y0: float, width: int, height: int, downsample: float, context: bool) -> Rgb:
        level = self.best_level(downsample)
        ratio = downsample / self.levels[level]
        margin = math.ceil(FILTER_MARGIN * max(ratio, 1.0))
        left, top = x0 / self.levels[level], y0 / self.levels[level]
        region, x_lv, y_lv = self._region(left, top, left + width * ratio, top + height * ratio, level, margin)
        box = (left - x_lv, top - y_lv, left - x_lv + width * ratio, top - y_lv + height * ratio)
        return np.ascontiguousarray(resize(region, box, (width, height)) if context else _alone(region, box, (width, height)))

    def _region(self, left: float, top: float, right: float, bottom: float, level: int, margin: int) -> tuple[Rgb, float, float]:
        """Pixels of `level` that cover the box (level pixels) and a margin; with the level coordinates of its first pixel."""
        scale = self.levels[level]
        (x_lv, x_end), (y_lv, y_end) = (
            _with_margin(low, high, margin, side) for low, high, side in zip((left, top), (right, bottom), self._level_sizes[level])
        )
        width, height = x_end - x_lv, y_end - y_lv
        tiles = self._direct(level)
        if tiles is not None:
            with suppress(Undecodable):
                return tiles.region(level, x_lv, y_lv, width, height), x_lv, y_lv
        x0, y0 = round(x_lv * scale), round(y_lv * scale)
        return self._by_openslide(x0, y0, width, height, level), x0 / scale, y0 / scale

    def _cut_direct(self, out: Rgb, corners: NDArray[np.float64], side: float, level: int, engine: str) -> NDArray[np.int64]:
        """Fill `out` with the tiles that can be decoded directly; the numbers of the others."""
        tiles = self._direct(level)
        if tiles is None:
            return np.arange(len(corners))
        first, whole = _first_pixels(corners), _on_pixels(corners)
        undecodable: list[int] = []
        extent = math.ceil(side - WHOLE)
        pixels = np.empty((CHUNK, extent, extent, 3), np.uint8)
        for numbers in _in_chunks(np.flatnonzero(whole)):
            read: list[int] = []
            for i in numbers.tolist():
                try:
                    tiles.read_into(out[i] if side == out.shape[1] else pixels[len(read)], level, int(first[i, 0]), int(first[i, 1]))
                    read.append(i)
                except Undecodable:
                    undecodable.append(i)
            if side != out.shape[1] and read:
                _resize_into(out, read, pixels[: len(read)], side, engine)
        for i in np.flatnonzero(~whole).tolist():
            try:
                x, y = corners[i] - first[i]
                width, height = (math.ceil(start + side - WHOLE) for start in (x, y))
                region = tiles.region(level, int(first[i, 0]), int(first[i, 1]), width, height)
                out[i] = resize(region, (x, y, x + side, y + side), (out.shape[1],) * 2)
            except Undecodable:
                undecodable.append(i)
        return np.array(undecodable, np.int64)

    def _cut_block(self, out: Rgb, numbers: NDArray[np.int64], corners: NDArray[np.float64], side: float, level: int, engine: str) -> None:
        """Fill `out` with tiles that lie close together, cut from one region that OpenSlide reads."""
        low, high = corners[numbers].min(0), corners[numbers].max(0) + side
        region, x_lv, y_lv = self._region(low[0], low[1], high[0], high[1], level, FILTER_MARGIN)
        places = corners[numbers] - (x_lv, y_lv)
        first, whole, extent = _first_pixels(places), _on_pixels(places), math.ceil(side - WHOLE)
        for chunk in _in_chunks(np.flatnonzero(whole)):
            pixels = np.stack([region[y : y + extent, x : x + extent] for x, y in first[chunk]])
            _resize_into(out, numbers[chunk].tolist(), pixels, side, engine)
        for i in np.flatnonzero(~whole):
            x, y = places[i]
            out[numbers[i]] = _alone(region, (x, y, x + side, y + side), (out.shape[1],) * 2)


def header_mpp(osr: openslide.OpenSlide) -> tuple[float, float] | None:
    """(x, y) um per px0 as the header states it, or None. Not judged here: ml.slides.check does."""
    try:
        x = float(osr.properties[openslide.PROPERTY_NAME_MPP_X])
        y = float(osr.properties[openslide.PROPERTY_NAME_MPP_Y])
    except (KeyError, ValueError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None


def on_white(rgba: Image.Image) -> Image.Image:
    """An RGBA picture laid on white, as RGB (scanners leave unscanned parts transparent)."""
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=alpha)
    return white


def _open(path: Path) -> openslide.OpenSlide:
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
    try:
        return openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideError(
            FindingCode.UNSUPPORTED_FORMAT,
            "This is not a whole-slide image of a format that can be read.",
            "Readable are SVS, NDPI, MRXS, SCN, BIF, VMS, DICOM slides and tiled pyramidal TIFF.",
        ) from error
    except openslide.OpenSlideError as error:
        reason = str(error).replace(str(path), path.name)
        raise SlideError(
            FindingCode.OPEN_FAILED,
            f"The file looks like a slide but cannot be opened ({reason}).",
            "It is damaged, incomplete, or parts of it are missing: export or copy it again.",
        ) from error


def _with_margin(low: float, high: float, margin: int, side: int) -> tuple[int, int]:
    """Whole pixels around [low, high) and a margin; the margin ends at the slide's edge, or the white beyond would be mixed in."""
    first, last = math.floor(low), math.ceil(high)
    return max(first - margin, min(first, 0)), min(last + margin, max(last, side))


def _alone(region: Rgb, box: tuple[float, float, float, float], size: tuple[int, int]) -> Rgb:
    """A box of a region at `size`, resampled from the pixels that it touches and no others."""
    left, top = (max(0, math.floor(edge + WHOLE)) for edge in box[:2])
    right, bottom = (math.ceil(edge - WHOLE) for edge in box[2:])
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return resize(np.ascontiguousarray(region[top:bottom, left:right]), inner, size)


def _resize_into(out: Rgb, numbers: list[int], pixels: Rgb, side: float, engine: str) -> None:
    """Tiles cut from the slide (b, h, w, 3) into the rows `numbers` of out (n, px, px, 3)."""
    if numbers[-1] - numbers[0] == len(numbers) - 1 and numbers == sorted(numbers):
        resize_tiles(pixels, side, out[numbers[0] : numbers[-1] + 1], engine)
    else:
        resized = np.empty((len(numbers), *out.shape[1:]), np.uint8)
        resize_tiles(pixels, side, resized, engine)
        out[numbers] = resized


def _first_pixels(places: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(places + WHOLE).astype(np.int64)


def _on_pixels(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which places (n, 2) lie on whole pixels."""
    return np.asarray((np.abs(places - np.rint(places)) < WHOLE).all(axis=1))


def _in_chunks(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK]


def _blocks(corners: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Groups of numbers 0..n-1 whose corners (n, 2) lie in the same BLOCK x BLOCK square."""
    if not len(corners):
        return
    keys = np.floor(corners / BLOCK).astype(np.int64)
    flat = keys[:, 1] * (keys[:, 0].max() + 1) + keys[:, 0]
    order = np.argsort(flat, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)
