"""The road of an image of measured channels in a real browser: uploaded on the page, seen by VirTues, similar cases of its patient."""

import os

import pytest
import tiny_virtues as tiny
from people import people  # noqa: F401
from reference_six import run_everything

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session", autouse=True)
def records_in_this_thread():
    """Playwright keeps an event loop in this thread; Django's records are made in it all the same."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE") if before is None else os.environ.update(DJANGO_ALLOW_ASYNC_UNSAFE=before)


@pytest.fixture
def others(live_server, people):  # noqa: F811
    """Two more patients of the cohort with images that a VirTues, taken into use there, has seen."""
    from tissueboard.assays.models import MultiplexImage

    images = [tiny.image_of(patient, seed) for seed, patient in enumerate(people.lung.patients[1:3])]
    MultiplexImage.objects.update(simulated=False)
    version = tiny.adopted(people.lung.cohort)
    for image in images:
        for kind in ("predictions.virtues", "retrieval.image_niches"):
            assert tiny.run(kind, image=image.pk, version=version.pk).state == "succeeded"
    run_everything()  # the index says what distances mean
    return images


@pytest.fixture
def window(records_in_this_thread, chromium, live_server, people, others):  # noqa: F811
    """A contributor's window; what goes wrong is kept in `wrong`."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
    session = people.client("contributor").cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    yield page, wrong
    context.close()


def shot(page, name):
    """A picture for the eye, where somebody asks for it."""
    if folder := os.environ.get("TISSUEBOARD_SCREENSHOTS"):
        for width in (1400, 390):
            page.set_viewport_size({"width": width, "height": 1000})
            page.screenshot(path=f"{folder}/{name}_{width}.png", full_page=True)
        page.set_viewport_size({"width": 1400, "height": 1000})


def test_an_uploaded_image_leads_to_similar_cases(window, live_server, people, others, tmp_path):  # noqa: F811
    from ml.simulate.multiplex_files import write_multiplex
    from tissueboard.assays.models import MultiplexImage

    page, wrong = window
    patient, base = people.lung.patient, live_server.url
    file = write_multiplex(tmp_path, "field", tiny.field(5)).image
    page.goto(f"{base}/cohorts/{people.lung.cohort.pk}/upload/multiplex/?patient={patient.code}")
    page.set_input_files("input[type=file][name=file]", str(file))
    page.select_option("select[name=technology]", "imc")
    page.click("main button.primary[type=submit]")
    page.wait_for_url("**/imports/**")
    run_everything()
    image = MultiplexImage.objects.get(sample__patient=patient)
    assert (image.state, image.mpp, len(image.channels)) == ("ready", 1.0, 20), image.findings

    page.goto(f"{base}/assays/{image.pk}/")
    page.get_by_role("button", name="Run VirTues").click()
    page.wait_for_url("**/assays/**")
    assert "queued" in page.locator(".virtues").inner_text()
    run_everything()
    page.reload()
    block = page.locator(".virtues")
    assert block.locator("svg.niches rect title").count() > 3 and block.locator(".importance li").count() >= 12
    assert "virtues adopted" in block.inner_text() and "random vectors" in block.inner_text()
    page.wait_for_load_state("networkidle")
    shot(page, "H_image")
    block.get_by_role("link", name="by attention received").click()
    assert "ranks markers" in page.locator(".virtues").inner_text()

    page.goto(f"{base}/cases/{patient.pk}/similar/?image={image.pk}")
    text = page.locator("main").inner_text()
    assert all(other.sample.patient.code in text for other in others), text
    assert "measured" in text.lower()
    shot(page, "H_similar")
    assert not wrong, wrong
