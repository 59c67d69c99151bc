"""One feature of QuPath's GeoJSON: geometry, class, measurements, each as tolerant as the field needs and as strict as a slide is.

Since QuPath 0.4 `id` is a UUID and `measurements` an object; before, `id` named the type of the object, `measurements` was a list of
{name, value} and a class had one packed colour.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import LineString, MultiLineString, MultiPoint, MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from ml.slides.findings import Finding, Severity
from ml.slides.regions import AREAS, LINES, OBJECT_TYPES, POINTS, Region, moved, repaired, same_kind, whole_slide

MAX_TEXT = 200
MAX_METADATA = 2000
LARGEST_PX0 = 1e8
MAX_MEASUREMENTS = 200
# Mending takes time with the square of the crossings: 500 points strewn about, five kilobytes, would hold a server for a minute.
MAX_CROSSINGS = 1000
EDGES_AT_A_TIME = 64
# Before 0.4 QuPath kept the type of an object where the id belongs.
OLD_TYPES = {
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
}


class RegionCode(StrEnum):
    """Everything that can be said about a file of regions."""

    EMPTY_FILE = "EMPTY_FILE"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    ARCHIVE_UNREADABLE = "ARCHIVE_UNREADABLE"
    NOT_GEOJSON = "NOT_GEOJSON"
    TOO_MANY_REGIONS = "TOO_MANY_REGIONS"
    TOO_MANY_VERTICES = "TOO_MANY_VERTICES"
    NO_REGIONS = "NO_REGIONS"
    GEOGRAPHIC_COORDINATES = "GEOGRAPHIC_COORDINATES"
    FEATURE_INVALID = "FEATURE_INVALID"
    GEOMETRY_UNKNOWN = "GEOMETRY_UNKNOWN"
    GEOMETRY_COLLECTION = "GEOMETRY_COLLECTION"
    COORDINATES_INVALID = "COORDINATES_INVALID"
    SELF_INTERSECTION = "SELF_INTERSECTION"
    TANGLED = "TANGLED"
    NO_AREA = "NO_AREA"
    OUTSIDE_SLIDE = "OUTSIDE_SLIDE"
    CUT_AT_EDGE = "CUT_AT_EDGE"
    ID_DUPLICATED = "ID_DUPLICATED"
    OTHER_PLANE = "OTHER_PLANE"
    MEASUREMENTS_DROPPED = "MEASUREMENTS_DROPPED"
    TEXT_SHORTENED = "TEXT_SHORTENED"


class Refused(Exception):
    """One feature, or the file, cannot be used; the reader turns it into a finding."""

    def __init__(self, code: RegionCode, sentence: str, hint: str = "") -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.hint = code, sentence, hint


@dataclass
class Notes:
    """Collects findings; `where` is the feature that is being read."""

    file: str
    where: str = ""
    found: list[Finding] = field(default_factory=list)

    def say(self, severity: Severity, code: RegionCode, sentence: str, hint: str = "") -> None:
        self.found.append(Finding(code, severity, self.file, self.where, sentence, hint))


def read_feature(feature: Any, notes: Notes, size: tuple[int, int] | None, origin: tuple[float, float]) -> Region:
    """The region of one feature, in px0 of the working slide; Refused where there is none. size, origin: as `read_geojson`."""
    if isinstance(feature, dict) and feature.get("type") in (*AREAS, *LINES, *POINTS):
        feature = {"type": "Feature", "geometry": feature}
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise Refused(RegionCode.FEATURE_INVALID, "This is not a GeoJSON feature.", "Export the objects again.")
    if not isinstance(feature.get("geometry"), dict):
        raise Refused(RegionCode.FEATURE_INVALID, "The feature has no outline.", "Remove it in QuPath, or draw it again.")
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    _plane(feature["geometry"].get("plane"), notes)
    geometry = _on_slide(moved(_geometry(feature["geometry"], notes), -origin[0], -origin[1]), notes, size)
    name, colour = _class(properties.get("classification"), notes)
    return Region(
        geometry=geometry,
        object_type=_object_type(feature, properties),
        classification=name,
        colour=colour or _colour(properties.get("color")),
        name=_text(properties.get("name"), notes),
        measurements=_measurements(properties.get("measurements"), notes),
        id=_uuid(feature.get("id")),
        locked=properties.get("isLocked") is True or properties.get("locked") is True,
        metadata=_metadata(properties.get("metadata")),
    )


def _geometry(found: dict[str, Any], notes: Notes) -> BaseGeometry:
    kind, coordinates = found.get("type"), found.get("coordinates")
    if kind == "GeometryCollection":
        raise Refused(
            RegionCode.GEOMETRY_COLLECTION,
            "A collection of outlines of several kinds is not read as one region.",
            "Split it into single objects in QuPath.",
        )
    if kind not in (*AREAS, *LINES, *POINTS):
        raise Refused(RegionCode.GEOMETRY_UNKNOWN, f"The outline is of no known kind ({clean(kind)[:40]}).", "Export the objects again.")
    try:
        made = _BUILD[kind](coordinates)
    except Refused:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, shapely.errors.ShapelyError) as error:
        raise Refused(RegionCode.COORDINATES_INVALID, "The coordinates are not pairs of numbers.", "Export the objects again.") from error
    if made.is_empty:
        raise Refused(RegionCode.COORDINATES_INVALID, "The outline has no points.", "Remove it in QuPath.")
    if kind in AREAS and not made.is_valid:
        if _crossings(made) > MAX_CROSSINGS:
            raise Refused(RegionCode.TANGLED, f"The outline crosses itself more than {MAX_CROSSINGS:,} times.", "Draw it again.")
        area, made = made.area, repaired(made)
        if made.is_empty:
            raise Refused(RegionCode.NO_AREA, "The outline encloses no area.", "Remove it in QuPath, or draw it again.")
        notes.say(
            Severity.WARNING,
            RegionCode.SELF_INTERSECTION,
            f"The outline crosses itself; it was repaired ({area:.4g} to {made.area:.4g} square pixels).",
            "Check it in the viewer, or draw it again.",
        )
    return made


def _crossings(area: BaseGeometry) -> int:
    """How often the edges of an area cross each other; the count ends soon after MAX_CROSSINGS."""
    rings = [ring for polygon in shapely.get_parts(area) for ring in (polygon.exterior, *polygon.interiors)]
    points = [shapely.get_coordinates(ring) for ring in rings]
    edges = shapely.linestrings(np.concatenate([np.stack([xy[:-1], xy[1:]], axis=1) for xy in points]))
    tree, found = shapely.STRtree(edges), 0
    for start in range(0, len(edges), EDGES_AT_A_TIME):
        found += tree.query(edges[start : start + EDGES_AT_A_TIME], predicate="crosses").shape[1]
        if found > 2 * MAX_CROSSINGS:  # each is found from both of its edges
            break
    return found // 2


def _points(found: Any, least: int) -> NDArray[np.float64]:
    """(n, 2) float64 of a list of positions with two or three numbers each."""
    try:
        made = np.asarray(found)
    except ValueError:
        made = np.asarray([position[:2] for position in found])
    if made.ndim != 2 or made.shape[1] < 2 or made.dtype.kind not in "if":
        raise Refused(RegionCode.COORDINATES_INVALID, "The coordinates are not pairs of numbers.", "Export the objects again.")
    # A thousandth of a pixel is far below what anybody draws; smaller steps only break the geometry library.
    xy = np.round(made[:, :2].astype(np.float64), 3)
    if not (np.isfinite(xy).all() and np.abs(xy).max(initial=0.0) <= LARGEST_PX0):
        raise Refused(
            RegionCode.COORDINATES_INVALID, "A coordinate is no number, infinite or beyond all slides.", "Remove the object in QuPath."
        )
    if len(xy) < least:
        raise Refused(RegionCode.COORDINATES_INVALID, f"The outline has {len(xy)} points; it takes {least}.", "Draw it again.")
    return xy


def _polygon(rings: Any) -> Polygon:
    if not isinstance(rings, list) or not rings:
        raise Refused(RegionCode.COORDINATES_INVALID, "The outline has no points.", "Remove it in QuPath.")
    made = [_points(ring, 3) for ring in rings]
    return Polygon(made[0], made[1:])


def _several(one: Any, many: Any) -> Any:
    def build(found: Any) -> BaseGeometry:
        if not isinstance(found, list) or not found:
            raise Refused(RegionCode.COORDINATES_INVALID, "The outline has no points.", "Remove it in QuPath.")
        return many([one(part) for part in found])

    return build


def _line(found: Any) -> LineString:
    return LineString(_points(found, 2))


_BUILD: dict[str, Any] = {
    "Polygon": _polygon,
    "MultiPolygon": _several(_polygon, MultiPolygon),
    "LineString": _line,
    "MultiLineString": _several(_line, MultiLineString),
    "Point": lambda found: Point(_points([found], 1)[0]),
    "MultiPoint": lambda found: MultiPoint(_points(found, 1)),
}


def _on_slide(geometry: BaseGeometry, notes: Notes, size: tuple[int, int] | None) -> BaseGeometry:
    if size is None:
        return geometry
    xmin, ymin, xmax, ymax = geometry.bounds
    if xmin >= 0 and ymin >= 0 and xmax <= size[0] and ymax <= size[1]:
        return geometry
    cut = same_kind(shapely.intersection(geometry, whole_slide(size)), geometry.geom_type)
    if cut.is_empty:
        raise Refused(
            RegionCode.OUTSIDE_SLIDE,
            f"The region lies outside the slide ({size[0]} x {size[1]} px0).",
            "Check that the file belongs to this slide, and which part of the scan its coordinates start from.",
        )
    notes.say(Severity.WARNING, RegionCode.CUT_AT_EDGE, "The region reaches beyond the slide; it was cut at the edge.")
    return cut


def _plane(plane: Any, notes: Notes) -> None:
    if isinstance(plane, dict) and any(isinstance(plane.get(axis), int | float) and plane[axis] > 0 for axis in ("z", "t")):
        notes.say(Severity.WARNING, RegionCode.OTHER_PLANE, "The region was drawn on another focal plane or time; it is shown on this one.")


def _object_type(feature: dict[str, Any], properties: dict[str, Any]) -> str:
    told = properties.get("objectType") or properties.get("object_type") or properties.get("type") or feature.get("id")
    told = OLD_TYPES.get(told, told) if isinstance(told, str) else ""
    return {"tma_core": "tmaCore"}.get(told, told) if told in (*OBJECT_TYPES, "tma_core") else "annotation"


def _uuid(found: Any) -> str:
    try:
        return str(uuid.UUID(found)) if isinstance(found, str) else ""
    except ValueError:
        return ""


def _class(found: Any, notes: Notes) -> tuple[str, tuple[int, int, int] | None]:
    """Name and colour of a class; a derived one is written "Tumor: Positive"."""
    if isinstance(found, str):
        return _text(found, notes), None
    if not isinstance(found, dict):
        return "", None
    names, parent = found.get("names"), found
    if not (isinstance(names, list) and names):
        names = []
        while isinstance(parent, dict) and len(names) < 10:
            names.insert(0, parent.get("name"))
            parent = parent.get("parentClass")
    name = ": ".join(n.strip() for n in names if isinstance(n, str) and n.strip())
    colour = _colour(found.get("color"))
    return _text(name, notes), colour or _colour(found.get("colorRGB"))


def _colour(found: Any) -> tuple[int, int, int] | None:
    """RGB of [r, g, b], or of Java's packed number (signed 32 bits, alpha first)."""
    if isinstance(found, list) and len(found) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in found):
        return (int(found[0]), int(found[1]), int(found[2]))
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 32:
        return (found >> 16 & 255, found >> 8 & 255, found & 255)
    return None


