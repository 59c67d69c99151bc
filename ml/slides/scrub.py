"""Sealed original -> working slide: a fresh tiled pyramidal TIFF that holds the pixels and the um per pixel and nothing else.

No label, macro or thumbnail, no description, date, artist, scanner id, DICOM or vendor field, no text of the colour profile, no comment
inside a JPEG tile. Baseline JPEG tiles of TIFF-based slides are copied without decoding; anything else is encoded anew and says so.

As a command (`python -m ml.slides.scrub ORIGINAL TARGET [--mpp X]`) it prints the facts, or the error, as one line of JSON.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from ml.slides.check import IDENTIFYING_PROPERTIES
from ml.slides.colour_profile import profile_of, sanitised
from ml.slides.files import sha256_file, whole_file
from ml.slides.findings import FindingCode, SlideError
from ml.slides.flat import open_source
from ml.slides.jpeg import clean_jpeg
from ml.slides.pyramid import SMALLEST, TILE, PyramidLevel, encode_row
from ml.slides.reader import Slide, open_slide
from ml.slides.unopened import patient_tags
from ml.slides.view_tiles import TILE_SIDES

QUALITY = 90
COMPARED_PER_SIDE = 5
COMPARED_PX = 64


@dataclass(frozen=True)
class WorkingSlide:
    """Facts of a working slide.

    sha256, original_sha256: of the two files. size: (width, height) px0. mpp: um per px0. levels: downsamples.
    origin_px0: (x, y) of its first pixel on the original (formats with empty margins are cut to what was scanned).
    lossless: level 0 holds the original's own JPEG tiles. pixels: that, or how they were encoded, in words.
    removed: what the original carried and the working slide does not (names of fields, never their values).
    colour_profile: it holds the scanner's ICC profile without its texts.
    """

    path: str
    sha256: str
    original_sha256: str
    size: tuple[int, int]
    mpp: float
    levels: list[float]
    origin_px0: tuple[int, int]
    lossless: bool
    pixels: str
    removed: list[str] = field(default_factory=list)
    colour_profile: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Base:
    """Level 0 as it will be written: tile side, TIFF options and the encoded tiles of one tile row."""

    tile: int
    options: dict[str, Any]
    encode: Callable[[int, np.ndarray[Any, Any]], Iterator[bytes]]


def make_working(
    path: str | Path, target: str | Path, mpp: float | None = None, progress: Callable[[float], None] | None = None
) -> WorkingSlide:
    """Write the working slide of an original; the target is whole or absent. progress is told the share done, 0..1.

    mpp: um per px0 stated by a person; else the header's. Memory grows with the width of the slide only.
    Errors: SlideError MPP_MISSING, TILE_UNREADABLE, WORKING_SLIDE_FAILED and those of open_slide.
    """
    path, target = Path(path), Path(target)
    with open_source(path, mpp=mpp) as slide:
        stated = slide.need_mpp()
        x, y, width, height = _bounds(slide)
        raw = profile_of(slide.osr)
        profile = None if raw is None else sanitised(raw)
        removed = _removed(slide, profile is not None)
        copied = _copy_plan(slide) if (x, y) == (0, 0) and (width, height) == slide.size else None
        with whole_file(target) as part:
            lossless = (
                copied is not None and _write(part, slide, (x, y, width, height), stated, copied, profile, progress) and _same(slide, part)
            )
            if not lossless:
                _write(part, slide, (x, y, width, height), stated, _encode_plan(), profile, progress)
            levels = _verified_levels(part, (width, height), stated)
            digest = sha256_file(part)
    return WorkingSlide(
        path=target.name,
        sha256=digest,
        original_sha256=sha256_file(path),
        size=(width, height),
        mpp=stated,
        levels=levels,
        origin_px0=(x, y),
        lossless=lossless,
        pixels="the original's JPEG tiles, copied" if lossless else f"encoded anew as JPEG, quality {QUALITY}",
        removed=removed,
        colour_profile=profile is not None,
    )


def residual_identifiers(path: str | Path, needles: list[str]) -> list[str]:
    """Where any of `needles` (names, ids, dates) still is: in the file's name, or in its bytes (UTF-8, UTF-16; case ignored).

    Also the parts of a name are looked for if they have four letters or more. Pixels are not read: pictures that may show a label
    are named as "picture N". An empty list means that nothing was found.
    """
    path = Path(path)
    words = {word for needle in needles for word in (needle, *needle.replace("^", " ").replace(",", " ").split()) if len(word) >= 4}
    found = [f"file name: {word}" for word in sorted(words) if word.lower() in path.name.lower()]
    patterns = {word: {word.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")} for word in sorted(words)}
    overlap = max((len(p) for forms in patterns.values() for p in forms), default=1)
    hits: set[str] = set()
    with path.open("rb") as stream:
        tail = b""
        while block := stream.read(1 << 24):
            text = (tail + block).lower()
            hits |= {word for word, forms in patterns.items() if any(form in text for form in forms)}
            tail = text[-overlap:]
    return found + [f"bytes: {word}" for word in sorted(hits)] + _pictures_beside(path)


def _pictures_beside(path: Path) -> list[str]:
    """Pictures of a slide that are no level of its pyramid."""
    try:
        with open_slide(path) as slide:
            return [f"picture: {name}" for name in sorted(slide.osr.associated_images)]
    except SlideError:
        return []


def _bounds(slide: Slide) -> tuple[int, int, int, int]:
    """x, y, width, height px0 of what was scanned."""
    properties = slide.osr.properties
    names = ("BOUNDS_X", "BOUNDS_Y", "BOUNDS_WIDTH", "BOUNDS_HEIGHT")
    values = [properties.get(getattr(openslide, f"PROPERTY_NAME_{name}")) for name in names]
    if any(value is None for value in values):
        return 0, 0, *slide.size
    x, y, width, height = (int(value) for value in values if value is not None)
    return x, y, min(width, slide.size[0] - x), min(height, slide.size[1] - y)


def _removed(slide: Slide, keeps_profile: bool) -> list[str]:
    """Names of what the working slide will not carry."""
    properties = slide.osr.properties
    fields = [key for key, value in properties.items() if value.strip() and key.lower().endswith(IDENTIFYING_PROPERTIES)]
    described = [key for key in ("openslide.comment", "tiff.ImageDescription", "tiff.Software") if properties.get(key, "").strip()]
    dicom = [f"dicom.{tag}" for tag in patient_tags(slide.path)] if slide.vendor == "dicom" else []
    images = [f"{name} image" for name in sorted(slide.osr.associated_images)]
    profile = ["ICC profile: texts" if keeps_profile else "ICC profile"] if int(properties.get("openslide.icc-size", "0")) else []
    return sorted(set(fields + described + dicom)) + images + profile


def _encode_plan() -> _Base:
    options = {"photometric": "rgb", "compressionargs": {"outcolorspace": "ycbcr"}, "subsampling": (2, 2)}
    return _Base(TILE, options, lambda _row, pixels: encode_row(pixels, QUALITY))


def _copy_plan(slide: Slide) -> _Base | None:
    """How to copy level 0's JPEG tiles; None if they are not baseline JPEG in a plain tiled TIFF with every tile there."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if slide.vendor not in {"aperio", "generic-tiff"}:
        return None
    try:
        with tifffile.TiffFile(slide.path) as tif:
            page: Any = tif.pages[0]
            plain = page.is_tiled and page.compression == 7 and page.samplesperpixel == 3 and page.planarconfig == 1
            square = page.tilewidth == page.tilelength and page.tilewidth % 16 == 0
            if not (plain and square and (page.imagewidth, page.imagelength) == slide.size and min(page.databytecounts) > 0):
                return None
            tables = page.jpegtables
            ycbcr = page.photometric == 6
            subsampling = tuple(page.subsampling) if ycbcr and page.subsampling else (2, 2)
            offsets, counts, side = page.dataoffsets, page.databytecounts, page.tilewidth
    except Exception:
        return None
    clean_tables = None if tables is None else clean_jpeg(tables)
    if tables is not None and clean_tables is None:
        return None
    options: dict[str, Any] = {
        "photometric": "rgb",
        "compressionargs": {"outcolorspace": "ycbcr" if ycbcr else "rgb"},
        "subsampling": subsampling,
    }
    if clean_tables is not None:
        options["jpegtables"] = clean_tables
    across = -(-slide.size[0] // side)

    def copied(row: int, _pixels: np.ndarray[Any, Any]) -> Iterator[bytes]:
        with slide.path.open("rb") as stream:
            for index in range(row * across, (row + 1) * across):
                stream.seek(offsets[index])
                tile = clean_jpeg(stream.read(counts[index]))
                if tile is None:
                    raise _NotCopiable
                yield tile

    return _Base(side, options, copied)


class _NotCopiable(Exception):
    """A tile is not baseline JPEG after all."""


def _write(
    part: Path,
    slide: Slide,
    box: tuple[int, int, int, int],
    mpp: float,
    base: _Base,
    profile: bytes | None,
    progress: Callable[[float], None] | None,
) -> bool:
    """Write the whole TIFF in one pass over the original; False if a tile could not be copied."""
    import tifffile

    _, _, width, height = box
    # All levels have the tiles of level 0, so that the viewer can be given them as they are.
    side = base.tile if TILE_SIDES[0] <= base.tile <= TILE_SIDES[1] else TILE
    pyramid = PyramidLevel(width, height, QUALITY, side) if max(width, height) > SMALLEST else None
    common: dict[str, Any] = {"dtype": np.uint8, "compression": "jpeg", "metadata": None, "software": False, "resolutionunit": "CENTIMETER"}
    try:
        with tifffile.TiffWriter(part, bigtiff=True) as writer:
            resolution = (1e4 / mpp, 1e4 / mpp)
            rows = _stream(slide, box, base, pyramid, progress)
            writer.write(
                rows,
                shape=(height, width, 3),
                tile=(base.tile, base.tile),
                subfiletype=0,
                resolution=resolution,
                iccprofile=profile,
                **common,
                **base.options,
            )
            if pyramid:  # the writer asks for no item beyond the last, so the stream itself cannot end the pyramid
                pyramid.finish()
            for level in pyramid.all() if pyramid else []:
                scale = width / level.width
                writer.write(
                    level.tiles(),
                    shape=(level.height, level.width, 3),
                    tile=(side, side),
                    subfiletype=1,
                    resolution=(resolution[0] / scale, resolution[1] / scale),
                    **common,
                    **_encode_plan().options,
                )
    except _NotCopiable:
        return False
    finally:
        if pyramid:
            pyramid.close()
    return True


def _stream(
    slide: Slide, box: tuple[int, int, int, int], base: _Base, pyramid: PyramidLevel | None, progress: Callable[[float], None] | None
) -> Iterator[bytes]:
    """Encoded tiles of level 0, row by row, feeding the pyramid on the way."""
    x, y, width, height = box
    for row, top in enumerate(range(0, height, base.tile)):
        pixels = slide.read_level(x, y + top, width, min(base.tile, height - top))
        if pyramid:
            pyramid.push(pixels)
        if progress:
            progress(min(1.0, (top + base.tile) / height))
        yield from base.encode(row, pixels)


def _same(slide: Slide, part: Path) -> bool:
    """Do the copied tiles show the original's pixels in OpenSlide, in places over the whole slide?"""
    try:
        with open_slide(part) as copy:
            for i in range(COMPARED_PER_SIDE):
                for j in range(COMPARED_PER_SIDE):
                    x, y = (int(max(s - COMPARED_PX, 0) * k / (COMPARED_PER_SIDE - 1)) for s, k in zip(slide.size, (i, j)))
                    one, other = (osr.read_region((x, y), 0, (COMPARED_PX, COMPARED_PX)) for osr in (slide.osr, copy.osr))
                    if one.tobytes() != other.tobytes():
                        return False
    except (SlideError, openslide.OpenSlideError):
        return False
    return True


def _verified_levels(part: Path, size: tuple[int, int], mpp: float) -> list[float]:
    """Levels of the written file as OpenSlide sees them; SlideError WORKING_SLIDE_FAILED if they are not what was meant."""
    try:
        with open_slide(part) as slide:
            agrees = slide.size == size and slide.mpp is not None and abs(slide.mpp / mpp - 1) < 1e-4 and not slide.osr.associated_images
            levels = list(slide.levels)
    except SlideError as error:
        agrees, levels = False, []
        reason = error.sentence
    else:
        reason = "its size or resolution is not that of the original"
    if not agrees:
        raise SlideError(
            FindingCode.WORKING_SLIDE_FAILED,
            f"The working slide was written but does not read back right: {reason}",
            "The original is unharmed; report this file's format.",
        )
    return levels


def main(arguments: list[str] | None = None) -> int:
    """Make a working slide and print its facts, or the error, as a line of JSON."""
    parser = argparse.ArgumentParser(description="Write the working slide of an original and print its facts as JSON.")
    parser.add_argument("path", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--mpp", type=float)
    options = parser.parse_args(arguments)
    try:
        answer = make_working(options.path, options.target, options.mpp).to_dict()
    except SlideError as error:
        answer = {"error": {"code": str(error.code), "sentence": error.sentence, "hint": error.hint, "where": error.where}}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sentence, hint = "The disk is full: the working slide could not be written.", "Make room and try again; the original is unharmed."
        answer = {"error": {"code": str(FindingCode.DISK_FULL), "sentence": sentence, "hint": hint, "where": ""}}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
