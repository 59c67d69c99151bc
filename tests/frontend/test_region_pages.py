"""Regions on pages: the case page tells when its map was made with others, files are shown to contributors only, forms answer in place."""

import json

import pytest
from django.urls import reverse
from qupath_files import collection, ring

from frontend.pages.case.region_view import area_text, colour_of
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Region
from tissueboard.slides.processing import restriction_of
from tissueboard.slides.region_imports import check_regions
from tissueboard.slides.regions import draw_region

OUTLINE = {"type": "Polygon", "coordinates": [ring(100, 100, 200, 100)]}
MADE_BEFORE = "The map was made before the regions of this slide changed."


@pytest.fixture
def slide(people):
    return people.lung.slide


@pytest.fixture
def draw(people, slide):
    return lambda **more: draw_region(people.contributor, slide, **{"geometry": OUTLINE, **more})[0]


@pytest.fixture
def case(people):
    return lambda person="viewer": people.client(person).get(reverse("case", args=[people.lung.patient.pk]))


def page(people, person, name, slide, **ids):
    return people.client(person).get(reverse(name, kwargs={"slide_id": slide.pk, **ids}))


def test_a_map_made_with_other_regions_says_so_before_anything_is_read_off_it(people, slide, case, draw):
    assert f"<strong>{MADE_BEFORE}" not in case().content.decode().split('id="measured"')[0]
    draw(role="annotation")
    assert f"<strong>{MADE_BEFORE}" not in case().content.decode().split('id="measured"')[0]
    draw(role="analyse")
    assert f"<strong>{MADE_BEFORE}" in case().content.decode().split('id="measured"')[0]
    inputs = people.lung.map.inputs | {"regions": restriction_of(slide).sha256}
    Prediction.objects.filter(pk=people.lung.map.pk).update(inputs=inputs)
    text = case().content.decode()
    assert f"<strong>{MADE_BEFORE}" not in text.split('id="measured"')[0]
    assert "Only the regions to be analysed were processed" in text
    assert "Input: regions" in text


def test_tools_to_draw_are_for_contributors(case):
    assert "data-draw=" in case("contributor").content.decode()
    text = case("viewer").content.decode()
    assert "data-regions" in text and "data-draw=" not in text and "data-new" not in text


def test_the_script_gets_outlines_by_class_and_what_is_processed_now(people, slide, draw):
    draw(role="analyse", classification="Tumor")
    draw(role="exclude", classification="Tumor")
    draw(geometry={"type": "Point", "coordinates": [5.26, 7]}, note="mitosis")
    data = page(people, "viewer", "slide_regions_data", slide).json()
    assert data["sha"] == restriction_of(slide).sha256
    assert [(c["role"], c["word"], c["name"], c["n"]) for c in data["classes"]] == [
        ("analyse", "analysed", "Tumor", 1),
        ("exclude", "left out", "Tumor", 1),
        ("annotation", "shown", "", 1),
    ]
    assert [(r["k"], r["t"]) for r in data["regions"]] == [(0, "Polygon"), (1, "Polygon"), (2, "Point")]
    assert data["regions"][2]["c"] == [5.3, 7.0]


def test_what_was_drawn_is_answered_as_json_with_its_panel(people, slide):
    url, client = reverse("slide_region_new", args=[slide.pk]), people.client("contributor")
    over = json.dumps({"type": "Polygon", "coordinates": [ring(1000, 1000, 900, 900)]})
    made = client.post(url, {"geometry": over, "role": "exclude", "note": "fold"})
    assert made.status_code == 201
    assert made.json()["said"] == ["The region reaches beyond the slide; it was cut at the edge."]
    assert client.get(made.json()["panel"]).status_code == 200
    for geometry in ("", "[", "[" * 50_000, "null", json.dumps({"type": "Point", "coordinates": ["a", "b"]})):
        refused = client.post(url, {"geometry": geometry})
        assert refused.status_code == 400
        assert refused.json()["where"] == "geometry" and refused.json()["sentence"].endswith(".")


