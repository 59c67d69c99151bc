"""Similar cases in a browser: filters, three pinned beside hers, locked views, niches like one; slides and measured images."""

import os

import pytest
from many_tissues import embed, image_of, niche_version, readable, slide_of
from multiplex_pictures import image_of as drawn_image
from people import people  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session", autouse=True)
def records_in_this_thread():
    """Playwright keeps an event loop in this thread; Django's records are made in it all the same."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE") if before is None else os.environ.update(DJANGO_ALLOW_ASYNC_UNSAFE=before)


def write_thumbnail(slide):
    """Where intake puts it."""
    import numpy as np
    from PIL import Image

    from tissueboard.store import store

    path = store.path(f"slides/{slide.pk}/thumbnail.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((104, 120, 3), (220, 150, 190), np.uint8)).save(path)


def tissues(people):  # noqa: F811
    """Six slides that open, at growing distance, of two stages; three images at growing distance."""
    version = niche_version(people, "compared")
    slides = []
    for i in range(6):
        clinical = {"stage": "I" if i % 2 else "II", "histology": "adenocarcinoma"}
        slide = slide_of(people.lung.cohort, f"N-{i}", site=f"site {i % 2}", clinical=clinical, **readable(people.lung.slides[1], i))
        embed(people, slide, version, float(i), seed=i)
        write_thumbnail(slide)
        slides.append(slide)
    images = [drawn_image(people.lung.sample)] + [image_of(people.lung.cohort, f"M-{i}") for i in range(2)]
    measured = niche_version(people, "measured", family="virtues")
    for image in images[1:]:
        type(image).objects.filter(pk=image.pk).update(
            **{name: getattr(images[0], name) for name in ("key", "sha256", "width", "height", "mpp", "channels", "facts", "dtype")}
        )
    for i, image in enumerate(images):
        embed(people, image, measured, float(i), seed=i)
    return slides, images


@pytest.fixture
def window(records_in_this_thread, chromium, live_server, people):  # noqa: F811
    """(page, what went wrong, slides, images) of a viewer."""
    slides, images = tissues(people)
    context = chromium.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
    session = people.client("viewer").cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong = []
    # OpenSeadragon's remark on a tile that was still under way when its viewer was closed.
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") and "Ignoring tile" not in m.text else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.base = live_server.url
    yield page, wrong, slides, images
    context.close()


def similar(page, tissue, kind="slide"):
    page.goto(f"{page.base}/cases/{tissue.sample.patient_id}/similar/?{kind}={tissue.pk}")
    page.wait_for_selector(".compare[data-shown]")


def codes(page):
    return page.locator(".neighbour-name").all_inner_texts()


def pin(page, code):
    page.get_by_role("button", name=f"Pin {code} to compare").click()


def test_filters_narrow_the_neighbours(window):
    page, wrong, slides, _ = window
    similar(page, slides[0])
    assert codes(page) == ["N-1", "N-2", "N-3", "N-4", "N-5"]
    page.select_option("select[name=stage]", "I")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector(".compare[data-shown]")
    assert codes(page) == ["N-1", "N-3", "N-5"] and page.input_value("select[name=stage]") == "I"
    page.select_option("select[name=stage]", "")
    page.check("[name=other]")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector(".compare[data-shown]")
    assert codes(page) == ["N-1", "N-3", "N-5"] and wrong == []


def test_three_are_pinned_beside_hers_and_a_fourth_is_refused(window):
    page, wrong, slides, _ = window
    similar(page, slides[0])
    for code in ("N-1", "N-3", "N-4"):
        pin(page, code)
    names = page.locator(".compare-side [data-name]").all_inner_texts()
    assert names == ["N-1", "N-3", "N-4"] and page.locator(".compare [data-right] canvas").count() == 3
    pin(page, "N-5")
    assert page.locator("[data-said]").inner_text().startswith("3 cases are pinned.")
    pin(page, "N-3")
    page.locator("[data-neighbour]").nth(1).click()
    assert page.locator(".compare-side [data-name]").all_inner_texts() == ["N-1", "N-4", "N-2"]
    assert wrong == []


SETTLED = """() => [tissueboard.compare.left, tissueboard.compare.sides()[0].viewer].every(({ osd }) =>
  osd.viewport.getCenter(true).distanceTo(osd.viewport.getCenter(false)) < 1e-6
  && Math.abs(osd.viewport.getZoom(true) / osd.viewport.getZoom(false) - 1) < 1e-6 && !osd.isAnimating?.())"""
UM_FROM_ANCHOR = """(place) => {
  const { left, sides } = tissueboard.compare;
  const viewer = place < 0 ? left : sides()[place].viewer;
  const item = viewer.osd.world.getItemAt(0);
  const centre = item.viewportToImageCoordinates(viewer.osd.viewport.getCenter(true));
  return { x: centre.x, y: centre.y, zoom: item.viewportToImageZoom(viewer.osd.viewport.getZoom(true)) };
}"""


def test_locked_views_move_together_until_the_lock_is_taken_off(window):
    page, wrong, slides, _ = window
    similar(page, slides[0])
    page.wait_for_function("() => tissueboard.compare.sides().every(s => s.viewer.osd.world.getItemCount())")
    canvas = page.locator(".compare [data-left] .openseadragon-canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => Math.abs(({UM_FROM_ANCHOR})(-1).zoom / ({UM_FROM_ANCHOR})(0).zoom - 1) < 0.01")
    page.wait_for_function(SETTLED)
    hers, theirs = page.evaluate(UM_FROM_ANCHOR, -1), page.evaluate(UM_FROM_ANCHOR, 0)
    # The sets lie at the same places of both slides, so the same place of both is in the middle.
    assert abs(hers["x"] - theirs["x"]) < 2 and abs(hers["y"] - theirs["y"]) < 2
    page.uncheck("[data-lock]")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("-")
    page.wait_for_function(f"(before) => ({UM_FROM_ANCHOR})(-1).zoom < before * 0.9", arg=hers["zoom"])
    assert page.evaluate(UM_FROM_ANCHOR, 0) == theirs and wrong == []


def test_niches_like_one_come_with_pictures(window):
    page, wrong, slides, _ = window
    similar(page, slides[0])
    page.locator("[data-matches] a").first.click()
    page.wait_for_selector(".niche-row li:nth-child(9) img")
    page.wait_for_function("() => [...document.querySelectorAll('.niche-row li:nth-child(-n+3) img')].every(i => i.naturalWidth === 192)")
    assert page.locator(".niche-row li").count() == 9 and "All were compared." in page.locator(".like-niche").inner_text()
    assert wrong == []


def test_images_of_measured_channels_are_compared_with_images(window):
    page, wrong, _, images = window
    similar(page, images[0], "image")
    assert codes(page) == ["M-0", "M-1"]
    page.wait_for_function("() => document.querySelectorAll('.compare .niche-box').length >= 4")
    assert "measured channels" in page.locator("#similar-body").inner_text()
    page.locator("[data-matches] a").first.click()
    page.wait_for_selector(".niche-row li:nth-child(3) img")
    page.wait_for_function("() => [...document.querySelectorAll('.niche-row img')].slice(0, 3).every(i => i.naturalWidth === 192)")
    assert wrong == []
