"""Every tile that a TIFF lists: does it lie inside the file, and does it begin like a JPEG? Decoding all of them would take minutes."""

from __future__ import annotations

import logging
from typing import Any, BinaryIO

from ml.slides.findings import Finding, FindingCode, Severity
from ml.slides.reader import Slide

TIFF_VENDORS = {"aperio", "generic-tiff", "leica", "philips", "trestle", "ventana"}
JPEG = 7
START = b"\xff\xd8\xff"
TIFF_HEADER = 8  # bytes: no tile begins before


def tile_table_findings(slide: Slide) -> list[Finding]:
    """At most one error: TRUNCATED, TIFF_BROKEN, or TILE_DAMAGED with how many and where the first is. Tiles may be empty."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if slide.vendor not in TIFF_VENDORS:
        return []
    try:
        with tifffile.TiffFile(slide.path) as tif, slide.path.open("rb") as stream:
            for number, page in enumerate(tif.pages):
                if found := _of_page(slide, stream, number, page):
                    return [found]
    except Exception as error:
        sentence = f"The list of pictures in the file is damaged ({type(error).__name__})."
        return [_error(slide, FindingCode.TIFF_BROKEN, sentence, "Copy or export the file again.")]
    return []


def _of_page(slide: Slide, stream: BinaryIO, number: int, page: Any) -> Finding | None:
    size = slide.path.stat().st_size
    table = list(zip(page.dataoffsets, page.databytecounts))
    end = max((offset + count for offset, count in table), default=0)
    if end > size:
        sentence = f"The file ends after {size} bytes, but its pictures reach to byte {end}."
        return _error(slide, FindingCode.TRUNCATED, sentence, "The copy is incomplete: copy it again.", f"IFD {number}")
    if not (page.is_tiled and page.compression == JPEG):
        return None
    damaged = [i for i, (offset, count) in enumerate(table) if count and (offset < TIFF_HEADER or not _begins(stream, offset))]
    if not damaged:
        return None
    across = -(-page.imagewidth // page.tilewidth)
    row, col = divmod(damaged[0], across)
    scale = slide.size[0] / page.imagewidth
    x, y = round(col * page.tilewidth * scale), round(row * page.tilelength * scale)
    sentence = f"{len(damaged)} of {len(table)} tiles of a level are damaged; the first begins at x {x}, y {y} px0."
    hint = "The slide waits: copy the file again from the scanner or archive, compare the sizes, and import it."
    return _error(slide, FindingCode.TILE_DAMAGED, sentence, hint, f"IFD {number}, x {x}, y {y} px0")


def _begins(stream: BinaryIO, offset: int) -> bool:
    stream.seek(offset)
    return stream.read(len(START)) == START


def _error(slide: Slide, code: FindingCode, sentence: str, hint: str, where: str = "") -> Finding:
    return Finding(code, Severity.ERROR, slide.path.name, where, sentence, hint)
