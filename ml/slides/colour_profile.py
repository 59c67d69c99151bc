"""The scanner's colour profile: stripped of its texts so that it may stay with a working slide, and applied to view tiles on request.

ICC.1:2022 (profile version 4.4): 7.2 header, 7.3 tag table, 9 tags, 10 tag types. Only tags that say how numbers become colours are
copied, each cut to the length that its type defines, so that nothing can hide behind or between them.
"""

from __future__ import annotations

import io
import struct
import threading
from collections import OrderedDict
from typing import Any, Protocol

from PIL import Image, ImageCms

from ml.slides.findings import FindingCode, SlideError

MAX_BYTES = 4 << 20
QUALITY = 90
KEPT_TILES_BYTES = 32 << 20
NAME = "colour profile"
TAGS = {
    *(b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"wtpt", b"bkpt", b"chad"),
    *(b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2"),
}
PARA_VALUES = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}
FIXED_LENGTHS = {b"XYZ ": 20, b"sf32": 44}
# Bytes of the header that are copied: version, class, colour space, PCS; the signature; rendering intent and illuminant. Preferred
# module, date, platform, flags, device maker, model and attributes, creator and profile id are zero.
HEADER_KEPT = ((8, 24), (36, 40), (64, 80))
HEADER, ENTRY = 128, 12


class Source(Protocol):
    """Where tiles come from: serial tells two open slides apart, profile is the ICC profile or None."""

    serial: int
    profile: bytes | None

    def tile(self, level: int, col: int, row: int) -> bytes: ...


def sanitised(profile: bytes) -> bytes | None:
    """The same colours without texts, dates and names of devices; None if what remains is no RGB profile that can be applied.

    Texts (description, copyright, device maker and model, calibration date, viewing conditions, private tags) are left out; one
    neutral description is put in. Multi-stage tables of version 4 (mAB, mBA) are left out, too: their parts cannot be measured.
    """
    if not HEADER + 4 <= len(profile) <= MAX_BYTES or profile[36:40] != b"acsp" or profile[16:20] != b"RGB ":
        return None
    (count,) = struct.unpack_from(">I", profile, HEADER)
    if count > 100 or HEADER + 4 + ENTRY * count > len(profile):
        return None
    tags = [(b"desc", _description(profile[8]))]
    for index in range(count):
        name, offset, size = struct.unpack_from(">4sII", profile, HEADER + 4 + ENTRY * index)
        data = _measured(profile[offset : offset + size]) if name in TAGS and name not in dict(tags) else None
        if data is not None:
            tags.append((name, data))
    clean = _written(profile, tags)
    return clean if _loads(clean) else None


def profile_of(osr: Any) -> bytes | None:
    """The ICC profile of an open OpenSlide, as its file holds it, or None. Decodes no tile: the pixel asked for lies beside the slide."""
    if not 0 < int(osr.properties.get("openslide.icc-size", "0")) <= MAX_BYTES:
        return None
    profile = osr.read_region((-2, -2), 0, (1, 1)).info.get("icc_profile")
    return bytes(profile) if profile else None


class SrgbTiles:
    """View tiles in sRGB, computed on request; the last KEPT_TILES_BYTES of them are kept in memory. Safe to use from many threads."""

    def __init__(self, budget: int = KEPT_TILES_BYTES) -> None:
        self.budget = budget
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[int, int, int, int], bytes] = OrderedDict()
        self._transforms: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0

    def __call__(self, source: Source, level: int, col: int, row: int) -> bytes:
        """JPEG bytes of a tile after the slide's profile. Errors as `source.tile`; SlideError NO_COLOUR_PROFILE."""
        key = (source.serial, level, col, row)
        with self._lock:
            if known := self._tiles.get(key):
                self._tiles.move_to_end(key)
                return known
        made = self._converted(source.tile(level, col, row), self._transform(source.profile))
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = made
                self._bytes += len(made)
            while self._bytes > self.budget:
                self._bytes -= len(self._tiles.popitem(last=False)[1])
        return made

    def _transform(self, profile: bytes | None) -> Any:
        if profile is None:
            raise SlideError(
                FindingCode.NO_COLOUR_PROFILE,
                "The slide has no colour profile: its scanner did not store one, or it was imported before profiles were kept.",
                "Switch the colour profile off, or import the slide again.",
            )
        with self._lock:
            if profile not in self._transforms:
                try:
                    self._transforms[profile] = srgb_transform(profile)
                except (ImageCms.PyCMSError, OSError, ValueError) as error:
                    raise SlideError(
                        FindingCode.NO_COLOUR_PROFILE,
                        f"The colour profile of the slide cannot be applied ({error}).",
                        "Switch the colour profile off.",
                    ) from error
                while len(self._transforms) > 24:
                    self._transforms.popitem(last=False)
            return self._transforms[profile]

    def _converted(self, tile: bytes, transform: Any) -> bytes:
        out = io.BytesIO()
        with Image.open(io.BytesIO(tile)) as picture:
            drawn = ImageCms.applyTransform(picture.convert("RGB"), transform)
        assert drawn is not None  # only None when asked to work in place
        drawn.save(out, "JPEG", quality=QUALITY, subsampling=0, icc_profile=None)
        return out.getvalue()


def srgb_transform(profile: bytes) -> Any:
    """PIL's transform from the profile to sRGB with the profile's own rendering intent. Error: ImageCms.PyCMSError."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    intent = ImageCms.Intent(ImageCms.getDefaultIntent(opened))
    return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=intent)


def _measured(data: bytes) -> bytes | None:
    """A tag cut to the length that its type defines, its reserved bytes zero; None if it is of no measured type or too short."""
    kind = data[:4]
    try:
        if kind in FIXED_LENGTHS:
            length = FIXED_LENGTHS[kind]
        elif kind == b"curv":
            length = 12 + 2 * int(struct.unpack_from(">I", data, 8)[0])
        elif kind == b"para":
            length = 12 + 4 * PARA_VALUES[struct.unpack_from(">H", data, 8)[0]]
        elif kind in (b"mft1", b"mft2"):
            inputs, outputs, grid = data[8], data[9], data[10]
            before, after = (256, 256) if kind == b"mft1" else struct.unpack_from(">HH", data, 48)
            entries = inputs * before + grid**inputs * outputs + outputs * after
            length = 48 + entries if kind == b"mft1" else 52 + 2 * entries
        else:
            return None
    except (struct.error, KeyError, IndexError):
        return None
    return kind + bytes(4) + data[8:length] if len(data) >= length else None


def _description(major: int) -> bytes:
    """The neutral profileDescriptionTag in the type of the profile's version."""
    if major >= 4:
        text = NAME.encode("utf-16-be")
        return struct.pack(">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", len(text), 28) + text
    text = NAME.encode() + b"\x00"
    return struct.pack(">4sII", b"desc", 0, len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _written(profile: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    head = bytearray(HEADER)
    for start, end in HEADER_KEPT:
        head[start:end] = profile[start:end]
    table, body = struct.pack(">I", len(tags)), b""
    first = HEADER + 4 + ENTRY * len(tags)
    places: dict[bytes, int] = {}  # the three curves of a profile are often one
    for name, data in tags:
        if data not in places:
            places[data] = first + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    struct.pack_into(">I", head, 0, first + len(body))
    return bytes(head) + table + body


def _loads(profile: bytes) -> bool:
    try:
        srgb_transform(profile)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return True