def test_a_panel_is_changed_and_removed_in_place(people, slide, draw, words):
    region = draw(classification="Tumor", note="budding <b>")
    url, client = reverse("slide_region", args=[slide.pk, region.pk]), people.client("contributor")
    htmx = {"HTTP_HX_REQUEST": "true"}
    panel = client.get(url, **htmx)
    assert "<html" not in panel.content.decode() and "budding &lt;b&gt;" in panel.content.decode()
    changed = client.post(url, {"action": "edit", "role": "analyse", "note": "seen"}, **htmx)
    assert changed["HX-Trigger"] == "tissueboard-regions" and "Saved." in words(changed)
    refused = client.post(url, {"action": "edit", "note": "x" * 2001}, **htmx)
    assert refused.status_code == 200 and "HX-Trigger" not in refused and "2,001 characters" in words(refused)
    removed = client.post(url, {"action": "remove"}, **htmx)
    assert removed["HX-Trigger"] == "tissueboard-regions" and "was removed from the slide" in words(removed)
    assert client.get(url).status_code == 404


def test_without_scripts_the_same_page_does_the_same(people, slide, draw):
    region = draw(name="front")
    url, client = reverse("slide_region", args=[slide.pk, region.pk]), people.client("contributor")
    assert client.post(url, {"action": "edit", "name": "front 2"}, follow=True).status_code == 200
    assert Region.objects.get(pk=region.pk).name == "front 2"
    assert client.post(url, {"action": "remove"})["Location"] == reverse("slide_regions", args=[slide.pk])


def test_a_file_is_looked_at_before_it_comes_in(people, slide, words):
    found = check_regions(people.contributor, slide, collection(), "Jane Rosenthal.geojson")
    url, client = reverse("slide_region_file", args=[slide.pk, found.pk]), people.client("contributor")
    text = words(client.get(url))
    assert "7 regions can be brought in" in text and "Nothing is on the slide yet." in text and "MEASUREMENTS_DROPPED" in text
    assert client.post(url, {"action": "eat"}).status_code == 400
    assert client.post(url, {"action": "confirm", "role-0": "conquer"}).status_code == 400
    assert not Region.objects.exists()
    assert client.post(url, {"action": "confirm"}).status_code == 302
    assert "7 regions came from this file" in words(client.get(url))
    assert client.post(url, {"action": "confirm"}).status_code == 409


def test_names_of_files_are_not_for_viewers(people, slide):
    found = check_regions(people.contributor, slide, collection(), "Jane Rosenthal.geojson")
    assert "Rosenthal" in page(people, "contributor", "slide_regions", slide).content.decode()
    assert "Rosenthal" not in page(people, "viewer", "slide_regions", slide).content.decode()
    assert page(people, "viewer", "slide_region_file", slide, import_id=found.pk).status_code == 403


def test_a_missing_file_and_a_wrong_one_are_told_on_the_page(people, slide, words):
    url, client = reverse("slide_regions", args=[slide.pk]), people.client("contributor")
    refused = client.post(url)
    assert refused.status_code == 400 and "No file was chosen." in words(refused)
    from io import BytesIO

    wrong = BytesIO(b"<html>")
    wrong.name = "page.geojson"
    assert "Nothing in this file can be brought in." in words(client.post(url, {"file": wrong}, follow=True))


def test_where_coordinates_start_is_asked_only_where_it_matters(people, slide):
    assert 'name="frame"' not in page(people, "contributor", "slide_regions", slide).content.decode()
    slide.facts["origin_px0"] = [120, 0]
    slide.save()
    assert 'name="frame"' in page(people, "contributor", "slide_regions", slide).content.decode()


def test_areas_and_colours_as_people_read_them():
    assert [area_text(a) for a in (0, 0.0000305, 0.0144, 12.345)] == ["", "30.5 µm²", "0.0144 mm²", "12.3 mm²"]
    assert colour_of("annotation", "Tumor", "#c80000") == "#c80000"
    assert colour_of("annotation", "Stroma", "") == colour_of("annotation", "stroma", "") != colour_of("exclude", "Stroma", "")
