"""Objects as several generations of QuPath export them, written by hand for slides of at least 900 x 700 px0."""

import gzip
import io
import json
import zipfile

TUMOUR_ID, STROMA_ID, FOLD_ID = (f"5f0c9d3e-2f6b-4a0e-9f1e-00000000000{i}" for i in range(3))


def ring(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


# 0.4 and later: an id of its own, colour as three numbers, measurements by name; NaN is what Java writes for "could not be computed".
TUMOUR = {
    "type": "Feature",
    "id": TUMOUR_ID,
    "geometry": {"type": "Polygon", "coordinates": [ring(200, 150, 300, 200), ring(250, 200, 50, 50)]},
    "properties": {
        "objectType": "annotation",
        "name": "invasive front",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "isLocked": True,
        "measurements": {"Area µm^2": 14375.0, "Ki67 %": 31.5, "Max diameter µm": float("nan")},
        "metadata": {"ANNOTATION_DESCRIPTION": "budding here"},
    },
}
STROMA = {
    "type": "Feature",
    "id": STROMA_ID,
    "geometry": {"type": "MultiPolygon", "coordinates": [[ring(520, 150, 80, 90)], [ring(520, 300, 60, 60)]]},
    "properties": {"objectType": "annotation", "classification": {"names": ["Stroma", "Desmoplastic"], "color": [150, 200, 150]}},
}
FOLD = {
    "type": "Feature",
    "id": FOLD_ID,
    "geometry": {"type": "Polygon", "coordinates": [ring(300, 300, 40, 200)]},
    "properties": {"objectType": "annotation", "classification": {"name": "Ignore*", "color": [180, 180, 180]}},
}
# 0.2 and 0.3: the type of the object as id, one packed colour, measurements as a list, a derived class with its parent.
OLD_CELL = {
    "type": "Feature",
    "id": "PathCellObject",
    "geometry": {"type": "Polygon", "coordinates": [ring(310.25, 220.5, 12, 10)]},
    "nucleusGeometry": {"type": "Polygon", "coordinates": [ring(312, 222, 6, 5)]},
    "properties": {
        "classification": {"name": "Positive", "colorRGB": -377282, "parentClass": {"name": "Tumor", "colorRGB": -3670016}},
        "isLocked": False,
        "measurements": [{"name": "Nucleus: Area", "value": 30.25}, {"name": "Cell: Area", "value": 120}],
    },
}
ARROW = {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[10, 10], [60, 80]]}, "properties": {"name": "ink"}}
SPOTS = {
    "type": "Feature",
    "geometry": {"type": "MultiPoint", "coordinates": [[400, 300], [410, 310], [420, 300]]},
    "properties": {"objectType": "annotation", "classification": {"name": "Mitosis"}},
}
FEATURES = [TUMOUR, STROMA, FOLD, OLD_CELL, OLD_CELL, ARROW, SPOTS]


def collection(features: list | None = None, **more) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": FEATURES if features is None else features, **more}).encode()


def zipped(content: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("slide.geojson",):
            archive.writestr(name, content)
    return out.getvalue()


FORMS = {
    "collection": collection(),
    "plain list": json.dumps(FEATURES).encode(),
    "with byte order mark": b"\xef\xbb\xbf" + collection(),
    "gzip": gzip.compress(collection()),
    "zip": zipped(collection()),
}
