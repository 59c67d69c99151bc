"""What the header of a multi-channel TIFF says: the channels' names, their planes, um per pixel. OME-XML, PerkinElmer-QPI, ImageJ, plain.

OME schema 2016-06 (Pixels, Channel, TiffData); QPTIFF file format, Akoya, revision 4 (ImageType, Name). Texts that may identify a patient
(image names, slide ids, dates, computers) are counted here and go no further.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from ml.slides.findings import FindingCode, SlideError

MAX_NAME = 80
MAX_PLANES = 2000
UNITS_UM = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **{"nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25_400.0, "inch": 25_400.0},
}
# "0", "C1", "Channel:0:2": what programs write where nobody gave a name.
PLACEHOLDER = re.compile(r"(channel|chan|ch|c|image)?[\s:_#-]*\d+([:_-]\d+)*", re.IGNORECASE)
IDENTIFYING_TAGS = ("Artist", "DateTime", "HostComputer", "DocumentName", "PageName", "Make", "Model", "Copyright")
IDENTIFYING_QPI = ("SlideID", "Barcode", "ComputerName", "Identifier", "StudyName", "OperatorName", "DateTime")


class HeaderBroken(ValueError):
    """The XML of a header cannot be read; the message names the kind of error only."""


@dataclass(frozen=True)
class Layout:
    """Where the channels are. pages: (index of the IFD, sample in it) per channel; names: as the file says, None if it does not.

    mpp_xy: um per pixel, None if not stated. depth, times: focal planes and time points (1 for an image). parts: further files that belong
    to the image. images: pictures of full size that the file holds. private: names of fields that may identify.
    """

    source: str
    pages: list[tuple[int, int]]
    names: list[str] | None = None
    mpp_xy: tuple[float, float] | None = None
    depth: int = 1
    times: int = 1
    parts: int = 0
    images: int = 1
    private: list[str] = field(default_factory=list)


def layout_of(pages: list[Any], imagej: dict[str, Any] | None) -> Layout:
    """How the IFDs of a TIFF (tifffile pages) make one image of several channels. HeaderBroken where its XML cannot be parsed."""
    text = pages[0].description or ""
    if "<OME" in text:
        return _ome(pages, text)
    if "PerkinElmer-QPI" in text:
        return _qpi(pages)
    return plain(pages, imagej)


def plain(pages: list[Any], imagej: dict[str, Any] | None) -> Layout:
    """Every IFD that is no reduced copy is a channel (or several, if it has several samples); names are not in such files."""
    full = [i for i, page in enumerate(pages) if not page.subfiletype & 1]
    private = _tags(pages[0]) + (["ImageJ Labels or Info"] if imagej and ({"Labels", "Info"} & set(imagej)) else [])
    if not imagej:
        return Layout("TIFF", _samples(pages, full), mpp_xy=_resolution(pages[0]), private=private)
    unit = UNITS_UM.get(str(imagej.get("unit", "")).replace("\\u00B5", "µ"))
    resolution = None if unit is None else _per_unit(pages[0], unit)
    depth, times = int(imagej.get("slices", 1)), int(imagej.get("frames", 1))
    channels = int(imagej.get("channels", 0))
    if not channels and depth > 1 and times == 1:
        depth = 1  # a stack that was never declared a hyperstack: the planes are what the person says
    return Layout("ImageJ", _samples(pages, full), mpp_xy=resolution, depth=depth, times=times, private=private)


def cleaned(name: str) -> str:
    """A channel's name on one line: printable characters, single spaces, at most 80."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:MAX_NAME]


def named(names: list[str]) -> list[str] | None:
    """The names if they name anything: None if all are empty or mere numbers."""
    clean = [cleaned(name) for name in names]
    return None if all(not name or PLACEHOLDER.fullmatch(name) for name in clean) else clean


def distinct(names: list[str]) -> list[str]:
    """Every name once: a second DAPI becomes "DAPI (2)", an empty one "channel 3"."""
    seen: dict[str, int] = {}
    found: list[str] = []
    for number, name in enumerate(names, 1):
        base = name or f"channel {number}"
        seen[base] = seen.get(base, 0) + 1
        candidate = base if seen[base] == 1 else f"{base} ({seen[base]})"
        while candidate in found:
            seen[base] += 1
            candidate = f"{base} ({seen[base]})"
        found.append(candidate)
    return found


def _samples(pages: list[Any], indices: list[int]) -> list[tuple[int, int]]:
    return [(i, s) for i in indices for s in range(pages[i].samplesperpixel)]


