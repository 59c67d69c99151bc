"""Regions of a slide: what a person or a program outlined, and how outlines restrict what is processed.

Coordinates are px0 of the working slide, x to the right, y down. GeoJSON in and out is `ml.slides.geojson`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from ml.slides.tissue import TissueMask

AREAS = ("Polygon", "MultiPolygon")
LINES = ("LineString", "MultiLineString")
POINTS = ("Point", "MultiPoint")
OBJECT_TYPES = ("annotation", "detection", "cell", "tile", "tmaCore")
DECIMALS = 2  # of px0: QuPath's own


@dataclass(frozen=True)
class Region:
    """One outlined object, as QuPath knows it.

    geometry: (Multi)Polygon with holes, (Multi)LineString or (Multi)Point in px0. object_type: one of OBJECT_TYPES.
    classification: name of the class ("Tumor: Positive" for a derived one), "" for none. colour: RGB 0..255 of the class.
    measurements: finite numbers by name. id: UUID, "" until one is given. metadata: texts by name.
    """

    geometry: BaseGeometry
    object_type: str = "annotation"
    classification: str = ""
    colour: tuple[int, int, int] | None = None
    name: str = ""
    measurements: dict[str, float] = field(default_factory=dict)
    id: str = ""
    locked: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_area(self) -> bool:
        """True for polygons: only these can say what is processed."""
        return self.geometry.geom_type in AREAS

    def area_mm2(self, mpp: float) -> float:
        """Area in mm2 (0 for lines and points). mpp: um per px0."""
        return float(self.geometry.area) * (mpp / 1000.0) ** 2


def to_json(geometry: BaseGeometry, decimals: int = DECIMALS) -> dict[str, Any]:
    """The geometry as a GeoJSON object of plain lists, rings closed, coordinates rounded."""

    def lists(part: BaseGeometry) -> Any:
        if part.geom_type == "Polygon":
            return [lists(ring) for ring in (part.exterior, *part.interiors)]
        if part.geom_type.startswith("Multi"):
            return [lists(one) for one in part.geoms]
        xy = np.round(shapely.get_coordinates(part), decimals).tolist()
        return xy[0] if part.geom_type == "Point" else xy

    return {"type": geometry.geom_type, "coordinates": lists(geometry)}


def from_json(geometry: dict[str, Any]) -> BaseGeometry:
    """The geometry of a GeoJSON object that `to_json` wrote; for files of others use `ml.slides.geojson`."""
    return shape(geometry)


def moved(geometry: BaseGeometry, x: float, y: float) -> BaseGeometry:
    """The geometry shifted by (x, y) px0."""
    return geometry if not (x or y) else shapely.transform(geometry, lambda xy: xy + (x, y))


def whole_slide(size: tuple[int, int]) -> Polygon:
    """The rectangle of a slide of (width, height) px0."""
    return box(0.0, 0.0, float(size[0]), float(size[1]))


def union(geometries: Iterable[BaseGeometry]) -> BaseGeometry:
    """All areas as one valid geometry; overlaps count once."""
    return shapely.union_all([g if g.is_valid else repaired(g) for g in geometries if g.geom_type in AREAS])


def repaired(geometry: BaseGeometry) -> BaseGeometry:
    """A valid geometry of the same dimension over the same ground (self-crossing outlines become several polygons); may be empty."""
    return same_kind(shapely.make_valid(geometry), geometry.geom_type)


def same_kind(geometry: BaseGeometry, like: str) -> BaseGeometry:
    """The parts of a geometry that have the dimension of the type `like`, merged into one; empty where there are none."""
    family = next(kinds for kinds in (AREAS, LINES, POINTS) if like in kinds)
    parts = [p for p in shapely.get_parts(shapely.get_parts(geometry)) if p.geom_type == family[0] and not p.is_empty]
    if family is AREAS:
        parts = [p for p in parts if p.area > 0]
    if not parts:
        return Polygon()
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts) if family is AREAS else shapely.union_all(parts)


def restrict(mask: TissueMask, include: Sequence[Region], exclude: Sequence[Region] = ()) -> TissueMask:
    """The tissue inside `include` (everywhere, if there is none) and outside `exclude`.

    A cell stays tissue where at least half of its area is left by the regions; areas are exact, holes are respected, overlaps count
    once. Lines and points restrict nothing.
    """
    wanted, unwanted = (union(r.geometry for r in regions if r.is_area) for regions in (include, exclude))
    kept = mask.mask
    if any(r.is_area for r in include):
        # Thousandths of a pixel: slivers of rounding, left by a difference, make later cuts of the geometry library wrong.
        left = shapely.set_precision(shapely.difference(wanted, unwanted), 1e-3)
        kept = kept & (coverage(left, kept.shape, mask.cell_px0) >= HALF)
    elif not unwanted.is_empty:
        kept = kept & (1.0 - coverage(unwanted, kept.shape, mask.cell_px0) >= HALF)
    return replace(mask, mask=kept)


HALF = 0.5 - 1e-6


def coverage(area: BaseGeometry, grid: tuple[int, ...], cell_px0: float) -> NDArray[np.float32]:
    """(rows, cols) float32, share 0..1 of each cell that a valid (Multi)Polygon covers. grid: (rows, cols); cells of `cell_px0` from 0, 0.

    Every edge is cut at the borders of cells; a piece adds what lies to its right, with the sign of its direction (the accumulation of
    scan converters for outlines), so the sum over a row of cells is the exact area.
    """
    rows, cols = grid
    out = np.zeros((rows, cols), np.float32)
    inside = same_kind(shapely.intersection(area, box(0.0, 0.0, cols * cell_px0, rows * cell_px0)), "Polygon")
    if inside.is_empty:
        return out
    low = np.maximum(np.floor(np.array(inside.bounds[:2]) / cell_px0), 0).astype(int)
    high = np.ceil(np.array(inside.bounds[2:]) / cell_px0).astype(int)
    (left, top), (right, bottom) = np.minimum(low, (cols - 1, rows - 1)), np.minimum(np.maximum(high, low + 1), (cols, rows))
    start, end = _edges(inside, cell_px0)
    pieces = _cut(start - (left, top), end - (left, top))
    height, width = bottom - top, right - left
    out[top:bottom, left:right] = np.clip(_accumulate(*pieces, height, width), 0.0, 1.0)
    return out


def _edges(area: BaseGeometry, cell_px0: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and end (n, 2) of all edges in cells; shells run one way, holes the other."""
    rings: list[Any] = []
    for polygon in area.geoms if isinstance(area, MultiPolygon) else [area]:
        directed = shapely.orient_polygons(polygon)
        rings += [directed.exterior, *directed.interiors]
    points = [shapely.get_coordinates(ring) / cell_px0 for ring in rings]
    return np.concatenate([p[:-1] for p in points]), np.concatenate([p[1:] for p in points])


