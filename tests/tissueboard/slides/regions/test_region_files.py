"""Regions by file: a dry run first, roles by class, the same ids replaced, and the same file back for QuPath."""

import json

import pytest
from qupath_files import FEATURES, FORMS, TUMOUR, TUMOUR_ID, collection, ring
from shapely.geometry import shape

from tissueboard.accounts.models import AccessLog
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.slides.models import Region, RegionImport, Slide
from tissueboard.slides.processing import restriction_of
from tissueboard.slides.region_imports import check_regions, confirm_regions, discard_regions, export_regions
from tissueboard.slides.selectors import get_region_import, region_imports_of, regions_of_slide

TUMOUR_AREA = 300 * 200 - 50 * 50


@pytest.fixture
def slide(people):
    return people.lung.slide


def check(people, slide, content=None, **more):
    return check_regions(people.contributor, slide, content or collection(), "Jane Rosenthal.geojson", **more)


def place(found, name):
    return next(i for i, row in enumerate(found.classes) if row["classification"] == name)


def test_checking_brings_nothing_in_and_proposes_only_what_is_safe(people, slide):
    found = check(people, slide)
    assert found.state == "waiting" and not Region.objects.exists()
    rows = {(row["object_type"], row["classification"]): row for row in found.classes}
    assert {key: row["role"] for key, row in rows.items()} == {
        ("annotation", ""): "annotation",
        ("annotation", "Ignore*"): "exclude",
        ("annotation", "Mitosis"): "annotation",
        ("annotation", "Stroma: Desmoplastic"): "annotation",
        ("annotation", "Tumor"): "annotation",
        ("cell", "Tumor: Positive"): "annotation",
    }
    assert rows[("cell", "Tumor: Positive")] | {"n": 2, "areas": 0} == rows[("cell", "Tumor: Positive")]
    assert rows[("annotation", "Tumor")]["area_mm2"] == pytest.approx(TUMOUR_AREA * (slide.mpp / 1000) ** 2)
    assert rows[("annotation", "Tumor")]["colour"] == "#c80000"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_brought_in(people, slide, form):
    found = confirm_regions(people.contributor, check(people, slide, FORMS[form]))
    assert found.state == "imported" and not found.content
    rows = {r.classification: r for r in regions_of_slide(people.viewer, slide)}
    assert regions_of_slide(people.viewer, slide).count() == len(FEATURES)
    tumour = rows["Tumor"]
    assert (str(tumour.external_id), tumour.name, tumour.note, tumour.area_px0) == (
        TUMOUR_ID,
        "invasive front",
        "budding here",
        TUMOUR_AREA,
    )
    assert (tumour.source, tumour.file_id, tumour.measurements["Ki67 %"]) == ("imported", found.pk, 31.5)
    assert rows["Ignore*"].role == "exclude"
    assert list(AccessLog.objects.filter(verb__endswith="regions").order_by("pk").values_list("verb", flat=True)) == [
        "check regions",
        "import regions",
    ]


def test_the_chosen_roles_say_what_is_processed(people, slide):
    found = check(people, slide)
    confirm_regions(people.contributor, found, {place(found, "Tumor"): "analyse", place(found, "Ignore*"): "annotation"})
    restriction = restriction_of(slide)
    assert [shape(area).area for area in restriction.analyse] == [TUMOUR_AREA] and not restriction.exclude
    assert Slide.objects.get(pk=slide.pk).regions_revision == 1


def test_cells_and_points_are_never_processed(people, slide):
    found = check(people, slide)
    for name in ("Tumor: Positive", "Mitosis"):
        with pytest.raises(TissueboardError) as refused:
            confirm_regions(people.contributor, found, {place(found, name): "analyse"})
        assert refused.value.code == "ROLE_NEEDS_AREA"
    assert not Region.objects.exists()


def test_the_same_file_again_replaces_what_it_brought(people, slide):
    confirm_regions(people.contributor, check(people, slide))
    changed = TUMOUR | {"geometry": {"type": "Polygon", "coordinates": [ring(200, 150, 100, 100)]}}
    again = check(people, slide, collection([changed]))
    assert [row["known"] for row in again.classes] == [1]
    confirm_regions(people.manager, again, {0: "exclude"})
    assert regions_of_slide(people.viewer, slide).count() == len(FEATURES)
    (tumour,) = regions_of_slide(people.viewer, slide).filter(external_id=TUMOUR_ID)
    assert (tumour.area_px0, tumour.role, tumour.created_by, tumour.changed_by) == (10_000, "exclude", people.contributor, people.manager)


