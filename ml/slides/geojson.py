"""QuPath's GeoJSON in and out. Whatever is in a file, reading gives regions and coded findings and raises for none of it.

QuPath writes a FeatureCollection, one Feature, or a plain list of features, as .geojson, .geojson.gz or zipped. Coordinates are px0,
never degrees. For slides with empty margins (MIRAX) QuPath counts from the scanned area, as our working slide does, unless it was told
not to crop; programs on plain OpenSlide count from the whole file. Source: QuPath's type adapters, its OpenSlide image server.
"""

from __future__ import annotations

import gzip
import io
import json
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import shapely

from ml.slides.findings import Finding, Severity
from ml.slides.geojson_feature import Notes, Refused, RegionCode, read_feature
from ml.slides.regions import AREAS, LINES, POINTS, Region, from_json, moved, to_json

MAX_BYTES = 64 << 20  # unpacked
MAX_FEATURES = 50_000
MAX_VERTICES = 2_000_000


def read_geojson(
    content: bytes, size: tuple[int, int] | None = None, origin: tuple[float, float] = (0.0, 0.0), file: str = "regions.geojson"
) -> tuple[list[Region], list[Finding]]:
    """Regions in px0 of the working slide, and findings; `where` of a finding is the feature's place ("feature 3", from 0).

    size: (width, height) px0 of the working slide; areas are cut there, what lies beyond is refused. origin: where the working slide's
    first pixel lies in the file's own coordinates. file: name for the findings. Nothing in the content makes it raise.
    """
    notes = Notes(file)
    regions: list[Region] = []
    try:
        features = _features(_json(_unpacked(content)), notes)
        vertices, seen = 0, set[str]()
        for index, feature in enumerate(features):
            notes.where = f"feature {index}"
            try:
                region = read_feature(feature, notes, size, origin)
            except Refused as reason:
                notes.say(Severity.ERROR, reason.code, reason.sentence, reason.hint)
                continue
            vertices += shapely.get_num_coordinates(region.geometry)
            if vertices > MAX_VERTICES:
                notes.where, regions = "", []
                raise Refused(
                    RegionCode.TOO_MANY_VERTICES,
                    f"The outlines have more than {MAX_VERTICES:,} points together; nothing was read.",
                    "Export annotations without cells, or simplify the outlines in QuPath.",
                )
            regions.append(_with_own_id(region, seen, notes))
        notes.where = ""
        _whole_file(regions, features, notes, size)
    except Refused as reason:
        notes.where = ""
        notes.say(Severity.ERROR, reason.code, reason.sentence, reason.hint)
    return regions, notes.found


def write_geojson(regions: Sequence[Region], origin: tuple[float, float] = (0.0, 0.0)) -> bytes:
    """A FeatureCollection that QuPath 0.4 and later reads (earlier ones read the geometry and class). origin: added to all coordinates."""
    return json.dumps({"type": "FeatureCollection", "features": [_feature(r, origin) for r in regions]}, allow_nan=False).encode()


def read_own(content: bytes) -> list[Region]:
    """The regions that `write_geojson` wrote, without another check: only for what never left our hands."""
    regions = []
    for feature in json.loads(content)["features"]:
        told = feature["properties"]
        kind = told.get("classification", {})
        colour = kind.get("color") or told.get("color")
        regions.append(
            Region(
                geometry=from_json(feature["geometry"]),
                object_type=told["objectType"],
                classification=kind.get("name", ""),
                colour=tuple(colour) if colour else None,
                name=told.get("name", ""),
                measurements=told.get("measurements", {}),
                id=feature["id"],
                locked=told.get("isLocked", False),
                metadata=told.get("metadata", {}),
            )
        )
    return regions


def _feature(region: Region, origin: tuple[float, float]) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": region.object_type}
    if region.name:
        properties["name"] = region.name
    if region.classification:
        properties["classification"] = {"name": region.classification} | ({"color": list(region.colour)} if region.colour else {})
    elif region.colour:
        properties["color"] = list(region.colour)
    if region.locked:
        properties["isLocked"] = True
    if region.measurements:
        properties["measurements"] = region.measurements
    if region.metadata:
        properties["metadata"] = region.metadata
    geometry = to_json(moved(region.geometry, *origin))
    return {"type": "Feature", "id": region.id or str(uuid.uuid4()), "geometry": geometry, "properties": properties}


