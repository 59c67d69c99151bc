"""A tumour-board member's way: login, cohort, case, another marker, a similar case; by mouse, by keyboard, on a phone."""

import re

import pytest

pytestmark = pytest.mark.browser
LOADED = "img.map-picture[data-layer=map][data-loaded]"


def open_case(window, place=0):
    """From the list of cohorts to a case, by links only."""
    page = window.page
    page.locator(".cohort-card h2 a").first.click()
    page.locator("#case-rows tbody th a").nth(place).click()
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    return page


def marker_source(page):
    return page.locator(f"[data-viewer] {LOADED}").get_attribute("src")


def test_from_login_to_a_similar_case(visit):
    window = visit("viewer")
    page = open_case(window)
    own_code = page.locator("h1").inner_text()
    assert page.locator("#risk .big, #risk .note").first.is_visible()

    before, first_limits = marker_source(page), page.locator("[data-bar-low]").inner_text() + page.locator("[data-bar-high]").inner_text()
    open_markers = page.locator("#marker-list [role=option]:not([aria-disabled])")
    other = open_markers.evaluate_all("all => all.find(o => o.getAttribute('aria-selected') !== 'true').dataset.name")
    page.fill("#marker", other)
    page.locator(f'#marker-list [role=option][data-name="{other}"]').click()
    page.wait_for_function("before => document.querySelector('img[data-layer=map]')?.src.endsWith(before) === false", arg=before)
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    assert page.locator("[data-bar-name]").inner_text() == other
    assert first_limits and re.fullmatch(r"−?\d\.\d\d", page.locator("[data-bar-high]").inner_text())

    page.wait_for_selector(".compare[data-shown]")
    boxes = page.locator(".compare .niche-box")
    # The two viewers open in any order, and each draws its own boxes.
    page.wait_for_function(
        "() => ['left', 'right'].every(side => document.querySelectorAll(`.compare [data-${side}] .niche-box`).length > 0)"
    )
    assert boxes.count() == 2 * page.locator("[data-matches] button").count()
    page.locator("[data-neighbour]").nth(1).click()
    second = page.locator("[data-neighbour]").nth(1).locator(".neighbour-name").inner_text()
    page.wait_for_selector(f'.compare[data-shown="{second}"]')
    page.locator("[data-same-overlay]").check()
    page.wait_for_function(f"() => document.querySelectorAll('.compare {LOADED}').length === 2")
    page.get_by_role("link", name=f"Open {second}").click()
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    assert page.locator("h1").inner_text() == second != own_code
    assert window.wrong == []


