"""Regions by mouse and keyboard on a real slide: drawn, kept, listed, changed, removed, brought in from QuPath; and tiles follow them."""

import json
from types import SimpleNamespace

import pytest
from people import PASSWORD, build
from PIL import Image
from qupath_files import collection, ring

pytestmark = pytest.mark.browser
TILE_UM = 56.0


@pytest.fixture(scope="session", autouse=True)
def database_beside_playwright():
    """Playwright's event loop runs in this thread, and the database is asked from it too, from its making to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield


@pytest.fixture
def site(transactional_db, live_server):
    """The pages on hand-made cohorts; nothing is computed here, so the whole product is not needed."""
    from tissueboard.predictions.models import Prediction
    from tissueboard.slides.services import thumbnail_file

    world = build()
    # What is like what is asked of an index of the whole database, which other tests have emptied meanwhile.
    Prediction.objects.filter(kind="niche set").delete()
    for slide in world.lung.slides:
        picture = thumbnail_file(slide)
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (230, 180, 210)).save(picture)
    return SimpleNamespace(base_url=live_server.url, password=PASSWORD, world=world)


@pytest.fixture
def open_case(visit, site):
    """Call it with a person: her window on the case page of lung's first patient."""

    def start(person="contributor", width=1280, query=""):
        window = visit(person, width)
        window.page.goto(f"{window.base}/cases/{site.world.lung.patient.pk}/{query}")
        window.page.wait_for_selector("[data-regions][data-loaded]")
        window.page.locator("[data-osd]").scroll_into_view_if_needed()
        return window

    return start


def at(page, x, y):
    """Where a place (px0) is in the window."""
    return page.evaluate(
        "([x, y]) => { const v = tissueboard.main.osd, b = v.element.getBoundingClientRect();"
        " const p = v.world.getItemAt(0).imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));"
        " return [b.left + p.x, b.top + p.y]; }",
        [x, y],
    )


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=3)
    page.mouse.move(*end, steps=3)
    page.mouse.up()


def keep(page, count):
    with page.expect_response(lambda r: r.url.endswith("/data.json")):
        page.get_by_role("button", name="Keep it").click()
    page.wait_for_selector(f'[data-regions][data-loaded="{count}"]')
    page.wait_for_selector(".region-panel")


def tiles(slide):
    from tissueboard.slides import tiling
    from tissueboard.slides.models import Slide

    fresh = Slide.objects.get(pk=slide.pk)
    with tiling.open_working(fresh) as opened:
        return tiling.grid_of(fresh, opened, TILE_UM)


def test_a_rectangle_is_drawn_kept_listed_and_restricts_the_tiles(open_case, site):
    window = open_case()
    page, slide = window.page, site.world.lung.slide
    whole = tiles(slide)
    assert page.locator("[data-stale]").is_hidden()
    page.get_by_role("button", name="Rectangle").click()
    drag(page, at(page, 300, 300), at(page, 800, 700))
    assert page.locator("[data-draft-area]").inner_text().endswith("mm²")
    page.get_by_label("Analyse inside it only").check()
    page.locator("#region-class").fill("Tumor")
    page.get_by_label("Note", exact=True).fill("front of the invasion")
    keep(page, 1)

    from tissueboard.slides.selectors import regions_of_slide

    region = regions_of_slide(site.world.viewer, slide).get()
    xs, ys = zip(*region.geometry["coordinates"][0])
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((300, 300, 800, 700), abs=4)
    assert (region.role, region.classification, region.created_by.username) == ("analyse", "Tumor", "contributor")
    assert "front of the invasion" in page.locator(".region-panel").inner_text()
    assert "Tumor, analysed" in page.locator("[data-region-legend]").inner_text()
    assert page.locator("[data-stale]").is_visible()
    inside = tiles(slide)
    assert 0 < len(inside) < len(whole)
    page.get_by_role("link", name="List, QuPath import and export").click()
    assert "Tumor" in page.locator("tbody").first.inner_text()
    assert window.wrong == []