def _ome(pages: list[Any], text: str) -> Layout:
    root = _xml(text)
    images = [(image, pixels) for image in root if _tag(image) == "Image" for pixels in image if _tag(pixels) == "Pixels"]
    if not images:
        raise HeaderBroken("no Pixels")
    try:
        area = [int(p.get("SizeX", "0")) * int(p.get("SizeY", "0")) for _, p in images]
        image, pixels = images[area.index(max(area))]
        n, z, t = (max(1, int(pixels.get(key, "1"))) for key in ("SizeC", "SizeZ", "SizeT"))
        if n * z * t > MAX_PLANES:
            raise HeaderBroken(f"{n * z * t} planes")
        ifds = _ome_planes(pixels, n, z, t)
    except (ValueError, TypeError, KeyError, IndexError) as reason:
        raise reason if isinstance(reason, HeaderBroken) else HeaderBroken(type(reason).__name__) from None
    channels = [child for child in pixels if _tag(child) == "Channel"]
    names = [str(child.get("Name") or child.get("Fluor") or "") for child in channels]
    spread = {node.get("FileName") for node in pixels.iter() if _tag(node) == "UUID" and node.get("FileName")}
    if len(spread) <= 1 and any(ifd >= len(pages) for ifd in ifds):
        sentence = f"The file describes {max(ifds) + 1} planes, but holds {len(pages)}."
        raise SlideError(FindingCode.TRUNCATED, sentence, "The copy is incomplete: copy it again.", f"IFD {len(pages)}")
    found = _with_samples(pages, ifds, n) if len(spread) <= 1 else []
    private = [f"Image {key}" for key in ("Name",) if image.get(key)] + _ome_private(root) + _tags(pages[0])
    # A Channel element may stand for several samples of one IFD; then its name is not the name of a plane.
    kept = named(names) if len(names) == (len(found) or n) else None
    size = _ome_size(pixels)
    full = sum(a == max(area) for a in area)
    return Layout("OME-TIFF", found, kept, size, z, t, max(0, len(spread) - 1), full, private)


def _ome_planes(pixels: Any, n: int, z: int, t: int) -> list[int]:
    """IFD numbers of the channels at the first focal plane and time point."""
    order = pixels.get("DimensionOrder", "XYCZT")[2:]
    sizes = {"C": n, "Z": z, "T": t}
    blocks = [child for child in pixels if _tag(child) == "TiffData"]
    where: dict[tuple[int, int, int], int] = {}
    for block in blocks or [ElementTree.Element("TiffData")]:
        ifd = int(block.get("IFD", "0"))
        at = {key: int(block.get(f"First{key}", "0")) for key in "CZT"}
        # Without an IFD a block stands for all planes that are left, with one for a single plane (OME-TIFF specification, TiffData).
        count = int(block.get("PlaneCount", "1" if "IFD" in block.attrib else str(n * z * t)))
        for step in range(min(count, MAX_PLANES)):
            where[at["C"], at["Z"], at["T"]] = ifd + step
            for axis in order:
                at[axis] += 1
                if at[axis] < sizes[axis]:
                    break
                at[axis] = 0
    single = {ifd for (c, zz, tt), ifd in where.items() if zz == 0 and tt == 0 and c < n}
    if len(single) == 1 and len(where) < n:  # all channels are samples of one IFD
        return sorted(single)
    return [where[c, 0, 0] for c in range(n) if (c, 0, 0) in where]


def _with_samples(pages: list[Any], ifds: list[int], n: int) -> list[tuple[int, int]]:
    found = _samples(pages, list(dict.fromkeys(ifds)))
    return found if len(found) == n or any(pages[i].samplesperpixel > 1 for i in ifds) else [(i, 0) for i in ifds]


def _ome_size(pixels: Any) -> tuple[float, float] | None:
    values = []
    for axis in ("X", "Y"):
        unit = UNITS_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            value = float(pixels.get(f"PhysicalSize{axis}", "")) * (unit if unit is not None else float("nan"))
        except ValueError:
            return None
        values.append(value)
    return (values[0], values[1]) if all(0 < v < float("inf") for v in values) else None


def _ome_private(root: Any) -> list[str]:
    wanted = {"Experimenter", "AcquisitionDate", "Description", "StructuredAnnotations", "Dataset", "Project", "ExperimenterGroup"}
    return sorted({_tag(node) for node in root.iter() if _tag(node) in wanted})


def _qpi(pages: list[Any]) -> Layout:
    """Full-resolution planes carry ImageType FullResolution and the name of their filter or component."""
    heads = [_xml(page.description) if "PerkinElmer-QPI" in (page.description or "") else None for page in pages]
    first = pages[0]
    full = [
        i
        for i, (page, head) in enumerate(zip(pages, heads))
        if head is not None and _child(head, "ImageType") == "FullResolution" and page.shape[:2] == first.shape[:2]
    ]
    if not full:
        raise HeaderBroken("no plane of full resolution")
    names = [_child(heads[i], "Name") for i in full]
    private = [key for key in IDENTIFYING_QPI if _child(heads[0], key)] + _tags(first)
    return Layout("QPTIFF", _samples(pages, full), named(names), _resolution(first), private=private)


def _child(head: Any, key: str) -> str:
    return (head.findtext(key) or "").strip()


def _xml(text: str) -> Any:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise HeaderBroken("document type declarations are not read")
    try:
        # The declared encoding (utf-16 in QPTIFF) is that of the text before it became a TIFF tag.
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except Exception as reason:
        raise HeaderBroken(type(reason).__name__) from None


def _tag(node: Any) -> str:
    return str(node.tag).rpartition("}")[2]


def _tags(page: Any) -> list[str]:
    return [name for name in IDENTIFYING_TAGS if name in page.tags and str(page.tags[name].value).strip()]


def _resolution(page: Any) -> tuple[float, float] | None:
    """um per pixel of the resolution tags; None without a unit of length."""
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(page.resolutionunit))
    return None if unit is None else _per_unit(page, unit)


def _per_unit(page: Any, unit_um: float) -> tuple[float, float] | None:
    x, y = page.resolution
    return (unit_um / x, unit_um / y) if x > 0 and y > 0 else None
