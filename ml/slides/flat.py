"""Plain RGB TIFFs that OpenSlide refuses (stripped, planar, with transparency) read like a slide of one level, in bounded memory.

Such a file is a picture that cannot be read in parts fast enough to work with, so it is only checked and converted: ml.slides.scrub
writes the pyramid. Nothing is allocated because the file declares it: sides, strips and compressed pictures are judged first.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.multiplex.header import HeaderBroken, layout_of
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.jpeg import jpeg_size
from ml.slides.reader import Slide, open_slide

PLAUSIBLE_MPP = (0.05, 5.0)  # of a resolution tag of a TIFF, which is often a printer's default
CODECS = {1: "uncompressed", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate", 32773: "PackBits", 50000: "Zstandard"}
RGB, YCBCR, JPEG, UNCOMPRESSED = 2, 6, 7, 1
MAX_SIDE = 500_000  # px; the largest scans have about 200,000
MAX_PIXELS = 6e10
MAX_PART_BYTES = 512 << 20  # of one compressed strip or tile, decoded: it can only be decoded whole
KEPT_PARTS_BYTES = 128 << 20
MAX_PAGES = 64
IDENTIFYING_TAGS = ("ImageDescription", "DateTime", "Artist", "HostComputer", "DocumentName", "Software", "Make", "Model")


def open_source(path: str | Path, mpp: float | None = None) -> Slide:
    """`open_slide`, and a plain RGB TIFF that OpenSlide refuses as a slide of one level. Errors as `open_slide`."""
    try:
        return open_slide(path, mpp)
    except SlideError as error:
        if error.code != FindingCode.UNSUPPORTED_FORMAT:
            raise
        try:
            flat = FlatTiff(Path(path))
        except NotConvertible:
            raise error from None
        return Slide(path, mpp, osr=flat)


def conversion_findings(slide: Slide) -> list[Finding]:
    """What to say about a plain TIFF that is converted; empty for a slide."""
    if not isinstance(slide.osr, FlatTiff):
        return []
    name, flat = slide.path.name, slide.osr
    sentence = f"The file is a plain TIFF ({flat.layout}), not a tiled pyramid; the working slide is made from it as one."
    findings = [Finding(FindingCode.NOT_A_PYRAMID, Severity.INFO, name, flat.where, sentence, "Nothing to do.")]
    if flat.stack > 1:
        sentence = f"The file holds {flat.stack} pictures of the same size; only the first is taken."
        hint = "If they are focal planes, export the sharp one; if they are channels, import the file as an assay."
        findings.append(Finding(FindingCode.NOT_A_PYRAMID, Severity.WARNING, name, flat.where, sentence, hint))
    if flat.header_broken:
        sentence = f"The header of the file cannot be parsed ({flat.header_broken}); what it says of the pixel's size is not used."
        hint = "Write the file again with a valid header, or give the um per pixel."
        findings.append(Finding(FindingCode.METADATA_BROKEN, Severity.WARNING, name, flat.where, sentence, hint))
    return findings


class NotConvertible(Exception):
    """The file is no plain RGB TIFF that can be converted; the text says why, as the end of a sentence."""


class FlatTiff:
    """The one level of a plain RGB TIFF, with the parts of OpenSlide's interface that ml.slides.reader uses.

    layout: how it is stored, in words. stack: pictures of its size in the file. Error of the constructor: NotConvertible.
    """

    associated_images: dict[str, Any]

    def __init__(self, path: Path) -> None:
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        try:
            self._tif = tifffile.TiffFile(path)
        except Exception as reason:
            raise NotConvertible(f"its TIFF structure is damaged ({type(reason).__name__})") from reason
        weakref.finalize(self, self._tif.close)
        try:
            pages: list[Any] = list(itertools.islice(self._tif.pages, MAX_PAGES))
            number = max(range(len(pages)), key=lambda i: pages[i].imagewidth * pages[i].imagelength)
            self._page, self.where = pages[number], f"IFD {number}"
            reason = unreadable_as_flat(self._page)
        except Exception as error:
            raise NotConvertible(f"its TIFF structure is damaged ({type(error).__name__})") from error
        if reason:
            raise NotConvertible(reason)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._describe(pages, number)
        self._parts: OrderedDict[int, NDArray[np.uint8] | None] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def _describe(self, pages: list[Any], number: int) -> None:
        page = self._page
        self.dimensions: tuple[int, int] = (page.imagewidth, page.imagelength)
        self.level_dimensions, self.level_downsamples = (self.dimensions,), (1.0,)
        self._rows_high, self._cols_wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        self._rows_high = min(self._rows_high, page.imagelength)
        self._across, self._down = -(-page.imagewidth // self._cols_wide), -(-page.imagelength // self._rows_high)
        self.layout = f"{'tiles' if page.is_tiled else 'strips'}, {CODECS[page.compression]}{', planar' if page.planarconfig == 2 else ''}"
        self.stack = sum((p.imagewidth, p.imagelength) == self.dimensions for p in pages)
        self.associated_images = {f"page {i}": None for i in range(len(pages)) if i != number}
        properties = {"openslide.vendor": "generic-tiff"}
        properties |= {f"tiff.{name}": str(page.tags[name].value) for name in IDENTIFYING_TAGS if name in page.tags}
        profile = page.tags.get(34675)
        self.icc_profile = None if profile is None else bytes(profile.value)
        properties |= {"openslide.icc-size": str(len(self.icc_profile))} if self.icc_profile else {}
        self.header_broken = ""
        try:
            stated = layout_of(pages, self._tif.imagej_metadata).mpp_xy
        except HeaderBroken as reason:
            stated, self.header_broken = None, str(reason)
        # A printer's default resolution is no statement about the tissue: then a person is asked.
        if stated is not None and all(PLAUSIBLE_MPP[0] <= value <= PLAUSIBLE_MPP[1] for value in stated):
            properties |= {"openslide.mpp-x": repr(stated[0]), "openslide.mpp-y": repr(stated[1])}
        self.properties = properties

    def close(self) -> None:
        """Close the file for tifffile; the descriptor closes with the last reference."""
        with self._lock:
            self._tif.close()
            self._parts.clear()
            self._kept_bytes = 0

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """RGBA picture of (width, height) px from (x, y) px0 on, transparent beyond the picture and where a part is absent.

        Error: SlideError TILE_UNREADABLE.
        """
        (x, y), (width, height) = location, size
        out = np.zeros((height, width, 4), np.uint8)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, self.dimensions[0]), min(y + height, self.dimensions[1])
        if left < right and top < bottom:
            for row in range(top // self._rows_high, -(-bottom // self._rows_high)):
                for col in range(left // self._cols_wide, -(-right // self._cols_wide)):
                    self._paste(out, (x, y), (left, top, right, bottom), row, col)
        picture = Image.fromarray(out, "RGBA")
        if self.icc_profile:
            picture.info["icc_profile"] = self.icc_profile
        return picture

    def _paste(self, out: NDArray[np.uint8], origin: tuple[int, int], box: tuple[int, int, int, int], row: int, col: int) -> None:
        """Lay the part of the picture in (row, col) into `out`."""
        first_y, first_x = row * self._rows_high, col * self._cols_wide
        left, top = max(box[0], first_x), max(box[1], first_y)
        right, bottom = min(box[2], first_x + self._cols_wide), min(box[3], first_y + self._rows_high)
        planes = range(self._page.samplesperpixel) if self._page.planarconfig == 2 else range(1)
        channels = []
        for plane in planes:
            index = (plane * self._down + row) * self._across + col
            try:
                rows = self._rows(index, top - first_y, bottom - first_y, min(self._rows_high, self.dimensions[1] - first_y))
            except MemoryError:
                raise
            except Exception as error:
                raise SlideError(
                    FindingCode.TILE_UNREADABLE,
                    f"A part of the picture cannot be decoded ({type(error).__name__}).",
                    "The file is damaged or incomplete: copy or export it again and compare the sizes.",
                    f"{'tile' if self._page.is_tiled else 'strip'} {index}, x {left}, y {top} px0",
                ) from error
            if rows is None:
                return
            channels.append(rows[:, left - first_x : right - first_x])
        pixels = np.concatenate(channels, axis=2)
        target = out[top - origin[1] : bottom - origin[1], left - origin[0] : right - origin[0]]
        target[..., :3], target[..., 3] = pixels[..., :3], 255
        if self._page.samplesperpixel == 4 and self._page.extrasamples and self._page.extrasamples[0] in (1, 2):
            target[..., 3] = pixels[..., 3]
            if self._page.extrasamples[0] == 1:  # the colours are already multiplied by it
                target[..., :3] = _unmultiplied(pixels)

    def _rows(self, index: int, first: int, last: int, rows: int) -> NDArray[np.uint8] | None:
        """Rows [first, last) of strip or tile `index` (which has `rows` inside the picture), or None if the file leaves it out."""
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if offset == 0 or count == 0:
            return None
        if page.compression == UNCOMPRESSED and not page.is_tiled and page.fillorder == 1 and page.predictor == 1:
            samples = 1 if page.planarconfig == 2 else page.samplesperpixel
            stride = page.imagewidth * samples
            if count < rows * stride:
                raise ValueError("the strip is too short")
            data = os.pread(self._descriptor, (last - first) * stride, offset + first * stride)
            return np.frombuffer(data, np.uint8).reshape(last - first, page.imagewidth, samples)
        with self._lock:
            if index not in self._parts:
                part = self._parts[index] = self._decoded(index, os.pread(self._descriptor, count, offset))
                self._kept_bytes += 0 if part is None else part.nbytes
                while len(self._parts) > 1 and self._kept_bytes > KEPT_PARTS_BYTES:
                    _, oldest = self._parts.popitem(last=False)
                    self._kept_bytes -= 0 if oldest is None else oldest.nbytes
            part = self._parts[index]
        return None if part is None else part[first:last]

    def _decoded(self, index: int, data: bytes) -> NDArray[np.uint8] | None:
        page = self._page
        if page.compression == JPEG:
            stated = jpeg_size(data)
            if stated is None or stated[0] * stated[1] > 4 * (self._rows_high + 16) * (self._cols_wide + 16):
                raise ValueError("no JPEG picture of that size")
        segment, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
        if segment is None:
            return None
        return np.asarray(segment, np.uint8).reshape(shape[-3:])


def unreadable_as_flat(page: Any) -> str:
    """Why a TIFF page cannot be converted, as the end of a sentence; "" if it can. Reads the header only."""
    width, height, samples = page.imagewidth, page.imagelength, page.samplesperpixel
    if samples not in (3, 4) or page.bitspersample != 8 or page.dtype is None or page.dtype.kind != "u":
        return "it has no three channels of 8 bits"
    if page.compression not in CODECS:
        return f"its compression ({getattr(page.compression, 'name', page.compression)}) is not one that is converted"
    if not (page.photometric == RGB or (page.photometric == YCBCR and page.compression == JPEG)):
        return f"its colours are not RGB ({getattr(page.photometric, 'name', page.photometric)})"
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS or min(width, height) < 1:
        return f"it declares {width} x {height} pixels, more than any scanner makes"
    if page.imagedepth != 1 or page.tiledepth != 1:
        return "it is a volume"
    wide, high = (page.tilewidth, page.tilelength) if page.is_tiled else (width, min(page.rowsperstrip, height))
    whole = page.compression != UNCOMPRESSED or page.is_tiled
    if min(wide, high) < 1 or (whole and wide * high * samples > MAX_PART_BYTES):
        return f"its parts of {wide} x {high} pixels are too large to be decoded one by one"
    parts = -(-width // wide) * -(-height // high) * (samples if page.planarconfig == 2 else 1)
    if len(page.dataoffsets) < parts or len(page.databytecounts) < parts:
        return f"it lists {min(len(page.dataoffsets), len(page.databytecounts))} of its {parts} parts"
    return ""


def _unmultiplied(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = np.maximum(pixels[..., 3:4].astype(np.uint16), 1)
    return np.minimum((pixels[..., :3].astype(np.uint16) * 255 + alpha // 2) // alpha, 255).astype(np.uint8)
