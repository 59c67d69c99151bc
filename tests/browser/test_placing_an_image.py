"""Landmarks clicked in two viewers place an image; outlines of cells are drawn over it; the keys 1 to 6 switch channels."""

import os

import numpy as np
import pytest
from multiplex_pictures import cells_of, image_of
from people import people  # noqa: F401

from tissueboard.assays.models import Alignment

pytestmark = pytest.mark.browser
OURS = "willReadFrequently"  # the browser's remark on this test's own look at the canvas


@pytest.fixture(scope="session", autouse=True)
def records_in_this_thread():
    """Playwright keeps an event loop in this thread; Django's records are made in it all the same."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE") if before is None else os.environ.update(DJANGO_ALLOW_ASYNC_UNSAFE=before)


@pytest.fixture
def open_page(records_in_this_thread, chromium, live_server, people):  # noqa: F811
    """open_page(person, path) -> page; what goes wrong is kept in page.wrong."""
    contexts = []

    def opened(person, path, width=1400):
        context = chromium.new_context(viewport={"width": width, "height": 1000}, reduced_motion="reduce")
        contexts.append(context)
        session = people.client(person).cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.wrong = []
        page.on("console", lambda m: page.wrong.append(m.text) if m.type in ("error", "warning") and OURS not in m.text else None)
        page.on("pageerror", lambda e: page.wrong.append(str(e)))
        page.on("response", lambda r: page.wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.goto(f"{live_server.url}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()


# The share of nearly white pixels in the middle of the viewer.
WHITE = """() => {
  const canvas = document.querySelector("[data-osd] .openseadragon-canvas > canvas");
  const side = Math.min(canvas.width, canvas.height) >> 1;
  const data = canvas.getContext("2d").getImageData((canvas.width - side) >> 1, (canvas.height - side) >> 1, side, side).data;
  let white = 0;
  for (let i = 0; i < data.length; i += 4) white += data[i] > 180 && data[i + 1] > 180 && data[i + 2] > 180;
  return white / (data.length / 4);
}"""


def test_outlines_come_and_go_and_stay_over_the_channels(open_page, people):  # noqa: F811
    image = image_of(people.lung.sample)
    cells_of(image)
    page = open_page("viewer", f"/assays/{image.pk}/")
    page.wait_for_function("() => document.querySelector('[data-scale] span').textContent.includes('µm')")
    page.check("[data-outlines]")
    page.wait_for_function(f"() => ({WHITE})() > 0.01")
    for number in (1, 2, 3):
        page.locator("fieldset[data-drawn]").nth(number - 1).locator("[data-on]").uncheck()
    page.wait_for_function(f"() => ({WHITE})() > 0.01")
    page.locator("[data-osd] .openseadragon-canvas").click()
    page.keyboard.press("o")
    page.wait_for_function(f"() => ({WHITE})() < 0.001")
    assert not page.locator("[data-outlines]").is_checked()
    page.keyboard.press("2")
    assert page.locator("fieldset[data-drawn]").nth(1).locator("[data-on]").is_checked()
    assert not page.wrong, page.wrong


def test_the_fifth_and_sixth_row_come_when_they_are_needed(open_page, people):  # noqa: F811
    page = open_page("viewer", f"/assays/{image_of(people.lung.sample).pk}/")
    rows = page.locator("fieldset[data-drawn]")
    assert rows.count() == 6 and [rows.nth(i).is_visible() for i in range(6)] == [True] * 4 + [False] * 2
    for number in (3, 4):
        rows.nth(number).locator("[data-name]").fill("CD3")
        rows.nth(number).locator("[data-name]").press("Enter")
    assert [rows.nth(i).is_visible() for i in range(6)] == [True] * 6
    assert not page.wrong, page.wrong


def test_clicks_on_both_viewers_place_the_image(open_page, people):  # noqa: F811
    image, slide = image_of(people.lung.sample), people.lung.slide
    page = open_page("contributor", f"/assays/{image.pk}/slides/{slide.pk}/")
    viewers = {side: page.locator(f"[data-osd={side}]") for side in ("slide", "image")}
    for viewer in viewers.values():
        viewer.scroll_into_view_if_needed()
        viewer.locator(".openseadragon-canvas > canvas").first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('.openseadragon-canvas > canvas').length >= 2")
    page.wait_for_timeout(500)  # the viewers settle
    for x, y in ((0.4, 0.4), (0.6, 0.4), (0.45, 0.6), (0.6, 0.62)):
        for viewer in viewers.values():
            box = viewer.bounding_box()
            viewer.click(position={"x": box["width"] * x, "y": box["height"] * y})
            page.wait_for_timeout(350)  # two clicks in one place within OpenSeadragon's limit are a double click
    page.wait_for_selector("[data-save]:not([disabled])")
    assert page.locator("[data-pairs] tr").count() == 4 and page.locator(".landmark").count() == 8
    assert "miss each other by" in page.locator("[data-said]").inner_text()
    for side in ("slide", "channel"):
        page.wait_for_function(f"() => document.querySelector('[data-picture={side}]').naturalWidth > 100")
    page.locator("[data-pairs] tr").nth(3).get_by_role("button").click()
    page.wait_for_function("() => document.querySelectorAll('[data-pairs] tr').length === 3")
    page.wait_for_selector("[data-save]:not([disabled])")
    assert "Three pairs always fit" in page.locator("[data-said]").inner_text()
    page.click("[data-save]")
    page.wait_for_selector(".messages")
    kept = Alignment.objects.get(replaced_at=None)
    assert len(kept.landmarks) == 3 and kept.created_by == people.contributor and kept.residual_um < 1e-6
    drawn = np.array([pair["image"] for pair in kept.landmarks])
    assert (drawn > 0).all() and (drawn < (400, 300)).all()
    assert not page.wrong, page.wrong