def test_a_polygon_by_clicks_and_keys_and_escape_drops_it(open_case):
    window = open_case()
    page = window.page
    page.get_by_role("button", name="Polygon").click()
    for corner in ((300, 300), (700, 320), (650, 700), (320, 650)):
        page.mouse.click(*at(page, *corner))
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-region-form]:not([hidden])")
    assert page.evaluate("JSON.parse(document.querySelector('[name=geometry]').value).coordinates[0].length") == 4
    page.keyboard.press("Escape")
    assert page.locator("[data-region-form]").is_hidden()
    page.get_by_role("button", name="Polygon").click()
    for corner in ((300, 300), (700, 320)):
        page.mouse.click(*at(page, *corner))
    page.mouse.dblclick(*at(page, 650, 700))
    keep(page, 1)
    assert window.wrong == []


def test_a_note_at_a_point_is_read_by_a_viewer_who_cannot_draw(open_case):
    window = open_case()
    page = window.page
    page.get_by_role("button", name="Note at a point").click()
    page.mouse.click(*at(page, 500, 520))
    assert page.locator("[data-role-choice]").is_hidden()
    page.get_by_label("Note", exact=True).fill("mitosis?")
    keep(page, 1)
    other = open_case("viewer")
    page = other.page
    assert page.locator("[data-draw]").count() == 0
    page.mouse.click(*at(page, 500, 520))
    page.wait_for_selector(".region-panel")
    assert "mitosis?" in page.locator(".region-panel").inner_text()
    assert page.locator(".region-change").count() == 0
    page.mouse.click(*at(page, 100, 100))
    page.wait_for_selector(".region-panel", state="detached")
    assert window.wrong == [] and other.wrong == []


def test_by_keyboard_alone_what_is_in_view_is_kept_changed_and_removed(open_case, site):
    window = open_case()
    page = window.page
    page.locator("[data-osd] .openseadragon-canvas").first.focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.get_by_role("button", name="What I see now").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-region-form]:not([hidden])")
    page.locator("#region-class").focus()
    page.keyboard.type("Necrosis")
    page.keyboard.press("Enter")
    page.wait_for_selector(".region-panel")
    page.locator(".region-panel summary", has_text="Change").focus()
    page.keyboard.press("Enter")
    page.locator(".region-panel").get_by_label("Leave it out of the analysis").check()
    with page.expect_response(lambda r: r.url.endswith("/data.json")):
        page.get_by_role("button", name="Save the change").press("Enter")
    page.wait_for_function("() => document.querySelector('[data-region-legend]').textContent.includes('Necrosis, left out')")
    page.locator(".region-panel summary", has_text="Remove").focus()
    page.keyboard.press("Enter")
    with page.expect_response(lambda r: r.url.endswith("/data.json")):
        page.get_by_role("button", name="Remove this region").press("Enter")
    page.wait_for_selector('[data-regions][data-loaded="0"]')
    assert window.wrong == []


def test_a_file_of_qupath_comes_in_after_a_look_at_its_classes(open_case):
    window = open_case()
    page = window.page
    page.get_by_role("link", name="List, QuPath import and export").click()
    page.set_input_files("#file", {"name": "front.geojson", "mimeType": "application/geo+json", "buffer": collection()})
    page.get_by_role("button", name="Check the file").click()
    assert "Nothing is on the slide yet." in page.locator("main").inner_text()
    assert page.get_by_label("What is Ignore* for?").input_value() == "exclude"
    page.get_by_label("What is Tumor for?").select_option("analyse")
    page.get_by_role("button", name="Bring 7 regions in").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download for QuPath").click()
    assert download.value.suggested_filename.endswith(".geojson")
    page.get_by_role("link", name="invasive front").click()
    page.get_by_role("link", name="Show it on the slide").click()
    page.wait_for_selector('[data-regions][data-loaded="7"]')
    page.wait_for_selector(".region-panel")
    assert "invasive front" in page.locator(".region-panel").inner_text()
    assert window.wrong == []


