"""Whole-slide images by physical size: every read names its um per pixel, never a magnification or a level number.

OpenSlide decodes; this file chooses the level, resamples to exactly the size asked for and refuses to invent detail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from ml.slides.findings import FindingCode, SlideError
from ml.types import TileGrid

MAX_UPSAMPLING = 1.25  # a base up to 1.25x coarser than asked is interpolated; beyond it detail would be invented
LEVEL_TOLERANCE = 1.01  # a level of downsample 4.016 serves a request for 4
BLOCK = 2048  # level pixels per side of one region that many tiles are cut from
FILTER_MARGIN = 2  # output pixels of context that the resampling filter may look at

Rgb = NDArray[np.uint8]


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a whole-slide image of any format that OpenSlide reads.

    mpp: um per px0 stated by a person; it wins over the header. Errors: SlideError FILE_MISSING, UNSUPPORTED_FORMAT, OPEN_FAILED.
    """
    return Slide(path, mpp=mpp)


class Slide:
    """An open slide. Thread-safe for reading (OpenSlide is). Closed by `close`, `with`, or when nobody holds it any more."""

    def __init__(self, path: str | Path, mpp: float | None = None, osr: Any = None) -> None:
        self.path = Path(path)
        self.osr = _open(self.path) if osr is None else osr  # given for what OpenSlide does not open: ml.slides.flat
        self.size: tuple[int, int] = self.osr.dimensions
        self.vendor: str = self.osr.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.levels: tuple[float, ...] = tuple(float(d) for d in self.osr.level_downsamples)
        header = header_mpp(self.osr)
        self.header_mpp_xy = header
        self.mpp: float | None = float(mpp) if mpp is not None else (None if header is None else (header[0] + header[1]) / 2)
        self.mpp_source: str | None = "override" if mpp is not None else (None if header is None else "header")

    def close(self) -> None:
        """Close the file; the slide cannot be read afterwards."""
        self.osr.close()

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
        downsample = self.check_mpp(mpp)
        return self.read_scaled(x0, y0, width_out, height_out, downsample)

    def tiles(self, grid: TileGrid, out_px: int, batch: int = 512) -> Iterator[Rgb]:
        """The tiles of a grid as batches (b, out_px, out_px, 3) uint8 RGB, in grid order, b <= batch.

        Neighbouring tiles are cut from one region of the best level. Errors as `read`.
        """
        for start in range(0, len(grid), batch):
            yield self._cut(grid, np.arange(start, min(start + batch, len(grid))), out_px)

    def tile_array(self, grid: TileGrid, out_px: int) -> Rgb:
        """All tiles at once: (n, out_px, out_px, 3) uint8 RGB. Needs n * out_px^2 * 3 bytes; prefer `tiles` for whole slides."""
        return self._cut(grid, np.arange(len(grid)), out_px)

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
        return np.asarray(self._picture(x, y, width, height, level))

    def _picture(self, x: int, y: int, width: int, height: int, level: int) -> Image.Image:
        try:
            rgba = self.osr.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            # OpenSlide refuses every call after its first failed read: a fresh handle keeps the other tiles readable.
            self.osr = _open(self.path)
            raise SlideError(
                FindingCode.TILE_UNREADABLE,
                f"A part of the picture cannot be decoded ({error}).",
                "The file is damaged or incomplete: copy it again from the scanner or archive and compare the sizes.",
                f"level {level}, x {x}, y {y} px0",
            ) from error
        return on_white(rgba)

    def read_scaled(self, x0: float, y0: float, width: int, height: int, downsample: float) -> Rgb:
        """(height, width, 3) uint8 RGB from (x0, y0) px0 on, one pixel per `downsample` px0; for slides of unknown mpp. Prefer `read`."""
        level = self.best_level(downsample)
        ratio = downsample / self.levels[level]
        margin = math.ceil(FILTER_MARGIN * max(ratio, 1.0))
        left, top = x0 / self.levels[level], y0 / self.levels[level]
        region, x_lv, y_lv = self._region(left, top, left + width * ratio, top + height * ratio, level, margin)
        box = (left - x_lv, top - y_lv, left - x_lv + width * ratio, top - y_lv + height * ratio)
        return np.asarray(_resample(region, box, (width, height)))

    def _region(self, left: float, top: float, right: float, bottom: float, level: int, margin: int) -> tuple[Image.Image, float, float]:
        """Pixels of `level` that cover the box (level pixels) and a margin; with the level coordinates of its first pixel."""
        scale = self.levels[level]
        (x_lv, x_end), (y_lv, y_end) = (
            _with_margin(low, high, margin, side) for low, high, side in zip((left, top), (right, bottom), self.osr.level_dimensions[level])
        )
        x0, y0, width, height = round(x_lv * scale), round(y_lv * scale), x_end - x_lv, y_end - y_lv
        return self._picture(x0, y0, width, height, level), x0 / scale, y0 / scale

    def _cut(self, grid: TileGrid, rows: NDArray[np.int64], out_px: int) -> Rgb:
        downsample = self.check_mpp(grid.tile_um / out_px)
        level = self.best_level(downsample)
        scale = self.levels[level]
        side = grid.tile_px0 / scale
        margin = math.ceil(FILTER_MARGIN * max(side / out_px, 1.0))
        out = np.empty((len(rows), out_px, out_px, 3), np.uint8)
        corners = grid.xy[rows] / scale
        for members in _blocks(corners):
            low, high = corners[members].min(0), corners[members].max(0) + side
            region, x_lv, y_lv = self._region(low[0], low[1], high[0], high[1], level, margin)
            for i in members:
                x, y = corners[i] - (x_lv, y_lv)
                out[i] = np.asarray(_resample(region, (x, y, x + side, y + side), (out_px, out_px)))
        return out


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


def _resample(region: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """Antialiased bilinear resampling of a float box; a whole-pixel box of the right size is a plain crop.

    A level's first pixel lies on a whole px0, so at the slide's edge a box can stand over by a fraction of a pixel: it is cut there.
    """
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(region.width)), min(box[3], float(region.height)))
    whole = (round(box[0]), round(box[1]), round(box[2]), round(box[3]))
    if (whole[2] - whole[0], whole[3] - whole[1]) == size and max(abs(a - b) for a, b in zip(box, whole)) < 1e-3:
        return region.crop(whole)
    return region.resize(size, Image.Resampling.BILINEAR, box=box)


def _blocks(corners: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Groups of rows whose corners (n, 2) lie in the same BLOCK x BLOCK square."""
    if not len(corners):
        return
    keys = np.floor(corners / BLOCK).astype(np.int64)
    flat = keys[:, 1] * (keys[:, 0].max() + 1) + keys[:, 0]
    order = np.argsort(flat, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(flat[order])) + 1)
