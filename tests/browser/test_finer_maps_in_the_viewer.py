"""A contributor asks for a finer map, finds its pitch in the viewer, and reads values with their intervals."""

import html
import json
import re

import pytest

pytestmark = pytest.mark.browser
LOADED = "[data-viewer] img.map-picture[data-layer=map][data-loaded]"


def open_last_case(window):
    page = window.page
    page.locator(".cohort-card h2 a").first.click()
    page.locator("#case-rows tbody th a").last.click()
    page.wait_for_selector(LOADED)
    return page


def read_out(page):
    """What is said of the first place on a line across the slide that is tissue."""
    page.wait_for_selector("[data-viewer][data-values]")
    stage = page.locator("[data-osd]")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    for share in (0.5, 0.45, 0.55, 0.4, 0.6):
        page.mouse.move(box["x"] + box["width"] * share + 1, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        said = page.locator("[data-read-out]").inner_text()
        if "No tissue" not in said and "Point" not in said:
            return said
    return said


def test_a_finer_map_is_asked_for_and_chosen(visit, site):
    window = visit("manager")
    page = open_last_case(window)
    address = page.url
    page.fill("#stride", "28")
    page.locator("#dense button").click()
    page.wait_for_url("**/jobs/*/")
    site.wait_for_jobs()
    page.goto(address)
    page.wait_for_selector(LOADED)
    coarse = page.locator(LOADED).get_attribute("src")
    page.select_option("#pitch", label="28 µm, overlapping tiles averaged")
    page.wait_for_function(
        "before => document.querySelector('img[data-layer=map][data-loaded]')?.getAttribute('src') !== before", arg=coarse
    )
    page.wait_for_selector(LOADED)
    assert page.locator("[data-pitch]").inner_text() == "28"
    size = "i => [i.naturalWidth, i.naturalHeight]"
    fine = page.locator(LOADED).evaluate(size)
    assert re.search(r"no interval: (fewer than 9 calibration patients|outside the model’s range)", read_out(page))
    page.select_option("#pitch", index=0)
    page.wait_for_function("src => document.querySelector('img[data-layer=map][data-loaded]')?.getAttribute('src') === src", arg=coarse)
    assert all(f >= 1.8 * c for f, c in zip(fine, page.locator(LOADED).evaluate(size)))
    assert window.wrong == []


def test_a_value_is_read_with_its_interval_and_never_below_zero(visit):
    """The six patients of this site calibrate none, so the page is given one here; the script is the page's own."""
    window = visit("viewer")

    def calibrated(route):
        answer = route.fetch()
        text = answer.text()
        found = re.search(r'data-map="([^"]*)"', text)
        if found is None:
            return route.fulfill(response=answer)
        data = json.loads(html.unescape(found[1]))
        data["layers"][0]["interval"] = {"percent": 90, "patients": 38, "why": "", "half": [9.0] * len(data["markers"])}
        return route.fulfill(response=answer, body=text.replace(found[1], html.escape(json.dumps(data))))

    window.page.route(re.compile(r"/cases/\d+/$"), calibrated)
    said = read_out(open_last_case(window))
    value = re.search(r" (\d\.\d\d)(.*)", said)
    upper = f"{float(value[1]) + 9:.2f}"
    inside = value[2].startswith(f" (0.00 to {upper[:-1]}") and value[2].endswith(", 90% interval, n = 38 patients)")
    assert inside or value[2].endswith("no interval: outside the model’s range"), said
    assert window.wrong == []
