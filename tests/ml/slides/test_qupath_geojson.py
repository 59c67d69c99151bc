"""QuPath's GeoJSON in and out: all forms it is written in, every mistake as a coded finding, nothing lost on the way round."""

import gzip
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qupath_files import FEATURES, FORMS, OLD_CELL, TUMOUR, TUMOUR_ID, collection, ring, zipped
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from ml.slides.findings import Severity
from ml.slides.geojson import read_geojson, read_own, write_geojson
from ml.slides.geojson_child import read_geojson_safely
from ml.slides.geojson_feature import RegionCode
from ml.slides.regions import Region

SIZE = (2000, 1600)


def polygon(coordinates, **more):
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": coordinates}, "properties": {}} | more


def codes(findings, severity=None):
    return [f.code for f in findings if severity in (None, f.severity)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_regions(form):
    regions, findings = read_geojson(FORMS[form], SIZE)
    assert len(regions) == len(FEATURES)
    assert codes(findings, Severity.ERROR) == []
    tumour, stroma, fold, cell, _, arrow, spots = regions
    assert (tumour.id, tumour.name, tumour.classification, tumour.colour) == (TUMOUR_ID, "invasive front", "Tumor", (200, 0, 0))
    assert tumour.locked and tumour.metadata == {"ANNOTATION_DESCRIPTION": "budding here"}
    assert tumour.geometry.area == 300 * 200 - 50 * 50
    assert tumour.measurements == {"Area µm^2": 14375.0, "Ki67 %": 31.5}
    assert (stroma.classification, len(stroma.geometry.geoms)) == ("Stroma: Desmoplastic", 2)
    assert fold.classification == "Ignore*"
    assert (cell.object_type, cell.classification, cell.measurements) == (
        "cell",
        "Tumor: Positive",
        {"Nucleus: Area": 30.25, "Cell: Area": 120},
    )
    assert cell.colour == (250, 62, 62)
    assert (arrow.object_type, arrow.geometry.geom_type, arrow.is_area) == ("annotation", "LineString", False)
    assert len(spots.geometry.geoms) == 3


def test_one_feature_and_a_bare_outline_are_read_too():
    for content in (TUMOUR, TUMOUR["geometry"], [TUMOUR["geometry"]]):
        regions, _ = read_geojson(json.dumps(content).encode(), SIZE)
        assert [r.geometry.area for r in regions] == [300 * 200 - 50 * 50]


def test_the_old_type_in_the_place_of_an_id_is_no_duplicate():
    regions, findings = read_geojson(collection([OLD_CELL, OLD_CELL]), SIZE)
    assert RegionCode.ID_DUPLICATED not in codes(findings)
    assert len({r.id for r in regions}) == 2


def test_an_id_given_twice_is_said_and_replaced():
    regions, findings = read_geojson(collection([TUMOUR, TUMOUR]), SIZE)
    assert RegionCode.ID_DUPLICATED in codes(findings)
    assert regions[0].id == TUMOUR_ID != regions[1].id


NAN, DEEP = [[float("nan"), 0], [10, 0], [10, 10], [0, 0]], [[[[1]]]]
BAD = {
    "no feature": (7, RegionCode.FEATURE_INVALID),
    "no outline": (polygon(None) | {"geometry": None}, RegionCode.FEATURE_INVALID),
    "no coordinates": (polygon(None), RegionCode.COORDINATES_INVALID),
    "text": (polygon([[["a", "b"], ["c", "d"], ["e", "f"]]]), RegionCode.COORDINATES_INVALID),
    "numbers as text": (polygon([[["1", "1"], ["9", "1"], ["9", "9"]]]), RegionCode.COORDINATES_INVALID),
    "not a number": (polygon([NAN]), RegionCode.COORDINATES_INVALID),
    "infinite": (polygon([[[0, 0], [1e400, 0], [0, 9]]]), RegionCode.COORDINATES_INVALID),
    "beyond numbers": (polygon([[[0, 0], [10**400, 0], [0, 9]]]), RegionCode.COORDINATES_INVALID),
    "too deep": (polygon(DEEP), RegionCode.COORDINATES_INVALID),
    "one number": (polygon([[[1], [2], [3]]]), RegionCode.COORDINATES_INVALID),
    "two points": (polygon([[[1, 1], [5, 5]]]), RegionCode.COORDINATES_INVALID),
    "one place": (polygon([[[5, 5]] * 5]), RegionCode.NO_AREA),
    "a line": (polygon([[[0, 0], [10, 10], [20, 20], [0, 0]]]), RegionCode.NO_AREA),
    "elsewhere": (polygon([ring(5000, 0, 10, 10)]), RegionCode.OUTSIDE_SLIDE),
    "point elsewhere": ({"type": "Point", "coordinates": [-5, 3]}, RegionCode.OUTSIDE_SLIDE),
    "circle": (polygon([]) | {"geometry": {"type": "Circle", "coordinates": [1, 1]}}, RegionCode.GEOMETRY_UNKNOWN),
    "collection": (polygon([]) | {"geometry": {"type": "GeometryCollection", "geometries": []}}, RegionCode.GEOMETRY_COLLECTION),
    "kind is a list": (polygon([]) | {"geometry": {"type": [1], "coordinates": []}}, RegionCode.GEOMETRY_UNKNOWN),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_feature_is_named_by_its_place_and_costs_no_other(name):
    feature, code = BAD[name]
    regions, findings = read_geojson(collection([TUMOUR, feature, FEATURES[1]]), SIZE)
    assert [r.classification for r in regions] == ["Tumor", "Stroma: Desmoplastic"]
    (error,) = [f for f in findings if f.severity == Severity.ERROR]
    assert (error.code, error.where) == (code, "feature 1")
    assert error.sentence.endswith(".")


def test_an_outline_that_crosses_itself_is_repaired_over_the_same_ground():
    bow_tie = polygon([[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]])
    (region,), findings = read_geojson(collection([bow_tie]), SIZE)
    assert region.geometry.is_valid and region.geometry.area == pytest.approx(5000)
    assert RegionCode.SELF_INTERSECTION in codes(findings, Severity.WARNING)


def test_an_outline_that_crosses_itself_thousands_of_times_is_refused_instead_of_mended():
    turn = 2 * math.pi * 49 / 99  # every edge crosses nearly every other one
    star = [[999 + 700 * math.cos(i * turn), 799 + 700 * math.sin(i * turn)] for i in range(100)]
    regions, findings = read_geojson(collection([polygon([star]), polygon([ring(400, 400, 50, 40)])]), SIZE)
    assert codes(findings) == [RegionCode.TANGLED] and findings[0].where == "feature 0"
    assert [r.geometry.area for r in regions] == [50 * 40]


@pytest.mark.parametrize("depth", range(960, 1000))
def test_a_coordinate_system_nested_as_deep_as_json_can_be_read_raises_nothing(depth):
    nested = "[" * depth + "]" * depth
    read_geojson(f'{{"type": "FeatureCollection", "crs": {nested}, "features": []}}'.encode(), SIZE)


def test_a_region_over_the_edge_is_cut_there():
    (region,), findings = read_geojson(collection([polygon([ring(1900, 1500, 400, 400)])]), SIZE)
    assert region.geometry.equals(box(1900, 1500, 2000, 1600))
    assert codes(findings) == [RegionCode.CUT_AT_EDGE]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", RegionCode.EMPTY_FILE),
        (b" \n", RegionCode.EMPTY_FILE),
        (b"<html>", RegionCode.NOT_GEOJSON),
        (b"\xff\xfe\x00", RegionCode.NOT_GEOJSON),
        (b'{"type": "Topology"}', RegionCode.NOT_GEOJSON),
        (b"[" * 100_000, RegionCode.NOT_GEOJSON),
        (b"[]", RegionCode.NO_REGIONS),
        (b"\x1f\x8bnot really", RegionCode.ARCHIVE_UNREADABLE),
        (gzip.compress(collection())[:-20], RegionCode.ARCHIVE_UNREADABLE),
        (b"PK\x03\x04 neither", RegionCode.ARCHIVE_UNREADABLE),
        (zipped(b"[]", "a.geojson", "b.geojson"), RegionCode.ARCHIVE_UNREADABLE),
        (zipped(b"[]", "readme.txt"), RegionCode.ARCHIVE_UNREADABLE),
        (gzip.compress(b" " * (80 << 20)), RegionCode.FILE_TOO_LARGE),
        (b"[" + b"1," * 60_000 + b"1]", RegionCode.TOO_MANY_REGIONS),
    ],
)
def test_a_file_that_is_none_gives_one_sentence(content, code):
    regions, findings = read_geojson(content, SIZE)
    assert (regions, codes(findings)) == ([], [code])