def _cut(start: NDArray[np.float64], end: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The edges cut wherever they cross a whole x or y: start and end (m, 2) of pieces that each lie in one cell."""
    owner, share = [np.arange(len(start))] * 2, [np.zeros(len(start)), np.ones(len(start))]
    for axis in (0, 1):
        a, b = start[:, axis], end[:, axis]
        first, last = np.ceil(np.minimum(a, b)).astype(int), np.floor(np.maximum(a, b)).astype(int)
        n = np.maximum(last - first + 1, 0) * (a != b)
        edge = np.repeat(np.arange(len(a)), n)
        whole = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(n) - n, n)
        owner.append(edge)
        share.append((whole - a[edge]) / (b[edge] - a[edge]))
    edges, shares = np.concatenate(owner), np.clip(np.concatenate(share), 0.0, 1.0)
    order = np.lexsort((shares, edges))
    edges, shares = edges[order], shares[order]
    places = start[edges] + shares[:, None] * (end[edges] - start[edges])
    # An edge ends exactly where the next one begins, or rounding would leave a gap in the outline.
    places[shares == 1.0] = end[edges[shares == 1.0]]
    same = (edges[1:] == edges[:-1]) & (shares[1:] > shares[:-1])
    return places[:-1][same], places[1:][same]


def _accumulate(a: NDArray[np.float64], b: NDArray[np.float64], rows: int, cols: int) -> NDArray[np.float64]:
    """(rows, cols) share of each cell that closed outlines of pieces a -> b (n, 2) enclose."""
    middle, dy = (a + b) / 2, b[:, 1] - a[:, 1]
    row = np.clip(np.floor(middle[:, 1]).astype(int), 0, rows - 1)
    col = np.clip(np.floor(middle[:, 0]).astype(int), 0, cols - 1)
    right_of = 1.0 - np.clip(middle[:, 0] - col, 0.0, 1.0)
    at = row * (cols + 1) + col
    size = rows * (cols + 1)
    table = np.bincount(at, dy * right_of, size) + np.bincount(at + 1, dy * (1.0 - right_of), size)
    shares: NDArray[np.float64] = np.abs(table.reshape(rows, cols + 1).cumsum(axis=1)[:, :cols])
    return shares