def _measurements(found: Any, notes: Notes) -> dict[str, float]:
    if isinstance(found, list):
        found = {m.get("name"): m.get("value") for m in found if isinstance(m, dict) and isinstance(m.get("name"), str)}
    if not isinstance(found, dict):
        return {}
    made = {clean(k)[:MAX_TEXT]: float(v) for k, v in found.items() if _is_number(v)}
    kept = dict(list(made.items())[:MAX_MEASUREMENTS])
    if len(kept) < len(found):
        notes.say(
            Severity.INFO,
            RegionCode.MEASUREMENTS_DROPPED,
            f"{len(found) - len(kept)} of {len(found)} measurements are left out: no finite numbers, or beyond {MAX_MEASUREMENTS}.",
        )
    return kept


def _metadata(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        return {}
    texts = [(clean(k)[:MAX_TEXT], clean(v)[:MAX_METADATA]) for k, v in found.items() if isinstance(v, str)]
    return dict(texts[:MAX_MEASUREMENTS])


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _text(found: Any, notes: Notes) -> str:
    text = clean(found) if isinstance(found, str) else ""
    if len(text) > MAX_TEXT:
        notes.say(Severity.INFO, RegionCode.TEXT_SHORTENED, f"A name has {len(text)} characters; {MAX_TEXT} are kept.")
    return text[:MAX_TEXT]


def clean(found: Any) -> str:
    """One line of text that a database keeps: no control characters, no halves of a character."""
    if isinstance(found, str) and found.isprintable() and found == found.strip() and "  " not in found:
        return found
    text = str(found).encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