def test_degrees_are_suspected():
    small = [polygon([ring(8.5, 47.3, 0.01, 0.01)])]
    assert RegionCode.GEOGRAPHIC_COORDINATES in codes(read_geojson(collection(small), SIZE)[1])
    told = collection([TUMOUR], crs={"type": "name", "properties": {"name": "EPSG:4326"}})
    assert RegionCode.GEOGRAPHIC_COORDINATES in codes(read_geojson(told, SIZE)[1])
    assert RegionCode.GEOGRAPHIC_COORDINATES not in codes(read_geojson(collection([TUMOUR]), SIZE)[1])


def test_coordinates_from_the_whole_file_are_shifted_to_the_scanned_part():
    """A slide with empty margins was cut at (700, 400): what starts there in the file starts at (0, 0) here; writing goes back."""
    origin = (700, 400)
    (region,), _ = read_geojson(collection([polygon([ring(700, 400, 50, 60)])]), SIZE, origin)
    assert region.geometry.equals(box(0, 0, 50, 60))
    written = json.loads(write_geojson([region], origin))
    assert Polygon(written["features"][0]["geometry"]["coordinates"][0]).equals(box(700, 400, 750, 460))


def test_a_written_file_has_what_qupath_reads():
    region = Region(Point(3, 4).buffer(2), "cell", "Tumor", (1, 2, 3), "n", {"a": 1.5}, TUMOUR_ID, True, {"k": "v"})
    feature = json.loads(write_geojson([region]))["features"][0]
    assert (feature["type"], feature["id"]) == ("Feature", TUMOUR_ID)
    properties = {"objectType": "cell", "name": "n", "classification": {"name": "Tumor", "color": [1, 2, 3]}, "isLocked": True}
    assert feature["properties"] == properties | {"measurements": {"a": 1.5}, "metadata": {"k": "v"}}


texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=30)
numbers = st.integers(0, 150_000).map(lambda n: n / 100)
points = st.tuples(numbers, numbers)
shapes = st.one_of(
    st.tuples(numbers, numbers, st.integers(1, 400), st.integers(1, 80)).map(lambda b: box(b[0], b[1], b[0] + b[2], b[1] + b[3])),
    st.tuples(numbers, numbers).map(
        lambda p: box(p[0], p[1], p[0] + 90, p[1] + 90).difference(box(p[0] + 9, p[1] + 9, p[0] + 19, p[1] + 33))
    ),
    points.map(lambda p: MultiPolygon([box(*p, p[0] + 5, p[1] + 6), box(p[0] + 30, p[1], p[0] + 44, p[1] + 9)])),
    st.tuples(points, points).filter(lambda pair: pair[0] != pair[1]).map(LineString),
    points.map(Point),
    st.lists(points, min_size=2, max_size=6, unique=True).map(MultiPoint),
)
any_region = st.builds(
    Region,
    geometry=shapes,
    object_type=st.sampled_from(["annotation", "detection", "cell", "tile", "tmaCore"]),
    classification=texts,
    colour=st.none() | st.tuples(*[st.integers(0, 255)] * 3),
    name=texts,
    measurements=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    id=st.uuids().map(str),
    locked=st.booleans(),
    metadata=st.dictionaries(texts, texts, max_size=3),
)


@settings(max_examples=150)
@given(st.lists(any_region, max_size=5, unique_by=lambda r: r.id), st.tuples(st.integers(0, 9000), st.integers(0, 9000)))
def test_what_is_written_is_read_back(regions, origin):
    back, findings = read_geojson(write_geojson(regions, origin), (4000, 4000), origin)
    assert codes(findings, Severity.ERROR) == ([] if regions else [RegionCode.NO_REGIONS])
    assert len(back) == len(regions)
    for one, two in zip(regions, back):
        assert one.geometry.equals_exact(two.geometry, 0.011, normalize=True)
        for name in ("object_type", "classification", "colour", "name", "measurements", "id", "locked", "metadata"):
            assert getattr(one, name) == getattr(two, name), name


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "coordinates", "geometry", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
kinds = st.sampled_from(["Polygon", "MultiPolygon", "LineString", "Point", "MultiPoint", "GeometryCollection", "Feature"])


@settings(max_examples=300)
@given(kinds, anything, anything, anything)
def test_nothing_in_a_file_makes_it_raise(kind, coordinates, properties, id_):
    feature = {"type": "Feature", "id": id_, "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}
    for found in (feature, [feature, coordinates], {"type": "FeatureCollection", "features": coordinates}, properties):
        regions, findings = read_geojson(json.dumps(found).encode(), SIZE)
        assert all(r.geometry.is_valid and not r.geometry.is_empty for r in regions)
        assert all(math.isfinite(v) for r in regions for v in r.measurements.values())
        assert regions or findings


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_nor_do_any_bytes(content):
    _, findings = read_geojson(content, SIZE)
    assert findings


@settings(max_examples=50)
@given(st.lists(any_region, max_size=4, unique_by=lambda r: r.id))
def test_our_own_file_read_without_another_look_is_the_same(regions):
    own = read_own(write_geojson(regions))
    assert own == read_geojson(write_geojson(regions), (4000, 4000))[0]
    assert len(own) == len(regions)


def test_a_large_file_is_read_in_a_child_and_gives_the_same(monkeypatch):
    plain = read_geojson(collection(), SIZE, (5, 7))
    monkeypatch.setattr("ml.slides.geojson_child.SMALL", 0)
    own, regions, findings = read_geojson_safely(collection(), SIZE, (5, 7), "x.geojson")
    without_ids = [replace(r, id="") for r in regions]
    assert without_ids == [replace(r, id="") for r in plain[0]]
    assert read_own(own) == regions
    assert [(f.code, f.where) for f in findings] == [(f.code, f.where) for f in plain[1]]
    assert {f.file for f in findings} == {"x.geojson"}


def test_a_file_that_takes_too_long_to_read_is_one_finding(monkeypatch):
    monkeypatch.setattr("ml.slides.geojson_child.SMALL", 0)
    monkeypatch.setattr("ml.slides.geojson_child.SECONDS", 0.05)
    own, regions, findings = read_geojson_safely(collection(), SIZE)
    assert (read_own(own), regions, codes(findings)) == ([], [], ["PARSER_TIMEOUT"])