def test_a_finger_draws_a_rectangle_and_the_page_stays_where_it_is(open_case):
    window = open_case(width=390)
    page = window.page
    touch = page.context.new_cdp_session(page)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.get_by_role("button", name="Rectangle").click()
    start, end = at(page, 200, 300), at(page, 800, 900)
    scrolled = page.evaluate("scrollY")
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start[0], "y": start[1]}]})
    for part in (0.3, 0.6, 1):
        x, y = (a + part * (b - a) for a, b in zip(start, end))
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
    assert page.evaluate("scrollY") == scrolled
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_selector("[data-region-form]:not([hidden])")
    drawn = page.evaluate("JSON.parse(document.querySelector('[name=geometry]').value).coordinates[0]")
    assert drawn[0] == pytest.approx([200, 300], abs=6) and drawn[2] == pytest.approx([800, 900], abs=6)
    assert window.wrong == []


MOVE = """(heavy) => { if (heavy) tissueboard.regions.layer.weight = 1e9;
  tissueboard.main.osd.viewport.panBy(new OpenSeadragon.Point(0.05, 0.03), true); }"""
PAINTED = """([x, y]) => { const l = tissueboard.regions.layer;
  const b = l.base.getBoundingClientRect(), k = l.base.width / b.width;
  const at = [Math.round((x - b.left) * k), Math.round((y - b.top) * k)];
  return [...l.base.getContext("2d", {willReadFrequently: true}).getImageData(at[0] - 4, at[1] - 4, 9, 9).data].some((v) => v > 0); }"""


def test_outlines_stay_on_their_tissue_while_many_are_moved_as_a_picture(open_case, site):
    from tissueboard.slides.region_imports import check_regions, confirm_regions

    corners = [(x, y) for x in range(100, 1000, 60) for y in range(100, 1000, 60)]
    cells = [{"type": "Polygon", "coordinates": [ring(x, y, 20, 20)]} for x, y in corners]
    confirm_regions(site.world.contributor, check_regions(site.world.contributor, site.world.lung.slide, json.dumps(cells).encode(), "c"))
    window = open_case("viewer")
    page = window.page
    for heavy in (False, True):
        page.evaluate(MOVE, heavy)
        page.wait_for_function(
            "() => { const l = tissueboard.regions.layer, a = l.affine(); return !l.waiting && l.at.x === a.x && l.at.y === a.y; }"
        )
        assert bool(page.evaluate("tissueboard.regions.layer.base.style.transform")) == heavy
        assert page.evaluate(PAINTED, at(page, 400, 410))
        assert not page.evaluate(PAINTED, at(page, 440, 440))
    page.wait_for_function("() => tissueboard.regions.layer.base.style.transform === ''")
    assert page.evaluate(PAINTED, at(page, 400, 410))


def test_pages_of_regions_do_not_scroll_sideways_on_a_phone(open_case, site):
    from tissueboard.slides.region_imports import check_regions, confirm_regions
    from tissueboard.slides.selectors import regions_of_slide

    slide = site.world.lung.slide
    found = check_regions(site.world.contributor, slide, collection(), f"{'a long name ' * 6}.geojson")
    window = open_case(width=390)
    page, wide = window.page, {}
    page.goto(f"{window.base}/slides/{slide.pk}/regions/files/{found.pk}/")
    wide["file"] = window.overflow()
    confirm_regions(site.world.contributor, found)
    page.goto(f"{window.base}/slides/{slide.pk}/regions/")
    wide["list"] = window.overflow()
    region = regions_of_slide(site.world.viewer, slide).first()
    page.goto(f"{window.base}/slides/{slide.pk}/regions/{region.pk}/")
    wide["one"] = window.overflow()
    page.goto(f"{window.base}/cases/{site.world.lung.patient.pk}/?region={region.pk}")
    page.wait_for_selector(".region-panel")
    wide["case"] = window.overflow()
    assert {path: px for path, px in wide.items() if px > 0} == {}
    assert window.wrong == []
