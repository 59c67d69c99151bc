"""The viewer draws a slide whose tiles come from the file: at every zoom each point has its colour, also where edge tiles are padded."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

pytestmark = pytest.mark.browser

WIDTH, HEIGHT, SIDE, BAR = 1131, 777, 240, 9
COLOURS = np.array([(220, 40, 40), (40, 160, 60), (40, 60, 200), (230, 200, 40), (150, 60, 160), (60, 180, 190)], np.uint8)


def painting() -> np.ndarray:
    """(HEIGHT, WIDTH, 3): large fields of colour; near the right and lower edge, inside the cut tiles, narrow bars."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    field = (x // 120 + y // 110) % len(COLOURS)
    bars = np.where(x >= WIDTH - 6 * BAR, (WIDTH - 1 - x) // BAR, (HEIGHT - 1 - y) // BAR)
    near = (x >= WIDTH - 6 * BAR) | (y >= HEIGHT - 6 * BAR)
    return COLOURS[np.where(near, bars, field)]


def swapped_profile() -> bytes:
    """An ICC profile that shows red as green and green as red."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


@pytest.fixture(scope="session", autouse=True)
def records_beside_playwright():
    """Playwright keeps an event loop in this thread; Django's records are made in it all the same."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE") if before is None else os.environ.update(DJANGO_ALLOW_ASYNC_UNSAFE=before)


@pytest.fixture
def case(records_beside_playwright, chromium, live_server, transactional_db, settings, tmp_path):
    """A signed-in window on the case page of a patient with one slide; what the console says is kept in `wrong`."""
    from django.core.cache import cache
    from django.test import Client
    from django.urls import reverse

    from ml.slides.scrub import make_working
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Cohort, Membership, Patient, Sample
    from tissueboard.slides.models import Slide
    from tissueboard.slides.services import thumbnail_file
    from tissueboard.store import store

    settings.STORE_ROOT = tmp_path / "store"
    cache.clear()
    common = {"tile": (SIDE, SIDE), "compression": "jpeg", "compressionargs": {"level": 95}, "photometric": "rgb", "metadata": None}
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", painting(), iccprofile=swapped_profile(), subsampling=(1, 1), **common, **size)
    user = User.objects.create_user("viewer", password="a long pass phrase")
    cohort = Cohort.objects.create(name="ours")
    Membership.objects.create(cohort=cohort, user=user, role="viewer")
    patient = Patient.objects.create(cohort=cohort, code="P1")
    slide = Slide.objects.create(sample=Sample.objects.create(patient=patient, code="01A"), name="P1-1")
    slide.working_key = f"slides/{slide.pk}/working.tif"
    facts = make_working(tmp_path / "a.tif", store.path(slide.working_key))
    assert facts.lossless and facts.colour_profile
    slide.working_sha256, slide.mpp, (slide.width, slide.height), slide.state = facts.sha256, facts.mpp, facts.size, "ready"
    slide.facts = {"colour_profile": facts.colour_profile}
    slide.save()
    Image.fromarray(painting()).save(thumbnail_file(slide))
    client = Client()
    client.force_login(user)
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page = context.new_page()
    page.wrong = []
    page.on("console", lambda m: page.wrong.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.wrong.append(f"pageerror: {e}"))
    page.on("response", lambda r: page.wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.goto(live_server.url + reverse("case", args=[patient.pk]))
    drawn(page)
    page.locator("[data-osd]").scroll_into_view_if_needed()
    yield page
    context.close()


def drawn(page, icc: bool = False) -> None:
    """Waits until the viewer has loaded and drawn everything that this view needs."""
    page.wait_for_function(
        """icc => {
            const viewer = window.tissueboard && tissueboard.main && tissueboard.main.osd;
            const item = viewer && viewer.world.getItemCount() === 1 && viewer.world.getItemAt(0);
            return item && item.getFullyLoaded() && item.source.queryParams === (icc ? "?icc=1" : "") && !viewer.world.needsDraw();
        }""",
        arg=icc,
    )


def look_at(page, x, y, width, height) -> None:
    page.evaluate(
        "([x, y, w, h]) => { const v = tissueboard.main; v.osd.viewport.fitBounds(v.place(x, y, w, h), true); v.osd.forceRedraw(); }",
        [x, y, width, height],
    )
    page.wait_for_timeout(50)
    drawn(page)


def colours_at(page, points) -> np.ndarray:
    """(n, 3) colours that the canvas shows at points (x, y) in px0."""
    return np.array(
        page.evaluate(
            """points => {
                const osd = tissueboard.main.osd, item = osd.world.getItemAt(0), ratio = OpenSeadragon.pixelDensityRatio;
                const { width, height } = osd.drawer.canvas;
                const copy = Object.assign(document.createElement("canvas"), { width, height });
                const context = copy.getContext("2d", { willReadFrequently: true });
                context.drawImage(osd.drawer.canvas, 0, 0);
                return points.map(([x, y]) => {
                    const at = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
                    return [...context.getImageData(Math.floor(at.x * ratio), Math.floor(at.y * ratio), 1, 1).data].slice(0, 3);
                });
            }""",
            [[float(x), float(y)] for x, y in points],
        )
    )


def middles() -> list[tuple[float, float]]:
    """The middle of every bar at the right and lower edge, and of fields all over the picture."""
    right = [(WIDTH - (i + 0.5) * BAR, y) for i in range(6) for y in (60.0, 300.0, 500.0, 700.0)]
    lower = [(x, HEIGHT - (i + 0.5) * BAR) for i in range(6) for x in (60.0, 540.0, 900.0, 1010.0)]
    return right + lower + [(60.0 + 120 * i, 55.0 + 110 * j) for i in range(8) for j in range(6)]


def expected(points) -> np.ndarray:
    picture = painting()
    return np.array([picture[int(y), int(x)] for x, y in points], int)


def test_every_point_has_its_colour_at_every_zoom(case, tmp_path):
    views = {
        "whole": (0, 0, WIDTH, HEIGHT),
        "right edge": (WIDTH - 400, 200, 400, 300),
        "lower corner": (WIDTH - 160, HEIGHT - 120, 160, 120),
    }
    for name, (x, y, width, height) in views.items():
        look_at(case, x, y, width, height)
        inside = [p for p in middles() if x < p[0] < x + width and y < p[1] < y + height]
        gap = np.abs(colours_at(case, inside) - expected(inside)).max(axis=1)
        case.screenshot(path=str(tmp_path / f"{name}.png"))
        assert len(inside) > 10 and gap.max() < 40, (name, [(p, g) for p, g in zip(inside, gap) if g >= 40])
    # Just inside the edge there is slide, just outside there is none: a squeezed tile would end elsewhere.
    look_at(case, WIDTH - 160, HEIGHT - 120, 200, 150)
    inner, outer = colours_at(case, [(WIDTH - 2, 700.0), (WIDTH + 3, 700.0)])
    assert np.abs(inner - COLOURS[0]).max() < 40 and np.abs(outer - COLOURS[0]).max() > 60
    assert case.wrong == []


def test_the_colour_profile_is_a_switch(case, tmp_path):
    points = [(60.0, 55.0), (60.0 + 120, 55.0)]
    before = colours_at(case, points)
    zoom = "tissueboard.main.osd.viewport.getZoom(true)"
    look_at(case, 0, 0, 500, 400)
    at = case.evaluate(zoom)
    case.get_by_label("Colour profile of the scanner").check()
    drawn(case, icc=True)
    after = colours_at(case, points)
    case.screenshot(path=str(tmp_path / "profile.png"))
    assert np.abs(before - expected(points)).max() < 40
    assert after[0][1] > after[0][0] + 80 and after[1][0] > after[1][1] + 40, "red and green have changed places"
    assert case.evaluate(zoom) == at, "and the view stays"
    case.get_by_label("Colour profile of the scanner").uncheck()
    drawn(case)
    assert np.abs(colours_at(case, points) - expected(points)).max() < 40
    assert case.wrong == []


def test_a_file_that_changed_is_told_in_the_servers_words(case):
    from tissueboard.slides.models import Slide
    from tissueboard.store import store

    path = store.path(Slide.objects.get().working_key)
    path.write_bytes(bytes(path.stat().st_size))
    case.reload()
    case.get_by_text("not the one that was imported").wait_for()
    assert "check_slides" in case.locator("[data-message]").inner_text()
    assert not case.get_by_text("TileSource").is_visible()
