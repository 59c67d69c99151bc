"""Regions: who may draw, what is refused, what the access log says, and that processing follows them."""

import pytest
from small_tissue import SIDE

from tissueboard.accounts.models import AccessLog
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError
from tissueboard.slides import tiling
from tissueboard.slides.models import Region, Slide
from tissueboard.slides.processing import restriction_of
from tissueboard.slides.regions import draw_region, edit_region, remove_region
from tissueboard.slides.selectors import get_region, regions_of_slide

TILE_UM = 56.0


def rectangle(x, y, width, height):
    return {"type": "Polygon", "coordinates": [[[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]]}


HALF = rectangle(0, 0, SIDE / 2, SIDE)


@pytest.fixture
def slide(people):
    return people.lung.slide


def draw(people, slide, role="analyse", geometry=HALF, **more):
    return draw_region(people.contributor, slide, geometry=geometry, role=role, **more)[0]


def grid(slide):
    fresh = Slide.objects.get(pk=slide.pk)
    with tiling.open_working(fresh) as opened:
        return tiling.grid_of(fresh, opened, TILE_UM), fresh


def test_a_drawn_region_is_kept_with_who_and_when_and_logged(people, slide):
    region = draw(people, slide, role="annotation", classification="Tumor", note="two\nlines\x00")
    kept = get_region(people.viewer, slide, region.pk)
    assert (kept.created_by, kept.source, kept.note, kept.classification) == (people.contributor, "drawn", "two\nlines", "Tumor")
    assert kept.area_px0 == SIDE * SIDE / 2 and kept.n_points == 5
    row = AccessLog.objects.get(verb="draw region")
    assert (row.username, row.object_id, row.patient_code) == ("contributor", str(region.pk), people.lung.patient.code)


@pytest.mark.parametrize(
    ("person", "error"), [("viewer", RoleMissing), ("outsider", NotVisible), ("stranger", NotVisible), ("staff", NotVisible)]
)
def test_only_contributors_draw_change_and_remove(people, slide, person, error):
    region, user = draw(people, slide), people.users[person]
    for write in (
        lambda: draw_region(user, slide, geometry=HALF),
        lambda: edit_region(user, region, note="mine"),
        lambda: remove_region(user, region),
    ):
        with pytest.raises(error):
            write()
    if error is NotVisible:
        assert not regions_of_slide(user, slide).exists()
        with pytest.raises(NotVisible):
            get_region(user, slide, region.pk)


@pytest.mark.parametrize(
    ("given", "code", "where"),
    [
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}, "COORDINATES_INVALID", "geometry"),
        ({"geometry": None}, "FEATURE_INVALID", "geometry"),
        ({"geometry": rectangle(9000, 0, 5, 5)}, "OUTSIDE_SLIDE", "geometry"),
        ({"geometry": {"type": "MultiPoint", "coordinates": [[1, 1]] * 20_001}}, "TOO_MANY_VERTICES", "geometry"),
        ({"geometry": HALF, "role": "delete"}, "BAD_REQUEST", "role"),
        ({"geometry": {"type": "Point", "coordinates": [5, 5]}, "role": "analyse", "note": "x"}, "ROLE_NEEDS_AREA", "role"),
        ({"geometry": {"type": "Point", "coordinates": [5, 5]}}, "BAD_REQUEST", "note"),
        ({"geometry": HALF, "note": "x" * 2001}, "BAD_REQUEST", "note"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(people, slide, given, code, where):
    with pytest.raises(TissueboardError) as refused:
        draw_region(people.contributor, slide, **given)
    assert (refused.value.code, refused.value.where) == (code, where)
    assert refused.value.sentence.endswith(".")
    assert not Region.objects.exists()


def test_nothing_is_drawn_on_a_slide_that_is_not_ready(people):
    with pytest.raises(TissueboardError) as refused:
        draw_region(people.contributor, people.lung.waiting, geometry=HALF)
    assert refused.value.code == "SLIDE_NOT_READY"


def test_a_slide_holds_so_many_regions_and_no_more(people, slide, monkeypatch):
    monkeypatch.setattr("tissueboard.slides.regions.MAX_REGIONS", 1)
    draw(people, slide)
    with pytest.raises(TissueboardError) as refused:
        draw(people, slide)
    assert refused.value.code == "TOO_MANY_REGIONS"


def test_tiles_lie_where_the_regions_say(people, slide):
    whole, _ = grid(slide)
    draw(people, slide, "annotation")
    assert len(grid(slide)[0]) == len(whole)
    left = draw(people, slide)
    half, _ = grid(slide)
    assert 0 < len(half) < len(whole)
    assert half.centres[:, 0].max() < SIDE / 2 + half.tile_px0 / 2
    draw(people, slide, "exclude", rectangle(0, 0, SIDE, SIDE / 2))
    quarter, _ = grid(slide)
    assert 0 < len(quarter) < len(half)
    assert quarter.centres[:, 1].min() > SIDE / 2 - half.tile_px0 / 2
    remove_region(people.contributor, left)
    below, _ = grid(slide)
    assert len(quarter) < len(below) < len(whole)


def test_regions_that_leave_no_tile_are_refused_with_a_sentence(people, slide):
    draw(people, slide, geometry=rectangle(0, 0, 20, 20))
    with pytest.raises(TissueboardError) as refused:
        grid(slide)
    assert refused.value.code == "NO_TILE_IN_REGIONS"
    assert slide.name in refused.value.sentence


def test_the_input_key_changes_with_every_change_of_what_is_processed(people, slide):
    """Also when the regions are as they were before: the output in between took the place of the first."""
    keys = [tiling.input_key(slide)]
    assert keys == [slide.working_sha256]
    note = draw(people, slide, "annotation")
    assert tiling.input_key(slide) == keys[0]
    region = draw(people, slide)
    keys.append(tiling.input_key(slide))
    edit_region(people.contributor, region, note="a word changes nothing")
    assert tiling.input_key(slide) == keys[-1]
    edit_region(people.contributor, note, role="exclude")
    keys.append(tiling.input_key(slide))
    edit_region(people.contributor, note, role="annotation")
    keys.append(tiling.input_key(slide))
    remove_region(people.contributor, region)
    keys.append(tiling.input_key(slide))
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(slide.working_sha256) for key in keys)
    assert tiling.inputs_of(Slide.objects.get(pk=slide.pk)) == {"working slide": slide.working_sha256}


def test_a_job_names_the_regions_that_it_took_not_those_drawn_meanwhile(people, slide):
    draw(people, slide)
    taken = restriction_of(slide).sha256
    _, used = grid(slide)
    draw(people, slide, "exclude", rectangle(0, 0, 300, 300))
    assert tiling.inputs_of(used) == {"working slide": slide.working_sha256, "regions": taken}
    assert tiling.inputs_of(Slide.objects.get(pk=slide.pk))["regions"] == restriction_of(slide).sha256 != taken


def test_the_checksum_of_regions_asks_what_they_say_not_in_which_order(people, slide):
    boxes = [rectangle(0, 0, 300, 300), rectangle(400, 400, 200, 100)]
    first = [draw(people, slide, geometry=b) for b in boxes]
    sha = restriction_of(slide).sha256
    for region in first:
        remove_region(people.contributor, region)
    assert restriction_of(slide).sha256 == ""
    for one in boxes[::-1]:
        draw(people, slide, geometry=one, name="other name")
    assert restriction_of(slide).sha256 == sha
    edit_region(people.contributor, regions_of_slide(people.viewer, slide)[0], role="exclude")
    assert restriction_of(slide).sha256 != sha


def test_a_removed_region_is_gone_for_everybody_and_cannot_be_changed(people, slide):
    region = draw(people, slide)
    remove_region(people.contributor, region)
    assert not regions_of_slide(people.viewer, slide).exists()
    assert Region.objects.get(pk=region.pk).removed_by == people.contributor
    for write in (lambda: remove_region(people.manager, region), lambda: edit_region(people.manager, region, note="x")):
        with pytest.raises(TissueboardError) as refused:
            write()
        assert refused.value.code == "REGION_REMOVED"


def test_an_edit_says_who_and_when(people, slide):
    region = draw(people, slide)
    edited = edit_region(people.manager, region, name="front", classification="Tumor")
    assert (edited.changed_by, edited.name, edited.classification) == (people.manager, "front", "Tumor")
    assert edited.changed_at is not None
    before = edited.changed_at
    assert edit_region(people.manager, region, name="front").changed_at == before