# --- the bytes


def _unpacked(content: bytes) -> bytes:
    if not content.strip():
        raise Refused(RegionCode.EMPTY_FILE, "The file is empty.", "Export the objects again.")
    try:
        if content[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MAX_BYTES + 1)
        elif content[:4] == b"PK\x03\x04":
            content = _zipped(content)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
        raise Refused(RegionCode.ARCHIVE_UNREADABLE, "The compressed file cannot be unpacked.", "Export the objects again.") from error
    if len(content) > MAX_BYTES:
        raise Refused(
            RegionCode.FILE_TOO_LARGE, f"The file has more than {MAX_BYTES >> 20} MiB.", "Export annotations only, without cells or tiles."
        )
    return content


def _zipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [n for n in archive.namelist() if n.lower().endswith((".geojson", ".json")) and not n.startswith("__MACOSX")]
        if len(names) != 1:
            raise Refused(
                RegionCode.ARCHIVE_UNREADABLE,
                f"The archive holds {len(names)} GeoJSON files; it must hold one.",
                "Send the file of this slide by itself.",
            )
        with archive.open(names[0]) as file:
            return file.read(MAX_BYTES + 1)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refused(RegionCode.NOT_GEOJSON, "The file is not JSON.", "In QuPath: File, Export objects as GeoJSON.") from error


def _features(found: Any, notes: Notes) -> list[Any]:
    """The features of any of the forms in which QuPath and others write them."""
    if isinstance(found, dict) and found.get("type") == "FeatureCollection" and isinstance(found.get("features"), list):
        if _names_the_earth(found.get("crs")):
            notes.say(
                Severity.WARNING,
                RegionCode.GEOGRAPHIC_COORDINATES,
                "The file names a coordinate system of the earth; the numbers are taken as pixels.",
                "Check in the preview that the regions lie on the tissue.",
            )
        features = found["features"]
    elif isinstance(found, dict) and found.get("type") == "Feature":
        features = [found]
    elif isinstance(found, dict) and found.get("type") in (*AREAS, *LINES, *POINTS, "GeometryCollection"):
        features = [{"type": "Feature", "geometry": found, "properties": {}}]
    elif isinstance(found, list):
        features = found
    else:
        raise Refused(RegionCode.NOT_GEOJSON, "The file is JSON, but not GeoJSON.", "In QuPath: File, Export objects as GeoJSON.")
    if len(features) > MAX_FEATURES:
        raise Refused(
            RegionCode.TOO_MANY_REGIONS,
            f"The file holds {len(features):,} objects; at most {MAX_FEATURES:,} can be read.",
            "Export annotations only, without cells or tiles.",
        )
    return features


def _names_the_earth(crs: Any) -> bool:
    try:
        told = json.dumps(crs).upper()
    except RecursionError:  # whatever is nested that deep names nothing
        return False
    return any(word in told for word in ("EPSG", "CRS84", "WGS"))


def _whole_file(regions: list[Region], features: list[Any], notes: Notes, size: tuple[int, int] | None) -> None:
    if not features:
        raise Refused(RegionCode.NO_REGIONS, "The file holds no objects.", "Choose the objects in QuPath before exporting them.")
    if not regions or (size is not None and min(size) < 1000):
        return
    xmin, ymin, xmax, ymax = shapely.total_bounds([r.geometry for r in regions])
    if xmin >= -180 and xmax <= 180 and ymin >= -90 and ymax <= 90:
        notes.say(
            Severity.WARNING,
            RegionCode.GEOGRAPHIC_COORDINATES,
            "All coordinates are as small as degrees of longitude and latitude; they are taken as pixels.",
            "If they are degrees or fractions of the picture, export them in pixels of the full resolution.",
        )


def _with_own_id(region: Region, seen: set[str], notes: Notes) -> Region:
    if region.id and region.id in seen:
        notes.say(Severity.WARNING, RegionCode.ID_DUPLICATED, f"The id {region.id} was there before; a new one is given.")
        region = replace(region, id="")
    region = region if region.id else replace(region, id=str(uuid.uuid4()))
    seen.add(region.id)
    return region
