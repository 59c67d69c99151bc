"""The viewer of a multiplex image draws the channels that are asked for, between the values that are asked for."""

import os

import numpy as np
import pytest
from multiplex_pictures import image_of
from people import people  # noqa: F401

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
def window(records_in_this_thread, chromium, live_server, people):  # noqa: F811
    """A viewer's window on a page of 400 x 300 px, 3 channels; what goes wrong is kept in `wrong`."""
    image = image_of(people.lung.sample)
    context = chromium.new_context(viewport={"width": 1200, "height": 1000}, reduced_motion="reduce")
    session = people.client("viewer").cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") and OURS not in m.text else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.goto(f"{live_server.url}/assays/{image.pk}/")
    yield page, wrong
    context.close()


# The mean colour of what is drawn in the middle of the viewer, and whether all its tiles are there.
MEAN = """() => {
  const canvas = document.querySelector("[data-osd] .openseadragon-canvas > canvas");
  const side = Math.min(canvas.width, canvas.height) >> 1;
  const left = (canvas.width - side) >> 1, top = (canvas.height - side) >> 1;
  const data = canvas.getContext("2d").getImageData(left, top, side, side).data;
  const sums = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++) sums[c] += data[i + c];
  return sums.map((sum) => sum / (data.length / 4));
}"""


def drawn(page, fits):
    """The mean colour once it fits; the last one where it never does."""
    page.wait_for_function(f"() => {{ const mean = ({MEAN})(); return ({fits})(mean); }}")
    return np.array(page.evaluate(MEAN))


def test_channels_colours_and_limits_reach_the_picture(window):
    page, wrong = window
    everything = drawn(page, "(m) => m[0] > 3 && m[1] > 3 && m[2] > 3")
    assert "µm" in page.locator("[data-scale] span").inner_text()
    rows = page.locator("fieldset[data-drawn]")
    for number in (1, 2):
        rows.nth(number).locator("[data-on]").uncheck()
    blue = drawn(page, "(m) => m[0] < 0.45 * m[2] && m[2] > 3")
    assert blue[2] <= everything[2] + 1
    rows.nth(0).locator("[data-value=high]").fill("20")
    rows.nth(0).locator("[data-value=high]").press("Enter")
    drawn(page, f"(m) => m[2] > {blue[2]} * 1.5")
    rows.nth(0).locator("[data-reset]").click()
    drawn(page, f"(m) => Math.abs(m[2] - {blue[2]}) < 2")
    rows.nth(0).locator("[data-colour]").evaluate("(e) => { e.value = '#ff0000'; e.dispatchEvent(new Event('input')); }")
    drawn(page, "(m) => m[0] > 3 && m[2] < 1.5")
    assert not wrong, wrong


def test_a_channel_is_found_by_its_name_and_by_the_table(window):
    page, wrong = window
    drawn(page, "(m) => m[2] > 3")
    first = page.locator("fieldset[data-drawn]").nth(0)
    first.locator("[data-name]").fill("nothing like it")
    first.locator("[data-name]").press("Enter")
    assert first.locator("[data-name]").input_value() == "DAPI"
    first.locator("[data-name]").fill("panc")
    first.locator("[data-name]").press("Enter")
    assert first.locator("[data-name]").input_value() == "PanCK"
    page.fill("#channel-search", "dap")
    assert page.locator("tr[data-channel]:visible").count() == 1
    page.click("[data-draw]:visible")
    assert page.locator("fieldset[data-drawn]").nth(3).locator("[data-name]").input_value() == "DAPI"
    assert page.locator("tr[data-channel]:visible").get_attribute("data-drawn") is not None
    assert not wrong, wrong
