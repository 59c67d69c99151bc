"""A researcher's way, by the browser alone: train HEX, make the maps of the cohort, train MICA on them, open a case with its map and
risk."""

import re

import pytest

pytestmark = pytest.mark.browser
LOADED = "img.map-picture[data-layer=map][data-loaded]"
PATIENCE = 240_000


def start_training(page, what, name, **settings):
    """From the cohort's page to the job of a training; settings by their name in the form."""
    page.get_by_role("link", name="Train", exact=True).click()
    page.locator(f'a[href$="/train/{what}/"]').first.click()
    page.fill("#name", name)
    page.locator("details.all-settings summary").click()
    for field, value in settings.items():
        place = page.locator(f'[name="config-{field}"]').first
        if place.evaluate("e => e.tagName") == "SELECT":
            place.select_option(value)
        elif place.get_attribute("type") == "checkbox":
            place.set_checked(value == "yes")
        else:
            place.fill(value)
    page.get_by_role("button", name="Start the training").click()
    page.wait_for_selector("#job-body")


def wait_for_success(page):
    page.wait_for_function(
        "() => /succeeded|failed|crashed/.test(document.querySelector('#job-body .badge')?.textContent || '')", timeout=PATIENCE
    )
    assert "succeeded" in page.locator("#job-body .badge").first.inner_text(), page.locator("#job-body").inner_text()


@pytest.fixture
def as_it_was(site):
    """Afterwards the models of the reference are those in use again."""
    yield
    site.shell(
        "from tissueboard.model_registry.models import ModelVersion as V; "
        "[setattr(v, 'is_current', v.name.startswith('six')) or v.save() for v in V.objects.exclude(family='encoder')]; "
        "from tissueboard.predictions.models import Prediction as P; P.objects.exclude(version__name__startswith='six').delete()"
    )


def test_train_apply_map_risk(visit, site, as_it_was):
    window = visit("contributor")
    page = window.page
    page.locator(".cohort-card h2 a").first.click()
    cohort = page.url

    start_training(page, "hex", "by hand", epochs="12", loss="adaptive", fds="yes", fds_start_smooth="2")
    wait_for_success(page)
    assert page.locator("#job-body svg").count() > 0, "the loss curves are drawn"
    assert "fold 1" in page.locator("#job-body").inner_text()

    page.goto(f"{cohort}runs/new/?what=case")
    page.get_by_role("button", name=re.compile("Start")).click()
    page.wait_for_url("**/runs/*/")
    page.wait_for_function("() => [...document.querySelectorAll('main .badge')].some(b => /done/.test(b.textContent))", timeout=PATIENCE)

    page.goto(cohort)
    tiny = {"width": "16", "heads": "2", "ffn": "16", "layers": "1", "bins": "2", "folds": "2", "epochs": "5"}
    start_training(page, "mica", "of hand", **tiny, accumulate="2", horizon_days="200", bootstrap="50")
    wait_for_success(page)
    site.wait_for_jobs()

    page.goto(cohort)
    page.locator("#case-rows tbody th a").first.click()
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    assert "mica of hand" in page.locator("#risk").inner_text() and "hex by hand" in page.locator("#slide").inner_text()
    # Three patients on small slides make a narrow range, and outside of it no risk is shown; what is shown inside it is looked at here.
    site.shell(
        "from tissueboard.predictions.models import Prediction as P; "
        "[P.objects.filter(pk=p.pk).update(facts=p.facts | {'out_of_range_share': 0.1}) for p in P.objects.filter(kind='risk')]"
    )
    page.reload()
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    risk = page.locator("#risk").inner_text()
    assert "absolute risk of death" in risk and "95% interval" in risk and "not held against shuffled outcomes" in risk
    before = page.locator(f"[data-viewer] {LOADED}").get_attribute("src")
    page.select_option("#shown", "risk")
    page.wait_for_function("before => !document.querySelector('[data-viewer] img[data-layer=map]')?.src.endsWith(before)", arg=before)
    page.wait_for_selector(f"[data-viewer] {LOADED}")
    assert page.locator("[data-bar-name]").inner_text() == "contribution to the risk"
    assert page.locator('svg[data-bar="risk"]').is_visible() and not page.locator('svg[data-bar="proteins"]').is_visible()
    page.select_option("#shown", "proteins")
    page.wait_for_function("before => document.querySelector('[data-viewer] img[data-layer=map]')?.src.endsWith(before)", arg=before)
    page.goto(f"{site.base_url}/models/")
    page.get_by_role("link", name="mica of hand").click()
    assert "Beside its parts alone" in page.locator("main").inner_text()
    assert window.wrong == []