def test_a_file_without_a_usable_region_is_rejected_with_findings(people, slide):
    found = check(people, slide, b"<html>")
    assert (found.state, [one["code"] for one in found.findings]) == ("rejected", ["NOT_GEOJSON"])
    with pytest.raises(TissueboardError) as refused:
        confirm_regions(people.contributor, found)
    assert refused.value.code == "IMPORT_FINISHED"


def test_a_file_is_confirmed_or_discarded_once(people, slide):
    found = check(people, slide)
    discard_regions(people.contributor, found)
    assert RegionImport.objects.get(pk=found.pk).content == b""
    for write in (confirm_regions, discard_regions):
        with pytest.raises(TissueboardError) as refused:
            write(people.contributor, found)
        assert refused.value.code == "IMPORT_FINISHED"


def test_too_many_and_too_large_are_refused_with_a_sentence(people, slide, monkeypatch):
    monkeypatch.setattr("tissueboard.slides.regions.MAX_REGIONS", 3)
    with pytest.raises(TissueboardError) as refused:
        check(people, slide)
    assert refused.value.code == "TOO_MANY_REGIONS"
    monkeypatch.setattr("tissueboard.slides.region_imports.MAX_UPLOAD", 100)
    with pytest.raises(TissueboardError) as refused:
        check(people, slide)
    assert (refused.value.code, refused.value.status) == ("FILE_TOO_LARGE", 413)
    assert not RegionImport.objects.exists()


def test_coordinates_of_the_whole_file_are_shifted_in_and_out(people, slide):
    """A scan with empty margins: QuPath counts from the scanned part, programs on plain OpenSlide from the whole file."""
    slide.facts["origin_px0"] = [1000, 2000]
    slide.save()
    outline = TUMOUR | {"geometry": {"type": "Polygon", "coordinates": [ring(1010, 2020, 100, 50)]}}
    confirm_regions(people.contributor, check(people, slide, collection([outline]), whole_file=True))
    region = regions_of_slide(people.viewer, slide).get()
    assert shape(region.geometry).bounds == (10, 20, 110, 70)

    def bounds(**more):
        return shape(json.loads(export_regions(people.viewer, slide, **more))["features"][0]["geometry"]).bounds

    assert bounds(whole_file=True) == (1010, 2020, 1110, 2070)
    assert bounds() == (10, 20, 110, 70)


def test_what_goes_out_comes_in_again_with_its_roles(people, slide):
    found = check(people, slide)
    confirm_regions(people.contributor, found, {place(found, "Tumor"): "analyse"})
    told = restriction_of(slide).sha256
    written = export_regions(people.viewer, slide)
    assert AccessLog.objects.filter(verb="export regions", username="viewer", patient_code=people.lung.patient.code).exists()
    other = people.lung.slides[1]
    again = check_regions(people.contributor, other, written, "back.geojson")
    assert again.n_findings == 0
    confirm_regions(people.contributor, again)
    assert restriction_of(other).sha256 == told
    fields = ("object_type", "classification", "colour", "name", "note", "measurements", "external_id", "geometry")
    one, two = (list(Region.objects.filter(slide=s).order_by("pk").values_list(*fields)) for s in (slide, other))
    assert one == two


@pytest.mark.parametrize(("person", "error"), [("viewer", RoleMissing), ("outsider", NotVisible), ("stranger", NotVisible)])
def test_only_contributors_send_files_and_read_what_was_found_in_them(people, slide, person, error):
    found, user = check(people, slide), people.users[person]
    for write in (
        lambda: check_regions(user, slide, collection(), "x.geojson"),
        lambda: confirm_regions(user, found),
        lambda: discard_regions(user, found),
    ):
        with pytest.raises(error):
            write()
    with pytest.raises(NotVisible):
        get_region_import(user, slide, found.pk)
    assert not region_imports_of(user, slide).exists()


def test_a_file_that_nobody_came_back_for_is_let_go(people, slide):
    from datetime import timedelta

    from django.utils import timezone

    old = check(people, slide)
    RegionImport.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=2))
    check(people, slide)
    old.refresh_from_db()
    assert (old.state, bytes(old.content)) == ("discarded", b"")