def test_the_value_under_the_pointer_is_read_out_with_its_unit(visit):
    window = visit("viewer")
    page = open_case(window)
    stage = page.locator("[data-osd]")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    name = page.locator("[data-bar-name]").inner_text()

    def read():
        page.mouse.move(box["x"] + box["width"] / 2 + 1, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return page.locator("[data-read-out]").inner_text()

    with page.expect_response(lambda r: r.url.endswith(".json")):
        page.reload()
        page.wait_for_selector(f"[data-viewer] {LOADED}")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.wait_for_function("() => document.querySelector('[data-read-out]').textContent.startsWith('Point')")
    said = read()
    assert re.match(rf"{re.escape(name)} −?\d\.\d\d \(relative intensity", said) or said == "No tissue here."
    assert window.wrong == []


def test_everything_by_keyboard(visit):
    window = visit("viewer")
    page = open_case(window)
    before = marker_source(page)
    page.focus("#marker")
    page.keyboard.press("ArrowDown")
    assert page.locator("#marker").get_attribute("aria-expanded") == "true"
    names = page.locator("#marker-list [role=option]:not([aria-disabled])").evaluate_all("all => all.map(o => o.dataset.name)")
    chosen = page.locator("#marker-list [aria-selected=true]").get_attribute("data-name")
    target = next(n for n in names if n != chosen)
    page.keyboard.press("Control+a")
    page.keyboard.type(target)
    active = page.locator("#marker").get_attribute("aria-activedescendant")
    assert active and page.locator(f"#{active}").get_attribute("aria-disabled") is None
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('img[data-layer=map]')?.getAttribute('src') !== before", arg=before)

    page.locator("[data-osd] .openseadragon-canvas").first.focus()
    page.keyboard.press("o")
    assert not page.is_checked("#overlay-on")
    assert page.locator("[data-viewer] img[data-layer=map]").evaluate("i => i.style.visibility") == "hidden"
    page.keyboard.press("o")
    page.keyboard.press("[")
    assert page.input_value("#opacity") == "50"
    page.keyboard.press("]")
    assert page.input_value("#opacity") == "60"
    zoom = "tissueboard.main.osd.viewport.getZoom(false)"
    start = page.evaluate(zoom)
    page.keyboard.press("+")
    assert page.evaluate(zoom) > start
    page.keyboard.press("0")
    page.wait_for_function(f"() => Math.abs({zoom} - {start}) < 0.01")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => Math.abs(tissueboard.main.osd.viewport.getCenter(false).x - 0.5) > 0.001")
    page.keyboard.press("r")
    assert page.evaluate("tissueboard.main.osd.viewport.getRotation()") == 0
    assert window.wrong == []


def test_a_locked_marker_cannot_be_chosen(visit):
    window = visit("viewer")
    page = open_case(window)
    # Every marker of six simulated patients may be open, so one is locked as the page would lock it.
    page.evaluate("document.querySelector('#marker-list [aria-selected=false]').setAttribute('aria-disabled', 'true')")
    locked = page.locator("#marker-list [aria-disabled]").first.get_attribute("data-name")
    before = marker_source(page)
    page.fill("#marker", locked)
    page.locator(f'#marker-list [role=option][data-name="{locked}"]').dispatch_event("mousedown")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert marker_source(page) == before
    assert page.input_value("#marker") != locked


def test_the_scale_bar_tells_the_truth(visit):
    window = visit("viewer")
    page = open_case(window)
    said = page.locator("[data-scale] span").inner_text()
    um = float(said.split()[0]) * (1000 if "mm" in said else 1)
    width = page.locator("[data-scale] i").evaluate("e => e.getBoundingClientRect().width")
    per_px0 = page.evaluate(
        "(() => { const v = tissueboard.main.osd, i = v.world.getItemAt(0);"
        " const a = i.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));"
        " const b = i.imageToViewerElementCoordinates(new OpenSeadragon.Point(1000, 0)); return (b.x - a.x) / 1000; })()"
    )
    mpp = page.evaluate("tissueboard.main.slide.mpp")
    assert width / per_px0 * mpp == pytest.approx(um, rel=0.02)


def test_kaplan_meier_answers_its_controls(visit):
    window = visit("viewer")
    page = window.page
    page.locator(".cohort-card h2 a").first.click()
    page.get_by_role("link", name="Kaplan–Meier").click()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.wait_for_selector("#said table")
    assert "Months since" in page.locator(".js-plotly-plot").first.inner_text()
    page.get_by_label("days").check()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot').textContent.includes('Days since')")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename.endswith(".csv")
    assert window.wrong == []


def test_searching_cases_while_typing(visit):
    window = visit("viewer")
    page = window.page
    page.goto(window.base + "/cases/")
    first = page.locator("#case-rows tbody th a").first.inner_text()
    page.locator("#case-search").press_sequentially(first)
    page.wait_for_function("() => document.querySelectorAll('#case-rows tbody tr').length === 1")
    assert page.locator("#case-rows tbody th a").inner_text() == first
    assert f"q={first}" in page.url
    assert window.wrong == []


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_scrolls_sideways(visit, width):
    window = visit("manager", width)
    page = window.page
    wide = {}
    case = None
    cohort = page.locator(".cohort-card h2 a").first.get_attribute("href")
    paths = ["/", cohort, *(cohort + part for part in ("slides/", "imports/", "members/", "access-log/", "upload/slide/", "upload/table/"))]
    paths += ["/cases/", "/jobs/", "/models/"]
    for path in paths:
        page.goto(window.base + path)
        wide[path] = window.overflow()
        if path == "/cases/":
            case = page.locator("#case-rows tbody th a").first.get_attribute("href")
        if path in ("/jobs/", "/models/"):
            inner = page.locator("tbody th a").first.get_attribute("href")
            page.goto(window.base + inner)
            wide[inner] = window.overflow()
    page.goto(window.base + case)
    page.wait_for_selector(".compare[data-shown]")
    wide[case] = window.overflow()
    page.goto(window.base + cohort.replace("/cohorts/", "/dash/km/"))
    page.wait_for_selector(".js-plotly-plot .main-svg")
    wide["dash"] = window.overflow()
    assert {path: px for path, px in wide.items() if px > 0} == {}
    assert window.wrong == []
